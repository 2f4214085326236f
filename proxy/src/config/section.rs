//! One table of a configuration file, read key by key.
//!
//! Knows what was asked for, so that what nobody asked for is an error with the nearest known name.
//! Invariant: every problem carries the line of the value or key it is about.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problems};
use super::value::{Refusal, Value, describe};

/// The least likeness (0 to 1) at which a known name is suggested for an unknown one.
const LIKENESS_MIN: f64 = 0.7;

/// A configuration file's name and text.
#[derive(Debug)]
pub struct Source {
    /// The file as it was named to us.
    pub name: Arc<str>,
    /// What stands in it.
    pub text: String,
}

impl Source {
    /// The place of a stretch of the text, by its first line.
    pub fn place(&self, span: &Range<usize>) -> Place {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place {
            source: self.name.clone(),
            line: Some(line),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// A table that is being read.
#[derive(Debug)]
pub struct Section<'t> {
    source: &'t Source,
    table: &'t DeTable<'t>,
    /// What the table is called in messages, like `[limits]`; empty at the top.
    title: &'t str,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// Begins to read a table.
    pub fn new(source: &'t Source, table: &'t DeTable<'t>, title: &'t str) -> Self {
        Self {
            source,
            table,
            title,
            known: Vec::new(),
        }
    }

    /// The value of a key if it is there and of the right kind; notes a problem if it is not.
    pub fn take<T: Value>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Written<T>> {
        let value = self.find(key)?;
        self.read(key, value, problems)
    }

    /// One value or a list of them.
    pub fn take_list<T: Value>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Vec<Written<T>>> {
        let value = self.find(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.read(key, value, problems).map(|item| vec![item]);
        };
        if items.is_empty() {
            problems.error(
                self.source.place(&value.span()),
                format!("{key}: is empty"),
                "",
            );
        }
        Some(
            items
                .iter()
                .filter_map(|item| self.read(key, item, problems))
                .collect(),
        )
    }

    /// One of a few words.
    pub fn take_word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let written = self.take::<String>(key, problems)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == written.value) {
            return Some(*meaning);
        }
        let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let hint = format!("one of {}", all.join(", "));
        problems.error(
            written.place,
            format!("{key}: {:?} is not known", written.value),
            hint,
        );
        None
    }

    /// A table below this one, if it is there.
    pub fn take_table(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<&'t DeTable<'t>> {
        let value = self.find(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let found = describe(value.get_ref());
            let message = format!("{key}: expected a table, found {found}");
            problems.error(
                self.source.place(&value.span()),
                message,
                format!("write [{key}]"),
            );
        }
        table
    }

    /// The tables of a list (`[[key]]`), each with its place.
    pub fn take_tables(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Vec<(Place, &'t DeTable<'t>)> {
        let Some(value) = self.find(key) else {
            return Vec::new();
        };
        let items = value.get_ref().as_array().map_or(&[][..], |items| items);
        let tables: Vec<_> = items
            .iter()
            .filter_map(|item| Some((self.source.place(&item.span()), item.get_ref().as_table()?)))
            .collect();
        if tables.is_empty() || tables.len() != items.len() {
            let message = format!("{key}: expected a list of tables");
            problems.error(
                self.source.place(&value.span()),
                message,
                format!("write [[{key}]]"),
            );
        }
        tables
    }

    /// Notes every key that nobody asked for. `elsewhere` names keys of other tables and says
    /// where they belong.
    pub fn finish(self, elsewhere: &[(&str, &[&str])], problems: &mut Problems) {
        let title = if self.title.is_empty() {
            "at the top of the file"
        } else {
            self.title
        };
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let home = elsewhere.iter().find(|(_, keys)| keys.contains(&name));
            let hint = match (nearest(name, &self.known), home) {
                (_, Some((home, _))) => format!("it belongs {home}"),
                (Some(known), None) => format!("did you mean {known:?}?"),
                (None, None) => format!("known are {}", self.known.join(", ")),
            };
            let preposition = if self.title.is_empty() { "" } else { "in " };
            let message = format!("unknown key {name:?} {preposition}{title}");
            problems.error(self.source.place(&key.span()), message, hint);
        }
    }

    fn find(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        debug_assert!(!self.known.contains(&key), "{key} is read once");
        self.known.push(key);
        self.table.get(key)
    }

    fn read<T: Value>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Problems,
    ) -> Option<Written<T>> {
        let place = self.source.place(&value.span());
        match T::read(value.get_ref()) {
            Ok(value) => Some(Written { value, place }),
            Err(Refusal { message, hint }) => {
                problems.error(place, format!("{key}: {message}"), hint);
                None
            }
        }
    }
}

/// The known name that is most like a mistyped one, if any is.
pub fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_a_name_when_it_is_mistyped() {
        let known = ["listen", "upstream", "connections_max", "auth"];
        assert_eq!(nearest("conections_max", &known), Some("connections_max"));
        assert_eq!(nearest("max_connections", &known), None);
        assert_eq!(nearest("listne", &known), Some("listen"));
        assert_eq!(nearest("upstreams", &known), Some("upstream"));
        assert_eq!(nearest("colour", &known), None);
    }
}

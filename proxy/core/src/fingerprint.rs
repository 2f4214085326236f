//! Fingerprints: the session settings that must be equal for two clients to share an upstream.
//!
//! Interned, so that equality is a number's, and carried to upstreams as text that sets exactly the
//! difference. Knows neither clients nor upstreams. Invariant: settings are sorted by name, each
//! name once, and `application_name` is never among them (it does not split a fingerprint).

use std::rc::Rc;

use crate::map::{FastMap, fast_map};
use crate::proof::Setting;

/// The setting that is kept apart: it changes what is logged, not what a proven read answers.
pub const APPLICATION_NAME: &str = "application_name";

/// The setting whose new value may keep a part of the old one: `iso` changes the style and not the
/// order of day and month.
pub const MERGED: &str = "datestyle";

/// A set of settings that differ from the node's defaults for a user and database.
#[derive(Debug)]
pub struct Fingerprint {
    /// Unique among all that the shard ever had.
    pub number: u64,
    /// Sorted by name.
    pub settings: Box<[Setting]>,
}

/// All fingerprints in use.
#[derive(Debug)]
pub struct Fingerprints {
    by_settings: FastMap<Box<[Setting]>, Rc<Fingerprint>>,
    empty: Rc<Fingerprint>,
    next_number: u64,
    /// When there are more than this, those that nobody uses are dropped.
    purge_at: usize,
}

const PURGE_AT_MIN: usize = 256;

impl Fingerprints {
    /// Only the empty one.
    pub fn new(seed: u64) -> Self {
        Self {
            by_settings: fast_map(seed),
            empty: Rc::new(Fingerprint {
                number: 0,
                settings: Box::default(),
            }),
            next_number: 1,
            purge_at: PURGE_AT_MIN,
        }
    }

    /// The one without settings.
    pub fn empty(&self) -> Rc<Fingerprint> {
        Rc::clone(&self.empty)
    }

    /// The one with these settings, the last of each name counting.
    pub fn intern(&mut self, settings: impl IntoIterator<Item = Setting>) -> Rc<Fingerprint> {
        let mut sorted: Vec<Setting> = Vec::new();
        for setting in settings {
            debug_assert!(&*setting.name != APPLICATION_NAME);
            match sorted.binary_search_by(|other| other.name.cmp(&setting.name)) {
                Ok(at) => sorted[at] = setting,
                Err(at) => sorted.insert(at, setting),
            }
        }
        if sorted.is_empty() {
            return self.empty();
        }
        if let Some(found) = self.by_settings.get(sorted.as_slice()) {
            return Rc::clone(found);
        }
        self.purge();
        let number = self.next_number;
        self.next_number += 1;
        let settings: Box<[Setting]> = sorted.into();
        let made = Rc::new(Fingerprint {
            number,
            settings: settings.clone(),
        });
        self.by_settings.insert(settings, Rc::clone(&made));
        made
    }

    /// `base` with one setting added or changed.
    pub fn with(&mut self, base: &Fingerprint, setting: Setting) -> Rc<Fingerprint> {
        self.intern(base.settings.iter().cloned().chain([setting]))
    }

    /// `base` without the setting of this name.
    pub fn without(&mut self, base: &Fingerprint, name: &str) -> Rc<Fingerprint> {
        self.intern(
            base.settings
                .iter()
                .filter(|setting| &*setting.name != name)
                .cloned(),
        )
    }

    /// `source` after a RESET of one name, in a session that began with `base`.
    pub fn reset(
        &mut self,
        source: &Fingerprint,
        base: &Fingerprint,
        name: &str,
    ) -> Rc<Fingerprint> {
        match base.value(name) {
            Some(value) => {
                let setting = Setting {
                    name: name.into(),
                    value: value.into(),
                };
                self.with(source, setting)
            }
            None => self.without(source, name),
        }
    }

    /// Drops those that nobody uses, now and then.
    fn purge(&mut self) {
        if self.by_settings.len() >= self.purge_at {
            self.by_settings
                .retain(|_, fingerprint| Rc::strong_count(fingerprint) > 1);
            self.purge_at = PURGE_AT_MIN.max(self.by_settings.len() * 2);
        }
    }
}

impl Fingerprint {
    /// The value of a setting, if it is among them.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let at = self
            .settings
            .binary_search_by(|setting| (*setting.name).cmp(name))
            .ok()?;
        Some(&self.settings[at].value)
    }

    /// Appends the statements that turn a session with these settings into one with `target`'s.
    /// All go into one simple Query, so that either all hold or none.
    pub fn write_difference(&self, target: &Self, out: &mut Vec<u8>) {
        for setting in &self.settings {
            if target.value(&setting.name).is_none() {
                out.extend_from_slice(b"RESET ");
                write_name(&setting.name, out);
                out.push(b';');
            }
        }
        for setting in &target.settings {
            if self.value(&setting.name) != Some(&*setting.value) {
                if &*setting.name == MERGED && self.value(MERGED).is_some() {
                    out.extend_from_slice(b"RESET datestyle;");
                }
                write_set(&setting.name, &setting.value, out);
            }
        }
    }
}

/// Appends one statement that sets `name` for the session. `set_config` rather than SET, because it
/// takes lists in the flat form that startup packets and SHOW use.
pub fn write_set(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"SELECT pg_catalog.set_config(");
    write_literal(name.as_bytes(), out);
    out.push(b',');
    write_literal(value, out);
    out.extend_from_slice(b",false);");
}

/// An identifier in double quotes, part by part for a custom setting's dotted name.
fn write_name(name: &str, out: &mut Vec<u8>) {
    for (index, part) in name.split('.').enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        out.push(b'"');
        for byte in part.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
}

/// A string constant that means the same whether or not standard_conforming_strings is on.
fn write_literal(value: &[u8], out: &mut Vec<u8>) {
    let has_backslash = value.contains(&b'\\');
    out.extend_from_slice(if has_backslash { b"E'" } else { b"'" });
    for &byte in value {
        if byte == b'\'' || byte == b'\\' {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, value: &str) -> Setting {
        Setting {
            name: name.into(),
            value: value.as_bytes().into(),
        }
    }

    #[test]
    fn finds_the_same_fingerprint_whatever_the_order() {
        let mut all = Fingerprints::new(1);
        let one = all.intern([setting("b", "2"), setting("a", "1")]);
        let two = all.intern([setting("a", "0"), setting("b", "2"), setting("a", "1")]);
        assert!(Rc::ptr_eq(&one, &two));
        let without = all.without(&one, "b");
        let with = all.with(&without, setting("b", "2"));
        assert_eq!(with.number, one.number);
        let neither = all.without(&without, "a");
        assert_eq!(neither.number, 0);
    }

    #[test]
    fn writes_only_what_differs() {
        let mut all = Fingerprints::new(1);
        let from = all.intern([setting("a.b", "1"), setting("timezone", "UTC")]);
        let target = all.intern([setting("timezone", "UTC"), setting("x", "it's \\")]);
        let mut out = Vec::new();
        from.write_difference(&target, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "RESET \"a\".\"b\";SELECT pg_catalog.set_config('x',E'it''s \\\\',false);"
        );
    }

    #[test]
    fn forgets_fingerprints_that_nobody_uses() {
        let mut all = Fingerprints::new(1);
        let kept = all.intern([setting("kept", "1")]);
        for value in 0..10_000 {
            all.intern([setting("app.tenant", &value.to_string())]);
        }
        assert!(all.by_settings.len() <= 2 * PURGE_AT_MIN);
        assert!(Rc::ptr_eq(&kept, &all.intern([setting("kept", "1")])));
    }
}

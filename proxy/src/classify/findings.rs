//! What reading a text shows before the catalog is asked: its own effect and what it rests on.
//!
//! Knows neither the grammar nor the catalog. Invariant: a text does no more than its effect and
//! the effects of everything in `needs`, so a proof is a walk over needs and a maximum of effects.

use std::collections::BTreeSet;

/// How much something does, in order: each includes those before it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Effect {
    /// Reads only.
    #[default]
    Read,
    /// Takes row locks or advisory locks of the transaction, or sleeps.
    Wait,
    /// Writes.
    Write,
}

/// A name as the text has it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Name {
    /// The schema, if the text says one.
    pub schema: Option<Box<str>>,
    /// The last part.
    pub name: Box<str>,
}

impl Name {
    /// A name without a schema, which may mean any schema's.
    pub(super) fn bare(name: &str) -> Self {
        Self {
            schema: None,
            name: name.into(),
        }
    }
}

/// A trigger, by what it calls.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Trigger {
    /// The function.
    pub function: u32,
    /// What it may call the table of the rows before, if it has one.
    pub old: Option<Box<str>>,
    /// The same of the rows after.
    pub new: Option<Box<str>>,
}

impl Trigger {
    /// The names of its transition tables.
    pub(super) fn transitions(&self) -> Vec<&str> {
        [&self.old, &self.new]
            .into_iter()
            .filter_map(|name| name.as_deref())
            .collect()
    }
}

/// Something that a text rests on and that the catalog has to prove.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Need {
    /// No function of the database's own bears the name: the grammar has a form of its own for it,
    /// which an older node may take for a call.
    Absent(Box<str>),
    /// `x.name` of a row, which may be a call of `name(x)`.
    Attribute(Box<str>),
    /// A call whose arguments have been checked where they matter.
    Call(Name),
    /// A function as the catalog refers to it: its arguments are unknown.
    Function(u32),
    /// Casts, types and operator classes that act without being named.
    Implicit,
    /// `(x).name` of anything, which may be a call of `name(x)`.
    Method(Box<str>),
    /// An operator.
    Operator(Name),
    /// A relation that is read.
    Relation(Name),
    /// A materialised view whose query is run again.
    Refresh(Name),
    /// A relation that is written to.
    Target(Name),
    /// A trigger that fires.
    Trigger(Trigger),
    /// A relation that is truncated, with all that refer to it if the flag is set.
    Truncate(Name, bool),
}

/// What a text does and rests on.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// What it does by itself.
    pub effect: Effect,
    /// A literal names the clock.
    pub freezes: bool,
    /// A literal decided.
    pub literal: bool,
    /// What has to be proven.
    pub needs: BTreeSet<Need>,
    /// `set_config(…, true)` occurs.
    pub sets_local: bool,
}

impl Findings {
    /// At least this effect.
    pub(super) fn raise(&mut self, effect: Effect) {
        self.effect = self.effect.max(effect);
    }

    /// What both do and rest on.
    pub(super) fn add(&mut self, other: Self) {
        self.raise(other.effect);
        self.freezes |= other.freezes;
        self.needs.extend(other.needs);
    }
}

/// Whether a literal has a word that means a moment by the clock.
///
/// PostgreSQL takes such words out of dates, alone or within arrays, ranges and rows, whose quotes
/// and backslashes it removes first.
pub(super) fn names_the_clock(literal: &str) -> bool {
    let plain: String = literal
        .chars()
        .filter(|c| !matches!(c, '"' | '\\'))
        .collect();
    plain
        .split(|c: char| !c.is_ascii_alphabetic())
        .any(|word| CLOCK_WORDS.iter().any(|w| word.eq_ignore_ascii_case(w)))
}

const CLOCK_WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_clock_only_in_whole_words() {
        for yes in [
            "now",
            "NOW",
            " today ",
            "{now,\"tomorrow\"}",
            "[yesterday,)",
            "n\\ow",
            "now+1",
        ] {
            assert!(names_the_clock(yes), "{yes}");
        }
        for no in ["", "snow", "nowhere", "unknown", "2024-01-01", "to day"] {
            assert!(!names_the_clock(no), "{no}");
        }
    }
}

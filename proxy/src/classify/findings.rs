//! What reading a text shows before the catalog is asked: its own effect and what it rests on.
//!
//! Knows neither the grammar nor the catalog. Invariant: a text does no more than its effect and
//! the effects of everything in `needs`, so a proof is a walk over needs and a maximum of effects.

use std::collections::BTreeSet;

use manifold_core::proof::Reason;

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

/// A name of a transition table, as a trigger gives it to its function.
pub(super) type Transition = Option<Box<str>>;

/// Something that a text rests on and that the catalog has to prove.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Need {
    /// No function of the database's own bears the name: the grammar has a form of its own for it,
    /// which an older node may take for a call.
    Absent(Box<str>),
    /// `x.name`, which may be a call of `name(x)`.
    Attribute(Box<str>),
    /// A call whose arguments have been checked where they matter.
    Call(Name),
    /// A function as the catalog refers to it: its arguments are unknown.
    Function(u32),
    /// Casts, types and operator classes that act without being named.
    Implicit,
    /// An operator.
    Operator(Name),
    /// A relation that is read.
    Relation(Name),
    /// A materialised view whose query is run again.
    Refresh(Name),
    /// A relation that is written to.
    Target(Name),
    /// A trigger function with its transition tables, old and new.
    Trigger(u32, Transition, Transition),
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
}

/// The outcome of reading something: refused as soon as one part cannot be proven.
pub(super) type Read<T = ()> = Result<T, Reason>;

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

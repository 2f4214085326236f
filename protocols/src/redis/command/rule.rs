//! The rule by which a command's class follows from what a node says of it.
//!
//! Holds the marks that count and the rule. It must not know single commands. Its invariant: the
//! first that fits decides, and what is stricter comes first.

use super::session::SessionCommand;
use super::{Class, Handling};

/// Marks that a node gives a command: flags and access control categories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks(u32);

impl Marks {
    pub const ADMIN: Self = Self(1);
    pub const BLOCKING: Self = Self(1 << 1);
    pub const CONNECTION: Self = Self(1 << 2);
    pub const DANGEROUS: Self = Self(1 << 3);
    pub const FAST: Self = Self(1 << 4);
    pub const MOVABLE_KEYS: Self = Self(1 << 5);
    pub const NONDETERMINISTIC: Self = Self(1 << 6);
    pub const NO_AUTH: Self = Self(1 << 7);
    pub const NO_MULTI: Self = Self(1 << 8);
    pub const NO_SCRIPT: Self = Self(1 << 9);
    pub const PUBSUB: Self = Self(1 << 10);
    pub const READ: Self = Self(1 << 11);
    pub const WRITE: Self = Self(1 << 12);

    /// The mark that a flag or category stands for, or none.
    pub fn named(text: &[u8]) -> Self {
        match text {
            b"admin" => Self::ADMIN,
            // Nodes before 7.0 have the category only.
            b"blocking" | b"@blocking" => Self::BLOCKING,
            b"@connection" | b"@transaction" => Self::CONNECTION,
            b"@dangerous" => Self::DANGEROUS,
            b"fast" => Self::FAST,
            b"movablekeys" => Self::MOVABLE_KEYS,
            // The flag is how nodes before 7.0 say what is a tip since.
            b"random" | b"nondeterministic_output" => Self::NONDETERMINISTIC,
            b"no_auth" => Self::NO_AUTH,
            b"no_multi" => Self::NO_MULTI,
            b"noscript" => Self::NO_SCRIPT,
            b"pubsub" => Self::PUBSUB,
            b"readonly" => Self::READ,
            b"write" => Self::WRITE,
            _ => Self::default(),
        }
    }

    /// Whether all of the other's marks are here.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the other's marks.
    pub const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The class of a command with these marks.
pub fn classify(marks: Marks, has_keys: bool) -> Class {
    if marks.has(Marks::BLOCKING) {
        Class::Blocking
    } else if marks.has(Marks::CONNECTION)
        || (marks.has(Marks::PUBSUB) && marks.has(Marks::NO_SCRIPT))
    {
        Class::Session
    } else if marks.has(Marks::ADMIN) {
        Class::Admin
    } else if marks.has(Marks::WRITE) {
        Class::Write
    } else if marks.has(Marks::READ) {
        Class::Read
    } else if has_keys || marks.has(Marks::MOVABLE_KEYS) {
        Class::Keyed
    } else {
        Class::Keyless
    }
}

/// How an audited command of a class is sent that is no exception.
pub fn handling(class: Class, name: &str) -> Handling {
    match class {
        Class::Admin | Class::Blocking => Handling::Lease,
        Class::Keyed | Class::Keyless | Class::Read | Class::Write => Handling::Share,
        Class::Session => SessionCommand::named(name).map_or(Handling::Pin, Handling::Session),
    }
}

//! What the arguments of a command decide.
//!
//! Holds the commands of which some forms do other than what the name says, and how to tell. It
//! must not know tables. Its invariant: words that are not understood never make a command
//! milder.

use super::{Class, ClientCommand, Command, Handling, SessionCommand};

/// Commands whose arguments decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// Nothing depends on the arguments.
    Always,
    /// BITFIELD: a read if all it does is GET.
    Bitfield,
    /// FLUSHALL and the like: they hold up their connection unless they end in ASYNC.
    Flush,
    /// GEORADIUS and the like: a write only if it stores.
    Geo,
    /// COMMAND: another thing with a word behind it.
    Introspection,
    /// MIGRATE: its keys are in one of two places.
    Migrate,
    /// SORT: a write only if it stores.
    Sort,
    /// XREAD and XREADGROUP: blocking only if told so.
    Streams,
    /// CLIENT TRACKING and CLIENT NO-TOUCH: off is what a new connection is.
    Switch(ClientCommand),
}

impl Variant {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "bitfield" => Self::Bitfield,
            "client|no-touch" => Self::Switch(ClientCommand::NoTouch),
            "client|tracking" => Self::Switch(ClientCommand::Tracking),
            "command" => Self::Introspection,
            "flushall" | "flushdb" | "sflush" => Self::Flush,
            "georadius" | "georadiusbymember" => Self::Geo,
            "migrate" => Self::Migrate,
            "sort" | "sort_ro" => Self::Sort,
            "xread" | "xreadgroup" => Self::Streams,
            _ => Self::Always,
        }
    }
}

impl Command {
    /// How a request may be sent. Whether the client is between MULTI and EXEC is another question:
    /// see [`Command::handling_in_multi`].
    pub fn handling_of<'a, I>(&self, words: I) -> Handling
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        if !self.is_audited {
            return self.handling;
        }
        match self.variant {
            Variant::Flush if is_asynchronous(words.clone()) => Handling::Share,
            Variant::Introspection if words.clone().nth(1).is_some() => Handling::Unaudited,
            Variant::Streams if has_no_block(words.clone()) => Handling::Share,
            Variant::Switch(command) if is_off(words.clone()) => {
                Handling::Session(SessionCommand::Client(command))
            }
            _ => self.handling,
        }
    }

    /// How a request may be sent between MULTI and EXEC, where nothing blocks.
    pub fn handling_in_multi<'a, I>(&self, words: I) -> Handling
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let is_blocking_only = self.class == Class::Blocking || self.variant == Variant::Flush;
        match self.handling_of(words) {
            Handling::Lease if self.is_audited && is_blocking_only => Handling::Share,
            handling => handling,
        }
    }

    /// What a request does. A read that is the form of a write still goes to a primary:
    /// [`Command::is_readonly`] says what replicas take.
    pub fn class_of<'a, I>(&self, words: I) -> Class
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let is_read = match self.variant {
            Variant::Bitfield => only_reads_bits(words.clone()),
            Variant::Geo => !stores_places(words.clone()),
            Variant::Sort => sort_store(words.clone()).is_none(),
            Variant::Streams if has_no_block(words.clone()) => {
                return if self.is_readonly {
                    Class::Read
                } else {
                    Class::Write
                };
            }
            _ => false,
        };
        // A command of that name that is of another class is not the one that was audited.
        if is_read && self.class == Class::Write {
            Class::Read
        } else {
            self.class
        }
    }
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn is_asynchronous<'a>(words: impl Iterator<Item = &'a [u8]>) -> bool {
    words.skip(1).last().is_some_and(|word| is(word, "async"))
}

fn is_off<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> bool {
    words.nth(2).is_some_and(|word| is(word, "off")) && words.next().is_none()
}

/// Whether STREAMS is reached, through options that are known, without BLOCK.
fn has_no_block<'a>(words: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        let values = if is(word, "streams") {
            return true;
        } else if is(word, "count") || is(word, "claim") {
            1
        } else if is(word, "group") {
            2
        } else if is(word, "noack") {
            0
        } else {
            return false;
        };
        if values > 0 && words.nth(values - 1).is_none() {
            return false;
        }
    }
    false
}

fn only_reads_bits<'a>(words: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut words = words.skip(2);
    while let Some(word) = words.next() {
        let values = if is(word, "get") {
            2
        } else if is(word, "overflow") {
            1
        } else {
            return false;
        };
        if words.nth(values - 1).is_none() {
            return false;
        }
    }
    true
}

/// Whether a place to store to is named, or something that may be one.
fn stores_places<'a>(words: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut options = words.skip(5);
    options.any(|word| is(word, "store") || is(word, "storedist"))
}

/// Position of what SORT stores to: the last that STORE names.
pub(super) fn sort_store<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut words = words.enumerate().skip(2);
    let mut store = None;
    while let Some((_, word)) = words.next() {
        let values = if is(word, "store") {
            store = words.next().map(|(position, _)| position).or(store);
            0
        } else if is(word, "limit") {
            2
        } else {
            usize::from(is(word, "get") || is(word, "by"))
        };
        if values > 0 {
            words.nth(values - 1);
        }
    }
    store
}

/// Position of the first key behind KEYS of a MIGRATE.
pub(super) fn migrate_keys<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut words = words.enumerate().skip(6);
    while let Some((position, word)) = words.next() {
        let values = if is(word, "keys") {
            return Some(position + 1);
        } else if is(word, "auth2") {
            2
        } else {
            usize::from(is(word, "auth"))
        };
        if values > 0 {
            words.nth(values - 1);
        }
    }
    None
}

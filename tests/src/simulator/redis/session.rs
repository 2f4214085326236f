//! One connection of a simulated node: what it has sent, and what Redis remembers of it.
//!
//! Knows no other connection and no data. Invariant: requests are taken in the order in which they
//! came.

use std::collections::{BTreeSet, VecDeque};

use manifold_core::time::Instant;

use super::resp::{Taken, Value, Version, take_request};
use crate::simulator::serves::SessionId;

/// Unsent bytes above which a connection is not served.
const OUTPUT_HIGH: usize = 16_384;

/// Which replies a connection does not want.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mute {
    /// None.
    No,
    /// Not the one to the request after this one.
    Next,
    /// Not the one to this request.
    This,
    /// All.
    All,
}

/// A transaction before EXEC.
#[derive(Clone, Debug, Default)]
pub struct Multi {
    /// What was queued.
    pub queue: Vec<Vec<Vec<u8>>>,
    /// The tokens of all that came, refused or not.
    pub tokens: Vec<String>,
    /// Something was refused.
    pub is_dirty: bool,
}

/// A command that waits for an element.
#[derive(Clone, Debug)]
pub struct Blocked {
    /// What it is.
    pub words: Vec<Vec<u8>>,
    /// Until when, if not for ever.
    pub until: Option<Instant>,
    /// Who blocked first is served first.
    pub since: u64,
}

/// What a connection listens to.
pub type Topics = [BTreeSet<Vec<u8>>; 3];

/// A connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// Which of the doors of its node it came through.
    pub door: usize,
    /// The next command may be run where its slot is on its way to.
    pub(super) is_asking: bool,
    /// It would be, but the node refused to hear that.
    pub(super) has_asked: bool,
    /// Bytes to send.
    pub output: Vec<u8>,
    input: Vec<u8>,
    /// What came and was not taken.
    pub(super) requests: VecDeque<Taken>,
    /// As whom.
    pub(super) user: Option<&'static str>,
    pub(super) database: u32,
    pub(super) version: Version,
    pub(super) name: Vec<u8>,
    pub(super) mute: Mute,
    pub(super) multi: Option<Multi>,
    /// Keys that EXEC depends on.
    pub(super) watched: BTreeSet<(u32, Vec<u8>)>,
    /// One of them has changed.
    pub(super) is_touched: bool,
    /// Channels, patterns, channels of shards.
    pub(super) topics: Topics,
    pub(super) blocked: Option<Blocked>,
    pub(super) has_ended: bool,
    /// The node has ended it, in the middle of whatever it was doing.
    pub(super) is_killed: bool,
}

impl Session {
    pub(super) fn new(id: SessionId, door: usize, user: Option<&'static str>) -> Self {
        Self {
            id,
            door,
            is_asking: false,
            has_asked: false,
            output: Vec::new(),
            input: Vec::new(),
            requests: VecDeque::new(),
            user,
            database: 0,
            version: Version::Two,
            name: Vec::new(),
            mute: Mute::No,
            multi: None,
            watched: BTreeSet::new(),
            is_touched: false,
            topics: Topics::default(),
            blocked: None,
            has_ended: false,
            is_killed: false,
        }
    }

    /// Bytes have come.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        while !self.has_ended {
            match take_request(&mut self.input) {
                Taken::Nothing => return,
                Taken::Request(words) if words.is_empty() => {}
                Taken::Bad(text) => {
                    self.input.clear();
                    self.requests.push_back(Taken::Bad(text));
                    return;
                }
                request => self.requests.push_back(request),
            }
        }
    }

    /// Whether a step can be done.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        if self.has_ended || self.output.len() > OUTPUT_HIGH {
            return false;
        }
        match &self.blocked {
            Some(blocked) => blocked.until.is_some_and(|until| until <= now),
            None => !self.requests.is_empty(),
        }
    }

    /// Answers, unless nobody wants it.
    pub(super) fn say(&mut self, value: &Value) {
        if !matches!(self.mute, Mute::This | Mute::All) {
            value.write(self.version, &mut self.output);
        }
    }

    /// Says something that answers nothing: it is always wanted.
    pub(super) fn push(&mut self, words: Vec<Value>) {
        Value::Push(words).write(self.version, &mut self.output);
    }

    /// Whether it listens to anything.
    pub(super) fn is_listening(&self) -> bool {
        self.topics.iter().any(|topics| !topics.is_empty())
    }

    /// The end of a transaction, whatever became of it.
    pub(super) fn end_transaction(&mut self) {
        self.multi = None;
        self.watched.clear();
        self.is_touched = false;
    }

    /// RESET.
    pub(super) fn reset(&mut self, user: Option<&'static str>) {
        self.end_transaction();
        self.topics = Topics::default();
        self.user = user;
        self.database = 0;
        self.version = Version::Two;
        self.name.clear();
        self.mute = Mute::No;
    }
}

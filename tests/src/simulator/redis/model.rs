//! What a client with a connection of its own would be: who, where, in what transaction, listening
//! to what.
//!
//! Knows no bytes of replies. Invariant: it has seen the replies to all requests before the one
//! that is answered next, and nothing of those behind it.

use std::collections::{BTreeMap, BTreeSet};

use manifold_core::time::Instant;
use manifold_protocols::redis::glob;

use super::data::Key;
use super::log::{Log, Publication};
use super::resp::Version;

/// Which replies it has asked not to have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mute {
    /// None.
    No,
    /// The next one.
    Next,
    /// All.
    All,
}

/// One subscription.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// What the node had done when the client had the confirmation.
    pub since: u64,
    /// The last message.
    pub last: u64,
    /// All of them.
    pub payloads: BTreeSet<Vec<u8>>,
    /// What an operator says at the end of a run has come.
    pub has_final: bool,
}

/// What a transaction consists of so far.
pub type Queue = Vec<Vec<Vec<u8>>>;

/// A session.
#[derive(Clone, Debug)]
pub struct Model {
    /// As whom.
    pub user: Option<&'static str>,
    /// Where.
    pub database: u32,
    /// How.
    pub version: Version,
    /// What CLIENT GETNAME says.
    pub name: Vec<u8>,
    /// What CLIENT ID says, once that is known.
    pub number: Option<i64>,
    /// Which replies it does not have.
    pub mute: Mute,
    /// Between MULTI and EXEC.
    pub multi: Option<Queue>,
    /// Keys that the next EXEC depends on, and since when.
    pub watched: Vec<(Key, u64)>,
    /// By kind, by name.
    pub topics: [BTreeMap<Vec<u8>, Heard>; 3],
    /// When the last request ran that it has the reply of, of those that have an order.
    pub last: BTreeMap<Vec<u8>, u64>,
    /// Whether the node is a cluster.
    pub is_spread: bool,
    /// Whether a lost subscription may wait for long until there is a connection for it.
    pub is_cramped: bool,
}

impl Model {
    /// A session that has just begun.
    pub fn new(is_locked: bool) -> Self {
        Self {
            user: (!is_locked).then_some("default"),
            database: 0,
            version: Version::Two,
            name: Vec::new(),
            number: None,
            mute: Mute::No,
            multi: None,
            watched: Vec::new(),
            topics: Default::default(),
            last: BTreeMap::new(),
            is_spread: false,
            is_cramped: false,
        }
    }

    /// RESET.
    pub fn reset(&mut self, is_locked: bool) {
        *self = Self {
            number: self.number,
            last: core::mem::take(&mut self.last),
            is_spread: self.is_spread,
            is_cramped: self.is_cramped,
            ..Self::new(is_locked)
        };
    }

    /// Whether something ran after all that had to run before it.
    pub fn is_in_order(&self, orders: &[Vec<u8>], seq: u64) -> bool {
        let mut last = orders.iter().filter_map(|order| self.last.get(order));
        last.all(|last| seq >= *last)
    }

    /// Something has run, and its reply is known.
    pub fn note_run(&mut self, orders: &[Vec<u8>], seq: u64) {
        let all = orders.iter().map(|order| (order.clone(), seq));
        self.last.extend(all);
    }

    /// Whether it listens to anything.
    pub fn is_listening(&self) -> bool {
        self.topics.iter().any(|topics| !topics.is_empty())
    }

    /// Whether everything it listens to has brought an operator's last words.
    pub fn has_finals(&self) -> bool {
        let mut all = self.topics.iter().flat_map(|topics| topics.values());
        all.all(|heard| heard.has_final)
    }

    /// What a confirmation of a kind says.
    pub fn topic_count(&self, kind: usize) -> i64 {
        let count = match kind {
            2 => self.topics[2].len(),
            _ => self.topics[0].len() + self.topics[1].len(),
        };
        count as i64
    }

    /// Messages of a subscription that should have come until the node had done so much.
    pub fn missing(&self, log: &Log, (kind, name): (usize, &[u8]), until: u64) -> Option<String> {
        let heard = self.topics[kind].get(name)?;
        let due = |it: &&Publication| {
            heard.since < it.seq && it.seq < until && is_fitting(kind, name, it)
        };
        let missed = log
            .publications
            .iter()
            .filter(due)
            .filter(|_| !self.is_cramped)
            .find(|it| !heard.payloads.contains(&it.payload) && !log.may_be_lost(it))?;
        Some(format!(
            "never had {} of {}, published to {:?} at {}",
            String::from_utf8_lossy(&missed.payload),
            String::from_utf8_lossy(name),
            missed.receivers,
            missed.seq
        ))
    }
}

/// Whether a message belongs to a subscription.
pub fn is_fitting(kind: usize, name: &[u8], it: &Publication) -> bool {
    match kind {
        0 => !it.is_sharded && it.channel == name,
        1 => !it.is_sharded && glob::matches(name, &it.channel),
        _ => it.is_sharded && it.channel == name,
    }
}

impl Log {
    /// Whether a fault excuses that somebody never had a message: the last loss of a connection was
    /// not long ago, or every connection that got it was lost.
    pub fn may_be_lost(&self, it: &Publication) -> bool {
        let has_receivers = !it.receivers.is_empty();
        it.at <= self.gap_until
            || has_receivers
                && it
                    .receivers
                    .iter()
                    .all(|session| self.lost.contains(session))
    }

    /// A connection of the node is lost by a fault, and may not be replaced before that.
    pub fn note_loss(&mut self, session: crate::simulator::serves::SessionId, until: Instant) {
        self.lost.insert(session);
        self.extend_gap(until);
    }

    /// A lost connection is not replaced before that.
    pub fn extend_gap(&mut self, until: Instant) {
        self.gap_until = self.gap_until.max(until);
    }
}

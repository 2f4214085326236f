//! What a simulated node did, as the checker reads it: every command with a token, every
//! transaction, every publication.
//!
//! Knows no connection but by its number. Invariant: whatever the node answered to a command with a
//! token is here, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use manifold_core::time::Instant;

use super::resp::Version;
use crate::simulator::serves::SessionId;

/// Where a command ran.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// By itself.
    Alone,
    /// Not at all: it was queued.
    Queued,
    /// In EXEC.
    Exec,
}

/// Where something ran: at the only node, or at a cluster, and there in which slot.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Realm {
    /// The node.
    Node,
    /// A slot of a cluster.
    Slot(u16),
    /// At any node of a cluster.
    Any,
}

/// One answer to a command with a token.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, in the order of everything that the node did.
    pub seq: u64,
    /// On which connection.
    pub session: SessionId,
    /// As whom; nobody before AUTH where one is asked for.
    pub user: Option<&'static str>,
    /// In which database.
    pub database: u32,
    /// In which version of the protocol.
    pub version: Version,
    /// Where.
    pub place: Place,
    /// In which slot.
    pub realm: Realm,
    /// What has an order with it: everything at one node, and what has the same keys at a cluster.
    pub orders: Vec<Vec<u8>>,
    /// Whether it did anything, rather than being refused or queued.
    pub has_run: bool,
    /// Whether it may have changed something.
    pub is_write: bool,
    /// It waited, and CLIENT UNBLOCK ended that.
    pub was_unblocked: bool,
    /// What was answered.
    pub reply: Vec<u8>,
}

/// One EXEC.
#[derive(Clone, Debug)]
pub struct Exec {
    /// When.
    pub seq: u64,
    /// The tokens of what was queued or refused since MULTI.
    pub tokens: Vec<String>,
    /// What has an order with it.
    pub orders: Vec<Vec<u8>>,
    /// What was answered.
    pub reply: Vec<u8>,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Publication {
    /// When, in the order of everything.
    pub seq: u64,
    /// When, by the clock.
    pub at: Instant,
    /// Whether it is of SPUBLISH.
    pub is_sharded: bool,
    /// Where.
    pub channel: Vec<u8>,
    /// What; no two are the same.
    pub payload: Vec<u8>,
    /// Connections that got it.
    pub receivers: Vec<SessionId>,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// The number of the last thing that was done.
    pub seq: u64,
    /// Answers by token.
    pub entries: BTreeMap<String, Vec<Entry>>,
    /// How often each token has changed something, and where: the parts of what a cluster divides
    /// have the same one.
    pub ledger: BTreeMap<String, BTreeMap<Realm, u32>>,
    /// Transactions by every token in them.
    pub execs: BTreeMap<String, Vec<Rc<Exec>>>,
    /// Messages, in order.
    pub publications: Vec<Publication>,
    /// When each key changed.
    changes: BTreeMap<(u32, Vec<u8>), Vec<u64>>,
    /// Connections that were lost by a fault.
    pub lost: BTreeSet<SessionId>,
    /// Until then nobody may be subscribed for those whose connection was lost.
    pub gap_until: Instant,
    /// Where each token was sent to ask.
    pub asked_of: BTreeMap<String, usize>,
    /// What must never happen and did.
    pub violations: Vec<String>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            seq: 0,
            entries: BTreeMap::new(),
            ledger: BTreeMap::new(),
            execs: BTreeMap::new(),
            publications: Vec::new(),
            changes: BTreeMap::new(),
            lost: BTreeSet::new(),
            gap_until: Instant(0),
            asked_of: BTreeMap::new(),
            violations: Vec::new(),
        }
    }
}

impl Log {
    /// Something is about to be done.
    pub fn begin(&mut self) {
        self.seq += 1;
    }

    /// Notes an answer.
    pub fn note(&mut self, token: &str, entry: Entry) {
        if entry.has_run && entry.is_write {
            let counts = self.ledger.entry(token.to_owned()).or_default();
            let count = counts.entry(entry.realm).or_default();
            *count += 1;
            if *count > 1 {
                self.violations
                    .push(format!("I3: {token} was run {count} times"));
            }
        }
        self.entries
            .entry(token.to_owned())
            .or_default()
            .push(entry);
    }

    /// A key has changed.
    pub fn note_change(&mut self, key: (u32, Vec<u8>)) {
        self.changes.entry(key).or_default().push(self.seq);
    }

    /// Whether a key has changed after one moment and before another.
    pub fn has_changed(&self, key: &(u32, Vec<u8>), after: u64, before: u64) -> bool {
        let times = self.changes.get(key).map_or(&[][..], Vec::as_slice);
        times.iter().any(|&time| after < time && time < before)
    }

    /// The message with this payload.
    pub fn publication(&self, payload: &[u8]) -> Option<&Publication> {
        self.publications.iter().find(|it| it.payload == payload)
    }
}

/// The token in a request: what stands behind the first `#`.
pub fn token_of(words: &[Vec<u8>]) -> Option<String> {
    words.iter().find_map(|word| {
        let at = word.iter().position(|&byte| byte == b'#')?;
        Some(String::from_utf8_lossy(&word[at + 1..]).into_owned())
    })
}

/// The name of a key, which ends before its token.
pub fn name_of(word: &[u8]) -> Vec<u8> {
    let end = word.iter().position(|&byte| byte == b'#');
    word[..end.unwrap_or(word.len())].to_vec()
}

/// The client that a token belongs to: what stands before the dash.
pub fn owner_of(token: &str) -> &str {
    token.split_once('-').map_or(token, |(client, _)| client)
}

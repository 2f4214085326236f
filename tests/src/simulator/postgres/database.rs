//! What the sessions of a node share: the ledger, the locks and the log of what was executed.
//!
//! Knows no connection. Invariant: only a commit changes the ledger, and a token's executions are
//! all in the log.

use core::time::Duration;
use std::collections::BTreeMap;

use super::SessionId;
use super::locks::Locks;
use crate::simulator::prng::Prng;

/// What a transaction changes when it commits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A token enters the ledger.
    Token(String),
    /// The client's own table gets one more column.
    Star(String),
    /// Listeners are told.
    Notify {
        /// The channel.
        channel: String,
        /// The payload.
        payload: String,
    },
}

/// One execution of a statement with a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Execution {
    /// Where.
    pub session: SessionId,
    /// Whether the statement writes.
    pub is_write: bool,
}

/// How long things take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// The shortest time for a statement.
    pub shortest: Duration,
    /// The longest time for a statement that does not say otherwise.
    pub longest: Duration,
}

/// What is shared.
#[derive(Clone, Debug)]
pub struct Database {
    /// How often each token was committed.
    pub ledger: BTreeMap<String, u32>,
    /// Every execution of each token.
    pub executions: BTreeMap<String, Vec<Execution>>,
    /// How many columns each client's own table has beyond the first.
    pub stars: BTreeMap<String, u32>,
    /// Counts changes of the catalog.
    pub epoch: u64,
    /// The locks.
    pub locks: Locks,
    /// Committed notifications that no session has been told of yet.
    pub notifications: Vec<(u32, String, String)>,
    /// Tokens of writes that a cancel hit: the checker reads it.
    pub cancelled: Vec<String>,
    /// What must never happen and did: the checker reads it.
    pub violations: Vec<String>,
    /// How long statements take.
    pub service: Service,
    /// For what the node itself decides.
    pub prng: Prng,
}

impl Database {
    /// An empty one.
    pub fn new(service: Service, prng: Prng) -> Self {
        Self {
            ledger: BTreeMap::new(),
            executions: BTreeMap::new(),
            stars: BTreeMap::new(),
            epoch: 1,
            locks: Locks::default(),
            notifications: Vec::new(),
            cancelled: Vec::new(),
            violations: Vec::new(),
            service,
            prng,
        }
    }

    /// Commits changes made by a session with the process id `pid`.
    pub fn commit(&mut self, pid: u32, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Token(token) => *self.ledger.entry(token).or_default() += 1,
                Change::Star(client) => {
                    *self.stars.entry(client).or_default() += 1;
                    self.epoch += 1;
                }
                Change::Notify { channel, payload } => {
                    self.notifications.push((pid, channel, payload));
                }
            }
        }
    }

    /// Logs an execution.
    pub fn log(&mut self, token: &str, session: SessionId, is_write: bool) {
        let execution = Execution { session, is_write };
        self.executions
            .entry(token.to_owned())
            .or_default()
            .push(execution);
    }

    /// How long the next statement takes.
    pub fn service_time(&mut self) -> Duration {
        let shortest = self.service.shortest.as_nanos() as u64;
        let longest = self.service.longest.as_nanos() as u64;
        Duration::from_nanos(self.prng.between(shortest, longest.max(shortest)))
    }

    /// How many committed tokens a client has.
    pub fn written(&self, client: &str) -> usize {
        let first = format!("{client}-");
        let tokens = self.ledger.range(first.clone()..);
        tokens
            .take_while(|(token, _)| token.starts_with(&first))
            .count()
    }
}

/// The client that a token belongs to: what stands before the dash.
pub fn owner_of(token: &str) -> &str {
    token.split_once('-').map_or(token, |(client, _)| client)
}

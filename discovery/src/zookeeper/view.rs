//! What ZooKeeper has, as it was read, and what a reading of it comes to.
//!
//! Plain values between the session, which fills the one, and the formats, which make the other.
//! Invariant: a view is complete; nobody has to remember the one before it.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::source::Snapshot;

/// One znode.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Znode {
    /// Where it is.
    pub path: Box<str>,
    /// The last step of its path.
    pub name: Box<str>,
    /// What it holds.
    pub data: Vec<u8>,
    /// The transaction that made it: another one if it went away and came back.
    pub created: u64,
    /// The transaction that wrote it last.
    pub modified: u64,
}

/// What a format needs to know, at one moment.
#[derive(Clone, Debug)]
pub enum View {
    /// A cluster of Patroni.
    Cluster {
        /// Who leads.
        leader: Option<Znode>,
        /// Who is asked to.
        failover: Option<Znode>,
        /// Everybody.
        members: Vec<Znode>,
    },
    /// Children of one znode.
    List(Vec<Znode>),
    /// One znode.
    One(Znode),
}

/// What cannot be read, and why.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Garbage {
    /// Which znode.
    pub path: Box<str>,
    /// What is wrong with it.
    pub why: Box<str>,
}

/// What a view means.
#[derive(Debug)]
pub struct Reading {
    /// Where the nodes are and who leads.
    pub snapshot: Snapshot,
    /// What was skipped.
    pub garbage: BTreeSet<Garbage>,
    /// When the same view will mean something else.
    pub again: Option<Instant>,
}

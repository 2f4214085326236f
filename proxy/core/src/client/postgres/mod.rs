//! A PostgreSQL client: its socket's unanswered bytes and its session's state.
//!
//! The files beside this one are the steps of its life: `startup`, `login`, then `pump` for each
//! request (`examine` what it asks for, `emit` it to an upstream, answer it in `local` or `refuse`
//! it). None of them reads replies. Invariant: all unanswered requests of a client are on one
//! upstream, in order.

pub mod authenticate;
pub mod cancel;
pub mod effects;
pub mod emit;
pub mod errors;
pub mod examine;
pub mod framing;
pub mod leave;
pub mod local;
pub mod login;
pub mod pump;
pub mod refuse;
pub mod startup;
pub mod statements;
pub mod stream;
pub mod transaction;

use std::rc::Rc;

use manifold_protocols::postgres::backend::Status;

use crate::fingerprint::Fingerprint;
use crate::identity::Reported;
use crate::ids::{ConnId, DatabaseId, IdentityId, LaneId, ServiceId, UpstreamId};
use crate::input::Input;
use crate::proof::Reason;
use crate::time::Instant;

use authenticate::Login;
use statements::Statements;

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its socket.
    pub conn: ConnId,
    /// Which service it came to.
    pub service: ServiceId,
    /// Whether it connects from this host.
    pub is_local: bool,
    /// How far its session has come.
    pub phase: Phase,
    /// The proof of who it is, as far as it has come; only while `phase` is `Login`.
    pub login: Option<Box<Login>>,
    /// Bytes of unanswered requests, then what has not been looked at.
    pub input: Input,
    /// How far the unparsed bytes have been found whole, so that none is looked at twice.
    pub scanned: usize,
    /// Requests sent and not answered; all are on `upstream`.
    pub in_flight: u32,
    /// Where its unanswered requests are, or the upstream of its lease.
    pub upstream: Option<UpstreamId>,
    /// Its lease, if it has one.
    pub lease: Option<Lease>,
    /// What its next request waits for.
    pub waiting: Waiting,
    /// When it began to wait.
    pub since: Instant,
    /// Since when it is in doubt whether the catalog that condemns its next request is still true.
    pub doubts_since: Option<Instant>,
    /// How often its next request has waited for a verdict.
    pub asks: u32,
    /// What the session is; only while `phase` is beyond `Startup`.
    pub session: Option<Box<Session>>,
    /// The secret half of its cancel key.
    pub secret: u32,
    /// Bytes of the message being streamed to its lease that are still to come.
    pub streaming: usize,
    /// Its messages are dropped up to the next Sync, as after any error: how many bytes of the
    /// message at hand are still to come.
    pub skipping: Option<usize>,
    /// How often the request that is to be answered next has been sent again.
    pub retries: u8,
    /// How often its unanswered requests have been taken back from behind a stalled head.
    pub reissues: u8,
    /// Reading is paused until there is room again.
    pub is_paused: bool,
    /// What a request in flight does to statements is for the node to say: the next one waits.
    pub is_barred: bool,
    /// A transaction was sent as a whole and something is unanswered since: what follows may run
    /// inside it, should it stay open.
    pub is_inside: bool,
    /// The transaction status that the client was told last.
    pub status: Status,
    /// Whether it said good-bye or sent its last byte: closed when everything is answered.
    pub is_leaving: bool,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Has shown a cancel key to be dealt with on another shard.
    Cancelling,
    /// Before the end of the startup packet.
    Startup,
    /// Between the startup packet and the first ReadyForQuery.
    Login,
    /// In use.
    Ready,
}

/// What a client's next request waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// Nothing: it is looked at as soon as it is complete.
    No,
    /// The catalog of its database.
    Catalog,
    /// What a text does.
    Verdict,
    /// Its own earlier requests.
    Itself,
    /// An upstream; it stands in its lane's queue.
    Upstream,
}

/// Who the client is and what it has set.
#[derive(Debug)]
pub struct Session {
    /// Service, user and database.
    pub identity: IdentityId,
    /// The database's catalog.
    pub database: DatabaseId,
    /// Where its requests queue; looked up again when it is gone.
    pub lane: Option<LaneId>,
    /// Its settings now.
    pub fingerprint: Rc<Fingerprint>,
    /// Its settings as of its startup packet, which RESET goes back to.
    pub startup: Rc<Fingerprint>,
    /// `application_name` now, if it was ever given.
    pub application: Option<Rc<[u8]>>,
    /// `application_name` as of the startup packet.
    pub startup_application: Option<Rc<[u8]>>,
    /// Prepared statements.
    pub statements: Statements,
    /// It may have drawn from sequences, on whatever upstreams.
    pub has_drawn: bool,
    /// On its lease, statements have the client's own names: it mixes them with SQL-level PREPARE.
    pub is_raw: bool,
    /// While `is_raw`: names of statements that could not be prepared on the lease so far.
    pub unprepared: Vec<Box<[u8]>>,
    /// Settings that requests of the current lease may have changed.
    pub touched: Vec<Box<str>>,
    /// What the node itself told the client of its parameters last, where it did.
    pub told: Vec<Reported>,
    /// Whether texts may be judged by our lexer: standard_conforming_strings on and an encoding
    /// without ASCII bytes inside characters.
    pub is_readable: bool,
}

/// An upstream held by one client alone.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// When it ends.
    pub until: Until,
    /// When it began.
    pub since: Instant,
    /// A request has been begun and not closed by Sync, Query or FunctionCall.
    pub is_open: bool,
    /// Something has been sent on it.
    pub is_begun: bool,
    /// What earlier sessions drew from sequences has been wiped from it.
    pub has_forgotten: bool,
    /// Its open transaction has changed the catalog, or may have: true for others when it commits.
    pub defines: Option<Definition>,
}

/// How sure it is that a request has changed the catalog.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Definition {
    /// Unproven text: most of it changes no catalog.
    Suspected,
    /// DDL.
    Certain,
}

/// What ends a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// The next ReadyForQuery with status idle and nothing left in flight.
    Idle,
    /// The end of the session, or DISCARD ALL.
    Session(Reason),
}

impl Session {
    /// What the node itself told the client of a parameter last, if it did.
    pub fn told_value(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.told.iter().find(|(told, _)| **told == *name);
        found.map(|(_, value)| &**value)
    }
}

impl Client {
    /// A client that has just been accepted.
    pub fn new(
        conn: ConnId,
        service: ServiceId,
        is_local: bool,
        secret: u32,
        now: Instant,
    ) -> Self {
        Self {
            conn,
            service,
            is_local,
            phase: Phase::Startup,
            login: None,
            input: Input::default(),
            scanned: 0,
            in_flight: 0,
            upstream: None,
            lease: None,
            waiting: Waiting::No,
            since: now,
            doubts_since: None,
            asks: 0,
            session: None,
            secret,
            streaming: 0,
            skipping: None,
            retries: 0,
            reissues: 0,
            is_paused: false,
            is_barred: false,
            is_inside: false,
            status: Status::Idle,
            is_leaving: false,
        }
    }

    /// The session of a client that has one.
    pub fn session(&self) -> &Session {
        self.session
            .as_deref()
            .expect("a client beyond its startup packet has a session")
    }

    /// The session of a client that has one.
    pub fn session_mut(&mut self) -> &mut Session {
        self.session
            .as_deref_mut()
            .expect("a client beyond its startup packet has a session")
    }
}

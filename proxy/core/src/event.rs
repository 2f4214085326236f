//! The seam between a shard and its driver: what happened, and what to do.
//!
//! Plain data in both directions. The driver never calls into sessions and the core never sees a
//! descriptor; io_uring, epoll and the simulator speak exactly this language.
//!
//! The life of a connection:
//!
//! 1. It begins with [`Event::Accepted`] answered by [`Operation::Adopt`], or with
//!    [`Operation::Connect`] answered by [`Event::Connected`]. The core hands out the [`ConnId`].
//! 2. [`Event::Received`] brings bytes; [`Operation::Send`] takes a buffer away and
//!    [`Event::Sent`] gives it back. **At most one `Send` is under way per connection.**
//! 3. [`Event::Eof`] (the peer sends no more) and [`Event::Failed`] (broken, or never connected)
//!    come at most once each and ask the core to close.
//! 4. Only [`Operation::Close`] ends a connection, and [`Event::Closed`] says that it has ended: no
//!    operation is in flight, every buffer is back, and no event will ever name that id again.
//!    A `Sent` for a send that was under way comes before `Closed`.

use core::net::SocketAddr;

use std::sync::Arc;

use crate::auth::Users;
use crate::client::redis::others::{Finding, Question};
use crate::ids::{ClientId, ConnId, DatabaseId, ListenerId, ServiceId, ShardId};
use crate::proof::Verdict;
use crate::time::Instant;

/// A socket that the driver has accepted and the core has not adopted yet, by the driver's own
/// number for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Socket(pub u64);

/// Where an accepted socket comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A TCP peer.
    Ip(SocketAddr),
    /// A unix socket of this host.
    Unix,
}

impl Peer {
    /// Whether the peer is on this host: a unix socket or a loopback address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

/// Where a node listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// The path of a unix socket.
    Unix(Arc<str>),
}

impl core::fmt::Display for Address {
    /// As an operator would write it.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Why a connection failed, as far as it matters to what is said and retried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Nobody listens there (ECONNREFUSED, ENOENT of a unix path).
    Refused,
    /// The peer reset it or the pipe broke (ECONNRESET, EPIPE).
    Reset,
    /// The kernel gave up waiting for the peer (ETIMEDOUT, keepalive, TCP_USER_TIMEOUT).
    TimedOut,
    /// No way there (ENETUNREACH, EHOSTUNREACH).
    Unreachable,
    /// This host is out of something (EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL).
    Exhausted,
    /// Anything else, by its errno.
    Other(i32),
}

/// Who takes the writes of a service, as far as anybody has said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lead {
    /// One of these; each of them is there once, and there is at least one.
    Among(Vec<Address>),
    /// Nobody at the moment, or whoever did is handing over: writes wait.
    Nobody,
    /// Nothing is known. What was known stands.
    Unknown,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener accepted a socket. The core answers `Adopt` or `Reject` in the same pass.
    Accepted {
        /// Which listener.
        listener: ListenerId,
        /// The driver's number for the socket.
        socket: Socket,
        /// Who connects.
        peer: Peer,
    },
    /// The connect that the core asked for is established, and receiving has begun.
    Connected {
        /// Which connection.
        conn: ConnId,
    },
    /// Bytes came in. They are the driver's: what the core wants to keep it copies.
    Received {
        /// Which connection.
        conn: ConnId,
        /// Never empty.
        bytes: &'a mut [u8],
    },
    /// A send has ended and its buffer comes back. `sent < buffer.len()` only when the connection
    /// has failed or is being closed.
    Sent {
        /// Which connection.
        conn: ConnId,
        /// The buffer of the `Send`, unchanged.
        buffer: Vec<u8>,
        /// How many of its bytes the kernel took.
        sent: usize,
    },
    /// The peer will send no more.
    Eof {
        /// Which connection.
        conn: ConnId,
    },
    /// The connection is broken or could not be established. Nothing can be sent any more.
    Failed {
        /// Which connection.
        conn: ConnId,
        /// Why.
        failure: Failure,
    },
    /// The connection has ended completely, after `Close`.
    Closed {
        /// Which connection; the id is dead now.
        conn: ConnId,
    },
    /// A statement has been classified off the shard.
    Classified {
        /// The ticket of the `Classify`.
        ticket: u64,
        /// What the statement does.
        verdict: Arc<Verdict>,
    },
    /// The catalog that the core handed out has been taken in: statements classified from now on
    /// are judged by it.
    CatalogReady {
        /// Whose catalog.
        database: DatabaseId,
        /// Whether it could be understood; if not, nothing in that database is proven.
        understood: bool,
    },
    /// Who takes the writes of a service. Comes when it was asked for, and whenever that changes.
    Resolved {
        /// Which service.
        service: ServiceId,
        /// Where its writes go.
        lead: Lead,
    },
    /// Something from another shard.
    FromShard {
        /// What.
        message: Message,
    },
    /// Who may log in to a service has changed. Those who are in stay.
    Users {
        /// Which service.
        service: ServiceId,
        /// The whole file.
        users: Arc<Users>,
    },
    /// Finish what is in flight until `deadline_ms` from now, then close everything.
    Drain {
        /// How long requests and transactions in flight may go on, in milliseconds.
        deadline_ms: u64,
    },
}

/// What one shard tells another. Rare.
#[derive(Clone, Debug)]
pub enum Message {
    /// A client asked to cancel a request of a client that this shard owns.
    Cancel {
        /// The process id in the cancel key, as the proxy made it up.
        pid: u32,
        /// The secret that goes with it.
        secret: u32,
        /// Which shard has the connection that asked.
        shard: ShardId,
        /// That connection's client.
        client: ClientId,
    },
    /// The cancel that a client of this shard asked for has been dealt with.
    CancelTaken {
        /// The client.
        client: ClientId,
    },
    /// A Redis session asks about all sessions of its service.
    SessionsAsked {
        /// Which service.
        service: ServiceId,
        /// What it asks.
        question: Question,
        /// Which shard has it.
        shard: ShardId,
        /// The session.
        client: ClientId,
    },
    /// The writes of a Redis node are paused until then; a time that has passed ends that.
    WritesPaused {
        /// Whose node.
        service: ServiceId,
        /// Until when.
        until: Instant,
    },
    /// The answer to `SessionsAsked`.
    SessionsTold {
        /// The session that asked.
        client: ClientId,
        /// What was found.
        finding: Finding,
    },
    /// A node is short of connections that this shard may hold without need.
    ConnectionsWanted {
        /// Which service.
        service: ServiceId,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Operation {
    /// Take an accepted socket on under this id and start receiving.
    Adopt {
        /// Its id from now on.
        conn: ConnId,
        /// The driver's number for it.
        socket: Socket,
    },
    /// Close an accepted socket without a word.
    Reject {
        /// The driver's number for it.
        socket: Socket,
    },
    /// Open a connection and start receiving.
    Connect {
        /// Its id.
        conn: ConnId,
        /// Where to.
        address: Address,
    },
    /// Send all of a buffer; it comes back with `Sent`.
    Send {
        /// Which connection.
        conn: ConnId,
        /// Never empty.
        buffer: Vec<u8>,
    },
    /// Stop receiving. What was already under way may still come.
    Pause {
        /// Which connection.
        conn: ConnId,
    },
    /// Receive again after `Pause`.
    Resume {
        /// Which connection.
        conn: ConnId,
    },
    /// End a connection at once: shut it down, wait until nothing is in flight, close, say
    /// `Closed`.
    Close {
        /// Which connection.
        conn: ConnId,
    },
    /// Stop accepting for good: every listener is closed, so that new clients are refused or reach
    /// whoever else listens there. Those that were on their way may still be `Accepted`.
    AcceptOff,
    /// Ask what a statement does. Answered by `Classified`, always.
    Classify {
        /// Comes back with the answer.
        ticket: u64,
        /// Whose catalog decides.
        database: DatabaseId,
        /// The statement text, in the client's encoding (a superset of ASCII).
        text: Arc<[u8]>,
    },
    /// Hand over a freshly read catalog. Answered by `CatalogReady`, always.
    Catalog {
        /// Whose.
        database: DatabaseId,
        /// The rows of [`crate::proof::CATALOG_QUERY`], one line each, as the node sent them.
        lines: Vec<u8>,
    },
    /// Say where the name of a service leads, and look again whether that still holds: nothing is
    /// known here, or a connection has failed. Answered by `Resolved`, always.
    Resolve {
        /// Which service.
        service: ServiceId,
    },
    /// Tell another shard something. A `Cancel` for one that has no room for it, or that does not
    /// exist (a key that nobody was given may name any), is answered with `CancelTaken`.
    ToShard {
        /// Which.
        shard: ShardId,
        /// What.
        message: Message,
    },
    /// Say something to the operator of the proxy.
    Log {
        /// How much it matters.
        level: Level,
        /// A sentence that names the service, the limit or the setting, and never statement text.
        text: String,
    },
    /// Everything is closed after `Drain`; the shard has nothing left to do.
    Drained,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Something is wrong on our side.
    Error,
    /// Somebody should know.
    Warn,
    /// For those who watch.
    Info,
    /// For those who search.
    Debug,
}

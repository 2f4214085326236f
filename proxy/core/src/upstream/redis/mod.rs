//! An upstream to a Redis node: its pipe, what it is used for, who holds it.
//!
//! The files beside this one: `abilities` (what the node can do), `pool` (who may use which),
//! `connect` (until it is ready), `replies` (what comes back), `lease` (when it is one client's
//! alone), `hub` (what it is subscribed to for many), `count` (how many listen), `failure` (who is
//! retried when it is lost), `heavy` (what is answered at length), `refusal` (who asks again, as
//! the node was not ready), `role` (only a primary will do), `room` (who gives way to others),
//! `cluster` (which node has which slot)
//! and `resettle` (channels that go to another node). Invariant: every request sent has exactly one
//! expectation in the pipe, in order, until its last reply came back.

pub mod abilities;
pub mod cluster;
pub mod connect;
pub mod count;
pub mod failure;
pub mod heavy;
pub mod hub;
pub mod lease;
pub mod pool;
pub mod refusal;
pub mod replies;
pub mod resettle;
pub mod role;
pub mod room;
pub mod whereabouts;

use std::collections::VecDeque;

use manifold_protocols::redis::resp::reply::Finder;

use crate::client::redis::telling::Tale;
use crate::event::Address;
use crate::ids::{ClientId, ConnId, PoolId, ServiceId};
use crate::time::Instant;

use pool::Post;

/// One connection to a node.
#[derive(Debug)]
pub struct Upstream {
    /// Its connection.
    pub conn: ConnId,
    /// The service of its node.
    pub service: ServiceId,
    /// Whose permit it has: its service's, or that of the node which plays the home of a cluster.
    pub payer: ServiceId,
    /// What it is logged in as, and where.
    pub pool: PoolId,
    /// What it is used for there.
    pub post: Post,
    /// Where it leads, if that is not what is configured.
    pub address: Option<Address>,
    /// Its number at the node, for those that are leased.
    pub number: Option<u64>,
    /// It was in its database before it logged in.
    pub has_selected: bool,
    /// The node calls it by the proxy's name, and not by none.
    pub is_named: bool,
    /// How far it has come.
    pub state: State,
    /// Since when it is in this state; for a ready one, when it was last used.
    pub since: Instant,
    /// When it was begun.
    pub opened: Instant,
    /// It takes no more requests, because others need its permit.
    pub is_retiring: bool,
    /// Its node has left: it ends with what is on it.
    pub is_outdated: bool,
    /// Requests in flight, in order.
    pub pipe: VecDeque<Expectation>,
    /// How far the reply at hand has come.
    pub finder: Finder,
    /// What is done with the reply at hand.
    pub taking: Taking,
    /// Bytes of the reply at hand that were passed on.
    pub passed: usize,
    /// The reply at hand, where it has to be seen whole.
    pub carry: Vec<u8>,
    /// The client that holds it alone.
    pub holder: Option<ClientId>,
    /// Whatever comes is its holder's, as it comes: it has become a stream.
    pub is_raw: bool,
    /// Reading is paused because the client that holds it does not read.
    pub is_paused: bool,
}

/// How far an upstream has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Waiting for the connection.
    Connecting,
    /// Logging in.
    Greeting,
    /// In use.
    Ready,
}

/// What is done with the reply at hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Taking {
    /// It is passed on as it comes, or dropped if nobody wants it.
    Pass,
    /// It is kept until it is whole.
    Keep,
    /// It answers nothing, and is kept until it is whole.
    Push,
    /// It answers nothing, and is too long for anybody: it is dropped as it comes.
    Drown,
}

/// What a request in flight is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// Whom the replies are for.
    pub whose: Whose,
    /// Replies still to come: one, but for a transaction that was sent whole.
    pub replies: u32,
    /// Where its first byte was written to the connection.
    pub position: u64,
    /// What it does.
    pub effect: Effect,
}

/// Whom a reply is for.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// A client, for its request of this number.
    Client {
        /// Which.
        id: ClientId,
        /// The number of its request.
        number: u32,
        /// Where its request begins in its input.
        at: u64,
        /// How long it is there.
        len: u32,
        /// The client does not want the reply.
        is_mute: bool,
    },
    /// The proxy itself.
    Own(Own),
    /// Nobody any more: the reply is swallowed, and keeps its place until then.
    Nobody,
}

/// What the proxy asks a node itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Own {
    /// AUTH or HELLO, as part of a greeting.
    Login,
    /// SELECT, as part of a greeting, when all is said that may have to be said before.
    Select,
    /// SELECT before a login, which need not succeed: some users may not do it themselves.
    SelectEarly,
    /// ROLE, as part of a greeting where only a primary will do.
    Role,
    /// CLIENT SETNAME, which need not succeed.
    Name,
    /// The table of commands.
    Commands,
    /// CONFIG GET: how many threads read.
    Threads,
    /// HELLO: its number at the node.
    Id,
    /// RESET, before somebody else may use the upstream.
    Reset,
    /// PING at the end of a greeting: whether the node serves yet what it loads when it starts.
    Ready,
    /// PING, so that what WAIT waits for is everything up to now.
    Ping,
    /// What no node knows, so that a transaction does not run without what was not let through.
    Poison,
    /// CLIENT INFO: what a transaction has made of the connection.
    Info,
    /// HELLO: what version a connection speaks on which CLIENT INFO is not allowed.
    Version,
    /// A subscription, or its end, for whom the hub knows.
    Subscription,
    /// CLUSTER SLOTS: who has which.
    Slots,
    /// ASKING, before what a node does for a slot that is on its way to it.
    Asking,
    /// Whether this session may do what the proxy does for it.
    Permission(ClientId),
    /// The same, of what a node confirms by a push in RESP3.
    PermissionToEnd(ClientId),
}

/// What a request does, as far as retries and leases have to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Reads: may run twice as long as nothing of its reply was delivered.
    Read,
    /// May have changed something once the node has it.
    Write,
    /// Is answered with how many listen, which the node does not know; like a write otherwise.
    Count,
    /// A whole transaction.
    Unit,
    /// Begins a transaction on a lease.
    Multi,
    /// Ends it, if it succeeds.
    Exec,
    /// Ends it.
    Discard,
    /// Watches keys.
    Watch,
    /// Watches none any more.
    Unwatch,
    /// Turns the connection into a stream.
    Stream,
    /// Goes to another database, on a lease.
    Select(u32),
    /// Tells a session what the node says of itself; names the connection, which is not the
    /// client's.
    Hello,
    /// Tells a session where its invalidations go.
    Redirect,
    /// Is queued for a transaction, in which it tells of the connection.
    Tell(Tale),
    /// Tries a client's password.
    Auth,
    /// Waits until replicas have what was written before.
    Wait,
    /// May hold up its connection.
    Block,
    /// Pauses the node, or lets it go on.
    Pause,
}

impl Upstream {
    /// An upstream that is about to be connected.
    pub fn new(conn: ConnId, service: ServiceId, pool: PoolId, post: Post, now: Instant) -> Self {
        Self {
            conn,
            service,
            payer: service,
            pool,
            post,
            address: None,
            number: None,
            has_selected: false,
            is_named: false,
            state: State::Connecting,
            since: now,
            opened: now,
            is_retiring: false,
            is_outdated: false,
            pipe: VecDeque::new(),
            finder: Finder::default(),
            taking: Taking::Pass,
            passed: 0,
            carry: Vec::new(),
            holder: None,
            is_raw: false,
            is_paused: false,
        }
    }

    /// A planted bug: the replies of the first two clients in the pipe are taken for each other's.
    pub(crate) fn swap_replies(&mut self) {
        if let [
            Expectation { whose: one, .. },
            Expectation { whose: other, .. },
            ..,
        ] = self.pipe.make_contiguous()
            && matches!((&one, &other), (Whose::Client { .. }, Whose::Client { .. }))
        {
            core::mem::swap(one, other);
        }
    }

    /// Whether nobody uses it and nothing is expected of it.
    pub fn is_idle(&self) -> bool {
        self.state == State::Ready && self.pipe.is_empty() && self.holder.is_none()
    }
}

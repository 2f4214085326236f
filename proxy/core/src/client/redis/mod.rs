//! A Redis client: its socket's unanswered bytes and its session's state.
//!
//! The files beside this one: `judge` (what a request needs), `pump` (one request after the other),
//! `leased` (those of a client that has an upstream alone), `passing` (those that are passed on
//! while they come), `session` (what the proxy itself keeps for a session), `subscribe` (what it
//! listens to), `listen` (how messages reach it), `deliver` (replies in the order of their
//! requests), `listing` (what CLIENT LIST says), `others` (who else there is), `pausing` and
//! `tracking` (CLIENT PAUSE and TRACKING), `telling` (what a transaction tells of its connection),
//! `permission` (whether it may), `errors` (what the proxy
//! itself says) and `leave` (how clients go). None of them reads a node's replies. Invariant: of
//! one client's unanswered requests, all are on one upstream.

pub mod aim;
pub mod deliver;
pub mod errors;
pub mod fan;
pub mod follow;
pub mod gather;
pub mod judge;
pub mod leased;
pub mod leave;
pub mod listen;
pub mod listing;
pub mod map;
pub mod others;
pub mod passing;
pub mod pausing;
pub mod permission;
pub mod pump;
pub mod recall;
pub mod session;
pub mod spread;
pub mod subscribe;
pub mod telling;
pub mod tracking;
pub mod transact;

use std::collections::BTreeMap;

use manifold_protocols::redis::resp::request::Finder;

use crate::event::Peer;
use crate::ids::{ConnId, PoolId, ServiceId, UpstreamId};
use crate::input::Input;
use crate::time::Instant;
use crate::upstream::redis::pool::Lane;

use passing::Passing;
use session::Session;
use spread::{Branch, Spread};

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its socket.
    pub conn: ConnId,
    /// Where it connects from.
    pub peer: Peer,
    /// When it came.
    pub came_at: Instant,
    /// When it sent something last.
    pub active_at: Instant,
    /// Which service it came to.
    pub service: ServiceId,
    /// What CLIENT ID says.
    pub number: u64,
    /// Where its requests go: its user, its database, its version of the protocol.
    pub pool: PoolId,
    /// Bytes of unanswered requests, then what has not been looked at.
    pub input: Input,
    /// How far the next request has been found.
    pub finder: Finder,
    /// Requests taken in: the number of the next.
    pub taken: u32,
    /// Requests answered: the number of the one that is to be answered next.
    pub answered: u32,
    /// Where its unanswered requests are.
    pub route: Option<Route>,
    /// Requests that are to be sent again and have not been.
    pub resends: u32,
    /// How often its oldest request has been sent again.
    pub retries: u8,
    /// The request that is passed on while it comes.
    pub passing: Option<Box<Passing>>,
    /// The upstream that it holds alone.
    pub lease: Option<Lease>,
    /// What its next request waits for.
    pub waiting: Waiting,
    /// When it began to wait.
    pub since: Instant,
    /// It has waited, and it is its turn now.
    pub was_called: bool,
    /// The node has just allowed its next request.
    pub is_permitted: bool,
    /// Replies that came before their turn.
    pub parked: Option<Box<BTreeMap<u32, Parked>>>,
    /// Which replies it does not want.
    pub mute: Mute,
    /// What it has set, if it has set anything.
    pub session: Option<Box<Session>>,
    /// Reading is paused until there is room again.
    pub is_paused: bool,
    /// It said good-bye or sent its last byte: closed when everything is answered.
    pub is_leaving: bool,
    /// Part of a reply has been given to it: only the rest may follow.
    pub is_amid: bool,
    /// What it has at the nodes of a cluster, if its service is one.
    pub spread: Option<Box<Spread>>,
    /// It is itself what another client has at one node.
    pub branch: Option<Box<Branch>>,
}

/// Where the unanswered requests of a client are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// On this upstream.
    pub upstream: UpstreamId,
    /// So many of them.
    pub count: u32,
}

/// A reply, or as much of it as has come, before its turn.
#[derive(Debug, Default)]
pub struct Parked {
    /// What has come.
    pub bytes: Vec<u8>,
    /// The bytes of its request in the client's input, once the reply is whole.
    pub request: Option<u32>,
}

/// An upstream held by one client alone, and what ends that.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Which.
    pub upstream: UpstreamId,
    /// MULTI has been sent, and neither EXEC nor DISCARD.
    pub is_queueing: bool,
    /// The node has begun a transaction.
    pub is_multi: bool,
    /// The transaction holds what a session is made of: its database, its name.
    pub is_strange: bool,
    /// The node watches keys.
    pub is_watching: bool,
    /// It has state that only RESET takes away.
    pub is_pinned: bool,
    /// RESET has to follow before anybody else may have it.
    pub is_soiled: bool,
    /// The node was asked what a transaction has made of the session, and has not said.
    pub is_in_doubt: bool,
    /// Everything that comes is passed on as it comes, and nothing is expected.
    pub is_stream: bool,
}

/// What a client's next request waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// Nothing: it is looked at as soon as it is complete.
    No,
    /// Its own earlier requests.
    Itself,
    /// Room on a lane of its pool.
    Lane(Lane),
    /// An upstream alone.
    Lease,
    /// Its upstream to take what is there of its request.
    Output,
    /// Another pool to become ready.
    Move,
    /// What other shards say.
    Others,
    /// The node to begin or end subscriptions.
    Hub,
    /// The map of the cluster.
    Map,
    /// The node to say whether it may.
    Permission,
}

/// Which replies a client does not want.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mute {
    /// None.
    No,
    /// The one to its next request.
    Next,
    /// All, until it says otherwise.
    All,
}

impl Lease {
    /// Whether the node is between MULTI and EXEC, or will be.
    pub fn is_in_transaction(&self) -> bool {
        self.is_queueing || self.is_multi
    }

    /// Whether something on the upstream would be missing on another.
    pub fn has_state(&self) -> bool {
        let is_pinned = self.is_pinned || self.is_stream || self.is_in_doubt;
        is_pinned || self.is_in_transaction() || self.is_watching
    }
}

impl Client {
    /// A client that has just been accepted.
    pub fn new(
        conn: ConnId,
        peer: Peer,
        service: ServiceId,
        pool: PoolId,
        number: u64,
        now: Instant,
    ) -> Self {
        Self {
            conn,
            peer,
            came_at: now,
            active_at: now,
            service,
            number,
            pool,
            input: Input::default(),
            finder: Finder::default(),
            taken: 0,
            answered: 0,
            route: None,
            resends: 0,
            retries: 0,
            passing: None,
            lease: None,
            waiting: Waiting::No,
            since: now,
            was_called: false,
            is_permitted: false,
            parked: None,
            mute: Mute::No,
            session: None,
            is_paused: false,
            is_leaving: false,
            is_amid: false,
            spread: None,
            branch: None,
        }
    }

    /// Whether everything it asked has been answered.
    pub fn is_answered(&self) -> bool {
        self.taken == self.answered
    }

    /// How many of its requests are not answered.
    pub fn unanswered(&self) -> u32 {
        self.taken.wrapping_sub(self.answered)
    }

    /// One more of its requests is on this upstream.
    pub fn follow(&mut self, upstream: UpstreamId) {
        let route = self.route.get_or_insert(Route { upstream, count: 0 });
        assert!(
            route.upstream == upstream,
            "a client's unanswered requests are on one upstream"
        );
        route.count += 1;
    }

    /// Whether none of its requests is at a node or on the way there.
    pub fn is_settled(&self) -> bool {
        self.route.is_none()
            && self.resends == 0
            && self
                .spread
                .as_ref()
                .is_none_or(|spread| spread.is_settled())
    }
}

//! An upstream to a PostgreSQL node: its pipe, what is prepared on it, who holds it.
//!
//! The files beside this one: `pipe` (what is expected), `connect` (until it is ready), `replies`
//! (what comes back), `challenge` (who proves what to the node), `answered` (what the end of a
//! request means), `restore` (what RESET means), `failure` (who is retried when it is lost),
//! `chores` (requests of our own). Invariant: every request sent has exactly one expectation in the
//! pipe, in order, until its end came back.

pub mod answered;
pub mod challenge;
pub mod chores;
pub mod connect;
pub mod failure;
pub mod matching;
pub mod names;
pub mod pipe;
pub mod raw;
pub mod replies;
pub mod restore;

use std::collections::VecDeque;
use std::rc::Rc;

use crate::event::Address;
use crate::fingerprint::Fingerprint;
use crate::identity::Reported;
use crate::ids::{ClientId, ConnId, IdentityId, LaneId, ServiceId};
use crate::map::{FastMap, fast_map};
use crate::proof::Residue;
use crate::time::Instant;

use challenge::Challenge;
use manifold_protocols::postgres::backend::Status;
use pipe::{Expectation, Step};

/// One connection to a node.
#[derive(Debug)]
pub struct Upstream {
    /// Its connection.
    pub conn: ConnId,
    /// The service of its node.
    pub service: ServiceId,
    /// User and database it is logged in as.
    pub identity: IdentityId,
    /// Where it serves.
    pub lane: LaneId,
    /// The settings it has, after everything in its pipe.
    pub fingerprint: Rc<Fingerprint>,
    /// The settings that its startup packet carried: what RESET goes back to on it. None, unless it
    /// is for clients alone that began with these.
    pub base: Rc<Fingerprint>,
    /// Its application_name, if it was ever set.
    pub application: Option<Rc<[u8]>>,
    /// How far it has come.
    pub state: State,
    /// Whether it was opened for the login of a client, which is to answer if the node asks.
    pub is_for_login: bool,
    /// Whether the node has consented to its login.
    pub is_admitted: bool,
    /// Who answers what the node asks; only before `Ready`.
    pub challenge: Option<Challenge>,
    /// Where it leads, once that is known.
    pub address: Option<Address>,
    /// Since when it is in this state; for a ready one, when it was last used.
    pub since: Instant,
    /// The process id at the node.
    pub pid: u32,
    /// What a cancel has to show.
    pub cancel_secret: Box<[u8]>,
    /// Requests in flight, in order.
    pub pipe: VecDeque<Expectation>,
    /// The messages still expected, request after request.
    pub steps: VecDeque<Step>,
    /// Nanoseconds that everything in the pipe is expected to take.
    pub expected_nanos: u64,
    /// Nobody else's request may follow until this client's are answered.
    pub tail: Option<ClientId>,
    /// The client that holds it alone.
    pub holder: Option<ClientId>,
    /// Takes no new shared requests, so that it becomes free for somebody who needs it alone.
    pub is_held_back: bool,
    /// Its head is late: nobody else joins until it is answered.
    pub is_stalled: bool,
    /// How many cancels are on their way to it: nothing new until they have landed.
    pub fences: u32,
    /// A cancel landed while a client held it: nobody else gets it before it has had its effect.
    pub needs_fence: bool,
    /// Whether a read that nobody wants any more stands in the pipe and is to be cancelled as soon
    /// as that can hit nobody else. Nothing joins meanwhile.
    pub has_cancelled: bool,
    /// Its session has state that has to be wiped before anybody else may use it.
    pub is_soiled: bool,
    /// What its sessions may have left on it that wiping does not take back.
    pub residue: Residue,
    /// The node takes data of the client's: only the end of the data ends that.
    pub is_copying: bool,
    /// Settings are being tried on it: it is in nobody's lane until that is answered.
    pub is_on_trial: bool,
    /// It has served its lane since it came to it: only then may another lane have it.
    pub has_served: bool,
    /// To be closed as soon as nothing is in flight.
    pub is_draining: bool,
    /// It has said good-bye.
    pub is_retired: bool,
    /// Reading is paused because its only client does not read.
    pub is_paused: bool,
    /// The body of the FATAL that ended it.
    pub last_words: Option<Box<[u8]>>,
    /// A message whose end has not arrived.
    pub carry: Vec<u8>,
    /// Bytes still to come of a message that is passed on as it arrives.
    pub passing: usize,
    /// The rest of the failed request is skipped by the node until Sync.
    pub is_skipping: bool,
    /// Statements that it has, with the time of their last use.
    pub prepared: FastMap<u64, Prepared>,
    /// Counts uses of statements.
    pub uses: u64,
    /// The statements whose ParseComplete is still to come.
    pub preparing: VecDeque<u64>,
    /// The client's own names of the statements whose late ParseComplete is still to come.
    pub preparing_late: VecDeque<Box<[u8]>>,
    /// Requests ever put into the pipe: the number of the one put last.
    pub requests: u64,
    /// Names of statements that are to be closed in a request of their own.
    pub tidying: Vec<Box<[u8]>>,
    /// What the node reported during the request at the head.
    pub reported: Vec<Reported>,
    /// When the last request was answered or the first of an empty pipe sent: what the head's
    /// service time is counted from.
    pub head_since: Instant,
    /// The transaction status it said last.
    pub status: Status,
}

/// A statement on an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Prepared {
    /// When it was last used, by the upstream's count.
    pub used: u64,
    /// The request that used it last, by the upstream's count.
    pub request: u64,
    /// The request that prepares it, as long as the node has not confirmed it.
    pub preparing: Option<u64>,
}

/// How far an upstream has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Waiting for the connection.
    Connecting,
    /// Logging in.
    LoggingIn,
    /// In use.
    Ready,
}

impl Upstream {
    /// An upstream that is about to be connected.
    pub fn new(
        conn: ConnId,
        service: ServiceId,
        identity: IdentityId,
        lane: LaneId,
        base: Rc<Fingerprint>,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            conn,
            service,
            identity,
            lane,
            fingerprint: Rc::clone(&base),
            base,
            application: None,
            state: State::Connecting,
            is_for_login: false,
            is_admitted: false,
            challenge: None,
            address: None,
            since: now,
            pid: 0,
            cancel_secret: Box::default(),
            pipe: VecDeque::new(),
            steps: VecDeque::new(),
            expected_nanos: 0,
            tail: None,
            holder: None,
            is_held_back: false,
            is_stalled: false,
            fences: 0,
            needs_fence: false,
            has_cancelled: false,
            is_soiled: false,
            residue: Residue::None,
            is_copying: false,
            is_on_trial: false,
            has_served: false,
            is_draining: false,
            is_retired: false,
            is_paused: false,
            last_words: None,
            carry: Vec::new(),
            passing: 0,
            is_skipping: false,
            prepared: fast_map(seed),
            uses: 0,
            preparing: VecDeque::new(),
            preparing_late: VecDeque::new(),
            requests: 0,
            tidying: Vec::new(),
            reported: Vec::new(),
            head_since: now,
            status: Status::Idle,
        }
    }

    /// Whether it could be given to somebody alone right now.
    pub fn is_free(&self) -> bool {
        self.state == State::Ready
            && self.pipe.is_empty()
            && self.holder.is_none()
            && self.tail.is_none()
            && self.fences == 0
            && !self.needs_fence
            && !self.is_soiled
            && !self.is_draining
    }

    /// Whether it is about to become free: connecting, or being given its lane's settings. One that
    /// waits for a client to prove itself may never come.
    pub fn is_coming(&self) -> bool {
        let is_promised = !matches!(self.challenge, Some(Challenge::Client(..)));
        (self.state != State::Ready && is_promised)
            || self.pipe.back().is_some_and(|last| {
                matches!(last.owner, pipe::Requester::Chore(_)) && self.holder.is_none()
            })
    }

    /// Whether it becomes free sooner if nothing is added.
    pub fn can_be_held_back(&self) -> bool {
        self.state == State::Ready
            && self.holder.is_none()
            && !self.pipe.is_empty()
            && !self.is_held_back
            && !self.is_draining
    }

    /// Whether a request that others may follow could be added, as far as the upstream goes.
    pub fn takes_shared(&self) -> bool {
        self.state == State::Ready
            && self.holder.is_none()
            && self.tail.is_none()
            && self.fences == 0
            && !self.has_cancelled
            && !self.is_soiled
            && !self.is_stalled
            && !self.is_held_back
            && !self.is_on_trial
            && !self.is_draining
    }

    /// Whether its holder's statements are being given their own names.
    pub fn is_preparing_raw(&self) -> bool {
        let last = self.pipe.back().map(|last| &last.owner);
        matches!(last, Some(pipe::Requester::Chore(pipe::Chore::Raw(..))))
    }

    /// Puts a request into the pipe.
    pub fn push(&mut self, expectation: Expectation) {
        if self.pipe.is_empty() {
            self.head_since = expectation.sent_at;
        }
        self.requests += 1;
        self.expected_nanos += u64::from(expectation.expected_nanos);
        self.pipe.push_back(expectation);
    }

    /// A planted bug: the replies of these requests will be taken for those of others.
    pub fn forget_requests(&mut self, client: ClientId) {
        while let Some(at) = self
            .pipe
            .iter()
            .position(|one| one.client() == Some(client))
        {
            let one = self.pipe.remove(at).expect("it was just found");
            self.expected_nanos -= u64::from(one.expected_nanos);
            // One request's steps, as if they were never sent.
            let ends = self
                .steps
                .iter()
                .enumerate()
                .filter(|(_, step)| step.is_last());
            let ends: Vec<usize> = ends.map(|(index, _)| index).collect();
            let from = if at == 0 { 0 } else { ends[at - 1] + 1 };
            self.steps.drain(from..=ends[at]);
        }
    }

    /// Takes the answered head out of the pipe.
    pub fn pop(&mut self) -> Expectation {
        let head = self.pipe.pop_front().expect("what is answered was sent");
        self.is_stalled = false;
        self.expected_nanos -= u64::from(head.expected_nanos);
        head
    }

    /// Notes that a statement is used now.
    pub fn touch(&mut self, number: u64) {
        self.uses += 1;
        if let Some(prepared) = self.prepared.get_mut(&number) {
            prepared.used = self.uses;
            prepared.request = self.requests;
        }
    }
}

//! An upstream is lost: who is sent again, who is told what.
//!
//! The retry matrix (R6) in one place. Invariants: a request that may have written is never run
//! twice; a request of which a byte was delivered is never sent again; whoever is not sent again is
//! told, in words, what is known.

use manifold_protocols::postgres::backend::{Fields, Status, encode_ready_for_query};

use crate::client::postgres::errors::Refusal;
use crate::client::postgres::{Phase, Waiting};
use crate::event::{Failure, Level};
use crate::identity::Catalog;
use crate::ids::{ClientId, IdentityId, UpstreamId};
use crate::planted::Bug;
use crate::shard::Shard;
use crate::upstream::postgres::pipe::{Chore, Expectation, Requester};
use crate::upstream::postgres::replies::Broken;
use crate::upstream::postgres::{State, Upstream};

/// A request is sent again at most so often, unless it certainly never started: it may be what the
/// node dies of.
const RETRIES_MAX: u8 = 1;

/// And at most so often if each time somebody ended the node's processes: all upstreams may have
/// been ended at once.
const RETRIES_SHUTDOWN_MAX: u8 = 16;

/// What is known about how far a request got.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fate {
    /// It certainly did not run, or was certainly rolled back, or only read: may be sent again.
    Again,
    /// It did not take effect, but its reply cannot be completed.
    Lost,
    /// It may have been committed.
    Unknown,
}

/// What is known of the end of an upstream.
struct End {
    /// Bytes that the driver had been given.
    given_total: u64,
    /// The node said FATAL, in reply order: what is behind the head never started.
    is_fatal: bool,
    /// FATAL 57P01: a transaction that was open is rolled back for certain.
    is_shutdown: bool,
    /// The node's own last words, a whole ErrorResponse.
    words: Option<Vec<u8>>,
    /// A message was being passed on and will never be complete.
    is_cut: bool,
}

impl Shard {
    /// What a node sent could not be understood, or it said FATAL.
    pub(crate) fn handle_broken(&mut self, id: UpstreamId, broken: Broken) {
        match broken {
            Broken::Gone => {}
            Broken::Fatal => self.lose_upstream(id, "the node ended the session"),
            Broken::Healed => {
                // It failed before anything of it ran, or was rolled back.
                self.upstreams[id].pipe[0].writes = false;
                self.lose_upstream(id, "what it remembers no longer fits the tables");
            }
            Broken::Login(why) => self.fail_upstream(id, why),
            Broken::Mismatch => {
                self.stats.mismatches += 1;
                self.lose_upstream(id, "a reply was not what had to come");
            }
        }
    }

    /// The node closed the connection or it broke.
    pub(crate) fn handle_upstream_down(&mut self, id: UpstreamId, failure: Option<Failure>) {
        let upstream = &self.upstreams[id];
        if upstream.is_retired {
            self.forget_upstream(id);
            return;
        }
        if failure == Some(Failure::TimedOut) && self.planted.is(Bug::ForgetSilent) {
            return;
        }
        let why = failure.map_or("the node closed the connection", Self::failure_text);
        if upstream.state == State::Ready {
            self.lose_upstream(id, why);
        } else {
            self.fail_upstream(id, why);
        }
    }

    /// An upstream that never became ready.
    pub(crate) fn fail_upstream(&mut self, id: UpstreamId, why: &str) {
        self.end_relayed(id, why);
        let Some(upstream) = self.forget_upstream(id) else {
            return;
        };
        self.stats.upstreams_failed += 1;
        let service = upstream.service;
        self.back_off(service, upstream.address.as_ref(), why);
        self.doubt(service);
        let connections = &self.connections[service.index()];
        let failures = connections.failures;
        let trouble = connections.trouble.as_deref().unwrap_or(why);
        let name = self.name(service);
        let text = format!("service \"{name}\": cannot connect to the node: {trouble}");
        let is_first = failures == 1;
        self.log(if is_first { Level::Warn } else { Level::Debug }, text);
        if !self.holds(service) && failures > 3 {
            let mut error = Vec::new();
            let refusal = Refusal::unreachable(self.name(service), why).fatal();
            refusal.encode(&mut error);
            self.refuse_logins(upstream.identity, &error);
        } else if !self.identities[upstream.identity].logins.is_empty() {
            self.add_errand(upstream.identity);
        }
    }

    /// An upstream that was in use.
    pub(crate) fn lose_upstream(&mut self, id: UpstreamId, why: &str) {
        self.log_lost(id, why);
        let given_total = self.conns.given_total(self.upstreams[id].conn);
        let Some(mut upstream) = self.forget_upstream(id) else {
            return;
        };
        self.stats.upstreams_failed += 1;
        self.doubt(upstream.service);
        let end = End::new(&mut upstream, given_total);
        let mut clients: Vec<ClientId> = Vec::new();
        let mut fates: Vec<(ClientId, Fate, Expectation)> = Vec::new();
        for (index, mut one) in upstream.pipe.drain(..).enumerate() {
            one.delivered_at = self.still_ours(&one).filter(|_| !end.is_cut);
            one.is_delivered &= one.delivered_at.is_none();
            let fate = if self.planted.is(Bug::RetryWrite) {
                Fate::Again
            } else {
                end.fate(index, &one)
            };
            match one.owner {
                Requester::Abandoned => {}
                Requester::Chore(chore) => self.lose_chore(upstream.identity, chore),
                Requester::Client(client) => {
                    if clients.last() != Some(&client) && !clients.contains(&client) {
                        clients.push(client);
                    }
                    fates.push((client, fate, one));
                }
            }
        }
        if let Some(holder) = upstream.holder
            && !clients.contains(&holder)
        {
            self.lose_lease(holder, Fate::Lost, &end);
        }
        for client in clients {
            self.lose_requests(client, &fates, &end);
        }
    }

    /// What a reply begins with, as the columns of its rows, comes with the node's last words. If
    /// nothing of it has left, it can be taken back from here on, and the request be sent again.
    /// Not so if the client has another statement by it.
    fn still_ours(&self, one: &Expectation) -> Option<u64> {
        let client = self.clients.get(one.client()?)?;
        let from = one.delivered_at?;
        let stays = one.is_failed || one.has_confirmed;
        let is_all = self.conns.written_total(client.conn) == from + one.reply_bytes;
        let is_ours = !stays && is_all && self.conns.can_take_back(client.conn, from);
        is_ours.then_some(from)
    }

    /// A client's requests were on an upstream that is lost.
    fn lose_requests(&mut self, id: ClientId, fates: &[(ClientId, Fate, Expectation)], end: &End) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let mine = || fates.iter().filter(move |(owner, ..)| *owner == id);
        let worst = mine().map(|(_, fate, _)| *fate).max().unwrap_or(Fate::Lost);
        let retries_max = if end.is_shutdown {
            RETRIES_SHUTDOWN_MAX
        } else {
            RETRIES_MAX
        };
        let is_tired = client.retries >= retries_max
            && mine().any(|(_, _, one)| one.begins_at < end.given_total);
        let is_whole_lease = mine().count() == 1 && mine().all(|(_, _, one)| one.len > 0);
        // Outside of the transaction that was open it would do something else.
        let is_torn = mine().next().is_some_and(|(_, _, one)| one.is_inside);
        let may_retry = !is_torn
            && (client.lease.is_none()
                || (is_whole_lease && !client.lease.is_some_and(|lease| lease.is_open)));
        let fate = if worst == Fate::Again && (is_tired || !may_retry) {
            if mine().any(|(_, _, one)| one.writes) && is_tired {
                Fate::Unknown
            } else {
                Fate::Lost
            }
        } else {
            worst
        };
        if fate == Fate::Again {
            let unseen_from = mine().find_map(|(.., one)| one.delivered_at);
            self.send_again(id, unseen_from);
        } else if client.lease.is_some() || mine().any(|(_, _, one)| one.is_inside) {
            self.lose_lease(id, fate, end);
        } else if mine().count() > 1 || end.is_cut && mine().any(|(.., one)| one.is_delivered) {
            let refusal = self.refusal_for(id, fate);
            if end.is_cut {
                self.end_client(id);
            } else {
                self.refuse_client(id, &refusal.fatal());
            }
        } else {
            let one = mine().next().map(|(.., one)| one);
            self.answer_lost(id, one, fate);
        }
    }

    /// All of a client's unanswered requests are made anew; what it was given of their replies
    /// from a place on is as if it had not come.
    fn send_again(&mut self, id: ClientId, unseen_from: Option<u64>) {
        let client = &mut self.clients[id];
        if let Some(from) = unseen_from {
            self.conns.take_back(client.conn, from);
        }
        client.retries += 1;
        if client.lease.take().is_some() {
            client.session_mut().touched.clear();
        }
        self.take_back(id);
        self.stats.requests_retried += 1;
    }

    /// All of a client's unanswered requests are as if they had never been sent; it goes on with
    /// the first of them.
    pub(crate) fn take_back(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        client.in_flight = 0;
        client.is_barred = false;
        client.is_inside = false;
        client.upstream = None;
        client.scanned = 0;
        client.input.rewind();
        client.session_mut().statements.forget_pending();
        if matches!(client.waiting, Waiting::Itself | Waiting::No) {
            client.waiting = Waiting::No;
            self.clients_to_pump.push_back(id);
        }
    }

    /// The only unanswered request of a client without a lease is lost; the session goes on.
    /// A client that was told already why its request failed is told nothing else.
    fn answer_lost(&mut self, id: ClientId, lost: Option<&Expectation>, fate: Fate) {
        let is_told = lost.is_some_and(|one| one.is_failed && one.is_delivered);
        let refusal = (!is_told).then(|| self.refusal_for(id, fate));
        let client = &mut self.clients[id];
        client.in_flight = 0;
        client.is_barred = false;
        client.is_inside = false;
        client.upstream = None;
        client.retries = 0;
        client.input.drop_answered(lost.map_or(0, |one| one.len));
        client.session_mut().statements.forget_pending();
        if lost.is_some_and(|one| one.drops_unnamed) {
            client.session_mut().statements.forget(b"");
        }
        let out = self.conns.write(client.conn);
        if let Some(refusal) = refusal {
            refusal.encode(out);
        }
        encode_ready_for_query(out, Status::Idle);
        if client.waiting == Waiting::Itself {
            client.waiting = Waiting::No;
        }
        self.clients_to_pump.push_back(id);
    }

    fn refusal_for(&mut self, id: ClientId, fate: Fate) -> Refusal {
        let name = self.name(self.clients[id].service);
        match fate {
            Fate::Unknown => {
                let refusal = Refusal::unknown_outcome(name);
                self.stats.outcomes_unknown += 1;
                refusal
            }
            Fate::Again | Fate::Lost => Refusal::lost(name),
        }
    }

    /// A client loses what only its upstream knew: it is told what the node said, if it said
    /// anything, and its connection ends as a private one would have.
    fn lose_lease(&mut self, id: ClientId, fate: Fate, end: &End) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.lease = None;
        client.upstream = None;
        let conn = client.conn;
        if end.is_cut {
            self.end_client(id);
            return;
        }
        match &end.words {
            // The node's own last words, as on a private connection.
            Some(words) => {
                self.conns.write(conn).extend_from_slice(words);
                self.end_client(id);
            }
            _ => {
                let refusal = self.refusal_for(id, fate).fatal();
                self.refuse_client(id, &refusal);
            }
        }
    }

    /// A request of our own is lost.
    fn lose_chore(&mut self, identity: IdentityId, chore: Chore) {
        let database = self.identities[identity].database;
        match chore {
            Chore::Catalog(_) => {
                self.databases[database.index()].catalog = Catalog::Unread;
                self.read_catalog(identity);
            }
            Chore::Version(..) => {
                self.databases[database.index()].is_checking = false;
                self.wake_for_catalog(database);
            }
            Chore::Trial(client, ..)
                if self
                    .clients
                    .get(client)
                    .is_some_and(|it| it.phase == Phase::Login) =>
            {
                let chore = Chore::Trial(client, Vec::new(), Vec::new());
                self.identities[identity].chores.push_back(chore);
                self.add_errand(identity);
            }
            _ => {}
        }
    }

    /// Everybody who waits for an upstream of an identity that the node does not let in any more.
    pub(crate) fn refuse_all_waiting(&mut self, identity: IdentityId, error: &[u8]) {
        let service = self.identities[identity].service;
        if self.connections[service.index()]
            .upstreams
            .iter()
            .any(|&id| {
                let upstream = &self.upstreams[id];
                upstream.identity == identity && upstream.state == State::Ready
            })
        {
            return;
        }
        let mut waiting = Vec::new();
        for lane in &self.connections[service.index()].waiting {
            let Some(lane) = self
                .lanes
                .get(*lane)
                .filter(|lane| lane.identity == identity)
            else {
                continue;
            };
            waiting.extend(lane.queues.iter().map(|place| place.client));
        }
        for id in waiting {
            if self
                .clients
                .get(id)
                .is_some_and(|client| client.waiting == Waiting::Upstream)
            {
                self.conns
                    .write(self.clients[id].conn)
                    .extend_from_slice(error);
                self.end_client(id);
            }
        }
    }

    /// A client has waited in vain: its request is answered with an error, and it may go on.
    pub(crate) fn refuse_waiting(&mut self, id: ClientId, is_down: bool) {
        let seconds = self.limits.queue_wait_max.as_secs();
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let service = client.service;
        client.waiting = Waiting::No;
        client.scanned = 0;
        let is_between = client.lease.is_none() && client.in_flight == 0;
        let lens = if is_between {
            self.unsent_lens(id)
        } else {
            Vec::new()
        };
        let name = self.name(service);
        let refusal = if is_down {
            Refusal::unreachable(name, &self.outage_text(service))
        } else {
            Refusal::waited_too_long(name, seconds)
        };
        if lens.is_empty() {
            self.refuse_client(id, &refusal.fatal());
            return;
        }
        self.clients[id].doubts_since = None;
        for len in lens {
            self.refuse_request(id, len, &refusal);
        }
        self.clients_to_pump.push_back(id);
    }
}

impl End {
    fn new(upstream: &mut Upstream, given_total: u64) -> Self {
        let body = upstream.last_words.take();
        let fields = body.as_deref().and_then(|body| Fields::decode(body).ok());
        let is_shutdown = fields.is_some_and(|fields| fields.sqlstate() == b"57P01");
        let words = body.map(|body| {
            let mut message = vec![b'E'];
            message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
            message.extend_from_slice(&body);
            message
        });
        Self {
            given_total,
            is_fatal: words.is_some(),
            is_shutdown,
            words,
            is_cut: upstream.passing > 0,
        }
    }

    /// How far the request at this place of the pipe got.
    fn fate(&self, index: usize, one: &Expectation) -> Fate {
        let never_started = (self.is_fatal && index > 0) || one.begins_at >= self.given_total;
        let is_rolled_back = self.is_shutdown
            && index == 0
            && !one.is_completed
            && !one.commits_early
            && !one.is_delivered;
        if one.is_delivered && never_started {
            // What was answered here stands before what the node has yet to say.
            Fate::Lost
        } else if never_started || is_rolled_back || (!one.writes && !one.is_delivered) {
            Fate::Again
        } else if one.writes && !(self.is_shutdown && !one.is_completed && !one.commits_early) {
            Fate::Unknown
        } else {
            Fate::Lost
        }
    }
}

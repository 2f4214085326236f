//! Turns a client's bytes into requests and gets each to an upstream, until something is missing.
//!
//! Reads no replies. Invariant: a client either has nothing unparsed that is complete, or there is
//! one reason (`Waiting`, a pause) why it is not looked at, and whatever ends that reason looks at
//! the client again.

use manifold_protocols::postgres::backend::Status;
use manifold_protocols::postgres::frame::decode_frontend_header;

use crate::client::postgres::errors::Refusal;
use crate::client::postgres::examine::{Examined, Found, Named, Scope};
use crate::client::postgres::{Client, Lease, Phase, Until, Waiting};
use crate::ids::{ClientId, UpstreamId};
use crate::planted::Bug;
use crate::profile::Class;
use crate::proof::Reason;
use crate::shard::Shard;
use crate::stats::Tally;
use crate::upstream::postgres::pipe::Chore;
use crate::upstream::queues::Kind;
use crate::upstream::schedule::Demand;

/// Whether the client goes on to its next request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    Next,
    Stop,
}

impl Shard {
    /// Goes on with a client whose turn in a queue has come.
    pub(crate) fn pump_turn(&mut self, id: ClientId) {
        self.pump_from(id, true);
    }

    /// Makes requests of a client's bytes as far as possible.
    pub(crate) fn pump(&mut self, id: ClientId) {
        self.pump_from(id, false);
    }

    fn pump_from(&mut self, id: ClientId, mut is_turn: bool) {
        while let Some(client) = self.clients.get(id) {
            if client.phase != Phase::Ready || client.waiting != Waiting::No {
                break;
            }
            if client.input.unparsed().is_empty() || self.is_output_high(id) {
                break;
            }
            if client.is_barred && !client.lease.is_some_and(|lease| lease.is_open) {
                self.clients[id].waiting = Waiting::Itself;
                break;
            }
            let progress = if client.lease.is_some() {
                self.pump_lease(id)
            } else {
                self.pump_request(id, core::mem::take(&mut is_turn))
            };
            if progress == Progress::Stop {
                break;
            }
            if let Some(client) = self.clients.get_mut(id) {
                client.doubts_since = None;
                client.asks = 0;
            }
        }
        self.settle_input(id);
    }

    /// After a client has been looked at: gives its buffer back if it is empty, stops reading if
    /// too much has piled up, and says good-bye to one that has sent its last byte.
    fn settle_input(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.input.release(&mut self.conns.pool);
        let is_whole = has_whole_message(client.input.unparsed());
        let unparsed = client.input.unparsed().len();
        let bound = self
            .limits
            .input_high
            .max(self.limits.request_bytes_max + (1 << 16));
        // Where messages go one by one, the rest of the one at the front is still wanted.
        let is_stuck = client.waiting != Waiting::No || (client.lease.is_some() && is_whole);
        let is_full = unparsed
            > if is_stuck {
                self.limits.input_high
            } else {
                bound
            };
        if is_full && !client.is_paused {
            client.is_paused = true;
            self.conns.pause(client.conn);
        } else if !is_full && client.is_paused && !self.is_output_high(id) {
            self.clients[id].is_paused = false;
            self.conns.resume(self.clients[id].conn);
        }
        if is_whole {
            // What it has sent last is still to be answered: a good-bye can wait.
            return;
        }
        if self.has_broken_off(id) {
            self.drop_client(id);
            return;
        }
        let client = &self.clients[id];
        if client.is_leaving
            && client.in_flight == 0
            && !self.is_output_high(id)
            && client.waiting == Waiting::No
            && client.phase == Phase::Ready
        {
            self.end_client(id);
        }
    }

    /// Whether the client has sent its last byte in the middle of a request or of its data: the end
    /// that the node waits for will never come.
    fn has_broken_off(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        let Some(lease) = client.lease.filter(|_| client.is_leaving) else {
            return false;
        };
        let is_copying = client
            .upstream
            .is_some_and(|target| self.upstreams[target].is_copying);
        let is_unfinished = client.streaming > 0 || lease.is_open || is_copying;
        is_unfinished && client.waiting == Waiting::No && !self.is_output_high(id)
    }

    /// Whether the client has so much unread output that no request of it is looked at; then it is
    /// looked at again when that has been sent.
    fn is_output_high(&self, id: ClientId) -> bool {
        self.conns.unsent(self.clients[id].conn) > self.limits.output_high
    }

    /// The next request of a client without a lease.
    fn pump_request(&mut self, id: ClientId, is_turn: bool) -> Progress {
        if let Some(rest) = self.clients[id].skipping {
            return match self.skip_to_clients_sync(id, rest) {
                Ok(true) => Progress::Next,
                Ok(false) if self.is_saying_goodbye(id) => self.handle_unsent(id, Found::Terminate),
                Ok(false) => Progress::Stop,
                Err(error) => self.handle_unsent(id, Found::BadFrame(error)),
            };
        }
        match self.examine(id, Scope::Request) {
            Found::Request(found) => self.start_request(id, found, is_turn),
            Found::TooLarge => {
                let mut demand = Demand::new(Class::Exclusive, true);
                demand.has_base = self.needs_base(id);
                match self.place(id, demand, is_turn) {
                    Some(target) => {
                        self.begin_lease(id, target, Until::Idle);
                        Progress::Next
                    }
                    None => Progress::Stop,
                }
            }
            found => self.handle_unsent(id, found),
        }
    }

    /// Whether the next message is Terminate.
    fn is_saying_goodbye(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        client.skipping == Some(0) && client.input.unparsed().first() == Some(&b'X')
    }

    fn start_request(&mut self, id: ClientId, mut found: Examined, is_turn: bool) -> Progress {
        if self.minds_sequences(id, &mut found) {
            return Progress::Next;
        }
        if found.demand.class == Class::Exclusive && found.part.is_some() {
            self.take_apart(&mut found);
        }
        if self.answer_locally(id, &found) {
            return Progress::Next;
        }
        self.wait_to_set(id, &found);
        if self.clients[id].waiting != Waiting::No {
            return Progress::Stop;
        }
        found.demand.has_base = found.keeps.is_some() && self.needs_base(id);
        let Some(target) = self.place(id, found.demand, is_turn) else {
            return Progress::Stop;
        };
        if found.part.is_some() && !self.goes_whole(target, &found) {
            if self.clients[id].in_flight > 0 {
                self.clients[id].waiting = Waiting::Itself;
                return Progress::Stop;
            }
            self.take_apart(&mut found);
        }
        if self.is_being_prepared(target, None) {
            if self.clients[id].in_flight > 0 {
                self.clients[id].waiting = Waiting::Itself;
            } else {
                self.wait_for_upstream(id, found.demand, is_turn);
            }
            return Progress::Stop;
        }
        self.count_request(id, found.demand);
        match found.demand.class {
            Class::Share => {
                let service = self.clients[id].service;
                self.connections[service.index()].shared_at = self.now;
            }
            Class::Tail => self.begin_tail(id, target),
            Class::Exclusive => {
                let until = found.keeps.map_or(Until::Idle, Until::Session);
                self.begin_lease(id, target, until);
                self.note_traces(id, target, &found);
                if self.must_forget_sequences(id, found.keeps) {
                    self.forget_sequences(id, target);
                }
                if found.keeps.is_some() {
                    return self.go_raw(id, target);
                }
            }
        }
        self.emit_whole(id, target, found);
        Progress::Next
    }

    /// currval and lastval tell what this very session drew. Of one that drew on upstreams that it
    /// shared only an error is true; its user's writing sessions keep their upstreams from then on.
    /// Says whether the request is answered.
    fn minds_sequences(&mut self, id: ClientId, found: &mut Examined) -> bool {
        let client = &mut self.clients[id];
        let identity = client.session().identity;
        let has_drawn = client.session().has_drawn;
        let known = &mut self.identities[identity];
        let asks = found.keeps == Some(Reason::Sequence);
        if asks && !has_drawn {
            known.reads_sequences = true;
        }
        if asks && client.in_flight == 0 && !known.reads_sequences {
            known.reads_sequences = true;
            let refusal = Refusal::sequence_unknown(&self.services[client.service.index()].name);
            self.refuse_request(id, found.len, &refusal);
            return true;
        }
        if known.reads_sequences && found.demand.writes {
            found.keeps = found.keeps.or(Some(Reason::Sequence));
            found.demand.class = Class::Exclusive;
        }
        false
    }

    /// A session that has drawn from no sequence yet must not see what others drew on its upstream.
    /// In a failed transaction it is told nothing, and nothing could be wiped.
    fn must_forget_sequences(&self, id: ClientId, keeps: Option<Reason>) -> bool {
        let client = &self.clients[id];
        keeps == Some(Reason::Sequence)
            && !client.session().has_drawn
            && client.status != Status::Failed
            && client.lease.is_some_and(|lease| !lease.has_forgotten)
    }

    fn forget_sequences(&mut self, id: ClientId, target: UpstreamId) {
        if let Some(lease) = &mut self.clients[id].lease {
            lease.has_forgotten = true;
        }
        self.send_chore(target, Chore::Switch, b"DISCARD SEQUENCES");
    }

    fn count_request(&mut self, id: ClientId, demand: Demand) {
        let tally = &mut self.connections[self.clients[id].service.index()].tally;
        match demand.class {
            Class::Share => {
                self.stats.requests_shared += 1;
                tally.requests_shared += 1;
            }
            Class::Tail => {
                self.stats.requests_tail += 1;
                tally.requests_tail += 1;
            }
            Class::Exclusive => {}
        }
    }

    /// A lease will last, because of session state.
    pub(crate) fn count_session_lease(&mut self, id: ClientId, reason: Reason) {
        self.stats.leases_session += 1;
        self.tally_of(id).count_session(reason);
    }

    /// What is counted for the service of a client that is there.
    pub(crate) fn tally_of(&mut self, id: ClientId) -> &mut Tally {
        &mut self.connections[self.clients[id].service.index()].tally
    }

    /// Nothing can be sent: waits, or ends what is wrong.
    fn handle_unsent(&mut self, id: ClientId, found: Found) -> Progress {
        let client = &mut self.clients[id];
        match found {
            Found::BadFrame(error) => {
                if client.in_flight > 0 {
                    client.waiting = Waiting::Itself;
                } else {
                    self.refuse_client(id, &Refusal::frame(&error));
                }
            }
            Found::Terminate => {
                client.is_leaving = true;
                let rest = client.input.unparsed().len();
                client.input.consume(rest);
            }
            Found::Incomplete | Found::Request(_) | Found::TooLarge => {}
            Found::NoCatalog => {
                client.waiting = Waiting::Catalog;
                client.doubts_since.get_or_insert(self.now);
                self.want_catalog(id);
            }
            Found::Unclassified => {
                client.asks += 1;
                client.waiting = Waiting::Verdict;
            }
        }
        Progress::Stop
    }

    /// Finds the upstream for a request, or lets the client wait.
    fn place(&mut self, id: ClientId, demand: Demand, is_turn: bool) -> Option<UpstreamId> {
        let client = &self.clients[id];
        if client.in_flight > 0 {
            let current = client
                .upstream
                .expect("requests in flight are on an upstream");
            if self.may_follow_itself(id, current, demand) {
                if demand.class != Class::Share {
                    self.apply_application(id, current);
                }
                return Some(current);
            }
            self.clients[id].waiting = Waiting::Itself;
            return None;
        }
        let lane = self.lane_for(id, demand);
        let queues = &self.lanes[lane].queues;
        let service = self.clients[id].service;
        // Upstreams for one client alone are given in the order of asking, whatever the lane.
        let others_wait =
            demand.class != Class::Share && !self.connections[service.index()].waiting.is_empty();
        let queue = queues.of(Kind::of(demand));
        let chosen = if is_turn || (queue.is_empty() && !others_wait) {
            self.choose(lane, id, demand)
        } else {
            None
        };
        let Some(chosen) = chosen else {
            self.wait_for_upstream(id, demand, is_turn);
            return None;
        };
        let upstream = &self.upstreams[chosen];
        if !upstream.pipe.is_empty()
            && self.lanes[lane].upstreams.len() < self.lanes[lane].active.size()
        {
            self.lanes_to_grow.push(lane);
        }
        if demand.class != Class::Share {
            self.apply_application(id, chosen);
        }
        Some(chosen)
    }

    /// Whether a client's next request may go behind its own unanswered ones.
    fn may_follow_itself(&self, id: ClientId, current: UpstreamId, demand: Demand) -> bool {
        let upstream = &self.upstreams[current];
        let client = &self.clients[id];
        if upstream.lane != self.lanes_by_client(client)
            || upstream.is_draining
            || upstream.is_held_back
            || upstream.has_cancelled
            || upstream.fences > 0
        {
            return false;
        }
        if upstream.pipe.len() >= self.limits.pipe_depth_max
            || self.conns.unsent(upstream.conn) >= self.limits.upstream_output_high
        {
            return false;
        }
        match demand.class {
            Class::Share => upstream.tail == Some(id) || upstream.takes_shared(),
            Class::Tail if upstream.tail == Some(id) => {
                !demand.writes || upstream.pipe.iter().all(|one| one.client() == Some(id))
            }
            Class::Tail => !demand.writes && upstream.takes_shared(),
            Class::Exclusive => false,
        }
    }

    fn begin_tail(&mut self, id: ClientId, target: UpstreamId) {
        let upstream = &mut self.upstreams[target];
        assert!(
            upstream.tail.is_none_or(|tail| tail == id),
            "nobody follows another's tail"
        );
        upstream.tail = Some(id);
    }

    /// Gives an upstream to a client alone.
    pub(super) fn begin_lease(&mut self, id: ClientId, target: UpstreamId, until: Until) {
        let upstream = &mut self.upstreams[target];
        assert!(
            upstream.holder.is_none() && upstream.tail.is_none(),
            "only a free one is leased"
        );
        if !self.planted.is(Bug::ShareLease) {
            upstream.holder = Some(id);
        }
        let client = &mut self.clients[id];
        assert!(client.lease.is_none(), "one lease at a time");
        client.upstream = Some(target);
        client.lease = Some(Lease {
            until,
            since: self.now,
            is_open: false,
            is_begun: false,
            has_forgotten: false,
            defines: None,
        });
        client.scanned = 0;
        self.stats.leases += 1;
        self.stats.leased += 1;
        self.tally_of(id).leases += 1;
        if let Until::Session(reason) = until {
            self.count_session_lease(id, reason);
        }
    }

    /// Whether a statement that the request at hand uses is being prepared there by another
    /// request: if that fails, this one would fail for a name that the client never used.
    fn is_being_prepared(&self, target: UpstreamId, open: Option<u64>) -> bool {
        let upstream = &self.upstreams[target];
        !upstream.preparing.is_empty()
            && self.pieces.iter().any(|piece| match &piece.statement {
                Named::Known(statement) => upstream
                    .prepared
                    .get(&statement.number)
                    .is_some_and(|it| it.preparing.is_some() && it.preparing != open),
                _ => false,
            })
    }

    /// The next messages of a client that has a lease.
    fn pump_lease(&mut self, id: ClientId) -> Progress {
        let client = &self.clients[id];
        let target = client.upstream.expect("a lease is on an upstream");
        let upstream = &self.upstreams[target];
        if upstream.fences > 0 && !client.lease.is_some_and(|lease| lease.is_open) {
            // A cancel is on its way, and not meant for what was asked after it.
            self.clients[id].waiting = Waiting::Itself;
            return Progress::Stop;
        }
        if self.conns.unsent(upstream.conn) > self.limits.upstream_output_high
            || upstream.pipe.len() >= self.limits.pipe_depth_max
        {
            // Looked at again when the upstream's output has been sent, or something is answered.
            return Progress::Stop;
        }
        if client.streaming > 0 {
            return self.stream(id, target);
        }
        if upstream.is_preparing_raw() {
            // Looked at again when that is answered: what failed is asked for in another way.
            return Progress::Stop;
        }
        if self.is_turn_over(id, target) {
            // Whoever waits gets it before this client's next request.
            self.upstreams[target].is_held_back = true;
            self.clients[id].waiting = Waiting::Itself;
            return Progress::Stop;
        }
        match self.examine(id, Scope::Messages) {
            Found::Request(found) => {
                let lease = self.clients[id].lease.expect("looked at above");
                let open = lease.is_open.then_some(self.upstreams[target].requests);
                if self.is_being_prepared(target, open) {
                    self.clients[id].waiting = Waiting::Itself;
                    return Progress::Stop;
                }
                if found.keeps.is_some() && self.may_change_base(id, target) {
                    self.clients[id].waiting = Waiting::Itself;
                    return Progress::Stop;
                }
                if !lease.is_open && self.must_forget_sequences(id, found.keeps) {
                    if self.clients[id].in_flight > 0 {
                        // One of them may fail, and with it the transaction.
                        self.clients[id].waiting = Waiting::Itself;
                        return Progress::Stop;
                    }
                    self.forget_sequences(id, target);
                }
                if !lease.is_begun || !lease.is_open {
                    self.apply_application(id, target);
                }
                self.widen_lease(id, target, &found);
                if found.keeps.is_some() && !self.clients[id].session().is_raw && !lease.is_open {
                    return self.go_raw(id, target);
                }
                self.emit(id, target, found);
                Progress::Next
            }
            Found::TooLarge => self.begin_stream(id, target),
            found => self.handle_unsent(id, found),
        }
    }

    /// What a leased request leaves behind may make the lease last.
    fn widen_lease(&mut self, id: ClientId, target: UpstreamId, found: &Examined) {
        let lease = self.clients[id]
            .lease
            .as_mut()
            .expect("the client has a lease");
        if let (Some(reason), Until::Idle) = (found.keeps, lease.until) {
            lease.until = Until::Session(reason);
            self.count_session_lease(id, reason);
        }
        self.note_traces(id, target, found);
    }

    /// What is not proven may name prepared statements (SQL has one name space with the protocol):
    /// from here on the lease knows this client's statements by the client's own names.
    fn go_raw(&mut self, id: ClientId, target: UpstreamId) -> Progress {
        if self.clients[id].in_flight > 0 {
            self.clients[id].waiting = Waiting::Itself;
            return Progress::Stop;
        }
        let session = self.clients[id].session_mut();
        session.is_raw = true;
        self.prepare_raw(target, id);
        Progress::Next
    }

    /// Notes what a leased request may leave behind, for its session and on its upstream.
    fn note_traces(&mut self, id: ClientId, target: UpstreamId, found: &Examined) {
        let upstream = &mut self.upstreams[target];
        let residue = found.keeps.map(Reason::residue).unwrap_or_default();
        upstream.residue = upstream.residue.max(residue);
        if !found.touched.is_empty() {
            let session = self.clients[id].session_mut();
            session.touched.extend(found.touched.iter().cloned());
        }
    }

    /// A client that waited for its own earlier requests, or for a word of the classifier, is
    /// looked at again.
    pub(crate) fn wake(&mut self, id: ClientId, reason: Waiting) {
        if let Some(client) = self.clients.get_mut(id)
            && client.waiting == reason
        {
            client.waiting = Waiting::No;
            self.clients_to_pump.push_back(id);
        }
    }

    /// Lets a client wait in its lane's queue.
    pub(crate) fn wait_for_upstream(&mut self, id: ClientId, demand: Demand, is_turn: bool) {
        let client = &mut self.clients[id];
        if !is_turn {
            client.since = self.now;
            self.stats.requests_queued += 1;
        }
        client.waiting = Waiting::Upstream;
        let lane = self.lane_for(id, demand);
        self.enqueue(lane, id, demand, is_turn);
    }

    /// The lane that a client's requests queue in, but for what has to have a base.
    pub(crate) fn lane_of(&mut self, id: ClientId) -> crate::ids::LaneId {
        let session = self.clients[id].session();
        if let Some(lane) = session.lane
            && self.lanes.get(lane).is_some()
        {
            return lane;
        }
        let (identity, fingerprint) = (session.identity, session.fingerprint.clone());
        let lane = self.lane(identity, &fingerprint);
        self.clients[id].session_mut().lane = Some(lane);
        lane
    }

    /// The client's lane, if it has been looked up and still exists.
    fn lanes_by_client(&self, client: &Client) -> crate::ids::LaneId {
        client.session().lane.unwrap_or(crate::ids::LaneId {
            index: u32::MAX,
            generation: 0,
        })
    }
}

/// Whether the bytes begin with a message that has arrived whole.
fn has_whole_message(bytes: &[u8]) -> bool {
    let header = decode_frontend_header(bytes, usize::MAX);
    header.is_ok_and(|header| header.is_some_and(|header| header.len <= bytes.len()))
}

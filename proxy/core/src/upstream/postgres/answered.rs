//! What the end of a request means: for its client, its upstream, and whoever waits.
//!
//! Runs once per ReadyForQuery. Invariant: afterwards the upstream either has something in flight,
//! is held, or has been offered to whoever waits longest.

use std::rc::Rc;

use manifold_protocols::postgres::backend::Status;

use crate::client::postgres::effects::ALL;
use crate::client::postgres::emit::is_copied;
use crate::client::postgres::{Definition, Until, Waiting};
use crate::fingerprint::MERGED;
use crate::ids::{ClientId, UpstreamId};
use crate::proof::{Residue, Setting};
use crate::shard::Shard;
use crate::upstream::postgres::pipe::{Expectation, Part, Requester, SessionChange};
use crate::upstream::schedule::UNFAIR;

impl Shard {
    /// The head of a pipe is about to be answered: what it did to the session becomes true.
    pub(crate) fn complete_request(&mut self, id: UpstreamId, status: Status) {
        let upstream = &mut self.upstreams[id];
        let head = upstream.pipe.front_mut().expect("a request is answered");
        let change = head.change.take();
        if head.is_failed {
            return;
        }
        // Inside a transaction a setting holds only if that commits: asked for at its end.
        let is_outside = upstream.status == Status::Idle && status == Status::Idle;
        if change.is_some() && is_outside {
            head.resetting.clear();
        }
        let client = head
            .client()
            .filter(|&client| self.clients.get(client).is_some());
        if head.clears {
            upstream.prepared.clear();
            if let Some(client) = client {
                self.clients[client].session_mut().statements.clear();
            }
        }
        match (change, client) {
            (Some(change), Some(client)) if is_outside => self.apply_change(id, client, &change),
            (_, Some(client)) => self.tell_restored(id, client),
            // Nobody is left who would know what the session has been set to.
            (Some(_), None) => self.upstreams[id].is_soiled = true,
            (None, None) => {}
        }
    }

    /// The head of a pipe is answered.
    pub(crate) fn handle_answered(&mut self, id: UpstreamId, status: Status) {
        let upstream = &mut self.upstreams[id];
        let head = upstream.pop();
        upstream.status = status;
        let nanos = self.now.nanos_since(upstream.head_since);
        upstream.head_since = self.now;
        upstream.since = self.now;
        if let Some(text) = &head.text
            && !head.is_failed
        {
            text.history.record(nanos, head.reply_bytes);
            if text.history.count.get() == 1 {
                let lane = self.upstreams[id].lane;
                self.lanes_to_reconsider.push(lane);
            }
        }
        match head.owner {
            Requester::Abandoned => {}
            Requester::Chore(chore) => self.finish_chore(id, chore, head.is_failed),
            Requester::Client(client) => {
                if !head.is_leased {
                    let lane = self.upstreams[id].lane;
                    self.lanes[lane].active.note_answered();
                    let service = self.upstreams[id].service;
                    self.connections[service.index()].answered += 1;
                }
                if head.part == Some(Part::Last) && status != Status::Idle {
                    self.keep_transaction(id, client);
                }
                self.finish_request(id, client, &head, status);
            }
        }
        if let Some(upstream) = self.upstreams.get_mut(id) {
            upstream.reported.clear();
            // A holder may have waited for room behind a request of our own, or for its lease to
            // end with it.
            if let Some(holder) = upstream.holder
                && self.clients.get(holder).is_some()
            {
                self.wake(holder, Waiting::Itself);
                self.clients_to_pump.push_back(holder);
            }
            self.make_up_if_awaited(id);
            self.settle_upstream(id);
        }
    }

    /// A holder may wait for our word alone: what it asked for with a Flush is nothing that the
    /// node answers.
    pub(crate) fn make_up_if_awaited(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let holder = upstream.holder.and_then(|holder| self.clients.get(holder));
        let is_open = holder.is_some_and(|it| it.lease.is_some_and(|lease| lease.is_open));
        if is_open && upstream.pipe.len() == 1 && upstream.steps.iter().all(|it| it.is_made_up()) {
            self.make_up(id);
        }
    }

    /// After an answer: ends what is over and lets others go on.
    pub(crate) fn settle_upstream(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if let Some(tail) = upstream.tail
            && !upstream.pipe.iter().any(|one| one.client() == Some(tail))
        {
            upstream.tail = None;
        }
        if upstream.has_cancelled {
            self.cancel_abandoned(id);
        }
        let upstream = &mut self.upstreams[id];
        if !upstream.pipe.is_empty() || upstream.holder.is_some() {
            if upstream.takes_shared() {
                self.serve_soon(id);
            }
            return;
        }
        if upstream.is_draining {
            self.retire(id);
        } else if upstream.is_soiled {
            self.reset(id);
        } else if upstream.needs_fence {
            upstream.needs_fence = false;
            upstream.fences += 1;
            self.send_fence(id);
        } else if upstream.fences == 0 {
            self.offer(id);
        }
    }

    /// Others in the lane may go on, if somebody waits.
    fn serve_soon(&mut self, id: UpstreamId) {
        let lane = self.upstreams[id].lane;
        let lane_queues = &self.lanes[lane].queues;
        if !lane_queues.is_empty() && self.lanes_to_serve.back() != Some(&lane) {
            self.lanes_to_serve.push_back(lane);
        }
    }

    /// A client's request is answered.
    fn finish_request(
        &mut self,
        id: UpstreamId,
        client_id: ClientId,
        head: &Expectation,
        status: Status,
    ) {
        self.note_definition(id, client_id, head, status);
        let Some(client) = self.clients.get_mut(client_id) else {
            return;
        };
        client.in_flight -= 1;
        client.retries = 0;
        client.reissues = 0;
        client.status = status;
        client.is_barred &= client.in_flight > 0;
        client.is_inside &= client.in_flight > 0;
        client.input.drop_answered(head.len);
        if head.drops_unnamed {
            client.session_mut().statements.confirm();
        }
        if !head.is_failed {
            self.send_restore(id, client_id, &head.resetting);
        }
        self.end_lease_if_over(client_id);
        self.restore_settings(id, client_id);
        let client = &mut self.clients[client_id];
        if client.waiting == Waiting::Itself {
            client.waiting = Waiting::No;
        }
        if client.waiting == Waiting::No {
            if client.input.unparsed().is_empty() && !client.is_leaving && !client.is_paused {
                client.input.release(&mut self.conns.pool);
            } else {
                self.clients_to_pump.push_back(client_id);
            }
        }
    }

    /// Something may have run after which proofs do not hold. What an open transaction did counts
    /// when it is over: nobody else sees it earlier.
    fn note_definition(
        &mut self,
        id: UpstreamId,
        client: ClientId,
        head: &Expectation,
        status: Status,
    ) {
        let lease = self
            .clients
            .get_mut(client)
            .and_then(|it| it.lease.as_mut());
        let before = lease.as_ref().and_then(|lease| lease.defines);
        let now = match (head.defines, head.commits_early) {
            (true, true) => Some(Definition::Suspected),
            (true, false) if !head.is_failed => Some(Definition::Certain),
            _ => None,
        };
        let definition = before.max(now);
        let is_over = status == Status::Idle;
        if let Some(lease) = lease {
            lease.defines = definition.filter(|_| !is_over);
            if !is_over && !head.commits_early {
                return;
            }
        }
        let database = self.identities[self.upstreams[id].identity].database;
        match definition {
            // It is looked at rather than believed.
            Some(Definition::Suspected) => self.databases[database.index()].is_suspect = true,
            Some(Definition::Certain) => self.void_catalog(database),
            None => {}
        }
    }

    /// A request has changed the session's settings, and so its upstream's.
    fn apply_change(&mut self, id: UpstreamId, client: ClientId, change: &SessionChange) {
        let identity = self.upstreams[id].identity;
        match change {
            SessionChange::Set(setting)
                if &*setting.name == crate::fingerprint::APPLICATION_NAME =>
            {
                self.untouch(client, &setting.name);
                let name = crate::client::postgres::startup::clean_application_name(&setting.value);
                self.upstreams[id].application = Some(Rc::clone(&name));
                self.clients[client].session_mut().application = Some(name);
            }
            SessionChange::Set(setting) => {
                self.untouch(client, &setting.name);
                self.accept_reported(id, client, setting);
                let session = self.clients[client].session();
                let changed = Rc::clone(&session.fingerprint);
                let mut setting = setting.clone();
                if &*setting.name == MERGED
                    && let Some(whole) = self.merged_value(id, client)
                {
                    setting.value = whole;
                    self.accept(identity, setting.clone(), &setting.value.clone());
                }
                let changed = self.fingerprints.with(&changed, setting);
                self.upstreams[id].fingerprint = Rc::clone(&changed);
                self.set_fingerprint(client, Rc::clone(&changed));
                let lane = self.lane_beside(id, &changed);
                self.move_upstream(id, lane);
            }
            SessionChange::Reset(name) => self.apply_reset(id, client, name),
            SessionChange::ResetAll | SessionChange::DiscardAll => {
                self.apply_reset_all(id, client, *change == SessionChange::DiscardAll);
            }
            SessionChange::DeallocateAll => {
                self.clients[client].session_mut().statements.clear();
            }
        }
    }

    /// What DateStyle is after a SET that may have named a part of it only.
    fn merged_value(&self, id: UpstreamId, client: ClientId) -> Option<Box<[u8]>> {
        let is_it = |name: &[u8]| name.eq_ignore_ascii_case(MERGED.as_bytes());
        let reported = &self.upstreams[id].reported;
        if let Some((_, value)) = reported.iter().rev().find(|(name, _)| is_it(name)) {
            return Some(value.clone());
        }
        let session = self.clients[client].session();
        let identity = &self.identities[session.identity];
        let mut all = crate::client::postgres::login::reported(identity, session);
        all.find(|(name, _)| is_it(name))
            .map(|(_, value)| value.into())
    }

    /// What a setting is now is known: the node need not be asked.
    pub(crate) fn untouch(&mut self, client: ClientId, name: &str) {
        self.clients[client]
            .session_mut()
            .touched
            .retain(|touched| &**touched != name);
    }

    /// Remembers how the node spells a value that a client has set.
    fn accept_reported(&mut self, id: UpstreamId, client: ClientId, setting: &Setting) {
        let upstream = &self.upstreams[id];
        let identity = upstream.identity;
        let name = setting.name.as_bytes();
        let matches = |(reported, _): &&(Box<[u8]>, Box<[u8]>)| reported.eq_ignore_ascii_case(name);
        if let Some((_, value)) = upstream.reported.iter().find(matches) {
            let value = value.clone();
            self.accept(identity, setting.clone(), &value);
            return;
        }
        // Nothing was reported: the value is what it was, or the setting is none that is reported.
        let session = self.clients[client].session();
        let before = session.fingerprint.value(&setting.name);
        let before = before.map(|value| Setting {
            name: setting.name.clone(),
            value: value.into(),
        });
        let known = &mut self.identities[identity];
        let reported = before
            .and_then(|it| known.accepted.get(&it).cloned())
            .unwrap_or_default();
        known.accept(setting.clone(), reported);
    }

    /// Ends a lease when what it was for is gone.
    pub(crate) fn end_lease_if_over(&mut self, client_id: ClientId) {
        let client = &mut self.clients[client_id];
        let Some(lease) = client.lease else { return };
        let is_over = lease.is_begun
            && !lease.is_open
            && client.streaming == 0
            && client.in_flight == 0
            && client.status == Status::Idle;
        if !is_over {
            return;
        }
        let id = client.upstream.expect("a lease is on an upstream");
        let upstream = &self.upstreams[id];
        if !upstream.pipe.is_empty() {
            return;
        }
        if client.session().touched.is_empty() {
            if lease.until != Until::Idle {
                return;
            }
        } else {
            let names = self.touched_names(client_id);
            if !names.is_empty() {
                self.send_values(id, client_id, names);
                return;
            }
            if lease.until != Until::Idle {
                return;
            }
        }
        self.clients[client_id].session_mut().is_raw = false;
        self.clients[client_id].lease = None;
        self.clients[client_id].upstream = None;
        self.upstreams[id].holder = None;
        self.stats.leased -= 1;
        if self.upstreams[id].residue == Residue::Process {
            self.drain_if_replaceable(id);
        }
    }

    /// Whether a client that always has more to send is to wait for its answers, so that its lease
    /// can end: it may end with any of them, somebody waits, and the client has had its turn.
    pub(crate) fn is_turn_over(&self, id: ClientId, target: UpstreamId) -> bool {
        let client = &self.clients[id];
        let is_at_idle = client.status == Status::Idle
            && client.lease.is_some_and(|lease| {
                let is_between = lease.is_begun && !lease.is_open;
                let is_long = self.now - lease.since >= UNFAIR;
                lease.until == Until::Idle && is_between && is_long
            });
        // Data of a copy, and what closes it, belong to the request before.
        let upstream = &self.upstreams[target];
        let next = client.input.unparsed().first().copied();
        let is_closed = upstream.steps.back().is_some_and(|step| step.is_last())
            && !upstream.is_copying
            && !next.is_some_and(is_copied);
        is_at_idle && is_closed && self.is_anybody_waiting(id)
    }

    /// Whether others wait for an upstream of this client's service.
    fn is_anybody_waiting(&self, id: ClientId) -> bool {
        let connections = &self.connections[self.clients[id].service.index()];
        !connections.waiting.is_empty() || !connections.errands.is_empty()
    }

    /// The settings that the node has to be asked for at the end of a lease.
    fn touched_names(&mut self, client: ClientId) -> Vec<Box<str>> {
        let session = self.clients[client].session_mut();
        let mut names = core::mem::take(&mut session.touched);
        if names.iter().any(|name| &**name == ALL) {
            let all = session
                .fingerprint
                .settings
                .iter()
                .chain(&session.startup.settings);
            names.extend(all.map(|setting| setting.name.clone()));
            names.retain(|name| &**name != ALL);
        }
        names.sort();
        names.dedup();
        names
    }
}

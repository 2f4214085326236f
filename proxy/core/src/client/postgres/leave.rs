//! How clients go: refused, at their own wish, or because the proxy goes down.
//!
//! Takes a client out of every list; touches what others wait for only by giving an upstream
//! back. Invariant: a client that is gone is in no list, and what it left on an upstream is wiped
//! before anybody else gets that upstream.

use crate::client::postgres::errors::Refusal;
use crate::client::postgres::{Phase, Waiting};
use crate::conns::Owner;
use crate::event::Operation;
use crate::ids::{ClientId, UpstreamId};
use crate::planted::Bug;
use crate::proof::Residue;
use crate::shard::{Shard, Timer};
use crate::time::Instant;
use crate::upstream::postgres::pipe::Requester;

impl Shard {
    /// Tells a client why, and closes its connection when it has been sent.
    pub(crate) fn refuse_client(&mut self, id: ClientId, refusal: &Refusal) {
        if let Some(client) = self.clients.get(id) {
            if client.phase != Phase::Ready {
                self.stats.logins_refused += 1;
            }
            refusal.encode(self.conns.write(client.conn));
            self.end_client(id);
        }
    }

    /// A client goes; what was written to it is still sent.
    pub(crate) fn end_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get(id) {
            self.conns.set_owner(client.conn, Owner::Nobody);
            self.conns.resume(client.conn);
            self.conns.close_after_flush(client.conn);
            self.forget_client(id);
        }
    }

    /// A client is gone.
    pub(crate) fn drop_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get(id) {
            self.conns.close(client.conn);
            self.forget_client(id);
        }
    }

    /// Takes a client out of every list. Its requests in flight are answered to nobody.
    fn forget_client(&mut self, id: ClientId) {
        let Some(mut client) = self.clients.remove(id) else {
            return;
        };
        self.stats.clients -= 1;
        let rest = client.input.len();
        let unparsed = client.input.unparsed().len();
        client.input.drop_answered(rest - unparsed);
        client.input.consume(unparsed);
        client.input.release(&mut self.conns.pool);
        if let Some(session) = &client.session {
            self.leave_identity(session.identity);
        }
        if let Some(login) = client.login.take() {
            self.abandon_login(&login);
        }
        let Some(target) = client.upstream else {
            return;
        };
        let Some(upstream) = self.upstreams.get_mut(target) else {
            return;
        };
        if self.planted.is(Bug::ForgetDiscard) && client.lease.is_none() && upstream.pipe.len() > 1
        {
            upstream.forget_requests(id);
        }
        if let Some(lease) = client.lease {
            if lease.defines.is_some() {
                // Whether its transaction will have committed nobody is told.
                let database = self.identities[upstream.identity].database;
                self.databases[database.index()].is_suspect = true;
            }
            upstream.holder = None;
            upstream.is_soiled = !self.planted.is(Bug::ForgetReset);
            if upstream.is_soiled && upstream.residue > Residue::None {
                self.drain_if_replaceable(target);
            }
            self.stats.leased -= 1;
            if client.streaming > 0 {
                // In the middle of a message: only the end of the connection ends it.
                self.lose_upstream(target, "its client vanished in the middle of a message");
                return;
            }
            if lease.is_open || self.upstreams[target].is_copying {
                self.abandon(target);
                return;
            }
        }
        self.cancel_left(id, target, client.lease.is_some());
    }

    /// Cancels what a client that is gone was alone in running. A write runs to its end, as it
    /// would on a connection of the client's own.
    fn cancel_left(&mut self, id: ClientId, target: UpstreamId, was_leased: bool) {
        let upstream = &mut self.upstreams[target];
        let is_last = upstream.tail == Some(id);
        let mut mine = upstream.pipe.iter().filter(|one| one.client() == Some(id));
        let only_reads = mine.clone().next().is_some() && mine.all(|one| !one.writes);
        if only_reads && was_leased {
            self.forward_cancel(target);
            return;
        }
        if only_reads && is_last {
            // Others' reads may stand before it, and are not what is cancelled.
            let pipe = upstream.pipe.iter_mut();
            for one in pipe.filter(|one| one.client() == Some(id)) {
                one.owner = Requester::Abandoned;
            }
            upstream.has_cancelled = true;
        }
        self.settle_upstream(target);
    }

    pub(crate) fn begin_drain(&mut self, deadline_ms: u64) {
        self.is_draining = true;
        self.conns.operations.push_back(Operation::AcceptOff);
        let deadline = Instant(self.now.0 + deadline_ms * 1_000_000);
        self.timers.add(deadline, Timer::Drain);
        self.end_idle_clients();
    }

    /// Those that have nothing running are told good-bye.
    pub(crate) fn end_idle_clients(&mut self) {
        let idle: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| {
                client.in_flight == 0 && client.lease.is_none() && client.waiting == Waiting::No
            })
            .map(|(id, _)| id)
            .collect();
        for id in idle {
            self.refuse_client(id, &Refusal::shutdown());
        }
        if self.clients.is_empty() {
            self.end_upstreams();
        }
        let (redis, mut reach) = self.redis();
        redis.end_idle_clients(&mut reach);
    }

    pub(crate) fn end_drain(&mut self) {
        let all: Vec<ClientId> = self.clients.iter().map(|(id, _)| id).collect();
        for id in all {
            self.refuse_client(id, &Refusal::shutdown());
        }
        self.end_upstreams();
        let (redis, mut reach) = self.redis();
        redis.end_all(&mut reach);
    }

    fn end_upstreams(&mut self) {
        let all: Vec<UpstreamId> = self.upstreams.iter().map(|(id, _)| id).collect();
        for id in all {
            self.forget_upstream(id);
        }
    }
}

//! Nobody stays behind a stalled head: its followers are issued again elsewhere.
//!
//! Knows pipes and how long their heads are expected to take; knows no messages. Invariants: only
//! requests that were proven read-only and of which nothing was delivered are issued again, all of
//! one client's together and in order; what they bring where they were is discarded.

use crate::ids::{ClientId, ServiceId, UpstreamId};
use crate::shard::Shard;
use crate::upstream::postgres::pipe::{Expectation, Requester};
use crate::upstream::postgres::{State, Upstream};
use crate::upstream::queues::Kind;

/// A head is late when it has taken so many times what it was expected to (and `stall_time`).
const LATE_FACTOR: u64 = 8;

/// A request is issued again at most so often: where everything is late, more work helps nobody.
const REISSUES_MAX: u8 = 2;

impl Shard {
    /// Looks for heads that are late. Called now and then.
    pub(crate) fn relieve_stalled(&mut self, service: ServiceId) {
        for index in 0..self.connections[service.index()].upstreams.len() {
            let id = self.connections[service.index()].upstreams[index];
            if !self.is_late(&self.upstreams[id]) {
                continue;
            }
            let was_stalled = core::mem::replace(&mut self.upstreams[id].is_stalled, true);
            let head = self.upstreams[id].pipe[0].client();
            let mut followers: Vec<ClientId> = Vec::new();
            for one in self.upstreams[id].pipe.iter().skip(1) {
                followers.extend(one.client().filter(|it| Some(*it) != head));
            }
            followers.dedup();
            for client in followers {
                self.issue_again(client, id);
            }
            self.cancel_abandoned(id);
            if was_stalled && self.is_in_the_way(id) {
                self.cancel_stalled(id);
            }
        }
    }

    /// Whether the head of a pipe that others share takes much longer than it should.
    fn is_late(&self, upstream: &Upstream) -> bool {
        let Some(head) = upstream.pipe.front() else {
            return false;
        };
        let nanos = self.now.nanos_since(upstream.head_since);
        upstream.state == State::Ready
            && upstream.holder.is_none()
            && upstream.tail.is_none()
            && !upstream.is_retired
            && nanos >= self.limits.stall_time.as_nanos() as u64
            && nanos >= LATE_FACTOR * u64::from(head.expected_nanos)
    }

    /// Takes all of a client's unanswered requests back from a pipe in which another's head stalls,
    /// and lets the client send them anew. Says whether it could.
    fn issue_again(&mut self, id: ClientId, target: UpstreamId) -> bool {
        let Some(client) = self.clients.get(id) else {
            return false;
        };
        let is_mine = |one: &Expectation| one.client() == Some(id);
        let upstream = &self.upstreams[target];
        let may = |one: &Expectation| !one.writes && !one.is_delivered && !one.is_leased;
        let is_possible = client.lease.is_none()
            && client.upstream == Some(target)
            && client.reissues < REISSUES_MAX
            && upstream.pipe.iter().filter(|one| is_mine(one)).all(may);
        if !is_possible {
            return false;
        }
        let upstream = &mut self.upstreams[target];
        let mut count = 0;
        for one in upstream.pipe.iter_mut().filter(|one| is_mine(one)) {
            one.owner = Requester::Abandoned;
            count += 1;
        }
        self.clients[id].reissues += 1;
        self.take_back(id);
        self.stats.requests_reissued += count;
        true
    }

    /// Whether somebody waits for just what a stalled head keeps, and nothing else is to be had.
    fn is_in_the_way(&self, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        let lane = &self.lanes[upstream.lane];
        let is_wanted = !lane.queues.of(Kind::Shared).is_empty();
        let has_other = lane.upstreams.iter().any(|&other| {
            self.upstreams[other].takes_shared() || self.upstreams[other].is_coming()
        });
        let is_openable = self.services[upstream.service.index()].permits.free() > 0;
        is_wanted && !has_other && !is_openable && upstream.fences == 0
    }

    /// Cancels a stalled head that only reads; it will be sent again as what it is: slow.
    fn cancel_stalled(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let Some(client) = upstream.pipe.front().and_then(Expectation::client) else {
            return;
        };
        let nanos = self.now.nanos_since(upstream.head_since);
        let text = upstream.pipe[0].text.clone();
        if self.issue_again(client, id) {
            if let Some(text) = text {
                text.history.note_slow(nanos);
            }
            self.upstreams[id].has_cancelled = true;
            self.cancel_abandoned(id);
        }
    }
}

//! Cancel requests: found by their key, on whatever shard, and carried to exactly the request
//! meant.
//!
//! Knows the three states of a request: not sent, sent among others, sent alone. Invariants: a
//! neighbour's request is never what a cancel was meant for; while a cancel is on its way nothing
//! new is put behind the request it is meant for.

use manifold_protocols::postgres::frontend::encode_cancel;

use crate::client::postgres::errors::Refusal;
use crate::client::postgres::{Phase, Waiting};
use crate::conns::Owner;
use crate::event::{Message, Operation};
use crate::ids::{ClientId, ConnId, ShardId, UpstreamId};
use crate::planted::Bug;
use crate::shard::{Shard, Timer};
use crate::upstream::postgres::pipe::{Chore, Expectation, Requester};

/// Bits of the made-up process id that are a client's place; the rest is the shard's number + 1.
const PLACE_BITS: u32 = 24;

impl Shard {
    /// The process id that a client is told: leads back to its shard and place.
    pub(crate) fn cancel_pid(&self, id: ClientId) -> u32 {
        assert!(id.index < 1 << PLACE_BITS, "clients_max is far below");
        ((self.id.0 + 1) << PLACE_BITS) | id.index
    }

    /// Somebody shows a cancel key. When its connection is closed, what it asks next is safe from
    /// the cancel: so it is closed only when the cancel has found what it was meant for.
    pub(crate) fn handle_cancel_request(&mut self, asking: ClientId, pid: u32, secret: u32) {
        self.stats.cancels += 1;
        match (pid >> PLACE_BITS).checked_sub(1) {
            Some(shard) if shard != self.id.0 => {
                let message = Message::Cancel {
                    pid,
                    secret,
                    shard: self.id,
                    client: asking,
                };
                self.clients[asking].phase = Phase::Cancelling;
                let shard = ShardId(shard);
                let operation = Operation::ToShard { shard, message };
                self.conns.operations.push_back(operation);
            }
            mine => {
                self.end_client(asking);
                if mine.is_some() {
                    self.cancel(pid, secret);
                }
            }
        }
    }

    /// Cancels what the client with this key has running or waiting.
    pub(crate) fn cancel(&mut self, pid: u32, secret: u32) {
        let place = pid & ((1 << PLACE_BITS) - 1);
        let Some(id) = self.clients.id_at(place) else {
            return;
        };
        let client = &self.clients[id];
        // All 32 bits in one comparison: nothing is learned from how long it takes.
        let is_right = client.secret == secret || self.planted.is(Bug::BelieveCancel);
        if !is_right || client.phase != Phase::Ready {
            return;
        }
        if client.in_flight > 0 {
            self.cancel_in_flight(id);
        } else if client.waiting != Waiting::No {
            self.cancel_waiting(id);
        }
    }

    /// The request has not been sent: it is answered here.
    fn cancel_waiting(&mut self, id: ClientId) {
        self.clients[id].waiting = Waiting::No;
        if self.clients[id].lease.is_none() {
            for len in self.unsent_lens(id) {
                self.refuse_request(id, len, &Refusal::cancelled());
            }
        }
        self.clients_to_pump.push_back(id);
    }

    /// The request has been sent.
    fn cancel_in_flight(&mut self, id: ClientId) {
        let target = self.clients[id]
            .upstream
            .expect("requests in flight are on an upstream");
        let upstream = &self.upstreams[target];
        let is_alone =
            upstream.holder == Some(id) || upstream.pipe.iter().all(|one| one.client() == Some(id));
        if is_alone {
            self.forward_cancel(target);
            return;
        }
        let first = upstream
            .pipe
            .iter()
            .position(|one| one.client() == Some(id));
        let Some(first) = first else { return };
        let one = &upstream.pipe[first];
        if one.is_delivered || one.writes {
            // Its reply is arriving; or it is a write, alone in front, with a chore behind it.
            if one.writes && first == 0 {
                self.forward_cancel(target);
            }
            return;
        }
        // A read among others' requests: its reply is discarded, nobody else is touched.
        let len = one.len;
        let (drops_unnamed, has_changes) = (one.drops_unnamed, one.change.is_some());
        if drops_unnamed || has_changes || self.clients[id].in_flight > 1 {
            return;
        }
        self.upstreams[target].pipe[first].owner = Requester::Abandoned;
        self.upstreams[target].has_cancelled = true;
        let client = &mut self.clients[id];
        client.in_flight = 0;
        client.is_barred = false;
        client.is_inside = false;
        client.upstream = None;
        client.input.drop_answered(len);
        client.session_mut().statements.forget_pending();
        self.answer_error(id, &Refusal::cancelled());
        self.wake(id, Waiting::Itself);
        self.clients_to_pump.push_back(id);
        self.cancel_abandoned(target);
    }

    /// Cancels the head of a pipe that nobody wants any more as soon as a cancel can hit nothing
    /// that somebody does want: it could run for hours, and nothing joins before it is over.
    pub(crate) fn cancel_abandoned(&mut self, target: UpstreamId) {
        let upstream = &mut self.upstreams[target];
        let is_abandoned = |one: &Expectation| matches!(one.owner, Requester::Abandoned);
        let is_fence = |one: &Expectation| matches!(one.owner, Requester::Chore(Chore::Fence));
        upstream.has_cancelled &= upstream.pipe.iter().any(is_abandoned);
        let is_safe = |one: &Expectation| is_abandoned(one) || is_fence(one);
        if !upstream.has_cancelled || !upstream.pipe.iter().all(is_safe) {
            return;
        }
        let head = &mut upstream.pipe[0];
        if is_abandoned(head) && !core::mem::replace(&mut head.is_cancelled, true) {
            self.send_cancel(target);
        }
    }

    /// Sends a cancel to the node, for the request that is alone on an upstream, unless one is on
    /// its way.
    pub(crate) fn forward_cancel(&mut self, target: UpstreamId) {
        if self.upstreams[target].fences == 0 {
            self.send_cancel(target);
        }
    }

    /// Sends a cancel to the node. Until it has landed nothing new goes to the upstream.
    fn send_cancel(&mut self, target: UpstreamId) {
        let upstream = &mut self.upstreams[target];
        let Some(address) = upstream.address.clone() else {
            return;
        };
        upstream.fences += u32::from(!self.planted.is(Bug::ForgetFence));
        let conn = self.conns.reserve(None);
        self.conns.set_owner(conn, Owner::Canceller(target));
        self.conns.connect(conn, address);
        self.timers
            .add(self.now + self.limits.connect_time_max, Timer::Cancel(conn));
        self.stats.cancels_forwarded += 1;
    }

    /// The connection for a cancel stands: shows the node the key.
    pub(crate) fn handle_canceller_connected(&mut self, conn: ConnId, target: UpstreamId) {
        match self.upstreams.get(target) {
            Some(upstream) => {
                encode_cancel(
                    self.conns.write(conn),
                    upstream.pid,
                    &upstream.cancel_secret,
                );
            }
            None => self.conns.close(conn),
        }
    }

    /// The node has closed the cancel's connection: the signal has been sent. An empty request
    /// behind everything tells when it can have no effect any more.
    pub(crate) fn handle_cancel_landed(&mut self, target: UpstreamId) {
        if let Some(upstream) = self.upstreams.get_mut(target)
            && upstream.fences > 0
        {
            if let Some(holder) = upstream.holder {
                upstream.fences -= 1;
                upstream.needs_fence = true;
                self.wake(holder, Waiting::Itself);
            } else if upstream.is_retired {
                upstream.fences -= 1;
            } else {
                self.send_fence(target);
            }
        }
    }
}

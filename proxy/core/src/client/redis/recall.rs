//! Requests that wait before they are sent again, or at a node that is not theirs any more.
//!
//! What has been sent comes back by itself; what waits for an upstream would wait for a node that
//! may never come back. Invariant: the requests of a branch keep their order.

use crate::client::redis::Waiting;
use crate::client::redis::spread::Part;
use crate::ids::{ClientId, ServiceId};
use crate::reach::Reach;
use crate::redis::{Redis, RedisTimer};
use crate::shard::Timer;
use crate::time::Instant;

/// The first pause before something is sent again to a node that could not do it; it doubles.
const PAUSE_NANOS: u64 = 2_000_000;

/// The longest.
const PAUSE_NANOS_MAX: u64 = 64_000_000;

impl Redis {
    /// A part is sent again after a while.
    pub(crate) fn delay(&mut self, reach: &mut Reach<'_>, front: ClientId, part: Part) {
        let cluster = self.clients[front].service;
        let pause = (PAUSE_NANOS << part.tries.saturating_sub(1).min(8)).min(PAUSE_NANOS_MAX);
        let due = Instant(reach.now.0 + pause);
        self.map_mut(cluster).delayed.push((due, front, part));
        let timer = Timer::Redis(RedisTimer::Delayed(cluster));
        reach.timers.add(due, timer);
    }

    /// Sends what has waited for long enough.
    pub(crate) fn send_delayed(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        let map = self.map_mut(cluster);
        let (due, left): (Vec<_>, Vec<_>) = core::mem::take(&mut map.delayed)
            .into_iter()
            .partition(|(due, ..)| *due <= reach.now);
        map.delayed = left;
        for (_, front, part) in due {
            if self.clients.get(front).is_some() {
                self.send_after_pause(reach, front, part);
            }
        }
    }

    fn send_after_pause(&mut self, reach: &mut Reach<'_>, front: ClientId, mut part: Part) {
        match part.asked_of.take() {
            Some(node) => {
                part.is_asking = true;
                self.rebind(front, &part, node);
                self.dispatch(reach, front, part, node);
            }
            None => self.send_by_map(reach, front, part),
        }
    }

    /// The map has changed: what waits at a node for a slot that it has no more goes to the one
    /// that has it.
    pub(crate) fn recall_all(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        let branches = self.clients.iter().filter(|(_, client)| {
            let part = client.part_at_hand();
            part.is_some() && self.nodes[client.service.index()].part_of == Some(cluster)
        });
        for id in branches.map(|(id, _)| id).collect::<Vec<_>>() {
            self.recall(reach, id, cluster);
        }
        self.leave_nodes(reach, cluster);
    }

    /// Sessions have nothing more to do with nodes that have no slots any more.
    fn leave_nodes(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        let primaries = self.map(cluster).primaries();
        let left = self.clients.iter().filter(|(_, client)| {
            let node = client.service;
            let is_part = self.nodes[node.index()].part_of == Some(cluster);
            let is_idle = client.lease.is_none() && client.is_answered() && client.input.is_empty();
            is_part && is_idle && primaries.iter().all(|(_, one)| *one != node)
        });
        let left: Vec<_> = left.map(|(id, client)| (id, client.service)).collect();
        for (id, node) in left {
            let front = self.front_of(id);
            if let Some(spread) = self
                .clients
                .get_mut(front)
                .and_then(|it| it.spread.as_mut())
            {
                spread.branches.retain(|(one, _)| *one != node);
                self.forget_branch(reach, id);
            }
        }
    }

    fn recall(&mut self, reach: &mut Reach<'_>, id: ClientId, cluster: ServiceId) {
        let map = self.map(cluster);
        let client = &self.clients[id];
        let node = client.service;
        let branch = client.branch.as_ref().expect("it is a branch");
        let sent = client.unanswered() as usize;
        let is_elsewhere = |part: &Part| {
            let owner = part
                .slot
                .map_or(part.node.or(map.home()), |slot| map.owner(slot));
            owner.is_some() && owner != Some(node)
        };
        // What is there already comes back by itself, and nothing may overtake it.
        let is_passing = branch.parts.iter().any(|part| part.is_passing);
        let is_free = client.lease.is_none() && client.is_answered() && !is_passing;
        if !is_free || !branch.parts.iter().skip(sent).any(is_elsewhere) {
            return;
        }
        let front = branch.front;
        let pool = client.pool;
        let client = &mut self.clients[id];
        let unparsed = client.input.unparsed().len();
        client.input.consume(unparsed);
        client.finder = Default::default();
        client.waiting = Waiting::No;
        let branch = client.branch.as_mut().expect("it is a branch");
        let parts = branch.parts.split_off(sent);
        let pool = &mut self.pools[pool];
        pool.lease_queue.retain(|&one| one != id);
        for pipes in &mut pool.lanes {
            pipes.waiting.retain(|&one| one != id);
        }
        for part in parts {
            self.send_by_map(reach, front, part);
        }
    }
}

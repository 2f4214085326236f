//! Requests that wait before they are sent again, or at a node that is not theirs any more.
//!
//! What has been sent comes back by itself; what waits for an upstream would wait for a node that
//! may never come back. Invariant: the requests of a branch keep their order.

use std::collections::VecDeque;

use crate::client::redis::Waiting;
use crate::client::redis::spread::{Part, is_before};
use crate::client::redis::transact::len_of;
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
        let slot = part.slot;
        self.put_off(front, part, due);
        self.hold_back(front, slot, due);
        let timer = Timer::Redis(RedisTimer::Delayed(cluster));
        reach.timers.add(due, timer);
    }

    fn put_off(&mut self, front: ClientId, part: Part, due: Instant) {
        let session = &mut self.clients[front];
        session.spread().delayed += 1;
        let cluster = session.service;
        self.map_mut(cluster).delayed.push((due, front, part));
    }

    /// Whether a later request of the same session to the same slot has been sent.
    pub(crate) fn is_followed(&self, front: ClientId, part: &Part) -> bool {
        let is_behind = |other: &Part| {
            part.slot.is_some() && other.slot == part.slot && is_before(part.number, other.number)
        };
        self.all_of(front).skip(1).any(|id| {
            let client = &self.clients[id];
            let parts = client.branch.iter().flat_map(|branch| &branch.parts);
            parts.take(client.unanswered() as usize).any(is_behind)
        })
    }

    /// A request has run. Those that its session had sent before it to the same slot, and that
    /// their node refused, cannot be run after it.
    pub(crate) fn give_up_overtaken(
        &mut self,
        reach: &mut Reach<'_>,
        front: ClientId,
        slot: Option<u16>,
        number: u32,
    ) {
        if self.clients[front].spread().delayed == 0 {
            return;
        }
        let cluster = self.clients[front].service;
        let is_overtaken = |(_, session, part): &mut (Instant, ClientId, Part)| {
            let is_earlier = part.slot == slot && is_before(part.number, number);
            *session == front && slot.is_some() && is_earlier && part.refusal.is_some()
        };
        let delayed = &mut self.map_mut(cluster).delayed;
        let overtaken: Vec<_> = delayed.extract_if(.., is_overtaken).collect();
        for (_, _, mut part) in overtaken {
            self.clients[front].spread().delayed -= 1;
            part.kept = part.refusal.take().unwrap_or_default().into();
            self.fail_part(reach, front, part);
        }
    }

    /// What has not been sent to the slot of a part that waits does so behind it.
    fn hold_back(&mut self, front: ClientId, slot: Option<u16>, due: Instant) {
        let is_behind = |part: &Part| slot.is_some() && part.slot == slot;
        let all: Vec<_> = self.all_of(front).skip(1).collect();
        for id in all {
            let client = &self.clients[id];
            let unanswered = client.unanswered() as usize;
            let branch = client.branch.as_ref().expect("it is a branch");
            let mut unsent = branch.parts.iter().skip(unanswered);
            if client.passing.is_some() || !unsent.any(is_behind) {
                continue;
            }
            for part in self.take_unsent(id) {
                self.put_off(front, part, due);
            }
        }
    }

    /// A part that comes back waits if one does that its session sent before it to the same slot.
    pub(crate) fn wait_behind(&mut self, front: ClientId, part: Part) -> Option<Part> {
        if self.clients[front].spread().delayed == 0 {
            return Some(part);
        }
        let cluster = self.clients[front].service;
        let delayed = &self.map(cluster).delayed;
        let is_first = |(_, session, other): &&(Instant, ClientId, Part)| {
            let is_of_slot = part.slot.is_some() && other.slot == part.slot;
            *session == front && is_of_slot && is_before(other.number, part.number)
        };
        let Some(due) = delayed.iter().filter(is_first).map(|(due, ..)| *due).max() else {
            return Some(part);
        };
        self.put_off(front, part, due);
        None
    }

    /// Takes back what a branch was given and has not sent.
    pub(crate) fn take_unsent(&mut self, id: ClientId) -> Vec<Part> {
        let client = &mut self.clients[id];
        let pool = client.pool;
        let unsent = client.input.unparsed().to_vec();
        client.input.consume(unsent.len());
        client.finder = Default::default();
        client.waiting = Waiting::No;
        let sent = client.unanswered() as usize;
        let branch = client.branch.as_mut().expect("it is a branch");
        let mut parts = branch.parts.split_off(sent);
        keep_passed(&mut parts, &unsent);
        let pool = &mut self.pools[pool];
        pool.lease_queue.retain(|&one| one != id);
        for pipes in &mut pool.lanes {
            pipes.waiting.retain(|&one| one != id);
        }
        parts.into()
    }

    /// Sends what has waited for long enough.
    pub(crate) fn send_delayed(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        let map = self.map_mut(cluster);
        let (due, left): (Vec<_>, Vec<_>) = core::mem::take(&mut map.delayed)
            .into_iter()
            .partition(|(due, ..)| *due <= reach.now);
        map.delayed = left;
        for (_, front, part) in due {
            if let Some(session) = self.clients.get_mut(front) {
                session.spread().delayed -= 1;
                self.send_after_pause(reach, front, part);
            }
        }
    }

    fn send_after_pause(&mut self, reach: &mut Reach<'_>, front: ClientId, mut part: Part) {
        if part.refusal.is_some() && self.is_followed(front, &part) {
            // Whether it can be sent again depends on what becomes of those.
            return self.delay(reach, front, part);
        }
        part.refusal = None;
        match part.asked_of.take() {
            Some(node) => {
                part.is_asking = true;
                self.dispatch_again(reach, front, part, node);
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
        let parts = self.take_unsent(id);
        for part in parts {
            self.send_by_map(reach, front, part);
        }
    }
}

/// What was passed on while it came is nowhere but here, and like any other request from now on.
fn keep_passed(parts: &mut VecDeque<Part>, mut unsent: &[u8]) {
    for part in parts {
        let len = match &part.request {
            _ if part.is_passing => len_of(unsent, 1),
            Some(bytes) => bytes.len(),
            None => part.len as usize,
        };
        let (bytes, rest) = unsent.split_at(len);
        if core::mem::take(&mut part.is_passing) {
            part.request = Some(bytes.into());
        }
        unsent = rest;
    }
}

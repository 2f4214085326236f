//! Requests that are passed on while they come, because they are too big to be kept whole.
//!
//! Each has an upstream alone, so that whoever sends it slowly holds nobody up; a client waits when
//! its upstream takes no more, and the upstream when the client does not read. For a cluster only
//! what has one key is passed on, to the node of that, and is gone if the node sends it on to
//! another. The others are kept until they are whole, and refused if that is too much. Invariant:
//! an upstream that was given a part of a request gets the rest of it or is closed.

#[cfg(test)]
mod tests;

use manifold_protocols::redis::cluster::slot;
use manifold_protocols::redis::command::{Access, Begin, Command, Find};
use manifold_protocols::redis::resp::inline::write_request;
use manifold_protocols::redis::resp::passage::Passage;
use manifold_protocols::redis::resp::request::{Arguments, Malformed};

use crate::client::redis::fan::command_of;
use crate::client::redis::judge::{Need, may_pass};
use crate::client::redis::pump::Turn;
use crate::client::redis::spread::{Part, PartKind, Verdict};
use crate::client::redis::{Client, Waiting, errors};
use crate::ids::{ClientId, ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::{Lane, Version};
use crate::upstream::redis::{Effect, Own};

/// A request of which a part has been passed on.
#[derive(Clone, Copy, Debug)]
pub struct Passing {
    /// What is still to come.
    passage: Passage,
    /// Its number.
    number: u32,
    /// Where it goes; nowhere if it has been answered before it was whole.
    upstream: Option<UpstreamId>,
    /// What its session has at the node that it goes to, for one of a cluster.
    branch: Option<ClientId>,
}

impl Redis {
    /// Looks at a request that will be too big to be kept, of which it is known that it has so many
    /// bytes.
    pub(crate) fn take_beginning(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        needed: usize,
    ) -> Turn {
        let client = &self.clients[id];
        let is_part = client.part_at_hand().is_some_and(|part| part.is_passing);
        if client.is_leaving || client.branch.is_some() && !is_part {
            return Turn::Wait;
        }
        if let Some((node, slot)) = self.node_to_pass_to(reach, id) {
            return self.pass_to_node(reach, id, node, slot);
        }
        let is_stream = client.lease.is_some_and(|lease| lease.is_stream);
        let effect = self.may_pass(reach, id).filter(|_| !is_stream);
        let Some(effect) = effect else {
            return match needed > reach.limits.whole_bytes_max {
                true => self.refuse_beginning(reach, id),
                false => Turn::Wait,
            };
        };
        let Some(lease) = self.clients[id].lease else {
            return self.want_lease(reach, id);
        };
        let client = &self.clients[id];
        if client.has_to_wait(&lease, Need::Share(Lane::Slow, Effect::Write)) {
            self.clients[id].waiting = Waiting::Itself;
            return Turn::Wait;
        }
        if effect == Effect::Count && !self.clients[id].keep_channel() {
            return Turn::Wait;
        }
        let client = &self.clients[id];
        let number = client.taken;
        reach.connections[client.service.index()]
            .tally
            .requests_leased += 1;
        // Its bytes are not kept, so it has none.
        self.expect_replies(reach, id, lease.upstream, 0, 1, effect);
        let bulk_bytes_max = self.bulk_bytes_max;
        self.clients[id].begin_passing(number, Some(lease.upstream), bulk_bytes_max);
        Turn::Next
    }

    /// The node of the only key of a request of which a part is there, and the slot, if that part
    /// says so.
    fn node_to_pass_to(&self, reach: &Reach<'_>, id: ClientId) -> Option<(ServiceId, u16)> {
        let client = &self.clients[id];
        let spread = client.spread.as_ref()?;
        let is_free = spread.held.is_none() && spread.bound.is_none();
        let only_listens = client.is_subscribed() && self.key_of(id).version == Version::Two;
        if !is_free || only_listens || self.is_stranger(id) {
            return None;
        }
        let is_admin = reach.service(client.service).is_admin;
        let table = &self.nodes[client.service.index()].table;
        let part = client.input.unparsed();
        may_pass(table, part, is_admin).filter(|effect| *effect == Effect::Write)?;
        let slot = slot(only_key(command_of(table, part)?, part)?);
        Some((self.map(client.service).owner(slot)?, slot))
    }

    /// A request of a session of a cluster goes to a node while it comes, by way of what the
    /// session has there.
    fn pass_to_node(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        node: ServiceId,
        slot: u16,
    ) -> Turn {
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        let epoch = self.map(self.clients[id].service).epoch;
        let mut part = self.take_part(reach, id, 0, PartKind::Whole);
        part.slot = Some(slot);
        part.is_passing = true;
        self.clients[id].spread().epoch = epoch;
        let number = part.number;
        let branch_id = self.branch_at(reach, id, node);
        let branch = &mut self.clients[branch_id];
        branch.is_leaving = false;
        let parts = &mut branch.branch.as_mut().expect("it is a branch").parts;
        parts.push_back(part);
        let bulk_bytes_max = self.bulk_bytes_max;
        let client = &mut self.clients[id];
        client.begin_passing(number, None, bulk_bytes_max);
        if let Some(passing) = &mut client.passing {
            passing.branch = Some(branch_id);
        }
        Turn::Next
    }

    /// A part that was passed on while it came has not been done, and cannot be sent again.
    pub(crate) fn fail_passed(
        &mut self,
        reach: &mut Reach<'_>,
        front: ClientId,
        mut part: Part,
        verdict: Verdict,
    ) {
        let name = &reach.service(self.clients[front].service).name;
        part.kept = match verdict {
            Verdict::Later(error) => error.into(),
            Verdict::Lost => errors::not_whole(name),
            Verdict::Moved(_) | Verdict::Ask(_) => errors::sent_away(name),
        };
        self.fail_part(reach, front, part);
    }

    /// What has come of a session's request goes to its branch.
    fn feed_branch(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize) {
        let client = &self.clients[id];
        let Some(branch) = client.passing.as_ref().and_then(|it| it.branch) else {
            return;
        };
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.extend_from_slice(&client.input.unparsed()[..len]);
        if let Some(branch_at_node) = self.clients.get_mut(branch) {
            branch_at_node.active_at = reach.now;
            let pool = &mut reach.conns.pool;
            branch_at_node.input.append(&scratch, pool);
            self.clients_to_pump.push_back(branch);
        }
        scratch.clear();
        self.scratch = scratch;
    }

    /// Whether a session's request has to wait until its branch has taken what it has.
    fn is_branch_full(&self, reach: &Reach<'_>, id: ClientId) -> bool {
        let passing = self.clients[id].passing.as_ref();
        let branch = passing.and_then(|it| self.clients.get(it.branch?));
        branch.is_some_and(|it| it.input.unparsed().len() > reach.limits.input_high)
    }

    /// A branch has taken what it had of a request that is passed on.
    fn resume_front(&mut self, id: ClientId) {
        let front = self.front_of(id);
        if front != id
            && let Some(client) = self.clients.get_mut(front)
            && client.waiting == Waiting::Output
        {
            client.waiting = Waiting::No;
            self.clients_to_pump.push_back(front);
        }
    }

    /// A request would have to be kept whole and is too big for that.
    fn refuse_beginning(&mut self, reach: &mut Reach<'_>, id: ClientId) -> Turn {
        let client = &self.clients[id];
        if let Some(lease) = client.lease {
            if lease.is_stream {
                // Whatever is said there would be taken for a part of the stream.
                return self.hang_up(reach, id);
            }
            if lease.is_queueing {
                // The node has to know that the transaction is not what it should be.
                self.ask(reach, lease.upstream, Own::Poison, &[b"MANIFOLD-DENIED"]);
            }
        }
        if self.clients[id].spread.is_some() {
            self.spoil_transaction(reach, id);
        }
        let name = &reach.service(self.clients[id].service).name;
        let text = errors::too_big(name, reach.limits.whole_bytes_max);
        self.answer_beginning(reach, id, &text);
        Turn::Next
    }

    fn may_pass(&self, reach: &Reach<'_>, id: ClientId) -> Option<Effect> {
        let client = &self.clients[id];
        let is_part = client.part_at_hand().is_some_and(|part| part.is_passing);
        let is_spread = client.branch.is_some() && !is_part || client.spread.is_some();
        let only_listens = client.is_subscribed() && self.key_of(id).version == Version::Two;
        if is_spread || only_listens || self.is_stranger(id) {
            return None;
        }
        let is_admin = reach.service(client.service).is_admin;
        let table = &self.nodes[client.service.index()].table;
        let part = client.input.unparsed();
        let effect = may_pass(table, part, is_admin)?;
        // What its sender hears itself goes to the hub, where others must not wait for the rest.
        let is_own = self.hub_of_own_message(id, part.len()).is_some();
        (effect != Effect::Count || !is_own).then_some(effect)
    }

    /// Passes on what has come of a request.
    pub(crate) fn pass_on(&mut self, reach: &mut Reach<'_>, id: ClientId) -> Turn {
        let is_full = self.is_branch_full(reach, id);
        let client = &mut self.clients[id];
        let passing = client.passing.as_mut().expect("it has such a request");
        let conn = passing.upstream.map(|it| self.upstreams[it].conn);
        let high = reach.limits.upstream_output_high;
        if is_full || conn.is_some_and(|conn| reach.conns.unsent(conn) > high) {
            client.waiting = Waiting::Output;
            return Turn::Wait;
        }
        let bytes = client.input.unparsed();
        let passed = match passing.passage.advance(bytes) {
            Ok(passed) => passed,
            Err(malformed) => return self.refuse_part(reach, id, malformed),
        };
        if let Some(conn) = conn {
            let bytes = &bytes[..passed.len];
            reach.conns.write(conn).extend_from_slice(bytes);
        }
        self.feed_branch(reach, id, passed.len);
        self.resume_front(id);
        let client = &mut self.clients[id];
        client.input.consume(passed.len);
        if passed.is_end {
            client.passing = None;
            return Turn::Next;
        }
        if client.is_leaving {
            // Nothing more will come.
            self.end_client(reach, id);
        }
        Turn::Wait
    }

    /// A request that began well went wrong. Its node has not read it whole, and is left alone.
    fn refuse_part(&mut self, reach: &mut Reach<'_>, id: ClientId, malformed: Malformed) -> Turn {
        let client = &mut self.clients[id];
        let passing = client.passing.as_ref().expect("it has such a request");
        if passing.upstream.is_none() && passing.branch.is_none() {
            client.passing = None;
            return self.refuse(reach, id, malformed);
        }
        let number = passing.number;
        self.deliver(reach, id, number, &errors::malformed(malformed));
        self.end_client(reach, id);
        Turn::Wait
    }

    /// Answers a request that is not whole; the rest of it is passed over.
    pub(crate) fn answer_beginning(&mut self, reach: &mut Reach<'_>, id: ClientId, reply: &[u8]) {
        let number = self.clients[id].taken;
        self.answer(reach, id, 0, reply);
        let bulk_bytes_max = self.bulk_bytes_max;
        if let Some(client) = self.clients.get_mut(id) {
            client.begin_passing(number, None, bulk_bytes_max);
        }
    }

    /// Whether this request was answered though it is not whole.
    pub(crate) fn is_answered_early(&self, id: ClientId, number: u32) -> bool {
        let passing = self.clients.get(id).and_then(|it| it.passing.as_ref());
        passing.is_some_and(|it| it.number == number)
    }

    /// The upstream of a request is lost. Says whether the request was not whole there; the rest of
    /// it is passed over then.
    pub(crate) fn lose_passing(&mut self, id: ClientId, number: u32) -> bool {
        if !self.is_answered_early(id, number) {
            return false;
        }
        let client = &mut self.clients[id];
        if let Some(passing) = &mut client.passing {
            passing.upstream = None;
        }
        if client.waiting == Waiting::Output {
            client.waiting = Waiting::No;
            self.clients_to_pump.push_back(id);
        }
        true
    }

    /// Who sends nothing amid a request is not waited for as long as others wait for upstreams.
    pub(crate) fn end_stalled(&mut self, reach: &mut Reach<'_>) {
        let limit = reach.limits.queue_wait_max;
        let is_stalled = |client: &Client| {
            let is_late = reach.now - client.active_at >= limit;
            is_late && client.passing.is_some() && client.waiting == Waiting::No
        };
        let is_wanted = |service: ServiceId| {
            let mut pools = self.pools.iter();
            pools.any(|(_, pool)| pool.key.service == service && pool.is_wanting())
        };
        let stalled = self.upstreams.iter().filter_map(|(_, upstream)| {
            let client = self.clients.get(upstream.holder?)?;
            let is_over = is_stalled(client) && is_wanted(upstream.service);
            upstream.holder.filter(|_| is_over)
        });
        for id in stalled.collect::<Vec<_>>() {
            self.end_client(reach, id);
        }
    }

    /// An upstream takes more of what its holder sends.
    pub(crate) fn go_on_passing(&mut self, reach: &Reach<'_>, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let Some(holder) = upstream.holder else {
            return;
        };
        if reach.conns.unsent(upstream.conn) <= reach.limits.upstream_output_high
            && let Some(client) = self.clients.get_mut(holder)
            && client.waiting == Waiting::Output
        {
            client.waiting = Waiting::No;
            self.clients_to_pump.push_back(holder);
        }
    }
}

/// The key of a request of which a part is there, if it has one and no more, wherever it ends.
fn only_key<'a>(command: &Command, part: &'a [u8]) -> Option<&'a [u8]> {
    let [keys] = &*command.keys else {
        return None;
    };
    let is_key = keys.access != Access::Channel && !keys.is_incomplete;
    match (&keys.begin, keys.find) {
        (Begin::Index(at), Find::Range { last: 0, .. }) if is_key => {
            Arguments::of(part).nth(*at as usize)
        }
        _ => None,
    }
}

impl Client {
    /// Keeps what a reply to its message needs, which is not kept itself. Not before that of the
    /// last one has come: it waits for that, then.
    fn keep_channel(&mut self) -> bool {
        let is_settled = self.is_settled();
        let mut head = Vec::new();
        let words: Vec<_> = Arguments::of(self.input.unparsed()).take(2).collect();
        write_request(&mut head, words.into_iter());
        let session = self.session.get_or_insert_default();
        if session.publishing.is_some() && !is_settled {
            self.waiting = Waiting::Itself;
            return false;
        }
        session.publishing = Some(head.into());
        true
    }

    /// What its input begins with is passed on from now on.
    fn begin_passing(&mut self, number: u32, upstream: Option<UpstreamId>, bulk_bytes_max: usize) {
        let finder = core::mem::take(&mut self.finder);
        self.passing = Some(Box::new(Passing {
            passage: Passage::of(&finder, bulk_bytes_max),
            number,
            upstream,
            branch: None,
        }));
    }
}

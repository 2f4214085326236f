//! A session of a cluster: what it has at each node, and which of its requests are there.
//!
//! For each node that it needs, such a session has a branch: a client without a socket, whose
//! requests the session gives it and whose replies the session gets. At its node a branch is like
//! any client, so that nothing about lanes, leases and retries is different there. Knows no command
//! by name. Invariants: of one session's requests to one slot, none overtakes another; what a node
//! certainly did not run goes to the right one, and nothing else is sent twice.

use std::collections::{BTreeMap, VecDeque};

use crate::client::redis::Client;
use crate::client::redis::follow::refusal_in;
use crate::client::redis::gather::Gather;
use crate::ids::{ClientId, ServiceId, UpstreamId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::time::Instant;
use crate::upstream::redis::Own;
use crate::upstream::redis::pool::{Key, Lane};

/// What a session has at the nodes of a cluster.
#[derive(Debug, Default)]
pub struct Spread {
    /// One for each node that it has needed.
    pub branches: Vec<(ServiceId, ClientId)>,
    /// Requests that several nodes answer, by their numbers.
    pub gathers: BTreeMap<u32, Gather>,
    /// Requests that are with branches or on their way there.
    pub out: u32,
    /// Parts of them that a node has sent away and that have not landed.
    pub strays: u32,
    /// How many of them wait until they are sent again.
    pub delayed: u32,
    /// Slots of parts with several keys that are out, one for each.
    pub wide: Vec<u16>,
    /// The map by which all of them were sent.
    pub epoch: u64,
    /// The node at which it has something that is a connection's: a transaction, watched keys.
    pub bound: Option<ServiceId>,
    /// A transaction that has begun and whose node is not known.
    pub held: Option<Box<super::fan::Held>>,
}

/// What a client is that is a part of another.
#[derive(Debug)]
pub struct Branch {
    /// Whose.
    pub front: ClientId,
    /// What it has been given and has not answered, in order.
    pub parts: VecDeque<Part>,
}

/// A request, or one of its parts, that a branch has been given.
#[derive(Debug)]
pub struct Part {
    /// The number of the session's request.
    pub number: u32,
    /// Where that begins in the session's input.
    pub at: u64,
    /// How long it is there.
    pub len: u32,
    /// The bytes of it if they are not those.
    pub request: Option<Box<[u8]>>,
    /// Whose node it belongs to; none if any will do.
    pub slot: Option<u16>,
    /// The node that it has to be done at, whoever has the slot.
    pub node: Option<ServiceId>,
    /// What becomes of its reply.
    pub kind: PartKind,
    /// The client does not want the reply.
    pub is_mute: bool,
    /// What comes back may be what a script says, whatever it looks like.
    pub is_scripted: bool,
    /// The node is to be told that it may have the key already.
    pub is_asking: bool,
    /// After a pause, this node is to be told so.
    pub asked_of: Option<ServiceId>,
    /// It has several keys: its node may refuse it while their slot is on its way, after which it
    /// is asked again.
    pub is_wide: bool,
    /// It is passed on while it comes: nobody has it once it has been sent.
    pub is_passing: bool,
    /// A node has sent it away.
    pub is_stray: bool,
    /// How often.
    pub tries: u8,
    /// When it was given to a branch first.
    pub began: Instant,
    /// What to do instead of answering it.
    pub verdict: Option<Verdict>,
    /// What its node said against it, should it be too late to ask again.
    pub refusal: Option<Box<[u8]>>,
    /// What has come of a reply that has to be seen whole.
    pub kept: Vec<u8>,
}

/// What becomes of the reply to a part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PartKind {
    /// It is the reply to the request, passed on as it comes.
    Whole,
    /// So is it, when all of it has come: a transaction that was sent as one piece on this lane.
    Unit {
        /// How many replies it has.
        replies: u32,
        /// The slowest lane of its commands.
        lane: Lane,
    },
    /// It becomes a part of the reply.
    Gathered(u32),
    /// It is nobody's: the proxy itself asked, and what it asked cannot fail.
    Own,
}

/// Why a part is not answered yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It belongs to another node.
    Moved(ServiceId),
    /// It is to be asked for at another node, this once.
    Ask(ServiceId),
    /// Its node cannot do it now; the error is the client's if that lasts.
    Later(Box<[u8]>),
    /// It was lost on its way, and may be sent again.
    Lost,
}

impl Spread {
    /// Whether nothing of it is at any node.
    pub fn is_settled(&self) -> bool {
        self.out == 0
    }

    /// The branch at a node.
    pub fn branch(&self, node: ServiceId) -> Option<ClientId> {
        let mut branches = self.branches.iter();
        let found = branches.find(|(one, _)| *one == node);
        found.map(|(_, branch)| *branch)
    }
}

impl Client {
    /// The session that it is, for one that is not a branch.
    pub(crate) fn spread(&mut self) -> &mut Spread {
        self.spread.as_mut().expect("its service is a cluster")
    }

    /// The part that its next request is, for a branch.
    pub(crate) fn part_at_hand(&self) -> Option<&Part> {
        let branch = self.branch.as_ref()?;
        branch.parts.get(self.unanswered() as usize)
    }
}

impl Redis {
    /// Gives a part to the branch of its session at a node, in the order of the session's requests.
    pub(crate) fn dispatch(
        &mut self,
        reach: &mut Reach<'_>,
        front: ClientId,
        part: Part,
        node: ServiceId,
    ) {
        let id = self.branch_at(reach, front, node);
        let is_early = |later: &Part| is_before(part.number, later.number);
        let branch = &self.clients[id];
        let parts = &branch.branch.as_ref().expect("it is a branch").parts;
        if branch.passing.is_some() || !parts.back().is_some_and(is_early) {
            return self.append_part(reach, id, part);
        }
        // It was sent before, and comes back: what has not been sent waits behind it.
        let mut parts = self.take_unsent(id);
        let place = parts.partition_point(|it| !is_before(part.number, it.number));
        parts.insert(place, part);
        for part in parts {
            self.append_part(reach, id, part);
        }
    }

    fn append_part(&mut self, reach: &mut Reach<'_>, id: ClientId, part: Part) {
        let front = self.front_of(id);
        let mut scratch = core::mem::take(&mut self.scratch);
        let session = &self.clients[front];
        let is_leaving = session.is_leaving;
        let bytes = match &part.request {
            Some(bytes) => bytes,
            None => session.input.kept(part.at, part.len as usize),
        };
        scratch.extend_from_slice(bytes);
        let branch = &mut self.clients[id];
        branch.is_leaving = is_leaving;
        branch.input.append(&scratch, &mut reach.conns.pool);
        let parts = &mut branch.branch.as_mut().expect("it is a branch").parts;
        parts.push_back(part);
        scratch.clear();
        self.scratch = scratch;
        self.clients_to_pump.push_back(id);
    }

    /// The branch of a session at a node, which may be new.
    pub(crate) fn branch_at(
        &mut self,
        reach: &Reach<'_>,
        front: ClientId,
        node: ServiceId,
    ) -> ClientId {
        if let Some(branch) = self.clients[front].spread().branch(node) {
            return branch;
        }
        let key = Key {
            service: node,
            database: 0,
            ..self.key_of(front).clone()
        };
        let pool = self.pool(&key);
        self.enter_pool(pool);
        let session = &self.clients[front];
        let (conn, peer, number) = (session.conn, session.peer, session.number);
        let mut client = Client::new(conn, peer, node, pool, number, reach.now);
        client.branch = Some(Box::new(Branch {
            front,
            parts: VecDeque::new(),
        }));
        let id = self.clients.insert(client);
        self.branches += 1;
        self.clients[front].spread().branches.push((node, id));
        id
    }

    /// The client that has the socket.
    pub(crate) fn front_of(&self, id: ClientId) -> ClientId {
        let client = self.clients.get(id);
        let branch = client.and_then(|client| client.branch.as_ref());
        branch.map_or(id, |branch| branch.front)
    }

    /// Clients that are a session's: itself and its branches.
    pub(crate) fn all_of(&self, id: ClientId) -> impl Iterator<Item = ClientId> + '_ {
        let spread = self.clients[id].spread.iter();
        let branches = spread.flat_map(|spread| spread.branches.iter().map(|(_, id)| *id));
        core::iter::once(id).chain(branches)
    }

    /// A session gives up what it has at the nodes. Nothing of it is on the way.
    pub(crate) fn drop_branches(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        if let Some(spread) = self.clients.get_mut(id).and_then(|it| it.spread.as_mut()) {
            spread.bound = None;
            spread.held = None;
            for (_, branch) in core::mem::take(&mut spread.branches) {
                self.forget_branch(reach, branch);
            }
        }
    }

    /// A client has read: what waited for that at nodes goes on.
    pub(crate) fn resume_branches(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        if reach.conns.unsent(self.clients[id].conn) > reach.limits.output_high {
            return;
        }
        let branches: Vec<_> = self.all_of(id).skip(1).collect();
        for id in branches {
            let branch = &self.clients[id];
            if let Some(lease) = branch.lease
                && self.upstreams[lease.upstream].is_paused
            {
                let upstream = &mut self.upstreams[lease.upstream];
                upstream.is_paused = false;
                reach.conns.resume(upstream.conn);
            }
            if !branch.input.unparsed().is_empty() {
                self.clients_to_pump.push_back(id);
            }
        }
    }

    /// Says whatever has to be said to a node right before a branch's next request.
    pub(crate) fn announce_part(&mut self, reach: &mut Reach<'_>, id: ClientId, to: UpstreamId) {
        let part = self.clients[id].part_at_hand();
        if part.is_some_and(|part| part.is_asking) && !reach.planted.is(Bug::ForgetAsking) {
            self.ask(reach, to, Own::Asking, &[b"ASKING"]);
        }
    }

    /// A piece of the reply to a branch's request.
    pub(crate) fn deliver_part(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        number: u32,
        piece: &[u8],
    ) {
        let client = &mut self.clients[id];
        let lease = client.lease;
        assert!(number == client.answered, "a branch is answered in order");
        let upstream = client.route.and_then(|it| self.upstreams.get(it.upstream));
        let head = upstream.and_then(|it| it.pipe.front());
        // The last reply to a transaction, if that is no error, says that it has been run.
        let is_run = head.is_some_and(|it| it.replies == 1) && piece.first() != Some(&b'-');
        let branch = client.branch.as_mut().expect("it is a branch");
        let front = branch.front;
        let part = branch.parts.front_mut().expect("it was asked for");
        match part.kind {
            PartKind::Whole if part.is_mute => {}
            PartKind::Whole => {
                client.is_amid = true;
                let number = part.number;
                self.deliver_for(reach, front, number, piece, lease);
            }
            PartKind::Unit { .. } if is_run && refusal_in(&part.kept).is_none() => {
                // Nothing can be sent away any more, and what comes may be long.
                part.kind = PartKind::Whole;
                let (mut kept, number) = (core::mem::take(&mut part.kept), part.number);
                kept.extend_from_slice(piece);
                let is_mute = part.is_mute;
                client.is_amid = true;
                if !is_mute {
                    self.deliver_for(reach, front, number, &kept, lease);
                }
            }
            PartKind::Unit { .. } | PartKind::Gathered(_) | PartKind::Own => {
                part.kept.extend_from_slice(piece);
                if part.kept.len() > reach.limits.node_message_bytes_max {
                    self.overflow(reach, id);
                }
            }
        }
    }

    /// The last bytes of what is kept for a branch are half a reply, whose end will not come.
    pub(crate) fn take_back(&mut self, id: ClientId, bytes: usize) {
        let branch = self.clients.get_mut(id).and_then(|it| it.branch.as_mut());
        if let Some(part) = branch.and_then(|branch| branch.parts.front_mut()) {
            let whole = part.kept.len().saturating_sub(bytes);
            part.kept.truncate(whole);
        }
    }

    /// A branch's request was lost on its way, or did nothing.
    pub(crate) fn lose_part(&mut self, reach: &mut Reach<'_>, id: ClientId, number: u32, len: u32) {
        let branch = self.clients[id].branch.as_mut().expect("it is a branch");
        let part = branch.parts.front_mut().expect("it was asked for");
        if part.node.is_none() || part.slot.is_some() {
            part.verdict = Some(Verdict::Lost);
        } else {
            // What began on a connection has ended with it.
            let front = branch.front;
            self.doomed.push(front);
        }
        self.complete(reach, id, number, len);
    }

    /// A branch's request has had its whole reply, or will have none.
    pub(crate) fn complete_part(&mut self, reach: &mut Reach<'_>, id: ClientId, len: u32) {
        let client = &mut self.clients[id];
        client.answered = client.answered.wrapping_add(1);
        client.input.drop_answered(len as usize);
        client.is_amid = false;
        let branch = client.branch.as_mut().expect("it is a branch");
        let front = branch.front;
        let mut part = branch.parts.pop_front().expect("it was asked for");
        if self.clients.get(front).is_none() || self.doomed.contains(&front) {
            // Without its reply, none of those that wait behind it may reach the client.
            return;
        }
        if matches!(part.kind, PartKind::Unit { .. }) && part.verdict.is_none() {
            part.verdict = self.verdict_on_unit(reach, id, &part);
        }
        match part.verdict.take() {
            Some(verdict) => self.follow(reach, front, part, verdict),
            None => {
                self.give_up_overtaken(reach, front, part.slot, part.number);
                self.finish_part(reach, front, part);
            }
        }
    }

    /// A part will not be done.
    pub(crate) fn fail_part(&mut self, reach: &mut Reach<'_>, front: ClientId, mut part: Part) {
        if let PartKind::Unit { replies, .. } = part.kind {
            part.kept = part.kept.repeat(replies as usize);
        } else if part.kind == PartKind::Whole {
            let error = core::mem::take(&mut part.kept);
            if !part.is_mute {
                self.deliver(reach, front, part.number, &error);
            }
        }
        self.finish_part(reach, front, part);
    }

    /// A part is answered.
    pub(crate) fn finish_part(&mut self, reach: &mut Reach<'_>, front: ClientId, part: Part) {
        let Some(client) = self.clients.get_mut(front) else {
            return;
        };
        let spread = client.spread();
        spread.strays -= u32::from(part.is_stray);
        if part.is_wide
            && let Some(place) = spread.wide.iter().position(|it| Some(*it) == part.slot)
        {
            spread.wide.swap_remove(place);
        }
        match part.kind {
            PartKind::Whole => {
                spread.out -= 1;
                self.complete(reach, front, part.number, part.len);
            }
            PartKind::Unit { .. } => {
                spread.out -= 1;
                if !part.is_mute {
                    self.deliver(reach, front, part.number, &part.kept);
                }
                self.complete(reach, front, part.number, part.len);
            }
            PartKind::Gathered(place) => self.gather(reach, front, place, part),
            PartKind::Own => self.settle_own(front, &part),
        }
        self.wake(front);
    }
}

/// Whether one request of a session comes before another.
pub(crate) fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

impl Redis {
    /// A reply that has to be seen whole is too long for that.
    fn overflow(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let service = self.clients[id].service;
        let name = &reach.service(service).name;
        let text = format!(
            "service \"{name}\": a client is closed, because a reply that is put together of what \
             several nodes said has more than {} bytes (node_message_bytes_max) of one of them",
            reach.limits.node_message_bytes_max
        );
        reach.log(crate::event::Level::Warn, text);
        let front = self.front_of(id);
        self.clients[front].is_leaving = true;
        self.doomed.push(front);
    }
}

#[cfg(test)]
mod tests;

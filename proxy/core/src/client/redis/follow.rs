//! What a node of a cluster did not run: where it goes instead, or what its client is told.
//!
//! A node may say that another has a slot, or will have it, or that it cannot serve it now; and a
//! request may be lost before it ran. Knows the words of nodes, no command by name. Invariant: what
//! has run is never followed anywhere.

use manifold_protocols::redis::cluster::Refusal;

use crate::client::redis::errors;
use crate::client::redis::spread::{Part, PartKind, Verdict};
use crate::ids::{ClientId, ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;

/// Nodes that may send a part on to each other before it has to wait in between.
const HOPS_MAX: u8 = 5;

/// How often a part is sent again that its node refuses because some of its keys are on their way.
const TRIES_MAX: u8 = 16;

impl Redis {
    /// The node's reply to a branch's request is an error: whether that is the client's business.
    /// If not, the verdict is noted and the reply goes nowhere.
    pub(crate) fn is_sent_away(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        reply: &mut Vec<u8>,
        from: UpstreamId,
    ) -> bool {
        let client = &self.clients[id];
        let Some(part) = client.branch.as_ref().and_then(|it| it.parts.front()) else {
            return false;
        };
        if matches!(part.kind, PartKind::Unit { .. } | PartKind::Own) {
            return false;
        }
        let lease = client.lease;
        let (is_bound, slot) = (part.node.is_some(), part.slot);
        let is_scripted = part.is_scripted;
        let Some(verdict) = self.verdict_on(reach, id, reply, from, is_scripted) else {
            return false;
        };
        if lease.is_some_and(|lease| lease.is_queueing || lease.is_multi) {
            // What has been queued before is there, and not where this belongs.
            reply.clear();
            reply.extend_from_slice(errors::MOVED_AMID);
            return false;
        }
        if is_bound && slot.is_none() && !matches!(verdict, Verdict::Later(_)) {
            return false;
        }
        let branch = self.clients[id].branch.as_mut().expect("it is a branch");
        let part = branch.parts.front_mut().expect("it is still there");
        part.verdict = Some(verdict);
        true
    }

    /// What follows from an error, and for the map.
    fn verdict_on(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        reply: &[u8],
        from: UpstreamId,
        is_scripted: bool,
    ) -> Option<Verdict> {
        let cluster = self.cluster_of(self.clients[id].service)?;
        let later = || Verdict::Later(reply.into());
        Some(match Refusal::read(reply)? {
            // A script may say anything. It leads nobody but itself, and only to who is known.
            Refusal::Moved { place, .. } if is_scripted => {
                self.doubt_map(cluster);
                let node = self.known_node_at(cluster, place);
                node.map_or_else(later, Verdict::Moved)
            }
            Refusal::Ask { place, .. } if is_scripted => {
                let node = self.known_node_at(cluster, place);
                node.map_or_else(later, Verdict::Ask)
            }
            Refusal::Moved { slot, place } => {
                let node = self.node_at(reach, cluster, place, from);
                self.doubt_map(cluster);
                match node {
                    Some(node) => {
                        self.learn_owner(cluster, slot, node);
                        Verdict::Moved(node)
                    }
                    None => later(),
                }
            }
            Refusal::Ask { slot, place } => {
                self.learn_moving(cluster, slot, reach.now);
                let node = self.node_at(reach, cluster, place, from);
                node.map_or_else(later, Verdict::Ask)
            }
            Refusal::TryAgain => later(),
            Refusal::Down | Refusal::ReadOnly | Refusal::NotReady => {
                self.doubt_map(cluster);
                later()
            }
        })
    }

    /// A transaction that a node has refused as a whole, because of where its keys are, is sent
    /// where they are.
    pub(super) fn verdict_on_unit(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        part: &Part,
    ) -> Option<Verdict> {
        let reason = refusal_in(&part.kept)?;
        // Where it was said: an empty host is the one of the branch's own node.
        let from = self.clients[id].route.map(|route| route.upstream);
        self.verdict_on(reach, id, reason, from?, part.is_scripted)
    }

    /// A part was sent away, or lost before it ran.
    pub(super) fn follow(
        &mut self,
        reach: &mut Reach<'_>,
        front: ClientId,
        mut part: Part,
        verdict: Verdict,
    ) {
        if part.is_passing {
            return self.fail_passed(reach, front, part, verdict);
        }
        reach.stats.requests_retried += 1;
        part.kept.clear();
        part.tries = part.tries.saturating_add(1);
        if !core::mem::replace(&mut part.is_stray, true) {
            self.clients[front].spread().strays += 1;
        }
        let is_late = reach.now - part.began >= reach.limits.queue_wait_max;
        match verdict {
            Verdict::Later(error) if is_late || is_tired(&part, &error) => {
                part.kept = error.into();
                self.fail_part(reach, front, part);
            }
            _ if is_late => {
                let cluster = self.clients[front].service;
                let name = &reach.service(cluster).name;
                part.kept = errors::waited_too_long(name, reach.limits.queue_wait_max, None);
                self.fail_part(reach, front, part);
            }
            Verdict::Ask(node) if part.tries <= HOPS_MAX => {
                part.is_asking = true;
                self.dispatch_again(reach, front, part, node);
            }
            Verdict::Moved(node) if part.tries <= HOPS_MAX => {
                part.is_asking = false;
                self.dispatch_again(reach, front, part, node);
            }
            Verdict::Lost if part.tries <= HOPS_MAX => self.send_by_map(reach, front, part),
            // Where it is to be asked for is not what the map says.
            Verdict::Ask(node) => {
                part.asked_of = Some(node);
                self.delay(reach, front, part);
            }
            Verdict::Moved(_) => {
                part.refusal = Some(errors::MOVED_AMID.into());
                self.delay(reach, front, part);
            }
            Verdict::Later(error) if Refusal::read(&error) != Some(Refusal::TryAgain) => {
                part.refusal = Some(error);
                self.delay(reach, front, part);
            }
            Verdict::Later(_) | Verdict::Lost => self.delay(reach, front, part),
        }
    }

    /// Sends a part that comes back, behind what waits to be sent before it.
    pub(crate) fn dispatch_again(
        &mut self,
        reach: &mut Reach<'_>,
        front: ClientId,
        part: Part,
        node: ServiceId,
    ) {
        let Some(part) = self.wait_behind(front, part) else {
            return;
        };
        self.rebind(front, &part, node);
        self.dispatch(reach, front, part, node);
    }

    /// What makes a session stay at a node goes to another.
    pub(crate) fn rebind(&mut self, front: ClientId, part: &Part, node: ServiceId) {
        let spread = self.clients[front].spread();
        if part.node.is_some() && spread.bound.is_some() {
            spread.bound = Some(node);
            if let Some(held) = &mut spread.held {
                held.move_to(node);
            }
        }
    }

    /// Sends a part to the node that has its slot now.
    pub(crate) fn send_by_map(&mut self, reach: &mut Reach<'_>, front: ClientId, mut part: Part) {
        part.is_asking = false;
        let map = self.map(self.clients[front].service);
        let owner = match part.slot {
            Some(slot) => map.owner(slot),
            None => part.node.or(map.home()),
        };
        match owner {
            Some(node) => self.dispatch_again(reach, front, part, node),
            None => self.delay(reach, front, part),
        }
    }
}

/// The first reply that says that something was not queued because of where its keys are: nothing
/// of the transaction has run then, whether it ended with EXEC or with DISCARD.
pub(super) fn refusal_in(mut replies: &[u8]) -> Option<&[u8]> {
    use manifold_protocols::redis::resp::reply::Finder;
    while !replies.is_empty() {
        let found = Finder::default().find(replies).ok()?;
        let (reply, rest) = replies.split_at(found.len);
        if Refusal::read(reply).is_some() {
            return Some(reply);
        }
        replies = rest;
    }
    None
}

/// Whether a node has refused something for so often that the client is told.
fn is_tired(part: &Part, error: &[u8]) -> bool {
    Refusal::read(error) == Some(Refusal::TryAgain) && part.tries >= TRIES_MAX
}

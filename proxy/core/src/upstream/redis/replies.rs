//! What comes back from a node: whose it is, and what follows from it.
//!
//! A reply is passed on as it comes; only errors, pushes and answers to the proxy itself are kept
//! until they are whole. Invariants: bytes that nobody asked for end the upstream before they reach
//! anybody; a transaction that may not have ended ends it, too, before the next reply.

use manifold_protocols::redis::resp::reply::Progress;

use crate::client::redis::tracking;
use crate::event::Level;
use crate::ids::{ClientId, UpstreamId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::count::recount;
use crate::upstream::redis::pool::Post;
use crate::upstream::redis::{Effect, Expectation, Own, State, Taking, Whose};

/// What a reply turned out to be, as far as others have to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Anything but an error.
    Done,
    /// An error after which a transaction goes on, if there was one.
    Failed,
    /// An error that ends a transaction, and watching.
    Aborted,
    /// The error that says that there is no transaction; keys are still watched.
    Missing,
}

impl Redis {
    /// Bytes of a node.
    pub(crate) fn handle_replies(&mut self, reach: &mut Reach<'_>, id: UpstreamId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(upstream) = self.upstreams.get_mut(id) else {
                return;
            };
            if upstream.is_raw || upstream.finder.is_between() && is_stream(upstream.pipe.front()) {
                return self.pass_raw(reach, id, rest);
            }
            if upstream.finder.is_between() && reach.planted.is(Bug::SwapReplies) {
                upstream.swap_replies();
            }
            if upstream.finder.is_between() {
                match taking(rest[0], upstream.pipe.front()) {
                    Some(taking) => upstream.taking = taking,
                    None => return self.mismatch(reach, id, "a reply that nobody asked for"),
                }
            }
            let Ok(progress) = upstream.finder.find(rest) else {
                return self.mismatch(reach, id, "what is no reply");
            };
            let (piece, after) = rest.split_at(progress.len);
            rest = after;
            match upstream.taking {
                Taking::Pass => self.pass(reach, id, piece, progress),
                Taking::Keep | Taking::Push => self.keep(reach, id, piece, progress),
                Taking::Drown => {}
            }
        }
    }

    /// A piece of a reply goes to whoever asked.
    fn pass(&mut self, reach: &mut Reach<'_>, id: UpstreamId, piece: &[u8], progress: Progress) {
        self.weigh(reach, id, piece, progress.is_end);
        let head = self.upstreams[id].pipe.front().copied();
        let head = head.expect("a reply is passed on for its expectation");
        if let Whose::Client {
            id,
            number,
            is_mute: false,
            ..
        } = head.whose
        {
            match head.effect == Effect::Exec && self.has_tales(id) {
                true => {
                    let piece = self.retell(reach, id, piece);
                    self.deliver(reach, id, number, &piece);
                }
                false => self.deliver(reach, id, number, piece),
            }
        }
        if progress.is_end {
            self.end_reply(reach, id, Outcome::Done);
        }
    }

    /// Bytes of a stream go to whoever holds it.
    fn pass_raw(&mut self, reach: &mut Reach<'_>, id: UpstreamId, bytes: &[u8]) {
        let upstream = &mut self.upstreams[id];
        upstream.is_raw = true;
        let holder = upstream.holder;
        if let Some(head) = upstream.pipe.pop_front() {
            self.finish_request(reach, id, &head, Outcome::Done);
        }
        if let Some((holder, client)) = holder.and_then(|id| Some((id, self.clients.get(id)?))) {
            let number = client.answered;
            self.deliver(reach, holder, number, bytes);
            if let Some(client) = self.clients.get_mut(holder) {
                client.is_amid = false;
            }
        }
    }

    /// A piece of a reply is kept; when it is whole, it is looked at.
    fn keep(&mut self, reach: &mut Reach<'_>, id: UpstreamId, piece: &[u8], progress: Progress) {
        let upstream = &mut self.upstreams[id];
        upstream.carry.extend_from_slice(piece);
        let is_message = upstream.post == Post::Hub && upstream.taking == Taking::Push;
        let limit = match is_message {
            true => reach.limits.subscriber_bytes_max,
            false => reach.limits.node_message_bytes_max,
        };
        if upstream.carry.len() > limit {
            if is_message {
                return self.drown_push(reach, id, progress.is_end);
            }
            return self.mismatch(reach, id, "a reply that is too long for what it is");
        }
        if !progress.is_end {
            return;
        }
        let mut reply = core::mem::take(&mut upstream.carry);
        if upstream.taking == Taking::Push {
            self.handle_push(reach, id, &reply);
        } else {
            self.handle_kept(reach, id, &mut reply);
        }
        if let Some(upstream) = self.upstreams.get_mut(id) {
            reply.clear();
            upstream.carry = reply;
            if upstream.carry.capacity() > 4096 {
                upstream.carry = Vec::new();
            }
        }
    }

    fn handle_kept(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &mut Vec<u8>) {
        let head = self.upstreams[id].pipe.front().copied();
        let head = head.expect("a reply is kept for its expectation");
        match head.whose {
            Whose::Own(own) => {
                self.upstreams[id].pipe.pop_front();
                self.handle_own_reply(reach, id, own, reply);
                // It may have been the last of those that it had.
                self.end_if_drained(reach, id);
            }
            Whose::Client {
                id: client,
                number,
                at,
                len,
                is_mute,
            } => {
                let is_error = matches!(reply.first(), Some(b'-'));
                if is_error
                    && self
                        .clients
                        .get(client)
                        .is_some_and(|it| it.branch.is_some())
                    && self.is_sent_away(reach, client, reply, id)
                {
                    return self.end_reply(reach, id, Outcome::Failed);
                }
                if let Some(client) = self.clients.get(client) {
                    match head.effect {
                        Effect::Hello => super::lease::rename(reply, client.number),
                        Effect::Redirect => tracking::rename(client, reply),
                        Effect::Count => recount(reach, client, at, len, reply),
                        _ => {}
                    }
                }
                if head.effect == Effect::Count
                    && len == 0
                    && let Some(session) = self.clients.get_mut(client)
                    && let Some(session) = &mut session.session
                {
                    session.publishing = None;
                }
                if self.is_worth_another_try(reach, id, &head, reply) {
                    self.ask_later(reach, id, reply);
                    return self.note_refusal(reach, id, reply);
                }
                if !is_mute {
                    self.deliver(reach, client, number, reply);
                }
                self.end_reply(reach, id, outcome(reply));
                self.note_refusal(reach, id, reply);
            }
            Whose::Nobody => self.end_reply(reach, id, outcome(reply)),
        }
    }

    /// A reply is complete.
    fn end_reply(&mut self, reach: &mut Reach<'_>, id: UpstreamId, outcome: Outcome) {
        let upstream = &mut self.upstreams[id];
        let head = upstream.pipe.front_mut();
        let head = head.expect("a reply has an expectation until its end");
        head.replies -= 1;
        if head.replies > 0 {
            return;
        }
        let head = *head;
        upstream.pipe.pop_front();
        upstream.since = reach.now;
        let (post, pool) = (upstream.post, upstream.pool);
        if head.effect == Effect::Unit && outcome == Outcome::Failed {
            // What follows might still be queued by the node.
            self.finish_request(reach, id, &head, outcome);
            return self.mismatch(reach, id, "a transaction that does not end");
        }
        self.finish_request(reach, id, &head, outcome);
        if let Post::Lane(lane) = post {
            let pipes = &self.pools[pool].lanes[lane as usize];
            if !pipes.waiting.is_empty() || !pipes.resends.is_empty() {
                self.list_pool(pool);
            }
            self.end_if_drained(reach, id);
        }
    }

    /// A request has had all its replies.
    fn finish_request(
        &mut self,
        reach: &mut Reach<'_>,
        id: UpstreamId,
        head: &Expectation,
        outcome: Outcome,
    ) {
        let Whose::Client {
            id: client,
            number,
            len,
            ..
        } = head.whose
        else {
            return;
        };
        if self.clients.get(client).is_none() {
            return;
        }
        self.complete(reach, client, number, len);
        if self.is_answered_early(client, number) {
            // What is still to come of it would be taken for something else.
            return self.end_client(reach, client);
        }
        let Some(one) = self.clients.get_mut(client) else {
            return;
        };
        if let Some(route) = &mut one.route {
            route.count -= 1;
            if route.count == 0 {
                one.route = None;
            }
        }
        match head.effect {
            Effect::Hello | Effect::Auth | Effect::Select(_) => {
                self.settle_move(reach, client, outcome);
            }
            _ => {}
        }
        if self
            .clients
            .get(client)
            .is_some_and(|one| one.lease.is_some())
        {
            self.note_queued(client, head.effect, outcome);
            self.settle_lease(reach, client, id, head.effect, outcome);
        }
        self.wake(client);
    }

    /// A client's request has been answered: it may have more.
    pub(crate) fn wake(&mut self, id: ClientId) {
        use crate::client::redis::Waiting;
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if client.waiting == Waiting::Itself {
            client.waiting = Waiting::No;
        }
        let has_more = !client.input.unparsed().is_empty() || client.is_paused || client.is_leaving;
        if client.waiting == Waiting::No && has_more {
            self.clients_to_pump.push_back(id);
        }
    }

    /// What the node said of its own accord.
    fn handle_push(&mut self, reach: &mut Reach<'_>, id: UpstreamId, push: &[u8]) {
        if self.upstreams[id].post == Post::Hub {
            return self.handle_hub_push(reach, id, push);
        }
        // Invalidations of tracked keys, for the one who asked for them.
        if let Some(holder) = self.upstreams[id].holder
            && let Some(client) = self.clients.get(holder)
            && client.branch.is_none()
        {
            let number = client.answered;
            self.deliver(reach, holder, number, push);
            if let Some(client) = self.clients.get_mut(holder) {
                client.is_amid = false;
            }
            self.flush_late(reach, holder);
        } else {
            reach.stats.replies_discarded += 1;
        }
    }

    /// The node broke the protocol: nothing on this upstream can be believed any more.
    pub(crate) fn mismatch(&mut self, reach: &mut Reach<'_>, id: UpstreamId, what: &str) {
        let Some(upstream) = self.upstreams.get(id) else {
            return;
        };
        reach.stats.mismatches += 1;
        let name = &reach.service(upstream.service).name;
        let text = format!("service \"{name}\": a node sent {what}; its connection is closed");
        if upstream.state == State::Ready {
            reach.log(Level::Error, text);
        }
        self.handle_upstream_down(reach, id, "it broke the protocol");
    }
}

fn is_stream(head: Option<&Expectation>) -> bool {
    head.is_some_and(|head| head.effect == Effect::Stream)
}

/// What is done with a reply that begins with this byte. None if it answers nothing.
fn taking(first: u8, head: Option<&Expectation>) -> Option<Taking> {
    let is_confirmed =
        |head: &Expectation| matches!(head.whose, Whose::Own(Own::PermissionToEnd(_)));
    // A transaction's stream of replies may hold pushes, too, but none is counted as one of them.
    if first == b'>' && !head.is_some_and(is_confirmed) {
        return Some(Taking::Push);
    }
    let head = head?;
    Some(match head.whose {
        Whose::Own(_) => Taking::Keep,
        _ if matches!(
            head.effect,
            Effect::Hello | Effect::Count | Effect::Redirect
        ) =>
        {
            Taking::Keep
        }
        _ if matches!(first, b'-' | b'!') => Taking::Keep,
        _ => Taking::Pass,
    })
}

/// Errors after which there is certainly no transaction: who has not logged in cannot begin one.
const ENDS: [&[u8]; 7] = [
    b"-NOAUTH",
    b"-EXECABORT",
    // What a node of a cluster says that finds out where the keys are, or are not.
    b"-MOVED",
    b"-ASK",
    b"-TRYAGAIN",
    b"-CLUSTERDOWN",
    b"-CROSSSLOT",
];

/// Errors that say that there was none.
const MISSING: [&[u8]; 2] = [b"-ERR EXEC without MULTI", b"-ERR DISCARD without MULTI"];

fn outcome(reply: &[u8]) -> Outcome {
    match reply.first() {
        Some(b'-') if ENDS.iter().any(|end| reply.starts_with(end)) => Outcome::Aborted,
        Some(b'-') if MISSING.iter().any(|text| reply.starts_with(text)) => Outcome::Missing,
        Some(b'-' | b'!') => Outcome::Failed,
        _ => Outcome::Done,
    }
}

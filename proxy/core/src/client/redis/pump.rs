//! One request after the other, as far as they can go.
//!
//! A request that has to wait stays in the client's input, unlooked at, until what it waits for is
//! there. Invariant: what has been sent stays in the input until it is answered, so that it can be
//! sent again.

use manifold_protocols::redis::command::SessionCommand;
use manifold_protocols::redis::resp::request::{Arguments, Bounds, Found, Malformed, rewrite};

use crate::client::redis::judge::{Need, find_unit, judge};
use crate::client::redis::pausing::need_in_pause;
use crate::client::redis::spread::PartKind;
use crate::client::redis::transact::len_of;
use crate::client::redis::{Client, Mute, Waiting, errors};
use crate::ids::{ClientId, UpstreamId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::{Lane, Post};
use crate::upstream::redis::{Effect, Expectation, Whose};

/// Unanswered requests of one client above which no more are looked at.
const UNANSWERED_MAX: u32 = 4096;

/// What becomes of a request.
pub(crate) enum Turn {
    /// It is on its way, or answered: the next one may follow.
    Next,
    /// It has to wait.
    Wait,
}

impl Redis {
    /// Looks at a client's requests as long as they can go on.
    pub(crate) fn pump(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let mut is_full = false;
        while self.clients.get(id).is_some() {
            let bounds = Bounds {
                bulk_bytes_max: self.bulk_bytes_max,
                is_stranger: self.is_stranger(id),
            };
            let client = &mut self.clients[id];
            is_full = client.unanswered() >= UNANSWERED_MAX
                || reach.conns.unsent(client.conn) > reach.limits.output_high;
            if client.waiting != Waiting::No || is_full {
                break;
            }
            let turn = match client.passing {
                Some(_) => self.pass_on(reach, id),
                None => self.look(reach, id, bounds),
            };
            if matches!(turn, Turn::Wait) {
                break;
            }
        }
        self.rest(reach, id, is_full);
    }

    /// Looks at what a client's input begins with.
    fn look(&mut self, reach: &mut Reach<'_>, id: ClientId, bounds: Bounds) -> Turn {
        let client = &mut self.clients[id];
        match client.finder.find_within(client.input.unparsed(), bounds) {
            Ok(Found::Whole { len, count }) => self.take(reach, id, len, count),
            Ok(Found::Nothing { len }) => {
                client.input.consume(len);
                Turn::Next
            }
            Ok(Found::Odd { len }) => self.straighten(reach, id, len),
            Ok(Found::Part { needed }) if needed > reach.limits.request_bytes_max => {
                self.take_beginning(reach, id, needed)
            }
            Ok(Found::Part { .. }) => Turn::Wait,
            Err(malformed) => self.refuse(reach, id, malformed),
        }
    }

    /// Writes an odd request as it should have been.
    fn straighten(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize) -> Turn {
        let client = &mut self.clients[id];
        let mut straight = Vec::new();
        match rewrite(&client.input.unparsed()[..len], &mut straight) {
            Ok(()) => {
                client.input.rewrite(len, &straight);
                Turn::Next
            }
            Err(malformed) => self.refuse(reach, id, malformed),
        }
    }

    /// What no node would understand ends the connection, after everything before it is answered.
    pub(crate) fn refuse(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        malformed: Malformed,
    ) -> Turn {
        let client = &mut self.clients[id];
        let rest = client.input.unparsed().len();
        client.is_leaving = true;
        let text = errors::malformed(malformed);
        self.answer(reach, id, rest, &text);
        Turn::Wait
    }

    /// Looks at one request.
    fn take(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize, count: usize) -> Turn {
        let client = &self.clients[id];
        if client.is_subscribed()
            && let Some(turn) = self.take_subscribed(reach, id, len, count)
        {
            return turn;
        }
        let client = &self.clients[id];
        if client.lease.is_some() {
            return self.take_on_lease(reach, id, len, count);
        }
        if client.spread.is_some() {
            return self.take_spread(reach, id, len, count);
        }
        let service = reach.service(client.service);
        let node = &self.nodes[client.service.index()];
        let table = &node.table;
        let unparsed = client.input.unparsed();
        let mut need = judge(table, &unparsed[..len], service.is_admin);
        let is_paused = reach.now < node.paused_until;
        if is_paused {
            need = need_in_pause(table, &unparsed[..len], need);
        }
        match need {
            Need::Share(_, effect) if self.is_heavy(id, len, effect) => self.want_lease(reach, id),
            Need::Share(lane, effect) => self.share(reach, id, len, 1, lane, effect),
            Need::Session(command) if client.branch.is_some() => {
                self.take_part_of_session(reach, id, len, command)
            }
            // Of a transaction in one piece, all replies are wanted or none. What strangers send is
            // looked at one by one.
            Need::Session(SessionCommand::Multi)
                if is_paused || client.mute == Mute::Next || self.is_stranger(id) =>
            {
                self.want_lease(reach, id)
            }
            Need::Session(SessionCommand::Multi) if reach.planted.is(Bug::SplitUnit) => {
                self.share(reach, id, len, 1, Lane::Fast, Effect::Write)
            }
            Need::Session(SessionCommand::Multi) => {
                match find_unit(table, unparsed, self.bulk_bytes_max, service.is_admin) {
                    Some(it) => self.share(reach, id, it.len, it.replies, it.lane, Effect::Unit),
                    None => self.want_lease(reach, id),
                }
            }
            // A big message of one's own, too, has to come before its reply.
            Need::Alone(it)
                if it.effect == Effect::Count && self.hub_of_own_message(id, len).is_some() =>
            {
                self.share(reach, id, len, 1, Lane::Slow, it.effect)
            }
            Need::Alone(_) => self.want_lease(reach, id),
            Need::Session(command) => self.take_session(reach, id, len, command),
            Need::Permission | Need::Refusal => self.deny(reach, id, len),
            Need::HangUp => self.hang_up(reach, id),
        }
    }

    /// A request of a branch that would be a session's own business otherwise.
    fn take_part_of_session(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        command: SessionCommand,
    ) -> Turn {
        let client = &self.clients[id];
        let kind = client.part_at_hand().map(|part| part.kind);
        match (command, kind) {
            (SessionCommand::Multi, Some(PartKind::Unit { replies, lane })) => {
                let len = len_of(client.input.unparsed(), replies);
                self.share(reach, id, len, replies, lane, Effect::Unit)
            }
            (SessionCommand::Multi, _) => self.want_lease(reach, id),
            _ => self.share(reach, id, len, 1, Lane::Fast, Effect::Read),
        }
    }

    /// Whoever waits gets this as the answer to its next request.
    pub(crate) fn answer_next(&mut self, reach: &mut Reach<'_>, id: ClientId, reply: &[u8]) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let waiting = core::mem::replace(&mut client.waiting, Waiting::No);
        let found = client
            .finder
            .find(client.input.unparsed(), self.bulk_bytes_max);
        match found {
            Ok(Found::Whole { len, .. }) => match self.unit_at_hand(reach, id) {
                // Without its MULTI, the rest would run one by one.
                Some((len, replies)) => self.answer(reach, id, len, &reply.repeat(replies)),
                None => self.answer(reach, id, len, reply),
            },
            Ok(Found::Part { .. }) if waiting == Waiting::Lease => {
                self.answer_beginning(reach, id, reply)
            }
            _ => {}
        }
        self.clients_to_pump.push_back(id);
    }

    /// How long the transaction is that a client's input begins with, if all of it is there, and
    /// how many replies it has.
    fn unit_at_hand(&self, reach: &Reach<'_>, id: ClientId) -> Option<(usize, usize)> {
        let client = &self.clients[id];
        let unparsed = client.input.unparsed();
        if client.branch.is_some() {
            let PartKind::Unit { replies, .. } = client.part_at_hand()?.kind else {
                return None;
            };
            return Some((len_of(unparsed, replies), replies as usize));
        }
        let table = &self.nodes[client.service.index()].table;
        let is_admin = reach.service(client.service).is_admin;
        let name = Arguments::of(unparsed).next()?;
        let is_multi = name.eq_ignore_ascii_case(b"multi");
        let unit =
            is_multi.then(|| find_unit(table, unparsed, self.bulk_bytes_max, is_admin))??;
        Some((unit.len, unit.replies as usize))
    }

    /// Ends the connection at once, as the node does: who speaks like this gets no answers.
    pub(crate) fn hang_up(&mut self, reach: &mut Reach<'_>, id: ClientId) -> Turn {
        self.drop_client(reach, id);
        Turn::Wait
    }

    /// Says why a request goes nowhere.
    pub(crate) fn deny(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize) -> Turn {
        let client = &mut self.clients[id];
        if client.branch.is_some() && !client.is_answered() {
            // A branch is answered in order.
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        let client = &self.clients[id];
        let table = &self.nodes[client.service.index()].table;
        let mut words = Arguments::of(&client.input.unparsed()[..len]);
        let command = words.next().and_then(|name| table.find(name, words.next()));
        let name = command.map_or("this command", |command| &command.name);
        let service = &reach.service(client.service).name;
        let text = if command.is_some_and(|command| command.is_gated) {
            errors::denied(service, name)
        } else {
            errors::refused(service, name)
        };
        self.answer(reach, id, len, &text);
        Turn::Next
    }

    /// Sends a request on a lane of the client's pool.
    fn share(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        replies: u32,
        lane: Lane,
        effect: Effect,
    ) -> Turn {
        let hub = match effect {
            Effect::Count => self.hub_of_own_message(id, len),
            _ => None,
        };
        let client = &self.clients[id];
        let target = match client.route {
            // Nothing overtakes the client's own earlier requests.
            Some(route) => {
                let post = self.upstreams[route.upstream].post;
                let fits = match hub {
                    Some(hub) => hub == route.upstream,
                    None => post == Post::Lane(lane) || post == Post::Lane(Lane::Slow),
                };
                (fits && self.has_room(reach, route.upstream)).then_some(route.upstream)
            }
            None if client.resends > 0 => None,
            // Room or none: elsewhere, the reply would overtake the message.
            None if hub.is_some() => hub,
            None => {
                let pool = client.pool;
                let pipes = &self.pools[pool].lanes[lane as usize];
                let target = match pipes.waiting.is_empty() || client.was_called {
                    true => self.pick(reach, pool, lane),
                    false => None,
                };
                if target.is_none() {
                    let client = &mut self.clients[id];
                    client.wait_for(Waiting::Lane(lane), reach.now);
                    reach.stats.requests_queued += 1;
                    self.pools[pool].lanes[lane as usize].waiting.push_back(id);
                    self.list_pool(pool);
                    return Turn::Wait;
                }
                if self.is_narrow(reach, pool, lane) {
                    self.list_pool(pool);
                }
                target
            }
        };
        let client = &mut self.clients[id];
        let Some(target) = target else {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        };
        client.was_called = false;
        reach.stats.requests_shared += 1;
        reach.connections[client.service.index()]
            .tally
            .requests_shared += 1;
        self.send(reach, id, target, len, replies, effect);
        Turn::Next
    }

    /// Writes the next `len` bytes of a client to an upstream.
    pub(crate) fn send(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        target: UpstreamId,
        len: usize,
        replies: u32,
        effect: Effect,
    ) {
        if self.clients[id].branch.is_some() {
            self.announce_part(reach, id, target);
        }
        self.expect_replies(reach, id, target, len, replies, effect);
        let request = self.clients[id].input.advance(len);
        let conn = self.upstreams[target].conn;
        reach.conns.write(conn).extend_from_slice(request);
    }

    /// Writes something else to an upstream than the client's next `len` bytes.
    pub(crate) fn send_instead(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        target: UpstreamId,
        len: usize,
        request: &[u8],
        effect: Effect,
    ) {
        self.expect_replies(reach, id, target, len, 1, effect);
        self.clients[id].input.advance(len);
        let conn = self.upstreams[target].conn;
        reach.conns.write(conn).extend_from_slice(request);
    }

    /// What an upstream is about to be told is the client's next `len` bytes, or stands for them.
    pub(crate) fn expect_replies(
        &mut self,
        reach: &Reach<'_>,
        id: ClientId,
        target: UpstreamId,
        len: usize,
        replies: u32,
        effect: Effect,
    ) {
        let client = &mut self.clients[id];
        let upstream = &mut self.upstreams[target];
        let whose = Whose::Client {
            id,
            number: client.taken,
            at: client.input.position(),
            len: len as u32,
            is_mute: client.take_mute(),
        };
        upstream.pipe.push_back(Expectation {
            whose,
            replies,
            position: reach.conns.written_total(upstream.conn),
            effect,
        });
        client.taken = client.taken.wrapping_add(1);
        client.follow(target);
    }

    /// The client's next request needs an upstream alone.
    pub(crate) fn want_lease(&mut self, reach: &mut Reach<'_>, id: ClientId) -> Turn {
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        let pool = client.pool;
        if self.pools[pool].lease_queue.is_empty()
            && let Some(free) = self.free_lease(pool)
        {
            // At once, so that what others send after it in this pass comes after it at the node.
            self.grant(reach, id, free);
            self.list_pool(pool);
            return Turn::Next;
        }
        self.clients[id].wait_for(Waiting::Lease, reach.now);
        self.pools[pool].lease_queue.push_back(id);
        self.list_pool(pool);
        Turn::Wait
    }

    /// A client's requests cannot go on now: stops reading, lets go of buffers, says good-bye. One
    /// whose replies wait to be taken (`is_full`) may have sent more than was looked at.
    fn rest(&mut self, reach: &mut Reach<'_>, id: ClientId, is_full: bool) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.input.release(&mut reach.conns.pool);
        if client.branch.is_some() {
            // What it waits for is not its client's to wait for.
            return;
        }
        let is_high = client.input.unparsed().len() > reach.limits.input_high
            && client.waiting != Waiting::No;
        let is_high = is_high
            || client.unanswered() >= UNANSWERED_MAX
            || reach.conns.unsent(client.conn) > reach.limits.output_high;
        if is_high != client.is_paused {
            client.is_paused = is_high;
            if is_high {
                reach.conns.pause(client.conn);
            } else {
                reach.conns.resume(client.conn);
            }
        }
        // Above its limits there may be more requests, which are looked at when it has read.
        let is_low = !is_high && !is_full;
        let is_over = client.is_answered() && client.waiting == Waiting::No && is_low;
        if client.is_leaving && is_over {
            self.end_client(reach, id);
        }
    }
}

impl Client {
    /// The next request waits.
    pub(crate) fn wait_for(&mut self, waiting: Waiting, now: crate::time::Instant) {
        self.waiting = waiting;
        self.since = self.part_at_hand().map_or(now, |part| part.began);
    }
}

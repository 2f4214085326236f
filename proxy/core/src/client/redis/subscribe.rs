//! What a session listens to: SUBSCRIBE and its kin, and their confirmations.
//!
//! Each session has its own subscriptions and counts, as if it had its own connection; the hub of
//! its login has one for all. Knows no reply of a node. Invariant: a session's subscriptions are in
//! the hubs that they name.

use std::collections::BTreeMap;

use manifold_protocols::redis::command::{Handling, SessionCommand};
use manifold_protocols::redis::glob;
use manifold_protocols::redis::resp::inline::write_bulk;
use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::request::{Arguments, Finder, Found};

use crate::audience::Kind;
use crate::client::redis::listen::first_byte;
use crate::client::redis::pump::Turn;
use crate::client::redis::{Client, Waiting, errors};
use crate::ids::{ClientId, PoolId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::Version;

/// What a session listens to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// By [`Kind`], by name.
    names: [BTreeMap<Box<[u8]>, Subscription>; 3],
    /// Subscriptions ever begun, for their order.
    begun: u64,
    /// Messages that came while a reply was being written.
    pub(super) late: Vec<u8>,
    /// What is answered when the node has ended what was the session's alone.
    leaving: Option<Leaving>,
}

/// One subscription.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    /// The pool whose hub has it: that of the session's login when it subscribed.
    pool: PoolId,
    order: u64,
}

/// Subscriptions on their way out.
#[derive(Debug)]
struct Leaving {
    /// How long the request is; nothing if it is looked at again.
    len: usize,
    reply: Vec<u8>,
    /// What the node has not answered.
    asks: u32,
}

/// What a request does to subscriptions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    kind: Kind,
    is_end: bool,
}

impl Change {
    /// What a command does, if it does that.
    pub(crate) fn of(command: SessionCommand) -> Option<Self> {
        let (kind, is_end) = match command {
            SessionCommand::Subscribe => (Kind::Channel, false),
            SessionCommand::Unsubscribe => (Kind::Channel, true),
            SessionCommand::PSubscribe => (Kind::Pattern, false),
            SessionCommand::PUnsubscribe => (Kind::Pattern, true),
            SessionCommand::SSubscribe => (Kind::Shard, false),
            SessionCommand::SUnsubscribe => (Kind::Shard, true),
            _ => return None,
        };
        Some(Self { kind, is_end })
    }
}

impl Subscriptions {
    /// How many there are of a kind.
    pub fn number(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// What a confirmation of this kind says.
    fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => {
                self.number(Kind::Channel) + self.number(Kind::Pattern)
            }
            Kind::Shard => self.number(kind),
        }
    }

    /// A channel of a shard is with another hub. Says whether it is listened to.
    pub(crate) fn resettle(&mut self, name: &[u8], pool: PoolId) -> bool {
        let known = self.names[Kind::Shard as usize].get_mut(name);
        known.map(|it| it.pool = pool).is_some()
    }

    fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeMap::is_empty)
    }

    fn has(&self, kind: Kind, name: &[u8]) -> bool {
        self.names[kind as usize].contains_key(name)
    }

    /// Whether a message would come here from this hub.
    pub(super) fn is_fitting(&self, pool: PoolId, kind: Kind, channel: &[u8]) -> bool {
        let direct = self.names[kind as usize].get(channel);
        let mut patterns = self.names[Kind::Pattern as usize].iter();
        direct.is_some_and(|it| it.pool == pool)
            || kind == Kind::Channel
                && patterns.any(|(name, it)| it.pool == pool && glob::matches(name, channel))
    }

    /// All names of a kind, in the order in which they were subscribed to.
    fn in_order(&self, kind: Kind) -> Vec<Box<[u8]>> {
        let mut names: Vec<_> = self.names[kind as usize].iter().collect();
        names.sort_by_key(|(_, it)| it.order);
        names.into_iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Client {
    /// Whether it listens to anything.
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions().is_some_and(|it| !it.is_empty())
    }

    pub(super) fn subscriptions(&self) -> Option<&Subscriptions> {
        self.session.as_ref()?.subscriptions.as_deref()
    }

    pub(crate) fn subscriptions_mut(&mut self) -> &mut Subscriptions {
        let session = self.session.get_or_insert_default();
        session.subscriptions.get_or_insert_default()
    }
}

impl Redis {
    /// A request about subscriptions.
    pub(crate) fn take_subscription(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        change: Change,
        words: &[&[u8]],
    ) -> Turn {
        let client = &mut self.clients[id];
        if !change.is_end && words.len() < 2 {
            let text = errors::arity(change.kind.verb(false));
            self.answer(reach, id, len, &text);
            return Turn::Next;
        }
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        if change.is_end {
            self.unsubscribe(reach, id, len, change.kind, &words[1..])
        } else {
            self.subscribe(reach, id, len, change.kind, &words[1..])
        }
    }

    fn subscribe(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        kind: Kind,
        names: &[&[u8]],
    ) -> Turn {
        let key = self.key_of(id).clone();
        let service = reach.service(key.service);
        // At one node, those of a cluster may be of channels and of a slot's channels.
        let needed = if service.cluster.is_some() { 3 } else { 2 };
        let connections_max = service.permits.connections_max();
        if connections_max < needed {
            let text = errors::no_room_to_subscribe(&service.name, connections_max, needed);
            self.answer(reach, id, len, &text);
            return Turn::Next;
        }
        let pool = match self.hub_for(reach, id, kind, names) {
            Ok(pool) => pool,
            Err(text) => {
                self.answer(reach, id, len, text);
                return Turn::Next;
            }
        };
        let wanted = self.wanted(id, kind, names);
        if wanted.iter().all(|name| self.is_held(pool, kind, name)) {
            self.join(reach, id, len, pool, kind, names);
            return Turn::Next;
        }
        self.clients[id].wait_for(Waiting::Hub, reach.now);
        let hub = self.pools[pool].hub.as_mut();
        hub.expect("it is there now").waiting.push_back(id);
        self.list_pool(pool);
        Turn::Wait
    }

    /// Names that a session is not subscribed to, each once.
    fn wanted<'a>(&self, id: ClientId, kind: Kind, names: &[&'a [u8]]) -> Vec<&'a [u8]> {
        let known = self.clients[id].subscriptions();
        let is_new = |name: &&[u8]| known.is_none_or(|known| !known.has(kind, name));
        let mut wanted: Vec<_> = names.iter().copied().filter(is_new).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// The hub is ready: asks the node for what a waiting session wants.
    pub(crate) fn begin_subscription(&mut self, reach: &mut Reach<'_>, id: ClientId, pool: PoolId) {
        let Some(client) = self.clients.get(id) else {
            return;
        };
        let number = client.taken;
        let Some((_, change, request)) = self.request_at_hand(id) else {
            return;
        };
        let words: Vec<_> = Arguments::of(&request).skip(1).collect();
        let wanted = self.wanted(id, change.kind, &words);
        if wanted
            .iter()
            .all(|name| self.is_held(pool, change.kind, name))
        {
            self.finish_subscription(reach, id, number, pool);
        } else {
            self.ask_for(reach, pool, (id, number), change.kind, &wanted);
        }
    }

    /// What a session waits for a hub with: how long it is, what it does, and the request.
    fn request_at_hand(&mut self, id: ClientId) -> Option<(usize, Change, Vec<u8>)> {
        let client = self.clients.get(id)?;
        let unparsed = client.input.unparsed();
        let found = Finder::default().find(unparsed, self.bulk_bytes_max);
        let Ok(Found::Whole { len, .. }) = found else {
            return None;
        };
        let request = unparsed[..len].to_vec();
        let table = &self.nodes[client.service.index()].table;
        let command = table.find(Arguments::of(&request).next()?, None)?;
        let Handling::Session(command) = command.handling else {
            return None;
        };
        Some((len, Change::of(command)?, request))
    }

    /// Whether a session still waits with its request of this number.
    pub(crate) fn is_subscribing(&self, id: ClientId, number: u32) -> bool {
        let client = self.clients.get(id);
        client.is_some_and(|client| client.waiting == Waiting::Hub && client.taken == number)
    }

    /// The node holds all that a session has asked for.
    pub(crate) fn finish_subscription(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        number: u32,
        pool: PoolId,
    ) {
        if !self.is_subscribing(id, number) {
            return;
        }
        if let Some((len, change, request)) = self.request_at_hand(id) {
            let names: Vec<_> = Arguments::of(&request).skip(1).collect();
            self.join(reach, id, len, pool, change.kind, &names);
        }
        self.go_on_listening(id);
    }

    /// The node says no.
    pub(crate) fn refuse_subscription(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        number: u32,
        reply: &[u8],
    ) {
        if self.is_subscribing(id, number) {
            self.answer_next(reach, id, reply);
        }
    }

    /// A session that waited for a hub looks at its requests again.
    pub(crate) fn go_on_listening(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            client.waiting = Waiting::No;
            self.clients_to_pump.push_back(id);
        }
    }

    /// Subscribes a session to what the node holds, and confirms it name by name.
    fn join(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        pool: PoolId,
        kind: Kind,
        names: &[&[u8]],
    ) {
        let version = self.key_of(id).version;
        let mut reply = Vec::new();
        for &name in names {
            let subscriptions = self.clients[id].subscriptions_mut();
            let is_new = !subscriptions.has(kind, name);
            if is_new {
                let order = subscriptions.begun;
                subscriptions.begun += 1;
                let subscription = Subscription { pool, order };
                subscriptions.names[kind as usize].insert(name.into(), subscription);
            }
            let count = subscriptions.count(kind);
            write_confirmation(&mut reply, version, kind.verb(false), Some(name), count);
            if is_new {
                self.join_topic(reach, pool, kind, name, id);
            }
        }
        self.answer_unmuted(reach, id, len, &reply);
    }

    fn unsubscribe(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        kind: Kind,
        names: &[&[u8]],
    ) -> Turn {
        let version = self.key_of(id).version;
        let subscriptions = self.clients[id].subscriptions_mut();
        let all;
        let names: Vec<&[u8]> = if names.is_empty() {
            all = subscriptions.in_order(kind);
            all.iter().map(|name| &**name).collect()
        } else {
            names.to_vec()
        };
        let verb = kind.verb(true);
        let mut reply = Vec::new();
        let mut left = Vec::new();
        if names.is_empty() {
            write_confirmation(&mut reply, version, verb, None, subscriptions.count(kind));
        }
        for name in names {
            if let Some((name, it)) = subscriptions.names[kind as usize].remove_entry(name) {
                left.push((it.pool, kind, name));
            }
            let count = subscriptions.count(kind);
            write_confirmation(&mut reply, version, verb, Some(name), count);
        }
        if self.leave(reach, id, left, len, &reply) {
            return Turn::Wait;
        }
        self.answer_unmuted(reach, id, len, &reply);
        self.forget_subscriptions(id);
        Turn::Next
    }

    /// A session leaves what it has left already in its own eyes. Says whether it has to wait; then
    /// the reply follows when the node has answered.
    fn leave(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        mut left: Vec<(PoolId, Kind, Box<[u8]>)>,
        len: usize,
        reply: &[u8],
    ) -> bool {
        let number = self.clients[id].taken;
        let mut asks = 0;
        left.sort_by_key(|(pool, kind, _)| (*pool, *kind as usize));
        for group in left.chunk_by(|one, other| one.0 == other.0 && one.1 == other.1) {
            let (pool, kind) = (group[0].0, group[0].1);
            let names = group.iter().map(|(.., name)| name.clone()).collect();
            asks += u32::from(self.leave_topics(reach, pool, kind, names, (id, number)));
        }
        if asks > 0 {
            let client = &mut self.clients[id];
            client.wait_for(Waiting::Hub, reach.now);
            client.subscriptions_mut().leaving = Some(Leaving {
                len,
                reply: reply.to_vec(),
                asks,
            });
        }
        asks > 0
    }

    /// The node has ended some of what a session leaves.
    pub(crate) fn end_leaving(&mut self, reach: &mut Reach<'_>, id: ClientId, number: u32) {
        if !self.is_subscribing(id, number) {
            return;
        }
        let subscriptions = self.clients[id].subscriptions_mut();
        let Some(leaving) = subscriptions.leaving.as_mut() else {
            return;
        };
        leaving.asks -= 1;
        if leaving.asks > 0 {
            return;
        }
        let leaving = subscriptions.leaving.take().expect("it is there");
        if leaving.len > 0 {
            self.answer_unmuted(reach, id, leaving.len, &leaving.reply);
        }
        self.forget_subscriptions(id);
        self.go_on_listening(id);
    }

    /// A session leaves everything, without a word. Says whether it has to wait; then its request
    /// is looked at again.
    pub(crate) fn leave_all(&mut self, reach: &mut Reach<'_>, id: ClientId) -> bool {
        if !self.clients[id].is_subscribed() {
            return false;
        }
        let names = core::mem::take(&mut self.clients[id].subscriptions_mut().names);
        let has_to_wait = self.leave(reach, id, listed(names), 0, b"");
        if !has_to_wait {
            self.forget_subscriptions(id);
        }
        has_to_wait
    }

    /// A session that listens to nothing keeps nothing of it.
    fn forget_subscriptions(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id)
            && !client.is_subscribed()
            && let Some(session) = &mut client.session
        {
            session.subscriptions = None;
        }
    }

    /// A client that is gone leaves everything.
    pub(crate) fn end_subscriptions(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        client: &mut Client,
    ) {
        if client.waiting == Waiting::Hub {
            self.leave_hubs(id);
        }
        let session = client.session.as_mut();
        let subscriptions = session.and_then(|session| session.subscriptions.take());
        let Some(subscriptions) = subscriptions else {
            return;
        };
        for (pool, kind, name) in listed(subscriptions.names) {
            self.leave_topic(reach, pool, kind, &name, id);
        }
    }

    /// Answers what is not muted by CLIENT REPLY: pushes are not, whatever they confirm.
    fn answer_unmuted(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize, reply: &[u8]) {
        let client = &mut self.clients[id];
        client.take_mute();
        let mute = core::mem::replace(&mut client.mute, super::Mute::No);
        self.answer(reach, id, len, reply);
        if let Some(client) = self.clients.get_mut(id) {
            client.mute = mute;
        }
    }
}

fn listed(names: [BTreeMap<Box<[u8]>, Subscription>; 3]) -> Vec<(PoolId, Kind, Box<[u8]>)> {
    let kinds = Kind::ALL.into_iter().zip(names);
    kinds
        .flat_map(|(kind, names)| {
            let names = names.into_iter();
            names.map(move |(name, it)| (it.pool, kind, name))
        })
        .collect()
}

fn write_confirmation(
    output: &mut Vec<u8>,
    version: Version,
    verb: &str,
    name: Option<&[u8]>,
    count: usize,
) {
    output.push(first_byte(version));
    output.extend_from_slice(b"3\r\n");
    write_bulk(output, verb.as_bytes());
    match (name, version) {
        (Some(name), _) => write_bulk(output, name),
        (None, Version::Two) => output.extend_from_slice(b"$-1\r\n"),
        (None, Version::Three) => output.extend_from_slice(b"_\r\n"),
    }
    output.push(b':');
    number::write(output, count as u64);
    output.extend_from_slice(b"\r\n");
}

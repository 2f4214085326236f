//! The hub: one upstream that holds the subscriptions of all sessions with the same login.
//!
//! The node is asked for a channel or pattern when the first session of this shard wants it, and
//! told to end it when the last one has left; what it publishes is copied to each of them. When the
//! upstream is lost, everything is asked for again, and what was published meanwhile is lost, as it
//! is for any client that has to connect again. Invariants: a session gets messages of a channel
//! only after its confirmation; a topic that the node holds has somebody who wants it.

pub(super) mod asks;
mod kept;
mod lost;

use std::collections::VecDeque;

use manifold_protocols::redis::resp::request::Arguments;

use crate::audience::Kind;
use crate::event::Level;
use crate::ids::{ClientId, PoolId, UpstreamId};
use crate::map::{FastMap, fast_map};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::time::Instant;
use crate::upstream::redis::State;
use crate::upstream::redis::hub::asks::Ask;
use crate::upstream::redis::pool::{Key, Post};

/// The subscriptions of one login in this shard.
#[derive(Debug)]
pub struct Hub {
    /// Whatever its state.
    pub upstream: Option<UpstreamId>,
    /// Sessions whose next request waits for the upstream to be ready.
    pub waiting: VecDeque<ClientId>,
    /// By [`Kind`], by name.
    pub(super) topics: [FastMap<Box<[u8]>, Topic>; 3],
    /// What the node has been asked and has not confirmed, in order.
    asked: VecDeque<Ask>,
    /// Ends that its user may not ask for, until the whole connection begins anew.
    refused: Vec<Ask>,
    /// It begins anew, and has been asked for everything that is wanted.
    is_renewed: bool,
    /// Since when its subscribers have nothing that brings them messages.
    lost_at: Option<Instant>,
}

/// A channel or a pattern.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// The node has confirmed it and has not been asked to end it.
    pub is_held: bool,
    /// Who gets its messages.
    pub subscribers: Vec<ClientId>,
    /// Sessions that are about to subscribe.
    claims: u32,
}

impl Hub {
    fn new(seed: u64) -> Self {
        Self {
            upstream: None,
            waiting: VecDeque::new(),
            topics: [(); 3].map(|()| fast_map(seed)),
            asked: VecDeque::new(),
            refused: Vec::new(),
            is_renewed: false,
            lost_at: None,
        }
    }

    /// Whether it needs an upstream, or somebody can go on when it is ready.
    pub fn is_wanting(&self) -> bool {
        !self.waiting.is_empty() || self.upstream.is_none() && self.has_topics()
    }

    /// Whether anybody has to do with it.
    pub fn is_used(&self) -> bool {
        !self.waiting.is_empty() || !self.asked.is_empty() || self.has_topics()
    }

    /// Whether the node owes it an answer.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    fn has_topics(&self) -> bool {
        self.topics.iter().any(|topics| !topics.is_empty())
    }

    pub(super) fn topic(&mut self, kind: Kind, name: &[u8]) -> Option<&mut Topic> {
        self.topics[kind as usize].get_mut(name)
    }

    pub(super) fn topic_or_new(&mut self, kind: Kind, name: &[u8]) -> &mut Topic {
        let topics = &mut self.topics[kind as usize];
        if !topics.contains_key(name) {
            topics.insert(name.into(), Topic::default());
        }
        topics.get_mut(name).expect("it is there now")
    }
}

impl Redis {
    /// The pool that has the hub for sessions with this key.
    pub(crate) fn hub_of(&mut self, seed: u64, key: &Key) -> PoolId {
        let id = self.pool(&key.of_hub());
        let hub = &mut self.pools[id].hub;
        hub.get_or_insert_with(|| Box::new(Hub::new(seed)));
        id
    }

    /// The hub's upstream for sessions with this key, if it is ready.
    pub(crate) fn ready_hub(&self, key: &Key) -> Option<(PoolId, UpstreamId)> {
        let pool = *self.pools_by_key.get(&key.of_hub())?;
        let upstream = self.pools[pool].hub.as_ref()?.upstream?;
        (self.upstreams[upstream].state == State::Ready).then_some((pool, upstream))
    }

    pub(super) fn hub(&mut self, pool: PoolId) -> &mut Hub {
        let hub = self.pools[pool].hub.as_mut();
        hub.expect("the pool of a hub has one")
    }

    /// A session is in no hub's queue any more.
    pub(crate) fn leave_hubs(&mut self, id: ClientId) {
        let hubs = self.pools.iter().filter(|(_, pool)| {
            let hub = pool.hub.as_ref();
            hub.is_some_and(|hub| hub.waiting.contains(&id))
        });
        for pool in hubs.map(|(pool, _)| pool).collect::<Vec<_>>() {
            self.hub(pool).waiting.retain(|&one| one != id);
        }
    }

    /// Whether the node holds a topic.
    pub(crate) fn is_held(&self, pool: PoolId, kind: Kind, name: &[u8]) -> bool {
        let hub = self.pools[pool].hub.as_ref();
        let topic = hub.and_then(|hub| hub.topics[kind as usize].get(name));
        topic.is_some_and(|topic| topic.is_held)
    }

    /// Opens the hub's upstream if it is missing, and lets go on who waits for it.
    pub(crate) fn serve_hub(&mut self, reach: &mut Reach<'_>, pool: PoolId) {
        let Some(hub) = &self.pools[pool].hub else {
            return;
        };
        if !hub.is_wanting() || !hub.refused.is_empty() {
            return;
        }
        let Some(upstream) = hub.upstream else {
            self.open(reach, pool, Post::Hub);
            return;
        };
        while self.has_room(reach, upstream)
            && let Some(client) = self.hub(pool).waiting.pop_front()
        {
            self.begin_subscription(reach, client, pool);
        }
    }

    /// Asks the node for what a session wants and nobody has. The session claims all of `names`.
    pub(crate) fn ask_for(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        client: (ClientId, u32),
        kind: Kind,
        names: &[&[u8]],
    ) {
        let mut sent: Vec<Box<[u8]>> = Vec::new();
        let hub = self.hub(pool);
        for &name in names {
            let topic = hub.topic_or_new(kind, name);
            topic.claims += 1;
            if !topic.is_held {
                sent.push(name.into());
            }
        }
        let ask = Ask {
            client: Some(client),
            is_end: false,
            claimed: names.iter().map(|&name| name.into()).collect(),
            ..Ask::end(kind, sent)
        };
        self.ask_node(reach, pool, ask);
    }

    /// A session gets the messages of a topic that the node holds.
    pub(crate) fn join_topic(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        kind: Kind,
        name: &[u8],
        id: ClientId,
    ) {
        let topic = self.hub(pool).topic(kind, name);
        let topic = topic.expect("it is claimed or held");
        topic.subscribers.push(id);
        self.count_topic(reach, pool, kind, name);
    }

    /// A session leaves topics. Says whether it has to wait until the node has ended what was its
    /// alone, and has sent what it had published before in what it shares with others.
    pub(crate) fn leave_topics(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        kind: Kind,
        names: Vec<Box<[u8]>>,
        client: (ClientId, u32),
    ) -> bool {
        let mut last = Vec::new();
        let mut left = Vec::new();
        for name in names {
            let Some(topic) = self.hub(pool).topic(kind, &name) else {
                continue;
            };
            if !topic.is_held {
                self.leave_topic(reach, pool, kind, &name, client.0);
            } else if topic.claims == 0 && topic.subscribers == [client.0] {
                // It goes on getting messages until the node has confirmed the end.
                topic.is_held = false;
                last.push(name);
            } else {
                left.push(name);
            }
        }
        let has_to_wait = !last.is_empty() || !left.is_empty();
        if has_to_wait {
            let ask = Ask {
                client: Some(client),
                left,
                ..Ask::end(kind, last)
            };
            self.ask_node(reach, pool, ask);
        }
        has_to_wait
    }

    /// A session gets no more messages of a topic.
    pub(crate) fn leave_topic(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        kind: Kind,
        name: &[u8],
        id: ClientId,
    ) {
        if let Some(topic) = self.hub(pool).topic(kind, name) {
            let place = topic.subscribers.iter().position(|&one| one == id);
            place.map(|place| topic.subscribers.swap_remove(place));
            self.count_topic(reach, pool, kind, name);
            self.settle_topic(reach, pool, kind, name);
        }
    }

    /// Ends a topic that nobody wants.
    pub(super) fn settle_topic(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        kind: Kind,
        name: &[u8],
    ) {
        let hub = self.hub(pool);
        let Some(topic) = hub.topic(kind, name) else {
            return;
        };
        if !topic.subscribers.is_empty() || topic.claims > 0 {
            return;
        }
        let was_held = topic.is_held;
        hub.topics[kind as usize].remove(name);
        if was_held {
            self.ask_node(reach, pool, Ask::end(kind, vec![name.into()]));
        } else {
            // Nobody may be left who would look at the pool.
            self.list_pool(pool);
        }
    }

    /// Says how many subscribers the node does not know of.
    pub(super) fn count_topic(&mut self, reach: &Reach<'_>, pool: PoolId, kind: Kind, name: &[u8]) {
        let service = self.pools[pool].key.service;
        let topic = self.hub(pool).topic(kind, name);
        let missing = match topic {
            Some(topic) if topic.is_held => topic.subscribers.len().saturating_sub(1),
            _ => 0,
        };
        let audience = &reach.service(service).audience;
        audience.set(kind, name, missing as u32);
    }

    /// The node pushed something to a hub.
    pub(crate) fn handle_hub_push(&mut self, reach: &mut Reach<'_>, id: UpstreamId, push: &[u8]) {
        let mut words = Arguments::of(push);
        let (Some(what), Some(name)) = (words.next(), words.next()) else {
            return self.mismatch(reach, id, "a push of a form that nobody knows");
        };
        let pool = self.upstreams[id].pool;
        match what {
            b"message" => self.fan_out(reach, pool, Kind::Channel, name, push),
            b"pmessage" => self.fan_out(reach, pool, Kind::Pattern, name, push),
            b"smessage" => self.fan_out(reach, pool, Kind::Shard, name, push),
            _ => self.confirm(reach, id, what, name),
        }
    }

    /// Copies a message to whoever listens.
    fn fan_out(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        kind: Kind,
        name: &[u8],
        push: &[u8],
    ) {
        let Some(topic) = self.hub(pool).topic(kind, name) else {
            reach.stats.replies_discarded += 1;
            return;
        };
        let subscribers = core::mem::take(&mut topic.subscribers);
        let mut slow = Vec::new();
        for &id in &subscribers {
            if !self.push_to(reach, id, push) {
                slow.push(id);
            }
        }
        let topic = self.hub(pool).topic(kind, name);
        topic.expect("nobody has left yet").subscribers = subscribers;
        self.close_slow(reach, pool, &slow);
    }

    /// Closes subscribers for which more waits than may.
    fn close_slow(&mut self, reach: &mut Reach<'_>, pool: PoolId, slow: &[ClientId]) {
        if slow.is_empty() {
            return;
        }
        let name = &reach.service(self.pools[pool].key.service).name;
        let text = format!(
            "service \"{name}\": {} subscribers are closed, because more than {} bytes \
             (subscriber_bytes_max) were waiting for each of them",
            slow.len(),
            reach.limits.subscriber_bytes_max
        );
        reach.log(Level::Warn, text);
        for &id in slow {
            self.drop_client(reach, id);
        }
    }

    /// A push is larger than any subscriber may be owed: it is dropped as it comes, and so is
    /// whoever should have had it.
    pub(crate) fn drown_push(&mut self, reach: &mut Reach<'_>, id: UpstreamId, is_end: bool) {
        let upstream = &mut self.upstreams[id];
        let pool = upstream.pool;
        let carry = core::mem::take(&mut upstream.carry);
        if !is_end {
            upstream.taking = super::Taking::Drown;
        }
        let mut words = Arguments::of(&carry);
        let kind = match words.next() {
            Some(b"message") => Kind::Channel,
            Some(b"pmessage") => Kind::Pattern,
            Some(b"smessage") => Kind::Shard,
            _ => return self.mismatch(reach, id, "a push that is too long for what it is"),
        };
        let name = words.next().unwrap_or_default();
        let topic = self.hub(pool).topic(kind, name);
        let all = topic.map(|topic| topic.subscribers.clone());
        self.close_slow(reach, pool, &all.unwrap_or_default());
    }

    /// The node holds nothing any more. All topics that there are.
    fn hold_nothing(&mut self, reach: &Reach<'_>, pool: PoolId) -> Vec<(Kind, Box<[u8]>)> {
        let hub = self.hub(pool);
        let mut names = Vec::new();
        for kind in Kind::ALL {
            for (name, topic) in &mut hub.topics[kind as usize] {
                topic.is_held = false;
                names.push((kind, name.clone()));
            }
        }
        for (kind, name) in &names {
            self.count_topic(reach, pool, *kind, name);
        }
        names
    }

    /// The hub's upstream is lost.
    pub(crate) fn lose_hub(&mut self, reach: &mut Reach<'_>, pool: PoolId) {
        let hub = self.hub(pool);
        hub.is_renewed = false;
        hub.lost_at = hub.lost_at.or(Some(reach.now));
        let mut asked = core::mem::take(&mut hub.refused);
        asked.extend(core::mem::take(&mut hub.asked));
        let names = self.hold_nothing(reach, pool);
        for ask in asked {
            if ask.is_end {
                self.finish_ask(reach, pool, &ask);
                continue;
            }
            self.release(reach, pool, &ask);
            if let Some((id, number)) = ask.client
                && self.is_subscribing(id, number)
            {
                self.hub(pool).waiting.push_back(id);
            }
        }
        for (kind, name) in names {
            self.settle_topic(reach, pool, kind, &name);
        }
    }
}

#[cfg(test)]
mod tests;

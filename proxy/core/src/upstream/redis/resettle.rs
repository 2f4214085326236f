//! Channels of a shard: which hub has them, and how they get to another when their slot does.
//!
//! A node ends the subscriptions to the channels of a slot that it gives away, without being asked.
//! Whoever listens through the proxy does not notice: the node that has the slot now is asked.
//! Invariant: a session's subscription names the hub that has it.

use manifold_protocols::redis::cluster::{Refusal, slot};

use crate::audience::Kind;
use crate::client::redis::errors;
use crate::ids::{ClientId, PoolId, ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::State;
use crate::upstream::redis::hub::asks::Ask;
use crate::upstream::redis::pool::Key;

impl Redis {
    /// The pool whose hub has what a session wants to listen to, or what to say instead.
    pub(crate) fn hub_for(
        &mut self,
        reach: &Reach<'_>,
        id: ClientId,
        kind: Kind,
        names: &[&[u8]],
    ) -> Result<PoolId, &'static [u8]> {
        let key = self.key_of(id).clone();
        if kind != Kind::Shard || self.nodes[key.service.index()].cluster.is_none() {
            return Ok(self.hub_of(reach.seed, &key));
        }
        let first = names.first().map_or(0, |name| slot(name));
        if names.iter().any(|name| slot(name) != first) {
            return Err(errors::CROSSSLOT);
        }
        let owner = self.map(key.service).owner(first);
        let service = owner.ok_or(errors::SLOT_NOT_SERVED)?;
        Ok(self.hub_of(reach.seed, &Key { service, ..key }))
    }

    /// A node has said, without being asked, that a channel of a shard is no business of its any
    /// more.
    pub(crate) fn handle_channel_gone(&mut self, reach: &mut Reach<'_>, pool: PoolId, name: &[u8]) {
        self.unhold(reach, pool, name);
        let service = self.pools[pool].key.service;
        self.doubt_map(service);
        if let Some(cluster) = self.cluster_of(service) {
            self.map_mut(cluster).has_lost_topics = true;
            self.move_topics(reach, cluster);
        }
    }

    /// Asks for channels that nobody holds. The map may know less than the node that gave them
    /// away: asked again, that one says who has them.
    pub(crate) fn ask_for_lost_topics(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        if !core::mem::take(&mut self.map_mut(cluster).has_lost_topics) {
            return;
        }
        self.move_topics(reach, cluster);
        for pool in self.shard_hubs(cluster) {
            for name in self.channels_of_shards(pool) {
                let hub = self.hub(pool);
                let is_asked = hub.is_asking();
                let is_held = hub.topic(Kind::Shard, &name).is_none_or(|it| it.is_held);
                self.map_mut(cluster).has_lost_topics |= !is_held;
                if !is_asked && !is_held {
                    self.want_topic(reach, pool, &name);
                }
            }
        }
    }

    /// Pools of nodes of a cluster that have a hub.
    fn shard_hubs(&self, cluster: ServiceId) -> Vec<PoolId> {
        let hubs = self.pools.iter().filter(|(_, pool)| {
            let is_part = self.nodes[pool.key.service.index()].part_of == Some(cluster);
            is_part && pool.hub.is_some()
        });
        hubs.map(|(pool, _)| pool).collect()
    }

    /// A node does not take a subscription because another has the slot. Says whether that is so.
    pub(crate) fn is_elsewhere(
        &mut self,
        reach: &mut Reach<'_>,
        id: UpstreamId,
        reply: &[u8],
    ) -> bool {
        let service = self.upstreams[id].service;
        let Some(cluster) = self.cluster_of(service) else {
            return false;
        };
        match Refusal::read(reply) {
            Some(Refusal::Moved { slot, place }) => {
                let node = self.node_at(reach, cluster, place, id);
                if let Some(node) = node {
                    self.learn_owner(cluster, slot, node);
                }
                node.is_some_and(|node| node != service)
            }
            _ => false,
        }
    }

    /// Whether a node of a cluster cannot say now who has a channel.
    pub(crate) fn is_for_later(&mut self, pool: PoolId, reply: &[u8]) -> bool {
        let cluster = self.cluster_of(self.pools[pool].key.service);
        let cluster = cluster.filter(|_| Refusal::read(reply).is_some());
        if let Some(cluster) = cluster {
            self.map_mut(cluster).has_lost_topics = true;
        }
        cluster.is_some()
    }

    /// Channels whose slot another node has go to that one's hub.
    pub(crate) fn move_topics(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        for pool in self.shard_hubs(cluster) {
            for name in self.channels_of_shards(pool) {
                self.move_topic(reach, cluster, pool, &name);
            }
        }
    }

    fn move_topic(&mut self, reach: &mut Reach<'_>, cluster: ServiceId, from: PoolId, name: &[u8]) {
        let Some(owner) = self.map(cluster).owner(slot(name)) else {
            return;
        };
        let key = Key {
            service: owner,
            ..self.pools[from].key.clone()
        };
        if key.service == self.pools[from].key.service {
            return;
        }
        let to = self.hub_of(reach.seed, &key);
        for id in self.take_subscribers(reach, from, name) {
            // Who is about to leave does not come with it.
            if let Some(client) = self.clients.get_mut(id)
                && client.subscriptions_mut().resettle(name, to)
            {
                self.add_subscriber(to, name, id);
            }
        }
        self.want_topic(reach, to, name);
        self.list_pool(to);
        self.list_pool(from);
    }

    /// The node does not hold a channel of a shard any more.
    pub(crate) fn unhold(&mut self, reach: &Reach<'_>, pool: PoolId, name: &[u8]) {
        if let Some(topic) = self.hub(pool).topic(Kind::Shard, name) {
            topic.is_held = false;
            self.count_topic(reach, pool, Kind::Shard, name);
        }
    }

    /// Channels of shards that somebody listens to here.
    pub(crate) fn channels_of_shards(&self, pool: PoolId) -> Vec<Box<[u8]>> {
        let hub = self.pools[pool].hub.iter();
        let topics = hub.flat_map(|hub| &hub.topics[Kind::Shard as usize]);
        let wanted = topics.filter(|(_, topic)| !topic.subscribers.is_empty());
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// Nobody listens to a channel of a shard here any more: says who did.
    pub(crate) fn take_subscribers(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        name: &[u8],
    ) -> Vec<ClientId> {
        let Some(topic) = self.hub(pool).topic(Kind::Shard, name) else {
            return Vec::new();
        };
        let all = core::mem::take(&mut topic.subscribers);
        // The node has ended it, or is about to: a slot that is gone cannot be spoken of there.
        topic.is_held = false;
        self.count_topic(reach, pool, Kind::Shard, name);
        self.settle_topic(reach, pool, Kind::Shard, name);
        all
    }

    /// Somebody listens to a channel of a shard here from now on.
    pub(crate) fn add_subscriber(&mut self, pool: PoolId, name: &[u8], id: ClientId) {
        let topic = self.hub(pool).topic_or_new(Kind::Shard, name);
        topic.subscribers.push(id);
    }

    /// Asks the node for a channel of a shard that somebody listens to, if it can be asked now.
    pub(crate) fn want_topic(&mut self, reach: &mut Reach<'_>, pool: PoolId, name: &[u8]) {
        let upstream = self.hub(pool).upstream;
        let is_ready = upstream.is_some_and(|id| self.upstreams[id].state == State::Ready);
        let topic = self.hub(pool).topic(Kind::Shard, name);
        if !is_ready || topic.is_none_or(|it| it.is_held || it.subscribers.is_empty()) {
            return;
        }
        let ask = Ask::again(Kind::Shard, name.into());
        self.ask_node(reach, pool, ask);
    }
}

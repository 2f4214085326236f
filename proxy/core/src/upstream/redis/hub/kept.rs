//! Topics that a new upstream has to be asked for again, and those that an old one keeps for
//! nobody, because the node refused to end them.
//!
//! A node that is busy refuses an end like any other command, and is told again until it listens.
//! Where the user may not end anything, RESET ends everything, as it does for a session with a
//! connection of its own, and what others listen to is asked for right behind it. Invariant: who
//! wanted the end goes on when the node has ended it, or refuses for a reason that will pass.

use super::Topic;
use super::asks::Ask;
use crate::audience::Kind;
use crate::ids::{PoolId, ServiceId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Own;
use crate::upstream::redis::pool::Pool;

impl Topic {
    /// The node holds it for nobody.
    fn is_unwanted(&self) -> bool {
        self.is_held && self.subscribers.is_empty() && self.claims == 0
    }
}

impl Redis {
    /// The node does not end what it was told to end, because it is busy: it goes on sending, to
    /// nobody, until it is told again.
    pub(super) fn keep_topics(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        ask: Ask,
        reply: &[u8],
    ) {
        if reply.starts_with(b"-NOPERM") {
            return self.keep_until_renewed(reach, pool, ask);
        }
        for name in &ask.sent {
            self.hub(pool).topic_or_new(ask.kind, name).is_held = true;
            if let Some((id, _)) = ask.client {
                let topic = self.hub(pool).topic(ask.kind, name);
                topic
                    .expect("it is there now")
                    .subscribers
                    .retain(|&one| one != id);
            }
            self.count_topic(reach, pool, ask.kind, name);
        }
        if let Some((id, number)) = ask.client {
            for name in &ask.left {
                self.leave_topic(reach, pool, ask.kind, name, id);
            }
            self.end_leaving(reach, id, number);
        }
    }

    /// The user may not end it. Its subscriber goes on listening until the connection begins anew.
    fn keep_until_renewed(&mut self, reach: &mut Reach<'_>, pool: PoolId, ask: Ask) {
        for name in &ask.sent {
            self.hub(pool).topic_or_new(ask.kind, name).is_held = true;
            self.count_topic(reach, pool, ask.kind, name);
        }
        self.hub(pool).refused.push(ask);
    }

    /// Begins connections anew whose users may not end what they have begun. Not for each end at
    /// once: all that is wanted is asked for again each time.
    fn renew_hubs(&mut self, reach: &mut Reach<'_>, service: ServiceId) {
        let stale = self.pools.iter().filter(|(_, pool)| {
            let hub = pool.hub.as_ref().filter(|_| pool.key.service == service);
            hub.is_some_and(|hub| !hub.refused.is_empty() && hub.asked.is_empty())
        });
        for pool in stale.map(|(id, _)| id).collect::<Vec<_>>() {
            self.renew_hub(reach, pool);
        }
    }

    /// Everything goes out together, so that the node does nothing for others in between.
    fn renew_hub(&mut self, reach: &mut Reach<'_>, pool: PoolId) {
        let hub = self.hub(pool);
        let Some(upstream) = hub.upstream.filter(|_| !hub.is_renewed) else {
            return;
        };
        hub.is_renewed = true;
        let left = hub.refused.iter().flat_map(|ask| {
            let names = ask.sent.iter().chain(&ask.left).cloned();
            names.map(move |name| (ask.kind, name, ask.client))
        });
        let left: Vec<_> = left.collect();
        self.hold_nothing(reach, pool);
        for (kind, name, client) in left {
            match client {
                Some((id, _)) => self.leave_topic(reach, pool, kind, &name, id),
                None => self.settle_topic(reach, pool, kind, &name),
            }
        }
        self.begin_greeting(reach, upstream);
        self.ask(reach, upstream, Own::Reset, &[b"RESET"]);
        self.greet(reach, upstream);
        self.restore_hub(reach, pool);
    }

    /// The node has ended everything on a hub's upstream.
    pub(crate) fn handle_hub_reset(&mut self, reach: &mut Reach<'_>, pool: PoolId) {
        for ask in core::mem::take(&mut self.hub(pool).refused) {
            self.finish_ask(reach, pool, &ask);
        }
    }

    /// A hub's upstream is ready: it has to be asked for what is wanted, unless it has been.
    pub(crate) fn handle_hub_ready(&mut self, reach: &mut Reach<'_>, pool: PoolId) {
        if !core::mem::take(&mut self.hub(pool).is_renewed) {
            self.restore_hub(reach, pool);
        }
    }

    /// Ends again what a node did not end when it was told to.
    pub(crate) fn end_unwanted(&mut self, reach: &mut Reach<'_>, service: ServiceId) {
        self.renew_hubs(reach, service);
        let of_service = |(_, pool): &(PoolId, &Pool)| pool.key.service == service;
        let pools = self.pools.iter().filter(of_service);
        let mut unwanted = Vec::new();
        for (id, pool) in pools {
            let Some(hub) = pool
                .hub
                .as_ref()
                .filter(|hub| hub.upstream.is_some() && hub.refused.is_empty())
            else {
                continue;
            };
            for kind in Kind::ALL {
                let topics = hub.topics[kind as usize].iter();
                let left = topics.filter(|(_, topic)| topic.is_unwanted());
                unwanted.extend(left.map(|(name, _)| (id, kind, name.clone())));
            }
        }
        for (pool, kind, name) in unwanted {
            self.settle_topic(reach, pool, kind, &name);
        }
    }

    /// The hub's upstream is ready: what sessions are subscribed to is asked for, one by one, so
    /// that a refusal is only of what it is meant for.
    pub(crate) fn restore_hub(&mut self, reach: &mut Reach<'_>, pool: PoolId) {
        for kind in Kind::ALL {
            let topics = self.hub(pool).topics[kind as usize].iter();
            let wanted = topics.filter(|(_, topic)| !topic.subscribers.is_empty());
            let skipped = usize::from(reach.planted.is(Bug::ForgetTopic));
            let wanted = wanted.skip(skipped).map(|(name, _)| name.clone());
            for name in wanted.collect::<Vec<_>>() {
                let ask = Ask::again(kind, name);
                self.ask_node(reach, pool, ask);
            }
        }
    }
}

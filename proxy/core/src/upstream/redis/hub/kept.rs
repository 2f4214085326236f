//! Topics that a new upstream has to be asked for again, and those that an old one keeps for
//! nobody, because the node refused to end them.
//!
//! A node that is busy refuses an end like any other command. Invariant: whoever wanted the end has
//! left already; the node is told again until it listens.

use super::{Ask, Topic};
use crate::audience::Kind;
use crate::ids::{PoolId, ServiceId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
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
    pub(super) fn keep_topics(&mut self, reach: &mut Reach<'_>, pool: PoolId, ask: &Ask) {
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
            self.end_leaving(reach, id, number);
        }
    }

    /// Ends again what a node did not end when it was told to.
    pub(crate) fn end_unwanted(&mut self, reach: &mut Reach<'_>, service: ServiceId) {
        let of_service = |(_, pool): &(PoolId, &Pool)| pool.key.service == service;
        let pools = self.pools.iter().filter(of_service);
        let mut unwanted = Vec::new();
        for (id, pool) in pools {
            let Some(hub) = pool.hub.as_ref().filter(|hub| hub.upstream.is_some()) else {
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
                let ask = Ask {
                    client: None,
                    kind,
                    is_end: false,
                    sent: vec![name],
                    confirmed: 0,
                    claimed: Vec::new(),
                };
                self.ask_node(reach, pool, ask);
            }
        }
    }
}

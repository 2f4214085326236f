//! Subscriptions that were lost and cannot be had again.
//!
//! Invariant: nobody waits for messages that nothing can bring for longer than for anything else.

use crate::client::redis::errors;
use crate::event::Level;
use crate::ids::PoolId;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::hub::Hub;
use crate::upstream::redis::pool::{Pool, Post};

impl Redis {
    /// Subscribers for whom no upstream is to be had are closed, as a lost connection of their own
    /// would be: whoever subscribes again is told why that does not work.
    pub(crate) fn end_lost_hubs(&mut self, reach: &mut Reach<'_>) {
        let limit = reach.limits.queue_wait_max;
        let is_late = |hub: &Hub| hub.lost_at.is_some_and(|at| reach.now - at >= limit);
        let hubs = self.pools.iter().filter_map(|(_, pool)| pool.hub.as_ref());
        let topics = hubs.filter(|hub| is_late(hub)).flat_map(|hub| &hub.topics);
        let topics = topics.flat_map(|topics| topics.values());
        let lost: Vec<_> = topics.flat_map(|it| it.subscribers.clone()).collect();
        for id in lost {
            let Some(client) = self.clients.get(id) else {
                continue;
            };
            let name = &reach.service(client.service).name;
            let text = format!(
                "service \"{name}\": a subscriber is closed, because no connection for its \
                 messages was to be had for {} s (queue_wait_max)",
                limit.as_secs()
            );
            reach.log(Level::Warn, text);
            self.end_client(reach, id);
        }
    }

    /// The node does not let this login in. If it had been in before, its subscribers are closed:
    /// what they listen to cannot be had any more.
    pub(crate) fn refuse_hub(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        post: Post,
        reply: &[u8],
    ) {
        let has_hub = |pool: &Pool| pool.hub.is_some();
        if !self.pools.get(pool).is_some_and(has_hub) {
            return;
        }
        if post == Post::Hub {
            self.lose_hub(reach, pool);
        }
        let hub = self.hub(pool);
        let topics = hub.topics.iter().flat_map(|topics| topics.values());
        let all = topics.flat_map(|topic| topic.subscribers.iter().copied());
        let all: Vec<_> = all.filter(|_| post == Post::Hub).collect();
        // The node speaks of HELLO there, and they have not said it.
        let reply = match reply.starts_with(b"-NOAUTH") {
            true => errors::not_authenticated(),
            false => reply.to_vec(),
        };
        for id in core::mem::take(&mut hub.waiting) {
            self.answer_next(reach, id, &reply);
        }
        for id in all {
            self.end_client(reach, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use crate::limits::Limits;
    use crate::redis::stage::{Shared, Stage};

    #[test]
    fn closes_subscribers_whose_messages_nothing_can_bring() {
        let limits = Limits {
            queue_wait_max: Duration::from_secs(3),
            ..Limits::default()
        };
        let mut stage = Stage::with(limits, 4, &Shared::default());
        let client = stage.client();
        stage.send(client, "SUBSCRIBE a");
        stage.say(stage.hub(), ">3 $9 subscribe $1 a :1");
        stage.heard(client);
        stage.kill(0);
        stage.wait(2_500);
        assert!(!stage.is_closed(client), "it may come back");
        stage.wait(1_000);
        assert!(stage.is_closed(client));
    }
}

//! Requests that a node refused because it was not ready: they are asked again when it is.
//!
//! A node that loads its data says so before it looks at a request, so nothing has run. Knows only
//! lanes: on a lease, what a node says is passed on. Invariant: no request of a client overtakes
//! another, so only who has nothing else under way asks again.

use crate::ids::UpstreamId;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::{Post, Resend};
use crate::upstream::redis::{Effect, Expectation, Own, State, Upstream, Whose};

impl Redis {
    /// Whether a reply says that its request has not been looked at, and may be sent again.
    pub(crate) fn is_worth_another_try(
        &self,
        reach: &Reach<'_>,
        id: UpstreamId,
        head: &Expectation,
        reply: &[u8],
    ) -> bool {
        // Of a transaction, the node takes MULTI even then.
        let is_one = head.effect != Effect::Unit;
        let Whose::Client { id: client, .. } = head.whose else {
            return false;
        };
        let is_alone = || {
            let client = self.clients.get(client);
            // In a cluster, another node may have taken over, and the map says which.
            let client = client.filter(|client| client.branch.is_none());
            let route = client.and_then(|client| client.route);
            route.is_some_and(|route| route.count == 1)
        };
        let upstream = &self.upstreams[id];
        let is_lane = matches!(upstream.post, Post::Lane(_));
        let may_wait = is_loading(reply) && !upstream.is_retiring
            || is_demoted(reply) && reach.service(upstream.service).wants_primary;
        may_wait && is_one && is_lane && is_alone()
    }

    /// What follows from a refusal for the upstream, whoever was refused.
    pub(crate) fn note_refusal(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        let wants_primary = |it: &Upstream| reach.service(it.service).wants_primary;
        if is_demoted(reply) && self.upstreams.get(id).is_some_and(wants_primary) {
            self.leave_demoted(reach, id);
        }
    }

    /// The request at the head of a pipe is sent again when the node is ready: the upstream takes
    /// nothing until it says so, and is lost if it does not.
    pub(crate) fn ask_later(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        let upstream = &mut self.upstreams[id];
        let head = upstream.pipe.pop_front();
        let head = head.expect("a reply has an expectation until its end");
        let (
            Whose::Client {
                id: client,
                number,
                at,
                len,
                is_mute,
            },
            Post::Lane(lane),
        ) = (head.whose, upstream.post)
        else {
            unreachable!("what is sent again is a client's, and on a lane");
        };
        let pool = upstream.pool;
        // Who has been demoted will not be ready.
        if upstream.state == State::Ready && is_loading(reply) {
            self.begin_greeting(reach, id);
            self.ask(reach, id, Own::Ready, &[b"PING"]);
        }
        let client_of = self.clients.get_mut(client);
        let one = client_of.expect("who has nothing else under way is there");
        one.route = None;
        one.resends += 1;
        reach.stats.requests_retried += 1;
        let again = Resend {
            client,
            number,
            at,
            len,
            is_mute,
            replies: head.replies,
            effect: head.effect,
        };
        self.pools[pool].lanes[lane as usize]
            .resends
            .push_back(again);
        self.list_pool(pool);
        self.end_if_drained(reach, id);
    }
}

/// Whether a node says that it has not loaded its data yet.
pub(crate) fn is_loading(reply: &[u8]) -> bool {
    reply.starts_with(b"-LOADING")
}

/// Whether a node says that it is a replica, or one that has lost its primary.
fn is_demoted(reply: &[u8]) -> bool {
    reply.starts_with(b"-READONLY") || reply.starts_with(b"-MASTERDOWN")
}

#[cfg(test)]
mod tests {
    use crate::redis::stage::Stage;

    const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";

    #[test]
    fn sends_nothing_until_a_node_that_starts_has_loaded_its_data() {
        let mut stage = Stage::new();
        stage.is_loading = true;
        let client = stage.client();
        stage.send(client, "INCR n");
        stage.wait(300);
        assert_eq!(stage.heard(client), "");
        stage.is_loading = false;
        stage.wait(2_500);
        let lane = stage.on("INCR n");
        assert_eq!(stage.asked(lane), "INCR n");
        stage.say(lane, ":1");
        assert_eq!(stage.heard(client), ":1");
    }

    #[test]
    fn asks_again_when_a_node_that_began_to_load_is_ready() {
        let mut stage = Stage::new();
        let client = stage.client();
        stage.send(client, "INCR n");
        let lane = stage.on("INCR n");
        assert_eq!(stage.asked(lane), "INCR n");
        stage.say_raw(lane, LOADING.as_bytes());
        stage.send(client, "GET n");
        assert_eq!(stage.heard(client), "");
        assert_eq!(stage.asked(lane), "PING");
        stage.say(lane, "+PONG");
        assert_eq!(stage.asked(lane), "INCR n");
        stage.say(lane, ":1");
        assert_eq!(stage.heard(client), ":1");
        assert_eq!(stage.asked(lane), "GET n");
    }

    #[test]
    fn passes_the_refusal_on_where_asking_again_would_change_the_order() {
        let mut stage = Stage::new();
        let client = stage.client();
        stage.send(client, "INCR n");
        stage.send(client, "INCR n");
        let lane = stage.on("INCR n");
        assert_eq!(stage.asked(lane), "INCR n; INCR n");
        stage.say_raw(lane, LOADING.as_bytes());
        assert_eq!(stage.heard(client), LOADING.trim_end());
        stage.say(lane, ":1");
        assert_eq!(stage.heard(client), ":1");
    }

    #[test]
    fn gives_up_on_a_node_that_never_gets_ready() {
        let mut stage = Stage::new();
        let client = stage.client();
        stage.send(client, "GET n");
        let lane = stage.on("GET n");
        stage.asked(lane);
        stage.is_loading = true;
        stage.say_raw(lane, LOADING.as_bytes());
        stage.say_raw(lane, LOADING.as_bytes());
        stage.wait(120_000);
        let heard = stage.heard(client);
        assert!(heard.contains("queue_wait_max"), "{heard}");
    }
}

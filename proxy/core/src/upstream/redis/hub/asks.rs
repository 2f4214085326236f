//! What a hub's node is asked, and what it answers.
//!
//! Knows nothing of who listens beyond whose request waits. Invariant: what is asked is answered in
//! order; what a node says by itself is told from an answer, or an answer is asked for that cannot
//! be anything else.

use manifold_protocols::redis::cluster::Refusal;
use manifold_protocols::redis::resp::inline::write_request;

use crate::audience::Kind;
use crate::ids::{ClientId, PoolId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::{Effect, Expectation, Own, Whose};

/// A request for subscriptions, or for their end.
#[derive(Debug)]
pub(in crate::upstream::redis) struct Ask {
    /// Whose request waits for it, and the number that it will have.
    pub client: Option<(ClientId, u32)>,
    pub kind: Kind,
    pub is_end: bool,
    /// What the node has been asked for.
    pub sent: Vec<Box<[u8]>>,
    /// How many of those it has confirmed.
    pub confirmed: usize,
    /// What must not end until the client has it.
    pub claimed: Vec<Box<[u8]>>,
    /// What the client leaves to others when the node has answered: until then, messages for it
    /// may be on their way.
    pub left: Vec<Box<[u8]>>,
}

impl Ask {
    /// What subscribers have lost with an upstream.
    pub fn again(kind: Kind, name: Box<[u8]>) -> Self {
        Self {
            is_end: false,
            ..Self::end(kind, vec![name])
        }
    }

    /// The end of what nobody wants.
    pub fn end(kind: Kind, sent: Vec<Box<[u8]>>) -> Self {
        Self {
            client: None,
            kind,
            is_end: true,
            sent,
            confirmed: 0,
            claimed: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Whether the node is only asked for an answer.
    fn is_echo(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether the node may say the same without being asked, so that nobody can tell what was
    /// meant.
    fn is_ambiguous(&self) -> bool {
        self.is_end && self.kind == Kind::Shard && !self.is_echo()
    }
}

impl Redis {
    /// Asks a hub's node. What it answers to PING says that it has answered what was asked before.
    pub(in crate::upstream::redis) fn ask_node(
        &mut self,
        reach: &mut Reach<'_>,
        pool: PoolId,
        ask: Ask,
    ) {
        let is_ambiguous = ask.is_ambiguous();
        let target = self.hub(pool).upstream.expect("it is ready");
        let conn = self.upstreams[target].conn;
        let position = reach.conns.written_total(conn);
        let verb = match ask.is_echo() {
            true => "PING",
            false => ask.kind.verb(ask.is_end),
        };
        let mut words = vec![verb.as_bytes()];
        words.extend(ask.sent.iter().map(|name| &**name));
        write_request(reach.conns.write(conn), words.into_iter());
        let pipe = &mut self.upstreams[target].pipe;
        pipe.push_back(expectation(position, ask.sent.len().max(1) as u32));
        self.hub(pool).asked.push_back(ask);
        if is_ambiguous {
            self.ask_node(reach, pool, Ask::end(Kind::Shard, Vec::new()));
        }
    }

    /// The node has begun or ended a subscription.
    pub(super) fn confirm(
        &mut self,
        reach: &mut Reach<'_>,
        id: UpstreamId,
        what: &[u8],
        name: &[u8],
    ) {
        let upstream = &self.upstreams[id];
        let pool = upstream.pool;
        let head = upstream.pipe.front().map(|head| head.whose);
        let is_asked = matches!(head, Some(Whose::Own(Own::Subscription)));
        let hub = self.pools[pool].hub.as_mut();
        let hub = hub.expect("the pool of a hub has one");
        let ask = hub.asked.front_mut().filter(|ask| {
            is_asked
                && ask.kind.verb(ask.is_end).as_bytes() == what
                && ask
                    .sent
                    .get(ask.confirmed)
                    .is_some_and(|one| **one == *name)
        });
        let Some(ask) = ask else {
            if what == b"sunsubscribe" {
                return self.handle_channel_gone(reach, pool, name);
            }
            return self.mismatch(reach, id, "a confirmation that nobody asked for");
        };
        ask.confirmed += 1;
        let (kind, is_end) = (ask.kind, ask.is_end);
        let is_over = ask.confirmed == ask.sent.len();
        if !is_end {
            hub.lost_at = None;
            hub.topic_or_new(kind, name).is_held = true;
            self.count_topic(reach, pool, kind, name);
        }
        if is_over {
            let upstream = &mut self.upstreams[id];
            upstream.pipe.pop_front();
            upstream.since = reach.now;
            let ask = self.hub(pool).asked.pop_front();
            self.finish_ask(reach, pool, &ask.expect("it is the first"));
        }
    }

    /// The node has done what it was asked.
    pub(super) fn finish_ask(&mut self, reach: &mut Reach<'_>, pool: PoolId, ask: &Ask) {
        if ask.is_end {
            if let Some((id, number)) = ask.client {
                for name in ask.sent.iter().chain(&ask.left) {
                    self.leave_topic(reach, pool, ask.kind, name, id);
                }
                self.end_leaving(reach, id, number);
            }
            return;
        }
        if let Some((id, number)) = ask.client {
            self.finish_subscription(reach, id, number, pool);
        }
        self.release(reach, pool, ask);
    }

    /// Nobody claims any more what was claimed for a request.
    pub(super) fn release(&mut self, reach: &mut Reach<'_>, pool: PoolId, ask: &Ask) {
        for name in &ask.claimed {
            if let Some(topic) = self.hub(pool).topic(ask.kind, name) {
                topic.claims -= 1;
            }
            self.settle_topic(reach, pool, ask.kind, name);
        }
        if ask.client.is_none() && !ask.is_end {
            // It was asked for again, and its last subscriber may have left meanwhile.
            for name in &ask.sent {
                self.settle_topic(reach, pool, ask.kind, name);
            }
        }
    }

    /// The node has answered a request for subscriptions, which is how it refuses.
    pub(crate) fn handle_hub_reply(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        let pool = self.upstreams[id].pool;
        let ask = self.hub(pool).asked.front();
        if ask.is_some_and(Ask::is_echo) {
            return self.handle_echo(reach, id, reply);
        }
        if !matches!(reply, [b'-' | b'!', ..]) || ask.is_none_or(|ask| ask.confirmed > 0) {
            return self.mismatch(reach, id, "something else than the end of a subscription");
        }
        let ask = self.hub(pool).asked.pop_front().expect("it is the first");
        let is_elsewhere = ask.kind == Kind::Shard && self.is_elsewhere(reach, id, reply);
        match ask.client {
            _ if ask.is_end => return self.keep_topics(reach, pool, ask, reply),
            // It looks at its request again, and finds the other node.
            Some((id, number)) if is_elsewhere && self.is_subscribing(id, number) => {
                self.go_on_listening(id);
            }
            None if is_elsewhere => {
                let service = self.pools[pool].key.service;
                let cluster = self.cluster_of(service);
                self.move_topics(reach, cluster.expect("it is a node of one"));
            }
            Some((id, number)) => self.refuse_subscription(reach, id, number, reply),
            // Asked again, it may be there or elsewhere.
            None if ask.kind == Kind::Shard && self.is_for_later(pool, reply) => {}
            // It had been theirs, and is not allowed any more: a node closes their connections.
            None => {
                for name in &ask.sent {
                    let topic = self.hub(pool).topic(ask.kind, name);
                    let all = topic.map(|topic| topic.subscribers.clone());
                    for id in all.unwrap_or_default() {
                        self.end_client(reach, id);
                    }
                }
            }
        }
        self.release(reach, pool, &ask);
    }

    /// The node has answered PING, and all that was asked before.
    fn handle_echo(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        use Refusal::{Ask as Asked, Down, Moved, TryAgain};
        let upstream = &mut self.upstreams[id];
        let pool = upstream.pool;
        let refusal = Refusal::read(reply);
        if matches!(refusal, Some(Moved { .. } | Asked { .. } | TryAgain | Down)) {
            // It had ended a channel by itself, and is asked to end it only now.
            upstream.pipe.push_front(expectation(0, 1));
            return;
        }
        // Even an error has come behind what was published before.
        let ask = self.hub(pool).asked.pop_front();
        self.finish_ask(reach, pool, &ask.expect("it is the first"));
    }
}

fn expectation(position: u64, replies: u32) -> Expectation {
    Expectation {
        whose: Whose::Own(Own::Subscription),
        replies,
        position,
        effect: Effect::Read,
    }
}

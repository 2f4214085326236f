//! Subscriptions and messages at a simulated node.
//!
//! Invariant: a message goes to every connection that listens, once for each of its subscriptions
//! that fits.

use manifold_core::time::Instant;
use manifold_protocols::redis::glob;

use super::log::Publication;
use super::node::Node;
use super::resp::Value;
use super::session::Session;
use crate::simulator::serves::SessionId;

/// The kinds of subscriptions, by their places.
const VERBS: [[&str; 2]; 3] = [
    ["subscribe", "unsubscribe"],
    ["psubscribe", "punsubscribe"],
    ["ssubscribe", "sunsubscribe"],
];

/// Which kind of subscription a command is about, and whether it ends it.
pub fn change_of(name: &str) -> Option<(usize, bool)> {
    let place = |end: usize| VERBS.iter().position(|verbs| verbs[end] == name);
    let begin = place(0).map(|kind| (kind, false));
    begin.or_else(|| place(1).map(|kind| (kind, true)))
}

impl Node {
    /// PUBLISH and SPUBLISH.
    pub(super) fn publish(
        &mut self,
        running: &mut Session,
        now: Instant,
        words: &[Vec<u8>],
    ) -> Value {
        let is_sharded = words[0].eq_ignore_ascii_case(b"spublish");
        // The token is in the payload, after the channel.
        let (channel, payload) = (&words[1], &words[2]);
        let mut receivers = Vec::new();
        let mut count = 0;
        let door = running.door;
        for session in self.sessions.values_mut().chain([running]) {
            let heard = session.hear(is_sharded, channel, payload);
            if heard > 0 {
                receivers.push(session.id);
            }
            // Of who listens at other nodes, a node of a cluster knows nothing.
            if session.door == door {
                count += heard;
            }
        }
        self.log.publications.push(Publication {
            seq: self.log.seq,
            at: now,
            is_sharded,
            channel: channel.clone(),
            payload: payload.clone(),
            receivers,
        });
        Value::Int(count)
    }

    /// An operator publishes something.
    pub fn announce(&mut self, now: Instant, channel: &[u8], payload: &[u8], is_sharded: bool) {
        self.log.begin();
        let verb: &[u8] = if is_sharded { b"spublish" } else { b"publish" };
        let words = [verb.to_vec(), channel.to_vec(), payload.to_vec()];
        let mut operator = Session::new(SessionId(0), 0, Some("default"));
        self.publish(&mut operator, now, &words);
    }

    /// SUBSCRIBE and its kin.
    pub(super) fn change_topics(session: &mut Session, name: &str, names: &[Vec<u8>]) {
        let (kind, is_end) = change_of(name).expect("it is about subscriptions");
        let verb = VERBS[kind][usize::from(is_end)];
        let mut names = names.to_vec();
        if is_end && names.is_empty() {
            names = session.topics[kind].iter().cloned().collect();
            if names.is_empty() {
                let count = session.topic_count(kind);
                session.push(vec![Value::bulk(verb.as_bytes()), Value::Null, count]);
            }
        }
        for topic in names {
            if is_end {
                session.topics[kind].remove(&topic);
            } else {
                session.topics[kind].insert(topic.clone());
            }
            let count = session.topic_count(kind);
            let words = vec![Value::bulk(verb.as_bytes()), Value::Bulk(topic), count];
            session.push(words);
        }
    }
}

impl Session {
    fn topic_count(&self, kind: usize) -> Value {
        let count = match kind {
            2 => self.topics[2].len(),
            _ => self.topics[0].len() + self.topics[1].len(),
        };
        Value::Int(count as i64)
    }

    /// A message was published: says how often it went out here.
    fn hear(&mut self, is_sharded: bool, channel: &[u8], payload: &[u8]) -> i64 {
        let (kind, word) = match is_sharded {
            true => (2, &b"smessage"[..]),
            false => (0, &b"message"[..]),
        };
        let mut count = 0;
        if self.topics[kind].contains(channel) {
            self.push([word, channel, payload].map(Value::bulk).to_vec());
            count += 1;
        }
        let patterns = self.topics[1].iter();
        let fitting = patterns.filter(|name| !is_sharded && glob::matches(name, channel));
        for name in fitting.cloned().collect::<Vec<_>>() {
            let words = [&b"pmessage"[..], &name, channel, payload];
            self.push(words.map(Value::bulk).to_vec());
            count += 1;
        }
        count
    }
}

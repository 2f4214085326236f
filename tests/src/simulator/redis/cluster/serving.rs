//! A simulated node that plays a cluster: what each of its doors refuses, and what becomes of those
//! who wait or listen at a door that loses a slot.
//!
//! Knows the slots by what `Cluster` says. Invariant: what has been sent elsewhere has not run.

use manifold_core::time::Instant;

use super::{Asked, Event, keys_of};
use crate::simulator::prng::Prng;
use crate::simulator::redis::data::Key;
use crate::simulator::redis::log::name_of;
use crate::simulator::redis::node::Node;
use crate::simulator::redis::resp::Value;
use crate::simulator::redis::session::Session;
use crate::simulator::serves::SessionId;

/// The kind of subscriptions that have slots.
const SHARDED: usize = 2;

impl Node {
    /// The node plays a cluster.
    pub fn become_cluster(&mut self, prng: Prng) {
        self.cluster = Some(super::Cluster::new(prng));
    }

    /// The keys of a command, or of all that EXEC would run.
    fn keys_asked<'a>(session: &'a Session, name: &str, words: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
        match &session.multi {
            Some(multi) if name == "exec" => {
                let rows = multi.queue.iter();
                let keys = rows.flat_map(|words| keys_of(&name_in(words), words));
                keys.collect()
            }
            _ => keys_of(name, words),
        }
    }

    /// Why a command is for another door, or for none now.
    pub(in crate::simulator::redis) fn elsewhere(
        &self,
        session: &Session,
        is_asking: bool,
        name: &str,
        words: &[Vec<u8>],
    ) -> Option<String> {
        let cluster = self.cluster.as_ref()?;
        let keys = Self::keys_asked(session, name, words);
        let asked = Asked {
            door: session.door,
            keys: &keys,
            are_channels: super::is_about_channels(name),
            is_asking,
        };
        cluster.refusal(asked, |key| self.data.has(key))
    }

    /// A command was sent elsewhere. Who was told to ask a node has to say there that it asks.
    pub(in crate::simulator::redis) fn note_elsewhere(
        &mut self,
        session: &Session,
        token: Option<&String>,
        why: &str,
    ) {
        let (Some(token), None) = (token, &session.multi) else {
            return;
        };
        let mut words = why.split(' ');
        let verb = words.next();
        let token = format!("{token} of slot {}", words.next().unwrap_or_default());
        let to = words.next().and_then(|to| to.parse().ok());
        let door = (0..super::DOORS).find(|door| Some(super::address_of(*door)) == to);
        if verb == Some("MOVED") && self.log.asked_of.remove(&token) == Some(session.door) {
            let door = session.door;
            let text = format!("I15: {token} was asked for at {door} without ASKING");
            self.log.violations.push(text);
        }
        if let (Some("ASK"), Some(door)) = (verb, door) {
            self.log.asked_of.insert(token, door);
        }
    }

    /// Who was told to ask this node has done so, in vain.
    pub(in crate::simulator::redis) fn note_asking(&mut self, door: usize, token: Option<&String>) {
        let Some(token) = token else { return };
        let token = format!("{token} of slot ");
        let is_other = |asked: &String, at: &usize| *at != door || !asked.starts_with(&token);
        self.log.asked_of.retain(|asked, at| is_other(asked, at));
    }

    /// The keys of a command, and whether there is something at each.
    pub(in crate::simulator::redis) fn keys_landing(
        &self,
        session: &Session,
        name: &str,
        words: &[Vec<u8>],
    ) -> Vec<(Key, bool)> {
        let is_in_vain = session.is_touched || session.multi.as_ref().is_some_and(|it| it.is_dirty);
        if is_in_vain && name == "exec" {
            return Vec::new();
        }
        let keys = Self::keys_asked(session, name, words);
        let keys = keys.into_iter().map(|key| (0, name_of(key)));
        keys.map(|key| (key.clone(), self.data.has(&key))).collect()
    }

    /// What ran behind ASKING is at the new place of its slot.
    pub(in crate::simulator::redis) fn land(&mut self, door: usize, keys: Vec<(Key, bool)>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for (key, existed) in keys {
            let found = cluster.land(door, &key, existed, self.data.has(&key));
            self.log.violations.extend(found);
        }
    }

    /// What is due by the clock.
    pub(in crate::simulator::redis) fn go_on(&mut self, now: Instant) {
        while let Some(event) = self.cluster.as_mut().and_then(|it| it.take_due(now)) {
            let cluster = self.cluster.as_mut().expect("it has events");
            match event {
                Event::Hear(door, news) => cluster.hear(door, news),
                Event::TakeOver(third) => cluster.take_over(now, third),
                Event::Move => {
                    let moved = cluster.move_one(now, self.data.keys());
                    match moved {
                        Some(key) => self.take_away(key),
                        None => self.end_migration(now),
                    }
                }
            }
            self.send_away();
        }
    }

    /// A key has left a door: whoever watched it there sees it changed.
    fn take_away(&mut self, key: Key) {
        self.log.begin();
        let all = self.sessions.values_mut();
        for session in all.filter(|session| session.watched.contains(&key)) {
            session.is_touched = true;
        }
        self.log.note_change(key);
    }

    /// The slot on its way has arrived, with all that is left of it.
    pub fn end_migration(&mut self, now: Instant) {
        loop {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            match cluster.move_one(now, self.data.keys()) {
                Some(key) => self.take_away(key),
                None => break,
            }
        }
        self.log.asked_of.clear();
        if let Some(cluster) = &mut self.cluster {
            cluster.end_migration(now);
            // Who listens to a channel of the slot is told to do so elsewhere, and misses what is
            // said meanwhile.
            self.log.extend_gap(now + super::LISTENS_AGAIN);
        }
        self.send_away();
    }

    /// A door has died and will be back.
    pub fn lose_door(&mut self, now: Instant, door: usize, up_at: Instant) {
        let is_moving = self
            .cluster
            .as_ref()
            .is_some_and(|it| it.is_moving_at(door));
        if is_moving {
            self.end_migration(now);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.lose(now, door, up_at);
        }
    }

    /// Who waits for a key or listens to a channel where it is not any more is told so.
    pub(in crate::simulator::redis) fn send_away(&mut self) {
        let all: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in all {
            if let Some(mut session) = self.sessions.remove(&id) {
                self.send_away_one(&mut session);
                self.sessions.insert(id, session);
            }
        }
    }

    fn send_away_one(&mut self, session: &mut Session) {
        let Some(cluster) = &self.cluster else { return };
        let blocked = session.blocked.as_ref();
        let keys = blocked.map_or(Vec::new(), |it| keys_of(&name_in(&it.words), &it.words));
        let first = keys.first();
        let why = first.and_then(|key| cluster.sent_away(session.door, key));
        let is_gone = |topic: &&Vec<u8>| {
            let why = cluster.sent_away(session.door, topic);
            why.is_some_and(|why| why.starts_with("MOVED"))
        };
        let gone: Vec<_> = session.topics[SHARDED]
            .iter()
            .filter(is_gone)
            .cloned()
            .collect();
        if let Some(why) = why {
            session.blocked = None;
            session.say(&Value::Error(why));
        }
        if !gone.is_empty() {
            Self::change_topics(session, "sunsubscribe", &gone);
        }
    }
}

/// The name of a command, as the table has it.
fn name_in(words: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&words[0]).to_ascii_lowercase()
}

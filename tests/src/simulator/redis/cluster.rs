//! The slots of a simulated cluster: who has which, who believes what, and how both change.
//!
//! The nodes of a cluster are the doors of one simulated node: three of them are primaries, the
//! others may take over. What each believes about the slots may be old. Knows no connection and no
//! data but the names of keys that are on their way. Invariant: of a key, one door alone says that
//! it is there.

mod news;
mod serving;

use core::net::SocketAddr;
use core::time::Duration;

use std::collections::{BTreeMap, BTreeSet};

use manifold_core::time::Instant;
use manifold_protocols::redis::cluster::{SLOTS, slot};

use super::data::Key;
use super::log::name_of;
use super::resp::Value;
use crate::simulator::prng::Prng;

pub use news::Event;

/// How many nodes there are.
pub const DOORS: usize = 5;

/// How many of them have slots.
const SHARDS: usize = 3;

/// What stands in braces in the keys of a run: slots of all three parts.
pub const TAGS: [&str; 3] = ["a", "b", "c"];

/// Where a node is.
pub fn address_of(door: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, door as u8 + 1], 7000))
}

/// What somebody believes about the slots.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Belief {
    /// The primary of each third of the slots.
    primaries: [usize; SHARDS],
    /// Whether that is known to have died.
    is_dead: [bool; SHARDS],
    /// Slots that are not with their third.
    moved: BTreeMap<u16, usize>,
}

impl Belief {
    fn third_of(&self, slot: u16) -> usize {
        let own = usize::from(slot) * SHARDS / usize::from(SLOTS);
        self.moved.get(&slot).copied().unwrap_or(own)
    }

    fn owner(&self, slot: u16) -> usize {
        self.primaries[self.third_of(slot)]
    }

    fn is_whole(&self) -> bool {
        !self.is_dead.contains(&true)
    }
}

/// A slot on its way.
#[derive(Clone, Debug)]
struct Migration {
    slot: u16,
    /// Thirds.
    from: usize,
    to: usize,
    /// Keys that are at the new place.
    landed: BTreeSet<Key>,
}

/// The slots.
#[derive(Clone, Debug)]
pub struct Cluster {
    truth: Belief,
    /// By door.
    beliefs: Vec<Belief>,
    /// When each door is back, or was.
    up_at: [Instant; DOORS],
    migration: Option<Migration>,
    /// Slots that were on their way once: a second time, who is late could be led to where the
    /// slot is not yet.
    migrated: BTreeSet<u16>,
    events: Vec<(Instant, Event)>,
    prng: Prng,
}

/// What a command is to a node.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The node.
    pub door: usize,
    /// The keys of the command.
    pub keys: &'a [&'a [u8]],
    /// They are channels, which are never on their way.
    pub are_channels: bool,
    /// It stands behind ASKING.
    pub is_asking: bool,
}

impl Cluster {
    /// A cluster in which everybody knows everything.
    pub fn new(prng: Prng) -> Self {
        let truth = Belief {
            primaries: [0, 1, 2],
            is_dead: [false; SHARDS],
            moved: BTreeMap::new(),
        };
        Self {
            beliefs: vec![truth.clone(); DOORS],
            truth,
            up_at: [Instant(0); DOORS],
            migration: None,
            migrated: BTreeSet::new(),
            events: Vec::new(),
            prng,
        }
    }

    /// Why a node does not run a command, in its words.
    pub fn refusal(&self, asked: Asked<'_>, exists: impl Fn(&Key) -> bool) -> Option<String> {
        let (first, more) = asked.keys.split_first()?;
        let slot_asked = slot(first);
        if more.iter().any(|key| slot(key) != slot_asked) {
            return Some("CROSSSLOT Keys in request don't hash to the same slot".to_owned());
        }
        let belief = &self.beliefs[asked.door];
        if !belief.is_whole() {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let owner = belief.owner(slot_asked);
        let is_here = |key: &&&[u8]| {
            let key = (0, name_of(key));
            exists(&key) && self.is_at(asked.door, &key)
        };
        let moving = self.migration.as_ref();
        let moving = moving.filter(|it| it.slot == slot_asked && !asked.are_channels);
        let missing = asked.keys.iter().filter(|key| !is_here(key)).count();
        let is_target = moving.is_some_and(|it| self.truth.primaries[it.to] == asked.door);
        let again = "TRYAGAIN Multiple keys request during rehashing of slot";
        if let Some(moving) = moving.filter(|_| owner == asked.door)
            && missing > 0
        {
            let target = self.truth.primaries[moving.to];
            return Some(if missing < asked.keys.len() {
                again.to_owned()
            } else {
                redirect("ASK", slot_asked, target)
            });
        }
        if is_target && asked.is_asking {
            let is_wide = more.iter().any(|key| name_of(key) != name_of(first));
            return (is_wide && missing > 0).then(|| again.to_owned());
        }
        (owner != asked.door).then(|| redirect("MOVED", slot_asked, owner))
    }

    /// Whether a key, if it is there at all, is at a node.
    pub fn is_at(&self, door: usize, key: &Key) -> bool {
        let slot = slot(&key.1);
        let owner = match self.migration.as_ref().filter(|it| it.slot == slot) {
            Some(moving) if moving.landed.contains(key) => self.truth.primaries[moving.to],
            Some(moving) => self.truth.primaries[moving.from],
            None => self.truth.owner(slot),
        };
        owner == door
    }

    /// Where who waits at a node, or listens there, belongs instead.
    pub fn sent_away(&self, door: usize, key: &[u8]) -> Option<String> {
        let slot = slot(key);
        let belief = &self.beliefs[door];
        let moving = self.migration.as_ref().filter(|it| it.slot == slot);
        let is_target = moving.is_some_and(|it| self.truth.primaries[it.to] == door);
        if !belief.is_whole() {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let owner = belief.owner(slot);
        (owner != door && !is_target).then(|| redirect("MOVED", slot, owner))
    }

    /// Something ran behind ASKING: if its key exists now, it is there. Says what must not have
    /// happened.
    pub fn land(&mut self, door: usize, key: &Key, existed: bool, exists: bool) -> Option<String> {
        let moving = self.migration.as_mut()?;
        let is_target = self.truth.primaries[moving.to] == door;
        if !is_target || slot(&key.1) != moving.slot {
            return None;
        }
        let had_landed = moving.landed.contains(key);
        if exists {
            moving.landed.insert(key.clone());
        }
        let is_early = existed && !had_landed;
        is_early.then(|| format!("I15: {key:?} was used where it is not yet"))
    }

    /// What CLUSTER SLOTS says at a node.
    pub fn slots(&self, door: usize) -> Value {
        let belief = &self.beliefs[door];
        let mut ranges: Vec<(u16, u16, usize)> = Vec::new();
        for slot in 0..SLOTS {
            let owner = belief.owner(slot);
            match ranges.last_mut() {
                Some((_, last, one)) if *one == owner && *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot, owner)),
            }
        }
        let number = |number: u16| Value::Int(i64::from(number));
        let range = |(first, last, owner): (u16, u16, usize)| {
            let address = address_of(owner);
            let host = address.ip().to_string();
            let node = vec![
                Value::bulk(host.as_bytes()),
                number(address.port()),
                Value::bulk(format!("{owner:040x}").as_bytes()),
                Value::List(Vec::new()),
            ];
            Value::List(vec![number(first), number(last), Value::List(node)])
        };
        Value::List(ranges.into_iter().map(range).collect())
    }
}

fn redirect(verb: &str, slot: u16, to: usize) -> String {
    format!("{verb} {slot} {}", address_of(to))
}

/// The keys of a command, or the channels that have slots.
pub fn keys_of<'a>(name: &str, words: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
    let rest = words.get(1..).unwrap_or_default();
    let few = match name {
        "mget" | "del" | "exists" | "watch" | "ssubscribe" | "sunsubscribe" => rest,
        "blpop" | "brpop" => &rest[..rest.len().saturating_sub(1)],
        "mset" => return rest.iter().step_by(2).map(Vec::as_slice).collect(),
        "append" | "decr" | "get" | "getdel" | "getset" | "hgetall" | "hset" | "incr" | "llen"
        | "lpop" | "lpush" | "lrange" | "rpop" | "rpush" | "set" | "setnx" | "spublish"
        | "strlen" | "type" => &rest[..rest.len().min(1)],
        _ => &[],
    };
    few.iter().map(Vec::as_slice).collect()
}

/// The slot of a command whose keys have the same one.
pub fn slot_of(name: &str, words: &[Vec<u8>]) -> Option<u16> {
    keys_of(name, words).first().map(|key| slot(key))
}

/// Whether what a command names has a slot and is no key.
pub fn is_about_channels(name: &str) -> bool {
    ["spublish", "ssubscribe", "sunsubscribe"].contains(&name)
}

/// The longest that a node knows less than another.
const NEWS_MAX: Duration = Duration::from_secs(2);

/// How long it may take until who listened to a channel does so at the next node.
const LISTENS_AGAIN: Duration = Duration::from_secs(8);

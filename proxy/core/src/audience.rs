//! Who listens to a node through this proxy beyond what the node knows of.
//!
//! A shard holds one subscription at the node for all its subscribers of a channel, so the node
//! counts one where it would have counted each. What it misses is kept here, over all shards,
//! because PUBLISH on one shard has to count the subscribers of another. Touched only when somebody
//! subscribes or when a reply that counts subscribers is passed on. Invariant: a channel without
//! anything missing is not here.

use core::sync::atomic::{AtomicUsize, Ordering};

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use manifold_protocols::redis::glob;

/// The lock of this page alone: what is done under it is a look-up in a map.
#[allow(clippy::disallowed_types)] // The one thing beside permits that shards share.
type Lock<T> = std::sync::Mutex<T>;

/// What may be subscribed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A channel.
    Channel,
    /// All channels that a pattern fits.
    Pattern,
    /// A channel of a shard of a cluster.
    Shard,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    /// The word that begins a subscription, or ends it.
    pub(crate) const fn verb(self, is_end: bool) -> &'static str {
        match (self, is_end) {
            (Self::Channel, false) => "subscribe",
            (Self::Channel, true) => "unsubscribe",
            (Self::Pattern, false) => "psubscribe",
            (Self::Pattern, true) => "punsubscribe",
            (Self::Shard, false) => "ssubscribe",
            (Self::Shard, true) => "sunsubscribe",
        }
    }
}

/// Numbers of subscribers by name, for each [`Kind`].
type Numbers = [BTreeMap<Box<[u8]>, u32>; 3];

/// What one shard knows and what all shards know together.
#[derive(Debug)]
pub struct Audience {
    node: Arc<Node>,
    mine: Lock<Numbers>,
}

/// What all shards share.
#[derive(Debug, Default)]
struct Node {
    /// How many names there are, to be asked without the lock.
    names: AtomicUsize,
    missing: Lock<Numbers>,
}

impl Default for Audience {
    fn default() -> Self {
        Self::over(Arc::default())
    }
}

impl Audience {
    /// Another shard's view of the same node.
    pub fn share(&self) -> Self {
        Self::over(self.node.clone())
    }

    fn over(node: Arc<Node>) -> Self {
        let mine = Lock::default();
        Self { node, mine }
    }

    /// Whether the node's own numbers are right.
    pub fn is_empty(&self) -> bool {
        self.node.names.load(Ordering::Acquire) == 0
    }

    /// This shard has so many subscribers that the node does not count.
    pub fn set(&self, kind: Kind, name: &[u8], number: u32) {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mine[kind as usize].get(name).copied().unwrap_or(0);
        if number != before {
            change(&mut mine[kind as usize], name, before, number);
            self.node.change(kind, name, before, number);
        }
    }

    /// A shard has lost all its subscribers.
    pub fn return_all(&self) {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in Kind::ALL {
            for (name, number) in core::mem::take(&mut mine[kind as usize]) {
                self.node.change(kind, &name, number, 0);
            }
        }
    }

    /// How many subscribers of a channel the node does not count.
    pub fn missing(&self, kind: Kind, name: &[u8]) -> u32 {
        let missing = self.node.missing.lock();
        let missing = missing.unwrap_or_else(PoisonError::into_inner);
        missing[kind as usize].get(name).copied().unwrap_or(0)
    }

    /// How many messages the node does not count when it says to how many one was given.
    pub fn missing_receivers(&self, kind: Kind, channel: &[u8]) -> u32 {
        let missing = self.node.missing.lock();
        let missing = missing.unwrap_or_else(PoisonError::into_inner);
        let direct = missing[kind as usize].get(channel).copied().unwrap_or(0);
        if kind != Kind::Channel {
            return direct;
        }
        let patterns = missing[Kind::Pattern as usize].iter();
        let fitting = patterns.filter(|(pattern, _)| glob::matches(pattern, channel));
        direct + fitting.map(|(_, number)| number).sum::<u32>()
    }
}

impl Node {
    fn change(&self, kind: Kind, name: &[u8], before: u32, number: u32) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut missing[kind as usize], name, before, number);
        let names = missing.iter().map(BTreeMap::len).sum();
        self.names.store(names, Ordering::Release);
    }
}

fn change(numbers: &mut BTreeMap<Box<[u8]>, u32>, name: &[u8], before: u32, number: u32) {
    let all = numbers.get(name).copied().unwrap_or(0) - before + number;
    if all == 0 {
        numbers.remove(name);
    } else if let Some(known) = numbers.get_mut(name) {
        *known = all;
    } else {
        numbers.insert(name.into(), all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_all_shards_miss() {
        let one = Audience::default();
        let other = one.share();
        one.set(Kind::Channel, b"news", 3);
        other.set(Kind::Channel, b"news", 2);
        other.set(Kind::Pattern, b"n*", 4);
        other.set(Kind::Pattern, b"x*", 8);
        other.set(Kind::Shard, b"news", 16);
        assert_eq!(one.missing_receivers(Kind::Channel, b"news"), 9);
        assert_eq!(one.missing_receivers(Kind::Shard, b"news"), 16);
        assert_eq!(one.missing(Kind::Channel, b"news"), 5);
        one.set(Kind::Channel, b"news", 1);
        assert_eq!(other.missing(Kind::Channel, b"news"), 3);
    }

    #[test]
    fn forgets_a_lost_shard_and_nothing_else() {
        let lost = Audience::default();
        let other = lost.share();
        lost.set(Kind::Channel, b"a", 3);
        lost.set(Kind::Pattern, b"*", 3);
        other.set(Kind::Channel, b"a", 1);
        lost.return_all();
        assert_eq!(other.missing_receivers(Kind::Channel, b"a"), 1);
        other.set(Kind::Channel, b"a", 0);
        assert!(lost.is_empty());
    }
}

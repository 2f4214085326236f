//! The permits to open an upstream: the one number that shards share.
//!
//! Touched only when an upstream is opened or closed. Each shard holds a ledger of its own over the
//! number that all share, so that what it holds can be returned for it. Invariant: permits taken
//! and not returned never exceed `connections_max`.

use core::sync::atomic::{AtomicU32, Ordering};

use std::sync::Arc;

/// What is left of a node's `connections_max`, over all shards, and what one shard holds of it.
#[derive(Debug)]
pub struct Permits {
    node: Arc<Node>,
    /// Taken through this ledger and not returned.
    held: AtomicU32,
    /// How often this ledger is counted in the node's `wanting`.
    wanting: AtomicU32,
}

/// What all shards share.
#[derive(Debug)]
struct Node {
    free: AtomicU32,
    /// Ledgers over it.
    ledgers: AtomicU32,
    connections_max: u32,
    wanting: AtomicU32,
}

impl Permits {
    /// All of `connections_max` is free.
    pub fn new(connections_max: u32) -> Self {
        let free = AtomicU32::new(connections_max);
        Self::over(Arc::new(Node {
            free,
            ledgers: AtomicU32::new(0),
            connections_max,
            wanting: AtomicU32::new(0),
        }))
    }

    /// Another shard's ledger over the same number.
    pub fn share(&self) -> Self {
        Self::over(self.node.clone())
    }

    fn over(node: Arc<Node>) -> Self {
        node.ledgers.fetch_add(1, Ordering::AcqRel);
        Self {
            node,
            held: AtomicU32::new(0),
            wanting: AtomicU32::new(0),
        }
    }

    /// Takes one, if any is left. What a shard beyond its share has given up for another that is
    /// short is not for the next request of its own: it would go to and fro, and the other starve.
    pub fn take(&self) -> bool {
        if self.is_wanted_elsewhere() && self.held() >= self.fair_share() {
            return false;
        }
        let free = &self.node.free;
        let taken = free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| {
                free.checked_sub(1)
            })
            .is_ok();
        self.held.fetch_add(u32::from(taken), Ordering::AcqRel);
        taken
    }

    /// Gives one back.
    pub fn give_back(&self) {
        let held = &self.held;
        let given = held.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
            held.checked_sub(1)
        });
        assert!(given.is_ok(), "no permit is returned twice");
        self.node.free.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives back all that were taken through this ledger, for a shard whose upstreams are gone,
    /// and wants none any more.
    pub fn return_all(&self) {
        let held = self.held.swap(0, Ordering::AcqRel);
        self.node.free.fetch_add(held, Ordering::AcqRel);
        let wanting = self.wanting.swap(0, Ordering::AcqRel);
        self.node.wanting.fetch_sub(wanting, Ordering::AcqRel);
    }

    /// How many could be taken now.
    pub fn free(&self) -> u32 {
        self.node.free.load(Ordering::Acquire)
    }

    /// The limit, all shards together.
    pub fn connections_max(&self) -> u32 {
        self.node.connections_max
    }

    /// Says whether this shard has clients waiting for a permit that another shard holds.
    pub fn set_wanting(&self, before: bool, now: bool) {
        match (before, now) {
            (false, true) => {
                self.wanting.fetch_add(1, Ordering::AcqRel);
                self.node.wanting.fetch_add(1, Ordering::AcqRel);
            }
            (true, false) => {
                self.wanting.fetch_sub(1, Ordering::AcqRel);
                self.node.wanting.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
    }

    /// How many this ledger holds.
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Acquire)
    }

    /// What a ledger may keep while another is short: an equal part, at least one.
    pub fn fair_share(&self) -> u32 {
        let ledgers = self.node.ledgers.load(Ordering::Acquire).max(1);
        (self.node.connections_max / ledgers).max(1)
    }

    /// Whether another shard has clients waiting for a permit.
    pub fn is_wanted_elsewhere(&self) -> bool {
        self.node.wanting.load(Ordering::Acquire) > self.wanting.load(Ordering::Acquire)
    }

    /// Whether some shard has clients waiting for a permit.
    pub fn is_wanted(&self) -> bool {
        self.node.wanting.load(Ordering::Acquire) > 0
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.node.ledgers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_gives_out_more_than_there_are() {
        let first = Permits::new(3);
        let second = first.share();
        assert!(first.take() && second.take() && second.take());
        assert!(!first.take() && !second.take());
        second.give_back();
        assert!(first.take() && !second.take());
        assert_eq!((first.free(), second.connections_max()), (0, 3));
    }

    #[test]
    fn returns_only_its_own_when_a_shard_is_lost() {
        let lost = Permits::new(4);
        let other = lost.share();
        assert!(lost.take() && lost.take() && other.take());
        lost.set_wanting(false, true);
        other.set_wanting(false, true);
        lost.return_all();
        assert_eq!(other.free(), 3);
        assert!(other.is_wanted());
        other.set_wanting(true, false);
        assert!(!lost.is_wanted());
        lost.return_all();
        assert_eq!(other.free(), 3);
    }

    #[test]
    #[should_panic(expected = "no permit is returned twice")]
    fn refuses_to_take_back_what_this_shard_does_not_hold() {
        let first = Permits::new(4);
        let second = first.share();
        assert!(first.take());
        second.give_back();
    }

    #[test]
    fn takes_nothing_beyond_its_share_while_another_is_short() {
        let one = Permits::new(4);
        let other = one.share();
        assert!((0..3).all(|_| one.take()));
        other.set_wanting(false, true);
        assert!(!one.take(), "it has more than its share");
        assert!(other.take());
        one.give_back();
        assert!(!one.take(), "what it gave up is not for itself");
        assert!(other.take());
        other.set_wanting(true, false);
        one.give_back();
        assert!(one.take());
    }
}

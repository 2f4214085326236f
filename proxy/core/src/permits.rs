//! The permits to open an upstream: the one number that shards share.
//!
//! Touched only when an upstream is opened or closed. Invariant: permits taken and not returned
//! never exceed `connections_max`.

use core::sync::atomic::{AtomicU32, Ordering};

/// What is left of a node's `connections_max`, over all shards.
#[derive(Debug)]
pub struct Permits {
    free: AtomicU32,
    connections_max: u32,
    wanting: AtomicU32,
}

impl Permits {
    /// All of `connections_max` is free.
    pub fn new(connections_max: u32) -> Self {
        Self {
            free: AtomicU32::new(connections_max),
            connections_max,
            wanting: AtomicU32::new(0),
        }
    }

    /// Takes one, if any is left.
    pub fn take(&self) -> bool {
        self.free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1))
            .is_ok()
    }

    /// Gives one back.
    pub fn give_back(&self) {
        let before = self.free.fetch_add(1, Ordering::AcqRel);
        assert!(before < self.connections_max, "no permit is returned twice");
    }

    /// How many could be taken now.
    pub fn free(&self) -> u32 {
        self.free.load(Ordering::Acquire)
    }

    /// The limit, all shards together.
    pub fn connections_max(&self) -> u32 {
        self.connections_max
    }

    /// Says whether this shard has clients waiting for a permit that another shard holds.
    pub fn set_wanting(&self, before: bool, now: bool) {
        match (before, now) {
            (false, true) => self.wanting.fetch_add(1, Ordering::AcqRel),
            (true, false) => self.wanting.fetch_sub(1, Ordering::AcqRel),
            _ => 0,
        };
    }

    /// Whether some shard has clients waiting for a permit.
    pub fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::Acquire) > 0
    }
}

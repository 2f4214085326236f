//! Copies of a shard's counters, published once a second.
//!
//! The counters themselves are plain memory that only the shard writes. Invariant: reading a copy
//! never makes a shard wait for longer than it takes to copy one page.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manifold_core::stats::{Stats, Tally};
use manifold_core::time::Instant;
use manifold_drivers::{Counters, Driver};

use super::core::Core;

/// The time between two copies.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// The counters of one shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What its core counted since that core began.
    pub core: Stats,
    /// What its driver counted.
    pub driver: Counters,
    /// Cores that ended by a panic.
    pub panics: u64,
    /// What was counted for each service since the shard began, by number.
    pub services: Vec<Tally>,
}

/// The last copy of one shard's counters.
#[derive(Clone, Debug, Default)]
pub struct Board {
    last: Arc<Mutex<Snapshot>>,
}

impl Board {
    /// The last copy.
    pub fn read(&self) -> Snapshot {
        let last = self.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a shard publishes its counters with.
#[derive(Debug)]
pub struct Publisher {
    board: Board,
    due: Instant,
    panics: u64,
    /// What cores that have ended had counted for each service, as far as it was published.
    past: Vec<Tally>,
}

impl Publisher {
    /// Publishes to a board, first now.
    pub fn new(board: Board, now: Instant) -> Self {
        Self {
            board,
            due: now,
            panics: 0,
            past: Vec::new(),
        }
    }

    /// When the next copy is wanted.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Counts a core that ended by a panic.
    pub fn count_panic(&mut self) {
        self.panics += 1;
        self.past = self.board.read().services;
    }

    /// Publishes a copy if it is time.
    pub fn publish_if_due(&mut self, core: &mut Core, driver: &Driver, now: Instant) {
        if self.due <= now {
            self.publish(core, driver, now);
        }
    }

    /// Publishes a copy.
    pub fn publish(&mut self, core: &mut Core, driver: &Driver, now: Instant) {
        let (core, mut services) = core.run(|shard| (*shard.stats(), shard.tallies()));
        services.resize(services.len().max(self.past.len()), Tally::default());
        for (tally, past) in services.iter_mut().zip(&self.past) {
            tally.add(past);
        }
        let snapshot = Snapshot {
            core,
            driver: *driver.counters(),
            panics: self.panics,
            services,
        };
        *self
            .board
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.due = now + PUBLISH_EVERY;
    }
}

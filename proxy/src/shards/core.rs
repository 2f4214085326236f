//! The core of a shard behind a fence: a panic in it stays in it.
//!
//! Knows neither threads nor I/O. Invariant: after a panic not one more operation comes out: a
//! half-updated table could send one client's bytes to another.

use std::panic::{AssertUnwindSafe, catch_unwind};

use manifold_core::shard::{Settings, Shard};

/// A core that may have panicked.
#[derive(Debug)]
pub struct Core {
    /// None once it has panicked.
    shard: Option<Shard>,
}

impl Core {
    /// A core with no connections.
    pub fn new(settings: Settings) -> Self {
        Self {
            shard: Some(Shard::new(settings)),
        }
    }

    /// Whether it panicked. Then it does nothing any more.
    pub fn has_panicked(&self) -> bool {
        self.shard.is_none()
    }

    /// Does something with the core, or nothing if it has panicked or panics now.
    pub fn run<T: Default>(&mut self, what: impl FnOnce(&mut Shard) -> T) -> T {
        let Some(shard) = &mut self.shard else {
            return T::default();
        };
        // Unwind safety: a core that has panicked is dropped, so nobody sees it half-updated.
        match catch_unwind(AssertUnwindSafe(|| what(shard))) {
            Ok(answer) => answer,
            Err(_) => {
                self.bury();
                T::default()
            }
        }
    }

    /// Drops the core. Its own destructors may panic on the state that it is in.
    fn bury(&mut self) {
        let shard = self.shard.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(shard)));
    }
}

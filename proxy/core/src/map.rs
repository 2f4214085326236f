//! The hash map of the core: fast, and the same in every run with the same seed.
//!
//! The standard hasher draws its key from the operating system, so that the order of a map, and
//! with it a simulated run, would differ from run to run. Invariant: nothing here is random.

use std::collections::HashMap;

use foldhash::quality::FixedState;

/// A hash map with a seeded hasher.
#[allow(clippy::disallowed_types)] // The ban is on the default hasher; this is the replacement.
pub type FastMap<K, V> = HashMap<K, V, FixedState>;

/// An empty map whose hashes start from `seed`, which clients cannot know.
pub fn fast_map<K, V>(seed: u64) -> FastMap<K, V> {
    FastMap::with_hasher(FixedState::with_seed(seed))
}

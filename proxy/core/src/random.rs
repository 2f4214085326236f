//! A shard's random numbers: the same for the same seed.
//!
//! Knows nothing. Invariant: from numbers that were seen, the next ones cannot be found out.

use sha2::{Digest, Sha256};

use crate::ids::ShardId;

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    shard: ShardId,
    draws: u64,
}

impl Random {
    /// The numbers of one shard.
    pub(crate) fn new(seed: u64, shard: ShardId) -> Self {
        Self {
            seed,
            shard,
            draws: 0,
        }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.draws += 1;
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(self.shard.0.to_le_bytes());
        hash.update(self.draws.to_le_bytes());
        let digest = hash.finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
    }

    /// A secret that cannot be guessed from others.
    pub(crate) fn secret(&mut self) -> u32 {
        self.next() as u32
    }
}

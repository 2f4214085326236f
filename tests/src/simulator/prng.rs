//! The one source of randomness of a simulated run.
//!
//! Holds xoshiro256** seeded by splitmix64. Invariant: the same seed and the same calls give the
//! same numbers on every machine.

/// A seeded stream of numbers.
#[derive(Clone, Debug)]
pub struct Prng {
    state: [u64; 4],
}

/// One step of splitmix64: spreads a seed over all bits.
pub fn splitmix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Prng {
    /// A stream that depends on `seed` only.
    pub fn new(mut seed: u64) -> Self {
        Self {
            state: core::array::from_fn(|_| splitmix(&mut seed)),
        }
    }

    /// A stream of its own for a part, so that one part's draws do not shift another's.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let drawn = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is a number below the bound");
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "the range is not empty");
        low + self.below(high - low + 1)
    }

    /// A size from `low` to `high`, both included.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.between(low as u64, high as u64) as usize
    }

    /// True in `permille` of a thousand cases.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < u64::from(permille)
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// The place of one of several, drawn by weight; at least one weight is not zero.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut drawn = self.below(total);
        for (place, &weight) in weights.iter().enumerate() {
            if drawn < u64::from(weight) {
                return place;
            }
            drawn -= u64::from(weight);
        }
        unreachable!("a number below the sum of the weights falls into one of them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_stream_when_seed_is_equal() {
        let (mut one, mut two) = (Prng::new(7), Prng::new(7));
        let first: Vec<u64> = (0..100).map(|_| one.next()).collect();
        assert_eq!(first, (0..100).map(|_| two.next()).collect::<Vec<_>>());
        assert_ne!(first[0], Prng::new(8).next());
    }

    #[test]
    fn draws_every_weighted_place_but_those_of_weight_zero() {
        let mut prng = Prng::new(1);
        let mut seen = [0u32; 3];
        for _ in 0..1000 {
            seen[prng.weighted(&[1, 0, 3])] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!(seen[0] > 150 && seen[2] > 600, "{seen:?}");
    }
}

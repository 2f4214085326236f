//! Which shards serve which service.
//!
//! Pure. Invariant: every service is served by at least one shard, and by no more than its
//! `connections_max` can feed, so that "few connections" holds on many cores.

/// Connections without which a shard has nothing to multiplex over.
const CONNECTIONS_PER_SHARD_MIN: u32 = 4;

/// Which shards serve which service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// How many shards there are; some may have been asked for in vain.
    pub shards: u32,
    /// By service, the shards that serve it, each as its number.
    pub serving: Vec<Vec<u32>>,
}

impl Plan {
    /// Spreads services over at most `shards_max` shards, by the `connections_max` of each.
    pub fn new(shards_max: u32, connections_max: &[u32]) -> Self {
        assert!(shards_max > 0, "somebody has to serve");
        let mut next = 0;
        let mut total = 0_u32;
        let mut serving = Vec::with_capacity(connections_max.len());
        for connections in connections_max {
            let count = (connections / CONNECTIONS_PER_SHARD_MIN).clamp(1, shards_max);
            serving.push((0..count).map(|step| (next + step) % shards_max).collect());
            // The next service begins where this one ends: small ones do not all meet on shard 0.
            next = (next + count) % shards_max;
            total = total.saturating_add(count);
        }
        Self {
            shards: total.clamp(1, shards_max),
            serving,
        }
    }

    /// Whether a shard serves a service, by its place.
    pub fn serves(&self, shard: u32, service: usize) -> bool {
        self.serving[service].contains(&shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_as_many_shards_as_the_connections_feed() {
        for (connections, shards) in [(1, 1), (4, 1), (7, 1), (8, 2), (20, 5), (1_000, 8)] {
            let plan = Plan::new(8, &[connections]);
            assert_eq!(plan.serving[0].len(), shards, "{connections} connections");
            assert_eq!(plan.shards as usize, shards, "{connections} connections");
        }
    }

    #[test]
    fn spreads_small_services_over_the_shards() {
        let plan = Plan::new(3, &[4, 4, 8, 4]);
        assert_eq!(plan.serving, [vec![0], vec![1], vec![2, 0], vec![1]]);
        assert_eq!(plan.shards, 3);
        assert!(plan.serves(0, 2) && !plan.serves(1, 2));
    }

    #[test]
    fn names_only_shards_that_exist() {
        for shards_max in 1..6 {
            let plan = Plan::new(shards_max, &[1, 9, 100, 5]);
            assert!(plan.shards <= shards_max);
            assert!(
                plan.serving
                    .iter()
                    .flatten()
                    .all(|shard| *shard < plan.shards)
            );
        }
    }
}

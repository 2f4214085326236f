//! What one run of a load measured, and the middle of several.
//!
//! Plain numbers; knows nothing of systems or loads.

use std::time::Duration;

/// What one run measured. Zero where a load does not measure it.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Queries (or transactions, where the load says so) per second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50_us: f64,
    /// The 99th percentile of latency in microseconds.
    pub p99_us: f64,
    /// The longest latency in microseconds; requests without an answer at the end count with
    /// their age.
    pub longest_us: f64,
    /// Processor time of the proxy for each query, in microseconds.
    pub proxy_us: f64,
    /// Processor time of PostgreSQL for each query, in microseconds.
    pub node_us: f64,
    /// Processor time of the generator for each query, in microseconds.
    pub generator_us: f64,
    /// Memory of the proxy for each idle client, in KiB.
    pub client_kib: f64,
    /// The most connections that the node saw at once.
    pub connections: f64,
    /// Requests that were answered by an error.
    pub errors: f64,
    /// The text of the first error.
    pub error: Option<String>,
}

impl Sample {
    /// Divides processor times of a run by its queries.
    pub fn set_cost(&mut self, queries: u64, cost: Cost) {
        let each = |us: u64| us as f64 / queries.max(1) as f64;
        self.proxy_us = each(cost.proxy_us);
        self.node_us = each(cost.node_us);
        self.generator_us = each(cost.generator_us);
    }

    /// Sets the rate from a count and a time.
    pub fn set_rate(&mut self, queries: u64, time: Duration) {
        self.rate = queries as f64 / time.as_secs_f64().max(1e-9);
    }
}

/// Processor times, each in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Of the proxy.
    pub proxy_us: u64,
    /// Of PostgreSQL, all its processes.
    pub node_us: u64,
    /// Of the generator.
    pub generator_us: u64,
}

impl Cost {
    /// What was spent since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            proxy_us: self.proxy_us.saturating_sub(earlier.proxy_us),
            node_us: self.node_us.saturating_sub(earlier.node_us),
            generator_us: self.generator_us.saturating_sub(earlier.generator_us),
        }
    }
}

/// The median of every number by itself; of errors, of connections and of the longest wait the
/// worst, because one is enough to fall short.
pub fn middle(samples: &[Sample]) -> Sample {
    let each = |field: fn(&Sample) -> f64| median(samples.iter().map(field).collect());
    let worst = |field: fn(&Sample) -> f64| samples.iter().map(field).fold(0.0, f64::max);
    Sample {
        rate: each(|sample| sample.rate),
        p50_us: each(|sample| sample.p50_us),
        p99_us: each(|sample| sample.p99_us),
        longest_us: worst(|sample| sample.longest_us),
        proxy_us: each(|sample| sample.proxy_us),
        node_us: each(|sample| sample.node_us),
        generator_us: each(|sample| sample.generator_us),
        client_kib: each(|sample| sample.client_kib),
        connections: worst(|sample| sample.connections),
        errors: worst(|sample| sample.errors),
        error: samples.iter().find_map(|sample| sample.error.clone()),
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_middle_of_rates_and_worst_of_waits() {
        let sample = |rate, longest_us| Sample {
            rate,
            longest_us,
            ..Sample::default()
        };
        let found = middle(&[sample(3.0, 9.0), sample(1.0, 2.0), sample(2.0, 1.0)]);
        assert_eq!((found.rate, found.longest_us), (2.0, 9.0));
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
    }
}

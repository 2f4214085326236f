//! What is to be reached, as data: one number of one row, by itself or over that of another.

use super::super::sample::Sample;
use super::super::systems::System;

/// Which number of a sample.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Metric {
    /// Memory for each idle client, KiB.
    ClientMemory,
    /// The most connections on the node.
    Connections,
    /// Requests answered by an error.
    Errors,
    /// The longest latency.
    Longest,
    /// Processor time of the node for each query.
    NodeCpu,
    /// The median latency.
    P50,
    /// The 99th percentile of latency.
    P99,
    /// Processor time of the proxy for each query.
    ProxyCpu,
    /// Queries per second.
    Rate,
}

impl Metric {
    /// Its name in the tables.
    fn name(self) -> &'static str {
        match self {
            Self::ClientMemory => "KiB per idle client",
            Self::Connections => "connections on the node",
            Self::Errors => "errors",
            Self::Longest => "longest wait, seconds",
            Self::NodeCpu => "node CPU per query",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::ProxyCpu => "proxy CPU per query",
            Self::Rate => "throughput",
        }
    }

    /// The number.
    fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::ClientMemory => sample.client_kib,
            Self::Connections => sample.connections,
            Self::Errors => sample.errors,
            Self::Longest => sample.longest_us / 1e6,
            Self::NodeCpu => sample.node_us,
            Self::P50 => sample.p50_us,
            Self::P99 => sample.p99_us,
            Self::ProxyCpu => sample.proxy_us,
            Self::Rate => sample.rate,
        }
    }
}

/// Which row of which load; the same load where no name is given.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The load's name; empty for the load that the target belongs to.
    pub load: &'static str,
    /// Which system.
    pub system: System,
    /// Which way.
    pub variant: &'static str,
}

impl Place {
    /// A row of the same load without variants.
    pub const fn here(system: System) -> Self {
        Self {
            load: "",
            system,
            variant: "",
        }
    }

    /// How it is called in a sentence.
    fn name(&self) -> String {
        let parts = [self.system.name(), self.variant, self.load];
        let named: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        named.join(", ")
    }
}

/// What holds.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Which number.
    pub metric: Metric,
    /// Whose.
    pub of: Place,
    /// Divided by whose, if by any.
    pub over: Option<Place>,
    /// The bound.
    pub bound: Bound,
}

impl Target {
    /// The value, if all its rows were measured.
    pub fn value(&self, find: impl Fn(&Place) -> Option<Sample>) -> Option<f64> {
        let of = self.metric.of(&find(&self.of)?);
        let Some(over) = &self.over else {
            return Some(of);
        };
        let over = self.metric.of(&find(over)?);
        (over > 0.0).then(|| of / over)
    }

    /// Whether a value is good enough.
    pub fn is_met(&self, value: f64) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        }
    }

    /// What is wanted, in words.
    pub fn text(&self) -> String {
        let over = self
            .over
            .map_or(String::new(), |over| format!(" / {}", over.name()));
        let (word, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
        };
        format!(
            "{}: {}{over} {word} {bound}",
            self.metric.name(),
            self.of.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_and_compares() {
        let target = Target {
            metric: Metric::Rate,
            of: Place::here(System::IoUring),
            over: Some(Place::here(System::PgBouncer)),
            bound: Bound::AtLeast(2.5),
        };
        let value = target.value(|place| {
            let rate = if place.system == System::IoUring {
                10.0
            } else {
                4.0
            };
            Some(Sample {
                rate,
                ..Sample::default()
            })
        });
        assert_eq!(value, Some(2.5));
        assert!(target.is_met(2.5) && !target.is_met(2.4));
        assert_eq!(
            target.text(),
            "throughput: manifold io_uring / pgbouncer at least 2.5"
        );
    }
}

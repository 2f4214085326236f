//! The shards' counters under the names that the world outside knows.
//!
//! Reads the copies that shards publish. Whether anybody listens is the recorder's business.
//! Invariant: a counter never goes back, also when a fresh core begins at zero.

use std::fmt::Write;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;

use crate::shards::{Board, Snapshot};

/// The time between two looks at the shards' copies.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A name and where its value stands.
type Reading = (&'static str, fn(&Snapshot) -> u64);

/// What only grows while a core lives.
const CORE_COUNTERS: &[Reading] = &[
    ("manifold_clients_accepted_total", |s| {
        s.core.clients_accepted
    }),
    ("manifold_logins_refused_total", |s| s.core.logins_refused),
    ("manifold_upstreams_opened_total", |s| {
        s.core.upstreams_opened
    }),
    ("manifold_upstreams_failed_total", |s| {
        s.core.upstreams_failed
    }),
    ("manifold_requests_shared_total", |s| s.core.requests_shared),
    ("manifold_requests_tail_total", |s| s.core.requests_tail),
    ("manifold_requests_local_total", |s| s.core.requests_local),
    ("manifold_requests_queued_total", |s| s.core.requests_queued),
    ("manifold_requests_retried_total", |s| {
        s.core.requests_retried
    }),
    ("manifold_requests_reissued_total", |s| {
        s.core.requests_reissued
    }),
    ("manifold_requests_unaudited_total", |s| {
        s.core.requests_unaudited
    }),
    ("manifold_leases_total", |s| s.core.leases),
    ("manifold_session_leases_total", |s| s.core.leases_session),
    ("manifold_queue_nanoseconds_total", |s| s.core.queue_nanos),
    ("manifold_outcomes_unknown_total", |s| {
        s.core.outcomes_unknown
    }),
    ("manifold_replies_discarded_total", |s| {
        s.core.replies_discarded
    }),
    ("manifold_cancels_total", |s| s.core.cancels),
    ("manifold_cancels_forwarded_total", |s| {
        s.core.cancels_forwarded
    }),
    ("manifold_mismatches_total", |s| s.core.mismatches),
    ("manifold_texts_classified_total", |s| {
        s.core.texts_classified
    }),
    ("manifold_catalogs_read_total", |s| s.core.catalogs_read),
    ("manifold_switches_total", |s| s.core.switches),
    ("manifold_statements_prepared_total", |s| {
        s.core.statements_prepared
    }),
];

/// What only grows while a driver lives, which is as long as its shard.
const SHARD_COUNTERS: &[Reading] = &[
    ("manifold_core_panics_total", |s| s.panics),
    ("manifold_driver_passes_total", |s| s.driver.passes),
    ("manifold_driver_accepts_total", |s| s.driver.accepts),
    ("manifold_driver_accept_errors_total", |s| {
        s.driver.accept_errors
    }),
    ("manifold_driver_connects_total", |s| s.driver.connects),
    ("manifold_driver_receives_total", |s| s.driver.receives),
    ("manifold_driver_received_bytes_total", |s| {
        s.driver.bytes_received
    }),
    ("manifold_driver_sends_total", |s| s.driver.sends),
    ("manifold_driver_short_sends_total", |s| {
        s.driver.sends_short
    }),
    ("manifold_driver_sent_bytes_total", |s| s.driver.bytes_sent),
    ("manifold_driver_starved_total", |s| s.driver.starved),
    ("manifold_driver_knocks_total", |s| s.driver.knocks),
    ("manifold_driver_knocks_lost_total", |s| {
        s.driver.knocks_lost
    }),
    ("manifold_driver_overflows_total", |s| s.driver.overflows),
    ("manifold_driver_stale_total", |s| s.driver.stale),
];

/// What goes up and down.
const GAUGES: &[Reading] = &[
    ("manifold_clients", |s| s.core.clients),
    ("manifold_upstreams", |s| s.core.upstreams),
    ("manifold_upstreams_leased", |s| s.core.leased),
    ("manifold_queue_nanoseconds_max", |s| s.core.queue_nanos_max),
];

/// Reports for ever: to the recorder, and as a page of text.
pub async fn report(boards: Vec<Board>, page: watch::Sender<String>) {
    let mut shards: Vec<_> = (0..).map(Reporter::new).zip(boards).collect();
    let mut tick = tokio::time::interval(REPORT_EVERY);
    loop {
        tick.tick().await;
        let mut series = Vec::new();
        for (reporter, board) in &mut shards {
            let snapshot = board.read();
            let counters = reporter.publish(&snapshot);
            series.push((reporter.shard.clone(), counters, snapshot));
        }
        page.send_replace(text(&series));
    }
}

/// What a shard's reporter has counted, and the copy that its gauges are read from.
type Series = (String, Vec<(&'static str, u64)>, Snapshot);

/// All series in the text form of Prometheus: those of one name together.
fn text(shards: &[Series]) -> String {
    let mut text = String::new();
    let mut add = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    for (place, (name, _)) in CORE_COUNTERS.iter().chain(SHARD_COUNTERS).enumerate() {
        add(format_args!("# TYPE {name} counter"));
        for (shard, counters, _) in shards {
            let value = counters[place].1;
            add(format_args!("{name}{{shard=\"{shard}\"}} {value}"));
        }
    }
    for (name, read) in GAUGES {
        add(format_args!("# TYPE {name} gauge"));
        for (shard, _, snapshot) in shards {
            let value = read(snapshot);
            add(format_args!("{name}{{shard=\"{shard}\"}} {value}"));
        }
    }
    text
}

/// Reports one shard.
struct Reporter {
    /// The shard's number, as a label.
    shard: String,
    /// The last copy.
    last: Snapshot,
    /// What cores that have ended had counted, in the order of `CORE_COUNTERS`.
    past: [u64; CORE_COUNTERS.len()],
}

impl Reporter {
    fn new(shard: u32) -> Self {
        let past = [0; CORE_COUNTERS.len()];
        Self {
            shard: shard.to_string(),
            last: Snapshot::default(),
            past,
        }
    }

    /// Hands one shard's numbers to the recorder; answers its counters.
    fn publish(&mut self, snapshot: &Snapshot) -> Vec<(&'static str, u64)> {
        let counters = self.counters(snapshot);
        for (name, value) in &counters {
            counter!(*name, "shard" => self.shard.clone()).absolute(*value);
        }
        for (name, read) in GAUGES {
            gauge!(*name, "shard" => self.shard.clone()).set(read(snapshot) as f64);
        }
        counters
    }

    /// The counters of the shard since it began, whatever cores it had.
    fn counters(&mut self, snapshot: &Snapshot) -> Vec<(&'static str, u64)> {
        if snapshot.panics != self.last.panics {
            for (past, (_, read)) in self.past.iter_mut().zip(CORE_COUNTERS) {
                *past += read(&self.last);
            }
        }
        self.last = snapshot.clone();
        let core = CORE_COUNTERS.iter().zip(self.past);
        core.map(|((name, read), past)| (*name, past + read(snapshot)))
            .chain(
                SHARD_COUNTERS
                    .iter()
                    .map(|(name, read)| (*name, read(snapshot))),
            )
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of a struct's fields, as its Debug output has them.
    fn fields(debug: &str) -> usize {
        debug.matches(": ").count()
    }

    /// The core or a driver may count something new at any time; it must not go unseen.
    #[test]
    fn reports_everything_that_is_counted() {
        let snapshot = Snapshot::default();
        let counted = fields(&format!("{:?}", snapshot.core))
            + fields(&format!("{:?}", snapshot.driver))
            + ["panics"].len();
        let all: Vec<_> = [CORE_COUNTERS, SHARD_COUNTERS, GAUGES]
            .concat()
            .iter()
            .map(|(n, _)| *n)
            .collect();
        assert_eq!(all.len(), counted);
        assert_eq!(
            all.iter().collect::<BTreeSet<_>>().len(),
            counted,
            "no name twice"
        );
    }

    #[test]
    fn goes_on_counting_when_a_fresh_core_begins() {
        let mut reporter = Reporter::new(0);
        let mut snapshot = Snapshot::default();
        snapshot.core.leases = 5;
        let leases = |reporter: &mut Reporter, snapshot: &Snapshot| {
            let counters = reporter.counters(snapshot);
            counters
                .iter()
                .find(|(name, _)| *name == "manifold_leases_total")
                .unwrap()
                .1
        };
        assert_eq!(leases(&mut reporter, &snapshot), 5);
        snapshot.core.leases = 2;
        snapshot.panics = 1;
        assert_eq!(leases(&mut reporter, &snapshot), 7);
        snapshot.core.leases = 3;
        assert_eq!(leases(&mut reporter, &snapshot), 8);
    }
}

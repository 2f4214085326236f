//! The shards' counters under the names that the world outside knows.
//!
//! Reads the copies that shards publish. Whether anybody listens is the recorder's business.

use std::time::Duration;

use metrics::counter;

use crate::shards::{Board, Snapshot};

/// The time between two looks at the shards' copies.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Reports for ever.
pub async fn report(boards: Vec<Board>) {
    let mut tick = tokio::time::interval(REPORT_EVERY);
    loop {
        tick.tick().await;
        for (shard, board) in boards.iter().enumerate() {
            publish(shard, &board.read());
        }
    }
}

/// Hands one shard's counters to the recorder.
fn publish(shard: usize, snapshot: &Snapshot) {
    let shard = shard.to_string();
    let count = |name: &'static str, value: u64| {
        counter!(name, "shard" => shard.clone()).absolute(value);
    };
    let driver = &snapshot.driver;
    count("manifold_core_panics_total", snapshot.panics);
    count("manifold_driver_passes_total", driver.passes);
    count("manifold_driver_accepts_total", driver.accepts);
    count("manifold_driver_accept_errors_total", driver.accept_errors);
    count("manifold_driver_connects_total", driver.connects);
    count("manifold_driver_receives_total", driver.receives);
    count(
        "manifold_driver_received_bytes_total",
        driver.bytes_received,
    );
    count("manifold_driver_sends_total", driver.sends);
    count("manifold_driver_short_sends_total", driver.sends_short);
    count("manifold_driver_sent_bytes_total", driver.bytes_sent);
    count("manifold_driver_starved_total", driver.starved);
    count("manifold_driver_overflows_total", driver.overflows);
    count("manifold_driver_stale_total", driver.stale);
}

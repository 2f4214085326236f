//! What a silent client costs the proxy in memory.

use std::time::Duration;

use super::catalog::TOUCHED;
use super::{Load, Row};
use crate::bench::generator::Generator;
use crate::bench::sample::Sample;
use crate::bench::systems::Running;
use crate::harness::Node;

/// Resident memory with all clients there, less what it was before, for each of them.
///
/// Before, some clients have worked and left, so that what the proxy keeps for work (pools, rings,
/// statements) is not taken for what it keeps for each client.
pub fn run(load: &Load, row: Row, running: &Running, node: &Node) -> Sample {
    let work = Generator {
        mode: "select",
        clients: 50,
        time: Duration::from_secs(1),
        more: Vec::new(),
    };
    let worked = work.run(running, node, || ());
    if worked.error.is_some() {
        return worked;
    }
    let touch = if row.variant == TOUCHED {
        vec!["--touch".to_owned()]
    } else {
        Vec::new()
    };
    let before = running.resident_kib();
    let idle = Generator {
        mode: "idle",
        clients: load.clients,
        // A moment, so that the proxy gives back what only the logins needed.
        time: Duration::from_secs(2),
        more: touch,
    };
    let mut started = idle.start(running);
    if !started.reaches("end") {
        return started.failure();
    }
    let after = running.resident_kib();
    Sample {
        client_kib: after.saturating_sub(before) as f64 / f64::from(load.clients),
        ..Sample::default()
    }
}

//! A line for each service with what it has done: on SIGUSR1 and at the end.
//!
//! Reads the copies that shards publish. Invariant: one line, and always the same words, so that
//! programs can read it too.

use std::fmt::Write;

use manifold_core::proof::Reason;
use manifold_core::stats::Tally;

use crate::config::Config;
use crate::shards::Board;

/// Logs a line for each service.
pub fn log(config: &Config, boards: &[Board]) {
    let snapshots: Vec<_> = boards.iter().map(Board::read).collect();
    for (index, service) in config.services.iter().enumerate() {
        let mut sum = Tally::default();
        let of_shards = snapshots.iter().filter_map(|it| it.services.get(index));
        of_shards.for_each(|tally| sum.add(tally));
        tracing::info!("{}", line(&service.name, &sum));
    }
}

fn line(name: &str, tally: &Tally) -> String {
    let mut line = format!(
        "service {name:?}: clients {}, requests shared {} tail {} leased {}, leases {}",
        tally.clients_accepted,
        tally.requests_shared,
        tally.requests_tail,
        tally.requests_leased,
        tally.leases,
    );
    let kinds = Reason::ALL.into_iter().zip(tally.leases_session);
    let kinds: Vec<_> = kinds
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{} {count}", reason.name()))
        .collect();
    if !kinds.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(line, " (of sessions: {})", kinds.join(", "));
    }
    let millis = tally.queue_nanos_max as f64 / 1e6;
    let _ = write!(
        line,
        ", longest wait {millis:.3} ms, upstreams opened {}",
        tally.upstreams_opened
    );
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_everything_in_one_line() {
        let mut tally = Tally {
            clients_accepted: 3,
            requests_shared: 1_000,
            requests_tail: 20,
            requests_leased: 7,
            leases: 4,
            queue_nanos_max: 1_234_567,
            upstreams_opened: 2,
            ..Tally::default()
        };
        assert_eq!(
            line("app", &tally),
            "service \"app\": clients 3, requests shared 1000 tail 20 leased 7, leases 4, longest \
             wait 1.235 ms, upstreams opened 2"
        );
        tally.count_session(Reason::Listen);
        tally.count_session(Reason::Listen);
        tally.count_session(Reason::Temporary);
        let with_kinds = line("app", &tally);
        assert!(with_kinds.contains("leases 4 (of sessions: LISTEN 2, temporary object 1), "));
    }
}

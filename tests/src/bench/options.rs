//! What the benchmark is told on its command line.

use std::time::Duration;

use clap::Parser;

/// Measures manifold beside PgBouncer, nutcracker and direct connections, and prints one table per load.
#[derive(Clone, Debug, Parser)]
#[command(name = "tests/bench")]
pub struct Options {
    /// Short runs: one round of two seconds.
    #[arg(long)]
    pub quick: bool,
    /// Only the loads whose name begins like this; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Only these systems: direct, pgbouncer, nutcracker, io_uring, epoll, echo.
    #[arg(long, value_name = "SYSTEM")]
    pub system: Vec<String>,
    /// How often the systems take turns.
    #[arg(long)]
    pub rounds: Option<u32>,
    /// How long one run lasts.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Shards of manifold.
    #[arg(long, default_value_t = 1)]
    pub shards: u32,
    /// Threads of pgbench.
    #[arg(long, default_value_t = 2)]
    pub jobs: u32,
    /// Let PostgreSQL wait for its disk at each commit. Off by default: the disk of a virtual
    /// machine is the same noise for all.
    #[arg(long)]
    pub fsync: bool,
    /// Print the names of the loads and what is to be reached.
    #[arg(long)]
    pub list: bool,
}

impl Options {
    /// How often the systems take turns.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    /// How long one run lasts.
    pub fn time(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(if self.quick { 2 } else { 5 });
        // Bounded: a load is for minutes, not for ever, and lock waiters must not time out.
        Duration::from_secs(seconds.clamp(1, 60))
    }

    /// Whether a load was asked for.
    pub fn wants_load(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }

    /// Whether a system was asked for.
    pub fn wants_system(&self, name: &str) -> bool {
        self.system.is_empty() || self.system.iter().any(|only| name.contains(only.as_str()))
    }
}

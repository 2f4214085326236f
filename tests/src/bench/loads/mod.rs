//! What is measured and what is to be reached.
//!
//! A load is data: how the clients are run, against which systems, and the targets. [`catalog`]
//! lists them; the other modules run those that need more than one program.

pub mod catalog;
pub mod idle;
pub mod noise;
pub mod redis;
pub mod redis_catalog;
pub mod shards;
pub mod target;

use super::generator::Generator;
use super::options::Options;
use super::pgbench::Pgbench;
use super::sample::Sample;
use super::systems::{Running, Setup, System};
use crate::harness::Node;
use redis::Benchmark;
pub use target::{Bound, Metric, Place, Target};

/// One line of a table: a system, and how it is treated where a load has two ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// Which system.
    pub system: System,
    /// Which way; empty where there is only one.
    pub variant: &'static str,
}

/// How the clients of a load are run.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// By pgbench.
    Pgbench {
        /// Its script.
        script: &'static [&'static str],
        /// Its query mode.
        mode: &'static str,
    },
    /// By the benchmark's own generator; an echo gets the raw requests.
    Generated {
        /// What the clients do.
        mode: &'static str,
        /// Sets of startup parameters for the variant that has settings.
        parameters: &'static [&'static str],
    },
    /// Fast readers, in the noisy variant beside sleepers and lock waiters.
    Noise,
    /// Silent clients; memory is measured.
    Idle,
    /// Redis instead of PostgreSQL; without a benchmark, silent clients.
    Redis(Option<Benchmark>),
    /// Few connections for many shards and users.
    Shards,
}

/// One load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// How its clients are run.
    pub kind: Kind,
    /// How many clients.
    pub clients: u32,
    /// Who takes part.
    pub rows: Vec<Row>,
    /// What is to be reached.
    pub targets: Vec<Target>,
    /// What was left out and why.
    pub note: &'static str,
}

impl Load {
    /// Whether every run starts its system anew, because what is measured includes the start or
    /// because the other systems must not be there.
    pub fn is_fresh(&self) -> bool {
        matches!(self.kind, Kind::Idle | Kind::Redis(None) | Kind::Shards)
    }

    /// Whether its node is a Redis.
    pub fn is_redis(&self) -> bool {
        matches!(self.kind, Kind::Redis(_))
    }

    /// Whether it measures memory and nothing else.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind, Kind::Idle | Kind::Redis(None))
    }

    /// What redis-benchmark is told.
    fn benchmark(&self) -> Option<Benchmark> {
        match self.kind {
            Kind::Redis(benchmark) => benchmark,
            _ => None,
        }
    }

    /// How its systems are set up.
    pub fn setup(&self, options: &Options) -> Setup {
        match self.kind {
            Kind::Shards => shards::setup(),
            _ => Setup::new(options),
        }
    }

    /// One run against one system.
    pub fn run(&self, row: Row, running: &Running, node: &Node, options: &Options) -> Sample {
        match self.kind {
            Kind::Pgbench { script, mode } => Pgbench {
                script,
                mode,
                clients: self.clients,
                jobs: options.jobs,
                time: options.time(),
            }
            .run(running, node),
            Kind::Generated { mode, parameters } => {
                let mode = if row.system.is_echo() { "raw" } else { mode };
                let with_settings = !row.variant.is_empty();
                let sets = parameters.iter().filter(|_| with_settings);
                let more = sets.flat_map(|set| ["--parameters".to_owned(), (*set).to_owned()]);
                self.generator(mode, more.collect(), options)
                    .run(running, node, || ())
            }
            Kind::Noise => noise::run(self, row, running, node, options),
            Kind::Idle => idle::run(self, row, running, node),
            Kind::Redis(_) => unreachable!("its node is no PostgreSQL"),
            Kind::Shards => shards::run(self, running, node, options),
        }
    }

    /// The generator for this load.
    fn generator(&self, mode: &'static str, more: Vec<String>, options: &Options) -> Generator {
        Generator {
            mode,
            clients: self.clients,
            time: options.time(),
            more,
        }
    }
}

//! The simulator: a third driver, a network, nodes and clients in one thread, from one seed.
//!
//! Pure and deterministic: no sockets, clocks, threads or hash order. How it works: `world`, the
//! same for every protocol, draws what a run is made of from the seed and then does, again and
//! again, one of the things that can be done now: a client acts (`client`, `script`), a session of
//! the node does a step (`postgres`, `redis`), a shard does a pass (`driver`), bytes arrive
//! (`network`), a fault strikes. What only one protocol has of it is its `play`. With PostgreSQL,
//! every client compares each frame with a private connection of its own (`private`, the same node
//! code for one session), and `checker` looks at the world from outside. Invariant: the same seed
//! with the same options gives the same run.

pub mod checker;
pub mod classifier;
pub mod client;
pub mod driver;
pub mod network;
pub mod postgres;
pub mod private;
pub mod prng;
pub mod redis;
pub mod request;
pub mod script;
pub mod serves;
pub mod statement;
pub mod trace;
pub mod wire;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use manifold_core::planted::Bug;

pub use world::{Between, Failure, Report};

use postgres::play::PgWorld;
use redis::play::RedisWorld;

/// What the clients and the node of a run speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

/// What a run is besides its seed.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What is spoken.
    pub protocol: Protocol,
    /// What stands between clients and node.
    pub between: Between,
    /// Whether connections may fall silent and cancels come in storms, where the seed says so.
    pub is_harsh: bool,
    /// A bug that is planted in every shard.
    pub bug: Option<Bug>,
    /// Whether every step is printed.
    pub is_printed: bool,
}

impl Setup {
    /// Clients connected directly.
    pub const DIRECT: Self = Self {
        protocol: Protocol::Postgres,
        between: Between::Nothing,
        is_harsh: true,
        bug: None,
        is_printed: false,
    };

    /// The set-up that a seed is run with unless something else is asked for.
    pub fn of(seed: u64) -> Self {
        Self {
            protocol: Protocol::Postgres,
            between: Between::Shards(1 + (seed % 3) as u32),
            is_harsh: true,
            bug: None,
            is_printed: false,
        }
    }

    /// The same with the other protocol.
    pub fn with(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The same without silence and storms: what a seed was before there were any.
    pub fn mild(seed: u64) -> Self {
        Self {
            is_harsh: false,
            ..Self::of(seed)
        }
    }
}

/// Runs a seed to its end. A panic of the core is a failure like any other.
pub fn simulate(seed: u64, setup: Setup) -> Result<Report, Failure> {
    let run = || match setup.protocol {
        Protocol::Postgres => PgWorld::new(seed, setup).run(),
        Protocol::Redis => RedisWorld::new(seed, setup).run(),
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let violation = format!("panic: {}", text.unwrap_or("without words"));
        Err(Failure {
            seed,
            violation,
            steps: 0,
        })
    })
}

/// The first seed from `first` on, at most `count`, that fails with a planted bug and holds without
/// it.
pub fn catch(protocol: Protocol, bug: Bug, first: u64, count: u64) -> Option<Failure> {
    let catches = |seed: u64| {
        let sound = Setup::of(seed).with(protocol);
        let planted = Setup {
            bug: Some(bug),
            ..sound
        };
        let failure = simulate(seed, planted).err()?;
        simulate(seed, sound).ok().map(|_| failure)
    };
    (first..first + count).find_map(catches)
}

//! What a run is made of, drawn from its seed: swarm testing.
//!
//! Each run leaves out most faults and features, so that what is left meets in ways that a mixture
//! of everything never would. Invariant: the options depend on the seed only.

use core::time::Duration;

use manifold_core::limits::Limits;
use manifold_core::time::Instant;

use crate::simulator::driver::Temper;
use crate::simulator::network::{Patience, Weather};
use crate::simulator::prng::Prng;

/// How often each fault strikes, in a million steps of the world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A link carries nothing for a while.
    pub clog: u32,
    /// The connection of a session breaks.
    pub reset: u32,
    /// An operator ends a session.
    pub terminate: u32,
    /// The process of a session dies before, after or amid what it does.
    pub kill: u32,
    /// The node dies, refuses connections for a while and comes back.
    pub restart: u32,
    /// Nothing is run for a while.
    pub freeze: u32,
    /// A notice is sent out of turn.
    pub notice: u32,
    /// A new connection is refused or times out, in a thousand.
    pub refuse: u32,
    /// A link falls silent for ever: half open, as its ends see it.
    pub silence: u32,
    /// Many links carry nothing for a while, each from and to another moment.
    pub swizzle: u32,
    /// Many cancels are sent at once.
    pub storm: u32,
    /// Nobody answers a new connection, in a thousand.
    pub hang: u32,
    /// A letter to another shard finds its mailbox full, in a thousand.
    pub lost_letter: u32,
    /// A script runs for a while.
    pub busy: u32,
    /// A slot goes from node to node.
    pub migrate: u32,
    /// The name of the node leads to another address of it.
    pub rename: u32,
}

impl Faults {
    /// Whether a client may be told of a lost connection.
    pub fn lose_connections(&self) -> bool {
        self.reset
            + self.terminate
            + self.kill
            + self.restart
            + self.refuse
            + self.silence
            + self.hang
            > 0
    }
}

/// In a thousand runs, how many are harsh.
const HARSH_RUNS: u32 = 350;

/// What stands between clients and node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Between {
    /// Nothing: the simulator tests itself.
    Nothing,
    /// So many shards.
    Shards(u32),
}

/// How long the kernel of a client waits for who is silent.
pub const CLIENT: Patience = Patience {
    idle: Duration::from_secs(50),
    unacked: Duration::from_secs(20),
};

/// How long the kernel of a node waits for who is silent.
pub const NODE: Patience = Patience {
    idle: Duration::from_secs(60),
    unacked: Duration::from_secs(25),
};

/// How long the sockets of the proxy wait for who is silent.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For nodes.
    pub upstream: Patience,
    /// For clients.
    pub listener: Patience,
}

impl Waits {
    /// What the real drivers ask of their kernel. Nothing bounds what a client leaves
    /// unacknowledged but the host's own `tcp_retries2`; 8 of them, as those set who want to
    /// notice, are at least 100 seconds.
    pub(in crate::simulator) fn of_drivers() -> Self {
        let config = manifold_drivers::Config::default();
        let upstream = Patience {
            // The first question that finds the time of TCP_USER_TIMEOUT over is the second one.
            idle: config.keepalive_idle + config.keepalive_interval,
            unacked: config.user_timeout,
        };
        let listener = Patience {
            idle: Duration::from_secs(90),
            unacked: Duration::from_secs(100),
        };
        Self { upstream, listener }
    }
}

/// What a run is made of, whatever is spoken in it.
#[derive(Clone, Debug)]
pub struct Course {
    /// What stands between.
    pub between: Between,
    /// How many clients come.
    pub clients: u32,
    /// How many come in all: some come for those that have gone.
    pub clients_max: u32,
    /// Episodes of each.
    pub episodes: u32,
    /// The time within which they come.
    pub arrival: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// The network.
    pub weather: Weather,
    /// How long the proxy waits for who is silent.
    pub patience: Waits,
    /// The drivers.
    pub temper: Temper,
    /// The bounds of the shards.
    pub limits: Limits,
    /// Whether some bound is so small that clients may be told of it.
    pub are_limits_tiny: bool,
    /// Connections to the node, all shards together.
    pub connections_max: u32,
    /// In a thousand clients, how many are of each difficult kind.
    pub odd_clients: u32,
    /// The simulated time after which faults cease.
    pub safety: Duration,
    /// The simulated time within which everybody must finish after that.
    pub liveness: Duration,
}

impl Course {
    /// Adds what makes connections fall silent, and more of that kind, in some of the runs.
    pub fn harshen(&mut self, prng: &mut Prng, has_storms: bool) {
        if !prng.chance(HARSH_RUNS) {
            return;
        }
        self.temper.is_deaf = prng.chance(500);
        let mut rate = |most: u64| {
            if prng.chance(500) {
                prng.between(1, most) as u32
            } else {
                0
            }
        };
        let faults = &mut self.faults;
        faults.silence = rate(500);
        faults.swizzle = rate(200);
        if has_storms {
            faults.storm = rate(300);
        }
        faults.hang = rate(200);
        faults.lost_letter = rate(100);
        if has_storms {
            faults.rename = rate(300);
        }
    }

    /// When a client comes that may come from a moment on.
    pub fn arrival_from(&self, from: Instant, prng: &mut Prng) -> Instant {
        let arrival = self.arrival.as_nanos() as u64;
        Instant(from.0 + prng.between(0, arrival))
    }
}

/// Random faults, most of them not there.
pub(in crate::simulator) fn draw_faults(prng: &mut Prng) -> Faults {
    let mut rate = |most: u64| {
        if prng.chance(300) {
            prng.between(1, most) as u32
        } else {
            0
        }
    };
    Faults {
        clog: rate(2_000),
        reset: rate(500),
        terminate: rate(500),
        kill: rate(500),
        restart: rate(100),
        freeze: rate(300),
        notice: rate(2_000),
        refuse: rate(300),
        ..Faults::default()
    }
}

/// Random weather.
pub(in crate::simulator) fn draw_weather(prng: &mut Prng) -> Weather {
    let latency_min = Duration::from_micros(*prng.pick(&[1, 20, 500]));
    Weather {
        latency_min,
        latency_max: latency_min * *prng.pick(&[1, 2, 20]),
        window: *prng.pick(&[200, 2_000, 64_000]),
        chunk_max: *prng.pick(&[1, 7, 1_000, 64_000]),
    }
}

/// Random drivers.
pub(in crate::simulator) fn draw_temper(prng: &mut Prng) -> Temper {
    Temper {
        batch_max: *prng.pick(&[1, 4, 64]),
        delay_max: Duration::from_micros(*prng.pick(&[0, 20, 2_000])),
        burst_max: *prng.pick(&[0, 100, 100_000]),
        receive_max: *prng.pick(&[100, 4_096]),
        late_bytes: *prng.pick(&[0, 300]),
        classify_max: Duration::from_micros(*prng.pick(&[1, 100, 20_000])),
        is_deaf: false,
    }
}

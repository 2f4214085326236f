//! What a run is made of, drawn from its seed: swarm testing.
//!
//! Each run leaves out most faults and features, so that what is left meets in ways that a mixture
//! of everything never would. Invariant: the options depend on the seed only.

use core::time::Duration;

use manifold_core::limits::Limits;

use super::logins::Logins;
use crate::simulator::client::{Excuses, Habits};
use crate::simulator::driver::Temper;
use crate::simulator::network::{Patience, Weather};
use crate::simulator::postgres::Service;
use crate::simulator::prng::Prng;
use crate::simulator::script::Taste;

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
pub(in crate::simulator) const HARSH_RUNS: u32 = 350;

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

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
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
    /// What they do.
    pub taste: Taste,
    /// What goes wrong.
    pub faults: Faults,
    /// The network.
    pub weather: Weather,
    /// How long the proxy waits for who is silent.
    pub patience: Waits,
    /// The drivers.
    pub temper: Temper,
    /// The node.
    pub service: Service,
    /// Who may log in, and how.
    pub logins: Logins,
    /// The bounds of the shards.
    pub limits: Limits,
    /// Whether some bound is so small that clients may be told of it.
    pub are_limits_tiny: bool,
    /// Connections to the node, all shards together.
    pub connections_max: u32,
    /// In a thousand classifications, how many doubt without reason.
    pub doubts: u32,
    /// In a thousand clients, how many are of each difficult kind.
    pub odd_clients: u32,
    /// The simulated time after which faults cease.
    pub safety: Duration,
    /// The simulated time within which everybody must finish after that.
    pub liveness: Duration,
}

impl Options {
    /// The options of a seed.
    pub fn draw(prng: &mut Prng, between: Between) -> Self {
        let is_clean = prng.chance(400);
        let faults = if is_clean {
            Faults::default()
        } else {
            draw_faults(prng)
        };
        let (limits, are_limits_tiny) = draw_limits(prng);
        let clients = *prng.pick(&[1, 2, 3, 5, 8, 16]);
        let logins = Logins::draw(prng, between);
        Self {
            between,
            clients,
            clients_max: clients * *prng.pick(&[1, 1, 2, 4]),
            episodes: *prng.pick(&[2, 5, 10]),
            arrival: Duration::from_millis(*prng.pick(&[0, 5, 100])),
            taste: Taste {
                hides: !logins.is_fragile(),
                ..Taste::draw(prng)
            },
            faults,
            weather: draw_weather(prng),
            patience: Waits::of_drivers(),
            temper: draw_temper(prng),
            service: draw_service(prng),
            logins,
            limits,
            are_limits_tiny,
            connections_max: *prng.pick(&[1, 2, 3, 4, 8, 16]),
            doubts: *prng.pick(&[0, 0, 20, 300]),
            odd_clients: *prng.pick(&[0, 200, 500]),
            safety: Duration::from_secs(20),
            liveness: Duration::from_secs(600),
        }
    }

    /// Adds what makes connections fall silent and cancels come in storms, in some of the runs.
    pub fn harshen(&mut self, prng: &mut Prng) {
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
        faults.storm = rate(300);
        faults.hang = rate(200);
        faults.lost_letter = rate(100);
    }

    /// What a client's reply may differ in.
    pub fn excuses(&self) -> Excuses {
        let mut excuses = Excuses::default();
        if self.faults.lose_connections() {
            let lost = ["08000", "08001", "08003", "08004", "08006", "08007"];
            excuses.codes.extend(lost);
            excuses.codes.extend(["57P01", "57P02", "57P03", "53300"]);
            excuses.closes = true;
        }
        if self.logins.is_fragile() {
            excuses.codes.insert("08006");
            excuses.closes = true;
        }
        if self.are_limits_tiny {
            excuses.codes.extend(["53300", "53400", "54000", "57014"]);
            excuses.closes = true;
        }
        excuses
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

fn draw_service(prng: &mut Prng) -> Service {
    let shortest = Duration::from_micros(*prng.pick(&[1, 50]));
    Service {
        shortest,
        longest: shortest * *prng.pick(&[1, 10, 200]),
    }
}

/// Half of the runs have the default bounds; in the others some are next to nothing.
fn draw_limits(prng: &mut Prng) -> (Limits, bool) {
    let mut limits = Limits::default();
    if prng.chance(500) {
        return (limits, false);
    }
    let mut tiny = || prng.chance(250);
    let shrinks = [tiny(), tiny(), tiny(), tiny(), tiny(), tiny()];
    if shrinks[0] {
        limits.pipe_depth_max = 2;
    }
    if shrinks[1] {
        limits.output_high = 300;
        limits.input_high = 300;
    }
    if shrinks[2] {
        limits.upstream_output_high = 500;
    }
    if shrinks[3] {
        limits.upstream_statements_max = 2;
    }
    if shrinks[4] {
        limits.texts_max = 3;
    }
    if shrinks[5] {
        limits.upstream_idle_max = Duration::from_millis(50);
        limits.identities_idle_max = 0;
        limits.stall_time = Duration::from_millis(1);
    }
    let is_told = prng.chance(200);
    if is_told {
        limits.queue_wait_max = Duration::from_millis(20);
        limits.clients_max = 4;
    }
    (limits, is_told)
}

/// How one client behaves.
pub fn draw_habits(prng: &mut Prng, odd_clients: u32) -> Habits {
    let mut odd = || prng.chance(odd_clients);
    let [
        reads_slowly,
        writes_slowly,
        leaves,
        cancels,
        garbles,
        asks_tls,
        half_closes,
        forgets,
    ] = [odd(), odd(), odd(), odd(), odd(), odd(), odd(), odd()];
    Habits {
        depth: *prng.pick(&[1, 1, 2, 5, 20]),
        pause_max: Duration::from_micros(*prng.pick(&[0, 10, 1_000, 50_000])),
        read_max: if reads_slowly { 10 } else { 65_536 },
        read_pause_max: Duration::from_millis(if reads_slowly { 5 } else { 0 }),
        write_max: if writes_slowly { 1 } else { 65_536 },
        write_pause_max: Duration::from_millis(if writes_slowly { 2 } else { 0 }),
        asks_tls,
        leaves: if leaves { *prng.pick(&[10, 100]) } else { 0 },
        cancels: if cancels { 200 } else { 0 },
        garbles: if garbles { 50 } else { 0 },
        half_closes,
        forgets_password: forgets && prng.chance(200),
    }
}

//! What a run with Redis is made of, drawn from its seed.
//!
//! Each run leaves out most faults and kinds of episodes. Invariant: the options depend on the seed
//! only.

use core::time::Duration;

use manifold_core::limits::Limits;

use super::client::{Excuses, Habits};
use super::script::Taste;
use crate::simulator::driver::Temper;
use crate::simulator::network::Weather;
use crate::simulator::prng::Prng;
use crate::simulator::world::options::{HARSH_RUNS, Waits, draw_faults, draw_temper, draw_weather};
use crate::simulator::world::{Between, Faults};

/// How often a node refuses things.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grudges {
    /// How often a script runs for a while, in a million steps of the world.
    pub busy: u32,
    /// In a thousand commands that need memory, how many find none.
    pub oom: u32,
    /// How long it loads after a restart, at most.
    pub loading: Duration,
    /// How long it takes no writes after that, at most.
    pub readonly: Duration,
    /// How often a slot goes from node to node, in a million steps of the world.
    pub migrate: u32,
}

/// In a thousand runs, how many are with a cluster.
const SPREAD_RUNS: u32 = 250;

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What stands between clients and node.
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
    /// What the node refuses.
    pub grudges: Grudges,
    /// The network.
    pub weather: Weather,
    /// How long the proxy waits for who is silent.
    pub patience: Waits,
    /// The drivers.
    pub temper: Temper,
    /// Nobody may do anything without a password.
    pub is_locked: bool,
    /// How many threads the node reads with.
    pub threads: u32,
    /// The node is a cluster.
    pub is_spread: bool,
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

impl Options {
    /// The options of a seed.
    pub fn draw(prng: &mut Prng, between: Between) -> Self {
        let is_clean = prng.chance(400);
        let (faults, grudges) = if is_clean {
            (Faults::default(), Grudges::default())
        } else {
            (draw_faults(prng), draw_grudges(prng))
        };
        let (limits, are_limits_tiny) = draw_limits(prng);
        let clients = *prng.pick(&[1, 2, 3, 5, 8, 12]);
        let is_locked = prng.chance(150);
        let mut taste = Taste::draw(prng, is_locked);
        // Who is told that it has waited too long cannot know what it has muted.
        taste.mutes = limits.queue_wait_max >= Limits::default().queue_wait_max;
        let connections_max = *prng.pick(&[1, 2, 3, 4, 8, 8, 16, 16]);
        let between = match between {
            Between::Nothing => between,
            // Shards share a node only as far as there are connections for each of them.
            Between::Shards(count) => Between::Shards(count.min((connections_max / 4).max(1))),
        };
        Self {
            between,
            clients,
            clients_max: clients * *prng.pick(&[1, 1, 2, 4]),
            episodes: *prng.pick(&[2, 5, 10]),
            arrival: Duration::from_millis(*prng.pick(&[0, 5, 100])),
            taste,
            faults,
            grudges,
            weather: draw_weather(prng),
            patience: Waits::of_drivers(),
            temper: draw_temper(prng),
            is_locked,
            threads: *prng.pick(&[1, 1, 2, 4]),
            is_spread: false,
            limits,
            are_limits_tiny,
            connections_max,
            odd_clients: *prng.pick(&[0, 200, 500]),
            safety: Duration::from_secs(10),
            liveness: Duration::from_secs(600),
        }
    }

    /// Makes a cluster of the node, in some of the runs.
    pub fn spread(&mut self, prng: &mut Prng) {
        if !prng.chance(SPREAD_RUNS) {
            return;
        }
        self.is_spread = true;
        self.taste.is_spread = true;
        self.grudges.migrate = *prng.pick(&[0, 1_000, 5_000]);
    }

    /// Adds what makes connections fall silent, in some of the runs.
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
        faults.hang = rate(200);
        faults.lost_letter = rate(100);
    }

    /// What a client's reply may differ in.
    pub fn excuses(&self) -> Excuses {
        let is_lossy = self.faults.lose_connections();
        Excuses {
            is_lossy,
            is_starved: self.are_limits_tiny,
            has_no_hub: self.connections_max < if self.is_spread { 3 } else { 2 },
            // A cluster's big replies are not asked anew for who does not read them.
            closes: is_lossy
                || self.are_limits_tiny
                || self.is_spread && self.limits.reply_bytes_max < 100_000,
            is_moody: self.grudges.busy > 0 || self.faults.restart > 0,
            is_locked: self.is_locked,
            is_spread: self.is_spread,
            is_cramped: is_lossy && self.connections_max < 5,
            forgets: self.limits.request_bytes_max < 10_000,
        }
    }
}

fn draw_grudges(prng: &mut Prng) -> Grudges {
    let times = [0, 0, 5, 200, 2_000];
    Grudges {
        busy: *prng.pick(&[0, 0, 300]),
        oom: *prng.pick(&[0, 0, 100]),
        loading: Duration::from_millis(*prng.pick(&times)),
        readonly: Duration::from_millis(*prng.pick(&times)),
        migrate: 0,
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
        limits.output_high = 300;
        limits.input_high = 300;
    }
    if shrinks[1] {
        limits.upstream_output_high = 500;
    }
    if shrinks[2] {
        limits.upstream_idle_max = Duration::from_millis(50);
    }
    if shrinks[3] {
        limits.subscriber_bytes_max = 2_000;
    }
    if shrinks[4] {
        limits.request_bytes_max = 40;
    }
    if shrinks[5] {
        limits.reply_bytes_max = 2_000;
    }
    let is_told = prng.chance(200);
    if is_told {
        limits.queue_wait_max = Duration::from_millis(20);
        limits.clients_max = 4;
    }
    (limits, is_told || shrinks[3])
}

/// How one client behaves.
pub fn draw_habits(prng: &mut Prng, odd_clients: u32) -> Habits {
    let mut odd = || prng.chance(odd_clients);
    let [reads_slowly, writes_slowly, leaves, garbles, half_closes] =
        [odd(), odd(), odd(), odd(), odd()];
    Habits {
        depth: *prng.pick(&[1, 1, 2, 5, 20]),
        pause_max: Duration::from_micros(*prng.pick(&[0, 10, 1_000, 50_000])),
        read_max: if reads_slowly { 10 } else { 65_536 },
        read_pause_max: Duration::from_millis(if reads_slowly { 5 } else { 0 }),
        write_max: if writes_slowly { 1 } else { 65_536 },
        write_pause_max: Duration::from_millis(if writes_slowly { 2 } else { 0 }),
        leaves: if leaves { *prng.pick(&[10, 100]) } else { 0 },
        garbles: if garbles { 20 } else { 0 },
        half_closes,
        inlines: *prng.pick(&[0, 0, 100]),
    }
}

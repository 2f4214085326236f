//! What a run with Redis is made of, drawn from its seed.
//!
//! Each run leaves out most faults and kinds of episodes. Invariant: the options depend on the seed
//! only.

use core::time::Duration;

use manifold_core::limits::Limits;
use manifold_core::time::Instant;

use super::client::{Client, Excuses, Habits};
use super::script::{Script, Taste};
use crate::simulator::prng::Prng;
use crate::simulator::world::course::{Waits, draw_faults, draw_temper, draw_weather};
use crate::simulator::world::{Between, Course, Faults};

/// How often a node refuses things.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grudges {
    /// In a thousand commands that need memory, how many find none.
    pub oom: u32,
    /// How long it loads after a restart, at most.
    pub loading: Duration,
    /// How long it takes no writes after that, at most.
    pub readonly: Duration,
}

/// In a thousand runs, how many are with a cluster.
const SPREAD_RUNS: u32 = 250;

/// What only Redis has.
#[derive(Clone, Debug)]
pub struct Options {
    /// What clients do.
    pub taste: Taste,
    /// What the node refuses.
    pub grudges: Grudges,
    /// Nobody may do anything without a password.
    pub is_locked: bool,
    /// How many threads the node reads with.
    pub threads: u32,
    /// The node is a cluster.
    pub is_spread: bool,
}

impl Options {
    /// The options of a seed.
    pub fn draw(prng: &mut Prng, between: Between) -> (Course, Self) {
        let is_clean = prng.chance(400);
        let (faults, grudges) = if is_clean {
            (Faults::default(), Grudges::default())
        } else {
            let faults = draw_faults(prng);
            let (busy, grudges) = draw_grudges(prng);
            let faults = Faults {
                busy,
                // A node says nothing that it was not asked.
                notice: 0,
                ..faults
            };
            (faults, grudges)
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
        let clients_max = clients * *prng.pick(&[1, 1, 2, 4]);
        let episodes = *prng.pick(&[2, 5, 10]);
        let arrival = Duration::from_millis(*prng.pick(&[0, 5, 100]));
        let weather = draw_weather(prng);
        let temper = draw_temper(prng);
        let threads = *prng.pick(&[1, 1, 2, 4]);
        let course = Course {
            between,
            clients,
            clients_max,
            episodes,
            arrival,
            faults,
            weather,
            patience: Waits::of_drivers(),
            temper,
            limits,
            are_limits_tiny,
            connections_max,
            odd_clients: *prng.pick(&[0, 200, 500]),
            safety: Duration::from_secs(10),
            liveness: Duration::from_secs(600),
        };
        let options = Self {
            taste,
            grudges,
            is_locked,
            threads,
            is_spread: false,
        };
        (course, options)
    }

    /// Makes a cluster of the node, in some of the runs.
    pub fn spread(&mut self, course: &mut Course, prng: &mut Prng) {
        if !prng.chance(SPREAD_RUNS) {
            return;
        }
        self.is_spread = true;
        self.taste.is_spread = true;
        course.faults.migrate = *prng.pick(&[0, 1_000, 5_000]);
    }

    /// What a client's reply may differ in.
    fn excuses(&self, course: &Course) -> Excuses {
        let is_lossy = course.faults.lose_connections();
        let are_replies_short = course.limits.reply_bytes_max < 100_000;
        Excuses {
            is_lossy,
            is_starved: course.are_limits_tiny,
            has_no_hub: course.connections_max < if self.is_spread { 3 } else { 2 },
            // A cluster's big replies are not asked anew for who does not read them.
            closes: is_lossy || course.are_limits_tiny || self.is_spread && are_replies_short,
            cuts_long: are_replies_short,
            is_moody: course.faults.busy > 0 || course.faults.restart > 0,
            is_locked: self.is_locked,
            is_spread: self.is_spread,
            is_narrow: course.connections_max < 5,
            is_cramped: is_lossy && course.connections_max < 5,
            forgets: course.limits.request_bytes_max < 10_000,
        }
    }

    /// A client that has not connected yet and comes after `from`.
    pub fn new_client(
        &self,
        course: &Course,
        number: u32,
        from: Instant,
        prng: &mut Prng,
    ) -> Client {
        let name = format!("c{number}");
        let habits = draw_habits(prng, course.odd_clients);
        let taste = self.taste.clone();
        let script = Script::new(name.clone(), taste, course.episodes, prng.fork());
        let starts_at = course.arrival_from(from, prng);
        let stream = prng.fork();
        Client::new(
            name,
            habits,
            self.excuses(course),
            script,
            stream,
            starts_at,
        )
    }
}

/// How often a script runs for a while, and what the node refuses.
fn draw_grudges(prng: &mut Prng) -> (u32, Grudges) {
    let times = [0, 0, 5, 200, 2_000];
    let busy = *prng.pick(&[0, 0, 300]);
    let grudges = Grudges {
        oom: *prng.pick(&[0, 0, 100]),
        loading: Duration::from_millis(*prng.pick(&times)),
        readonly: Duration::from_millis(*prng.pick(&times)),
    };
    (busy, grudges)
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
fn draw_habits(prng: &mut Prng, odd_clients: u32) -> Habits {
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

//! The world: clients, network, shards and node in one thread, moved on by one random step at a
//! time.
//!
//! Knows all parts and the order of nothing between them. Invariant: everything random comes from
//! the seed, so that a run can be had again.

mod faults;
mod logins;
pub(super) mod nodes;
pub(super) mod options;
pub(super) mod passes;
pub(super) mod setup;
mod storms;

use core::fmt;

use manifold_core::time::Instant;

pub use nodes::NodePort;
pub use options::{Between, Faults, Options};

use super::checker;
use super::client::Client;
use super::driver::Driver;
use super::network::{LinkId, Network};
use super::postgres::Node;
use super::prng::Prng;
use super::trace::Trace;
use passes::SimShard;
use storms::Cancel;

/// Steps after which a run is said not to come to rest.
pub(super) const STEPS_MAX: u64 = 3_000_000;

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was violated, beginning with the number of the invariant.
    pub violation: String,
    /// Steps until then.
    pub steps: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            violation,
            steps,
        } = self;
        write!(f, "SEED={seed} step {steps}: {violation}")
    }
}

/// What a run that held came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The hash of its trace.
    pub hash: u64,
    /// Steps.
    pub steps: u64,
    /// Requests answered.
    pub answered: u64,
    /// Replies that a fault excused.
    pub excused: u64,
    /// Tokens committed.
    pub committed: u64,
    /// Messages that came to those who listen.
    pub heard: u64,
    /// Sessions that the node ever had.
    pub sessions: u64,
    /// The most sessions it had at once.
    pub sessions_high: u64,
    /// Simulated nanoseconds.
    pub nanos: u64,
}

/// Something that can be done now.
#[derive(Clone, Copy, Debug)]
enum Action {
    Connect(usize),
    Client(usize),
    Cancel(usize),
    Node(LinkId, nodes::Act),
    Pass(usize),
}

/// A world.
#[derive(Debug)]
pub struct World {
    seed: u64,
    options: Options,
    now: Instant,
    prng: Prng,
    network: Network,
    port: NodePort<Node>,
    shards: Vec<SimShard>,
    clients: Vec<Client>,
    cancels: Vec<Cancel>,
    trace: Trace,
    is_healed: bool,
    is_draining: bool,
    violation: Option<String>,
}

impl World {
    /// Runs to the end.
    pub fn run(mut self) -> Result<Report, Failure> {
        while self.violation.is_none() && !self.is_over() {
            self.turn();
        }
        if self.violation.is_none() {
            self.check_end();
        }
        match self.violation.take() {
            None => Ok(self.report()),
            Some(violation) => Err(Failure {
                seed: self.seed,
                violation,
                steps: self.trace.steps,
            }),
        }
    }

    fn report(&self) -> Report {
        Report {
            hash: self.trace.hash(),
            steps: self.trace.steps,
            answered: self.clients.iter().map(|client| client.answered).sum(),
            excused: self.clients.iter().map(|client| client.excused).sum(),
            committed: self.port.node.database.ledger.len() as u64,
            heard: self.clients.iter().map(|client| client.notified).sum(),
            sessions: self.port.node.sessions_made(),
            sessions_high: self.port.sessions_high as u64,
            nanos: self.now.0,
        }
    }

    /// Does some of what can be done now, or lets time pass.
    fn turn(&mut self) {
        self.heal_when_due();
        self.end_cancels();
        if self.is_over() {
            return;
        }
        for shard in &mut self.shards {
            shard.driver.progress(self.now, &mut self.network);
        }
        let mut actions = self.actions();
        if actions.is_empty() {
            self.pass_time();
            return;
        }
        let count = self.prng.size(1, actions.len());
        for _ in 0..count {
            let place = self.prng.below(actions.len() as u64) as usize;
            let action = actions.swap_remove(place);
            self.now.0 += self.prng.between(100, 3_000);
            self.act(action);
            if !self.is_healed {
                self.strike();
            }
        }
        self.check_step();
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (place, client) in self.clients.iter().enumerate() {
            if client.wants_link(self.now) {
                actions.push(Action::Connect(place));
            } else if client.is_ready(self.now, &self.network) {
                actions.push(Action::Client(place));
            }
            if client.wants_cancel {
                actions.push(Action::Cancel(place));
            }
        }
        let acts = self.port.acts(self.now, &self.network);
        actions.extend(acts.into_iter().map(|(link, act)| Action::Node(link, act)));
        let is_ready = |shard: &SimShard| shard.is_ready(self.now, &self.network);
        let ready = self
            .shards
            .iter()
            .enumerate()
            .filter(|(_, shard)| is_ready(shard));
        actions.extend(ready.map(|(place, _)| Action::Pass(place)));
        actions
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Connect(place) => self.connect_client(place),
            Action::Client(place) => {
                let client = &mut self.clients[place];
                let (what, bytes) = client.act(now, &mut self.network);
                let name = &client.name;
                self.trace.note(
                    now,
                    &[&[place as u8], what.as_bytes(), &bytes].concat(),
                    || format!("{name} {what} {}", super::driver::text_of(&bytes)),
                );
                self.collect_from(place);
            }
            Action::Cancel(place) => self.send_cancel(place),
            Action::Node(link, act) => {
                let moved = self.port.act(now, &mut self.network, link, act);
                self.trace.note(now, &moved, || {
                    format!("node {act:?} {link:?} {}", super::driver::text_of(&moved))
                });
            }
            Action::Pass(place) => self.pass(place),
        }
    }

    fn collect_from(&mut self, place: usize) {
        let client = &mut self.clients[place];
        let is_gone = client.is_gone();
        let noted = client.violations.drain(..).next();
        let lost = checker::check_acknowledged(client, &self.port.node);
        self.violation = self.violation.take().or(noted).or(lost);
        if is_gone {
            self.replace_client();
        }
    }

    /// Lets time pass to the next moment at which anything can happen.
    fn pass_time(&mut self) {
        let now = self.now;
        let clients = self
            .clients
            .iter()
            .filter_map(|client| client.next_time(now));
        let shards = self.shards.iter().filter_map(|shard| shard.next_time(now));
        let others = [
            self.network.next_time(now),
            self.port.next_time(now),
            self.next_cancel(),
        ];
        let next = clients
            .chain(shards)
            .chain(others.into_iter().flatten())
            .min();
        self.check_time();
        match next {
            Some(next) => self.now = next.min(self.deadline()).max(Instant(now.0 + 1)),
            None if self.is_healed => {
                self.fail(format!(
                    "I11: nothing will ever happen, and {}",
                    self.who_waits()
                ));
            }
            None => self.now = self.now.max(self.deadline()),
        }
    }

    /// The next moment at which the world itself does something.
    fn deadline(&self) -> Instant {
        let safety = Instant(0) + self.options.safety;
        if self.is_healed {
            safety + self.options.liveness
        } else {
            safety
        }
    }

    fn heal_when_due(&mut self) {
        let everybody_is_gone = self.clients.iter().all(Client::is_gone);
        // Where every byte arrives by itself, faults may strike before anything long arrives whole.
        let is_late = self.now >= self.deadline() || self.trace.steps >= STEPS_MAX / 2;
        if !self.is_healed && (everybody_is_gone || is_late) {
            self.heal();
        }
        if self.is_healed && everybody_is_gone && !self.is_draining {
            self.drain();
        }
    }

    /// From here on nothing goes wrong any more, and everybody has to finish.
    fn heal(&mut self) {
        self.is_healed = true;
        self.network.unclog();
        let weather = self.network.weather_mut();
        weather.window = weather.window.max(64_000);
        weather.chunk_max = weather.chunk_max.max(1_000);
        self.port.heal(self.now);
        self.clients.iter_mut().for_each(Client::calm);
        self.shards.iter_mut().for_each(|shard| shard.driver.calm());
        // Time may have stopped short of it when everybody left early.
        self.options.safety = self.now.since(Instant(0));
        self.trace.note(self.now, b"heal", || "healed".to_owned());
    }

    fn is_over(&self) -> bool {
        self.is_draining
            && self.shards.iter().all(SimShard::is_over)
            && self.port.links().next().is_none()
            && self.cancels.is_empty()
    }

    fn check_step(&mut self) {
        let database = &mut self.port.node.database;
        let cancelled = core::mem::take(&mut database.cancelled);
        let hit = checker::check_cancelled(&self.clients, &cancelled);
        let noted = database.violations.pop().or(hit);
        let of_driver = self
            .shards
            .iter_mut()
            .find_map(|shard| shard.driver.violations.pop());
        let connections = match self.options.between {
            Between::Nothing => None,
            Between::Shards(_) => self.check_bounds(),
        };
        let found = self
            .violation
            .take()
            .or(noted)
            .or(of_driver)
            .or(connections);
        self.violation = found;
        self.check_time();
        if self.trace.steps > STEPS_MAX {
            self.fail(format!(
                "I11: no rest after {STEPS_MAX} steps, and {}",
                self.who_waits()
            ));
        }
    }

    fn check_bounds(&self) -> Option<String> {
        let connections_max = self.options.connections_max;
        let connections = self.port.connections(&self.network, 0);
        let drivers = self.shards.iter().map(|sim| &sim.driver);
        let links = drivers.clone().map(Driver::links_to_node).sum();
        checker::check_connections(connections, connections_max)
            .or_else(|| checker::check_links(links, connections_max))
            .or_else(|| {
                let mut drivers = drivers;
                drivers.find_map(|driver| {
                    checker::check_forgotten(self.now, driver)
                        .or_else(|| checker::check_hanging(self.now, driver, &self.options.limits))
                })
            })
    }

    fn check_time(&mut self) {
        if self.is_healed && self.now >= self.deadline() {
            self.fail(format!("I11: the time is over, and {}", self.who_waits()));
        }
    }

    fn check_end(&mut self) {
        let node = &self.port.node;
        let found = checker::check_at_most_once(node)
            .or_else(|| checker::check_nothing_foreign(&self.clients, node))
            .or_else(|| checker::check_nothing_left(node))
            .or_else(|| self.shards.iter().find_map(SimShard::check_end));
        self.violation = found;
    }

    fn fail(&mut self, violation: String) {
        self.violation.get_or_insert(violation);
    }

    fn who_waits(&self) -> String {
        let waiting = self.clients.iter().filter(|client| !client.is_gone());
        let names: Vec<String> = waiting
            .map(|client| format!("{} {:?} {}", client.name, client.phase, client.in_flight()))
            .collect();
        let sessions = self.port.node.sessions().count();
        format!("waiting: {names:?}; {sessions} sessions at the node")
    }
}

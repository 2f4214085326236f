//! The world: clients, network, shards and node in one thread, moved on by one random step at a
//! time.
//!
//! Knows all parts and the order of nothing between them, and no protocol: what one has of its own
//! is its `Play`. Invariant: everything random comes from the seed, so that a run can be had again.

mod checks;
pub(super) mod course;
mod faults;
pub(super) mod nodes;
pub(super) mod passes;
pub(super) mod play;
pub(super) mod setup;

use core::fmt;

use manifold_core::time::Instant;

pub use course::{Between, Course, Faults};
pub use faults::Fault;
pub use nodes::NodePort;
pub use play::{Acts, Counts, Play};

use super::driver::{Happening, text_of};
use super::network::{LinkId, Network};
use super::prng::Prng;
use super::serves::Serves;
use super::trace::Trace;
use passes::{DRAIN_MS, SimShard};

/// Steps after which a run is said not to come to rest.
const STEPS_MAX: u64 = 3_000_000;

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
    Interrupt(usize),
    Node(LinkId, nodes::Act),
    Pass(usize),
}

/// A world.
#[derive(Debug)]
pub struct World<P: Play> {
    /// What it was made from.
    pub seed: u64,
    /// What the run is made of.
    pub course: Course,
    /// What time it is.
    pub now: Instant,
    /// Where everything random that happens to all comes from.
    pub prng: Prng,
    /// Links and what is on them.
    pub network: Network,
    /// The node, and its connections.
    pub port: NodePort<P::Node>,
    /// Shards and their drivers; none where clients are connected directly.
    pub shards: Vec<SimShard>,
    /// Everybody who ever came.
    pub clients: Vec<P::Client>,
    /// What has happened.
    pub trace: Trace,
    /// What the protocol has of its own.
    pub play: P,
    /// Nothing goes wrong any more.
    pub is_healed: bool,
    /// Everybody is gone, and the shards finish.
    pub is_draining: bool,
    violation: Option<String>,
}

impl<P: Play> World<P> {
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
        let counts: Vec<Counts> = self.clients.iter().map(Acts::counts).collect();
        Report {
            hash: self.trace.hash(),
            steps: self.trace.steps,
            answered: counts.iter().map(|it| it.answered).sum(),
            excused: counts.iter().map(|it| it.excused).sum(),
            committed: self.port.node.committed(),
            heard: counts.iter().map(|it| it.heard).sum(),
            sessions: self.port.node.sessions_made(),
            sessions_high: self.port.sessions_high as u64,
            nanos: self.now.0,
        }
    }

    /// Does some of what can be done now, or lets time pass.
    fn turn(&mut self) {
        self.heal_when_due();
        self.port.node.tick(self.now);
        P::attend(self);
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
            if client.wants_interrupt() {
                actions.push(Action::Interrupt(place));
            }
        }
        let acts = self.port.acts(self.now, &self.network);
        actions.extend(acts.into_iter().map(|(link, act)| Action::Node(link, act)));
        let shards = self.shards.iter().enumerate();
        let ready = shards.filter(|(_, shard)| shard.is_ready(self.now, &self.network));
        actions.extend(ready.map(|(place, _)| Action::Pass(place)));
        actions
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Connect(place) => self.connect_client(place),
            Action::Client(place) => {
                let client = &mut self.clients[place];
                let (what, bytes) = self
                    .play
                    .act(client, now, &mut self.network, &self.port.node);
                let name = client.name();
                self.trace.note(
                    now,
                    &[&[place as u8], what.as_bytes(), &bytes].concat(),
                    || format!("{name} {what} {}", text_of(&bytes)),
                );
                self.collect_from(place);
            }
            Action::Interrupt(place) => P::interrupt(self, place),
            Action::Node(link, act) => {
                let moved = self.port.act(now, &mut self.network, link, act);
                self.trace.note(now, &moved, || {
                    format!("node {act:?} {link:?} {}", text_of(&moved))
                });
            }
            Action::Pass(place) => self.pass(place),
        }
    }

    fn collect_from(&mut self, place: usize) {
        let client = &mut self.clients[place];
        let is_gone = client.is_gone();
        let noted = client.take_violation(&self.port.node);
        self.violation = self.violation.take().or(noted);
        if is_gone {
            self.replace_client();
        }
    }

    /// Lets time pass to the next moment at which anything can happen.
    fn pass_time(&mut self) {
        let now = self.now;
        let clients = self.clients.iter().filter_map(|it| it.next_time(now));
        let shards = self.shards.iter().filter_map(|shard| shard.next_time(now));
        let others = [
            self.network.next_time(now),
            self.port.next_time(now),
            P::next_time(self),
        ];
        let all = clients.chain(shards).chain(others.into_iter().flatten());
        let next = all.min();
        self.check_time();
        match next {
            Some(next) => self.now = next.min(self.deadline()).max(Instant(now.0 + 1)),
            None if self.is_healed => {
                let who = self.who_waits();
                self.fail(format!("I11: nothing will ever happen, and {who}"));
            }
            None => self.now = self.now.max(self.deadline()),
        }
    }

    /// The next moment at which the world itself does something.
    fn deadline(&self) -> Instant {
        let safety = Instant(0) + self.course.safety;
        if self.is_healed {
            safety + self.course.liveness
        } else {
            safety
        }
    }

    fn heal_when_due(&mut self) {
        // Where every byte arrives by itself, faults may strike before anything long arrives whole.
        let is_late = self.now >= self.deadline() || self.trace.steps >= STEPS_MAX / 2;
        if !self.is_healed && (self.clients.iter().all(Acts::is_done) || is_late) {
            self.heal();
        }
        let everybody_is_gone = self.clients.iter().all(Acts::is_gone);
        if self.is_healed && everybody_is_gone && !self.is_draining {
            self.is_draining = true;
            for sim in &mut self.shards {
                sim.driver.post(self.now, Happening::Drain(DRAIN_MS));
            }
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
        self.port.node.calm(self.now);
        self.clients.iter_mut().for_each(Acts::calm);
        self.shards.iter_mut().for_each(|shard| shard.driver.calm());
        // Time may have stopped short of it when everybody left early.
        self.course.safety = self.now.since(Instant(0));
        self.trace.note(self.now, b"heal", || "healed".to_owned());
    }

    fn is_over(&self) -> bool {
        self.is_draining
            && self.shards.iter().all(SimShard::is_over)
            && self.port.links().next().is_none()
            && self.play.is_over()
    }

    /// The run has failed, if it had not before.
    pub fn fail(&mut self, violation: String) {
        self.violation.get_or_insert(violation);
    }

    fn who_waits(&self) -> String {
        let waiting = self.clients.iter().filter(|client| !client.is_gone());
        let waiting: Vec<String> = waiting.map(Acts::describe).collect();
        let sessions = self.port.node.sessions_open();
        format!("waiting: {waiting:?}; {sessions} sessions at the node")
    }
}

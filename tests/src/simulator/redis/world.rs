//! The world with Redis: clients, network, shards and node in one thread, moved on by one random
//! step at a time.
//!
//! Knows all parts and the order of nothing between them. Invariant: everything random comes from
//! the seed, so that a run can be had again.

mod checks;
mod faults;

use core::time::Duration;

use manifold_core::auth::Auth;
use manifold_core::event::{Address, Message};
use manifold_core::ids::ShardId;
use manifold_core::time::Instant;
use manifold_core::topology::Protocol;
use std::sync::Arc;

use super::client::{Client, Shared};
use super::cluster::{DOORS, address_of};
use super::node::Node;
use super::options::{Options, draw_habits};
use super::script::Script;
use crate::simulator::Setup;
use crate::simulator::driver::{Happening, text_of};
use crate::simulator::network::{End, LinkId, Network};
use crate::simulator::prng::Prng;
use crate::simulator::serves::Serves;
use crate::simulator::trace::Trace;
use crate::simulator::world::nodes::{Act, Door, NodePort};
use crate::simulator::world::options::{CLIENT, NODE};
use crate::simulator::world::passes::{DRAIN_MS, SimShard};
use crate::simulator::world::setup::{Plan, dial, new_shards, node_address};
use crate::simulator::world::{Between, Failure, Faults, Report, STEPS_MAX};

/// How often an operator speaks to those who listen, when everything is as it should be again.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(6);

/// Something that can be done now.
#[derive(Clone, Copy, Debug)]
enum Action {
    Connect(usize),
    Client(usize),
    Node(LinkId, Act),
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
    shared: Shared,
    trace: Trace,
    announces_at: Option<Instant>,
    announced: u32,
    is_healed: bool,
    is_draining: bool,
    violation: Option<String>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, setup: Setup) -> Self {
        // Numbers of its own: the other protocol's run of the same seed is another one.
        let mut prng = Prng::new(seed ^ 0x5265_6469_7321);
        let mut options = Options::draw(&mut prng, setup.between);
        if setup.is_harsh {
            options.harshen(&mut Prng::new(!seed));
        }
        if setup.between != Between::Nothing {
            options.spread(&mut Prng::new(seed ^ 0x736c_6f74));
        }
        let mut world = Self::with_options(seed, options, prng, setup.is_printed);
        if let Some(bug) = setup.bug {
            world.shards.iter_mut().for_each(|sim| sim.shard.plant(bug));
        }
        world
    }

    fn with_options(seed: u64, options: Options, mut prng: Prng, is_printed: bool) -> Self {
        let network = Network::new(options.weather, prng.fork());
        let mut node = Node::new(options.is_locked, prng.fork());
        node.moods.oom = options.grudges.oom;
        node.threads = options.threads;
        let mut doors = vec![Door::at(node_address())];
        if options.is_spread {
            node.become_cluster(Prng::new(!seed));
            let addresses = (0..DOORS).map(|door| Address::Ip(address_of(door)));
            doors = addresses.map(Door::at).collect();
        }
        let clients = 1..=options.clients;
        let clients = clients.map(|number| new_client(number, Instant(0), &options, &mut prng));
        let clients = clients.collect();
        let shards = match options.between {
            Between::Nothing => Vec::new(),
            Between::Shards(count) => new_shards(seed, plan(&options, count), &mut prng),
        };
        let mut trace = Trace::new(is_printed);
        trace.note(Instant(0), b"begin", || format!("{options:?}"));
        Self {
            seed,
            now: Instant(0),
            network,
            port: NodePort::new(node, doors),
            shards,
            clients,
            shared: Shared::default(),
            trace,
            announces_at: None,
            announced: 0,
            is_healed: false,
            is_draining: false,
            violation: None,
            prng,
            options,
        }
    }

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
            committed: self.port.node.log.ledger.len() as u64,
            heard: self.clients.iter().map(|client| client.heard).sum(),
            sessions: self.port.node.sessions_made(),
            sessions_high: self.port.sessions_high as u64,
            nanos: self.now.0,
        }
    }

    /// Does some of what can be done now, or lets time pass.
    fn turn(&mut self) {
        self.heal_when_due();
        self.port.node.tick(self.now);
        self.announce_when_due();
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
                let log = &self.port.node.log;
                let (what, bytes) = client.act(now, &mut self.network, log, &mut self.shared);
                let name = &client.name;
                self.trace.note(
                    now,
                    &[&[place as u8], what.as_bytes(), &bytes].concat(),
                    || format!("{name} {what} {}", text_of(&bytes)),
                );
                self.collect_from(place);
            }
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
        let noted = client.violations.drain(..).next();
        self.violation = self.violation.take().or(noted);
        if is_gone {
            self.replace_client();
        }
    }

    /// Somebody new comes for a client that has gone, as applications do that connect again.
    fn replace_client(&mut self) {
        let number = self.clients.len() as u32 + 1;
        if self.is_healed || number > self.options.clients_max {
            return;
        }
        let client = new_client(number, self.now, &self.options, &mut self.prng);
        self.clients.push(client);
    }

    fn connect_client(&mut self, place: usize) {
        let link = match self.options.between {
            Between::Nothing if self.port.doors[0].down_until > self.now => return,
            Between::Nothing => {
                let link = self.network.open([CLIENT, NODE]);
                self.port.accept(link, 0);
                link
            }
            Between::Shards(_) => {
                let link = self.network.open([CLIENT, self.options.patience.listener]);
                let shard = self.prng.below(self.shards.len() as u64) as usize;
                self.shards[shard].driver.offer(link);
                link
            }
        };
        let client = &mut self.clients[place];
        client.connect(link);
        let name = &client.name;
        self.trace.note(self.now, b"connect", || {
            format!("{name} connects as {link:?}")
        });
    }

    fn pass(&mut self, place: usize) {
        let now = self.now;
        let faults = if self.is_healed {
            Faults::default()
        } else {
            self.options.faults
        };
        let patience = self.options.patience.upstream;
        let sim = &mut self.shards[place];
        sim.take_events(now, &mut self.network, &mut self.trace);
        let (port, prng) = (&mut self.port, &mut self.prng);
        let found = sim.carry_out(
            now,
            &mut self.network,
            &mut self.trace,
            |network, address| {
                let dialled = dial(port, address, network, prng, now, patience, faults);
                if dialled.0.is_err() {
                    port.node.log.extend_gap(now + dialled.1);
                }
                dialled
            },
        );
        self.violation = self.violation.take().or(found);
        let sim = &mut self.shards[place];
        for (shard, message) in core::mem::take(&mut sim.driver.outbox) {
            self.tell(shard, message, faults.lost_letter);
        }
    }

    /// Tells another shard something, if it has room for it.
    fn tell(&mut self, shard: ShardId, message: Message, lost_letter: u32) {
        let at = Instant(self.now.0 + self.prng.between(0, 100_000));
        if lost_letter > 0 && self.prng.chance(lost_letter) {
            return;
        }
        match self.shards.get_mut(shard.index()) {
            Some(other) => other.driver.post(at, Happening::FromShard(message)),
            None => self.fail(format!("driver contract: {shard:?} is no shard")),
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
            self.announces_at,
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
        let safety = Instant(0) + self.options.safety;
        if self.is_healed {
            safety + self.options.liveness
        } else {
            safety
        }
    }

    fn heal_when_due(&mut self) {
        let is_done = |client: &Client| client.is_gone() || client.is_lingering();
        let is_late = self.now >= self.deadline() || self.trace.steps >= STEPS_MAX / 2;
        if !self.is_healed && (self.clients.iter().all(is_done) || is_late) {
            self.heal();
        }
        let everybody_is_gone = self.clients.iter().all(Client::is_gone);
        if self.is_healed && everybody_is_gone && !self.is_draining {
            self.is_draining = true;
            self.announces_at = None;
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
        self.clients.iter_mut().for_each(Client::calm);
        self.shards.iter_mut().for_each(|shard| shard.driver.calm());
        self.announces_at = Some(self.now + ANNOUNCE_EVERY);
        // Time may have stopped short of it when everybody left early.
        self.options.safety = self.now.since(Instant(0));
        self.trace.note(self.now, b"heal", || "healed".to_owned());
    }

    /// An operator says something on every channel and ends every wait: whoever listens hears it.
    fn announce_when_due(&mut self) {
        if self.announces_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.announced += 1;
        self.announces_at = Some(self.now + ANNOUNCE_EVERY);
        let (now, round) = (self.now, self.announced);
        self.trace.note(now, b"announce", || "announced".to_owned());
        let node = &mut self.port.node;
        node.release_all();
        for channel in ["c0", "c1", "c2", "d0", "d1"] {
            let payload = format!("operator-{round}-{channel}");
            let is_sharded = channel.starts_with('d');
            node.announce(now, channel.as_bytes(), payload.as_bytes(), is_sharded);
        }
    }

    fn is_over(&self) -> bool {
        self.is_draining
            && self.shards.iter().all(SimShard::is_over)
            && self.port.links().next().is_none()
    }

    fn fail(&mut self, violation: String) {
        self.violation.get_or_insert(violation);
    }

    fn who_waits(&self) -> String {
        let waiting = self.clients.iter().filter(|client| !client.is_gone());
        let names: Vec<String> = waiting
            .map(|client| format!("{} {:?} {}", client.name, client.phase, client.in_flight()))
            .collect();
        let sessions = self.port.node.sessions_open();
        format!("waiting: {names:?}; {sessions} sessions at the node")
    }
}

fn plan(options: &Options, count: u32) -> Plan {
    Plan {
        count,
        protocol: Protocol::Redis,
        // The rest of them, the cluster names.
        seeds: (0..3)
            .filter(|_| options.is_spread)
            .map(address_of)
            .collect(),
        auth: Auth::Relay,
        users: Arc::default(),
        limits: options.limits.clone(),
        connections_max: options.connections_max,
        temper: options.temper,
        doubts: 0,
    }
}

fn new_client(number: u32, from: Instant, options: &Options, prng: &mut Prng) -> Client {
    let name = format!("c{number}");
    let habits = draw_habits(prng, options.odd_clients);
    let taste = options.taste.clone();
    let script = Script::new(name.clone(), taste, options.episodes, prng.fork());
    let arrival = options.arrival.as_nanos() as u64;
    let starts_at = Instant(from.0 + prng.between(0, arrival));
    let stream = prng.fork();
    Client::new(name, habits, options.excuses(), script, stream, starts_at)
}

/// The end of a link that is the node's.
const NODES_END: End = End::Far;

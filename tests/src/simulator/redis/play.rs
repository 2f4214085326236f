//! Redis in a simulated world: its clients, what an operator says, and what is checked.
//!
//! Knows the world from inside. Invariant: in the end, everybody who listens hears the operator.

use core::time::Duration;
use std::sync::Arc;

use manifold_core::auth::Auth;
use manifold_core::event::Address;
use manifold_core::time::Instant;
use manifold_core::topology::Protocol;
use manifold_protocols::redis::cluster::slot;

use super::client::{Client, Shared};
use super::cluster::{DOORS, TAGS, address_of};
use super::log::owner_of;
use super::node::Node;
use super::options::Options;
use crate::simulator::driver::Driver;
use crate::simulator::network::{LinkId, Network};
use crate::simulator::prng::Prng;
use crate::simulator::serves::Serves;
use crate::simulator::world::nodes::Door;
use crate::simulator::world::setup::{Plan, node_address};
use crate::simulator::world::{Acts, Between, Counts, Course, Fault, NodePort, Play, World};
use crate::simulator::{Setup, checker};

/// A world with Redis.
pub type RedisWorld = World<Redis>;

/// What Redis has of its own in a world.
#[derive(Debug)]
pub struct Redis {
    options: Options,
    /// What clients know of each other.
    shared: Shared,
    /// When an operator speaks next.
    announces_at: Option<Instant>,
    announced: u32,
}

/// How often an operator speaks to those who listen, when everything is as it should be again.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(6);

/// Nodes of a cluster that are named; the cluster names the rest.
const SEEDS: usize = 3;

impl Play for Redis {
    type Node = Node;
    type Client = Client;

    fn draw(seed: u64, setup: Setup) -> (Course, Self, Prng) {
        // Numbers of its own: the other protocol's run of the same seed is another one.
        let mut prng = Prng::new(seed ^ 0x5265_6469_7321);
        let (mut course, mut options) = Options::draw(&mut prng, setup.between);
        if setup.is_harsh {
            course.harshen(&mut Prng::new(!seed), false);
        }
        if setup.between != Between::Nothing {
            options.spread(&mut course, &mut Prng::new(seed ^ 0x736c_6f74));
        }
        let play = Self {
            options,
            shared: Shared::default(),
            announces_at: None,
            announced: 0,
        };
        (course, play, prng)
    }

    fn new_port(&self, seed: u64, prng: Prng) -> NodePort<Node> {
        let options = &self.options;
        let mut node = Node::new(options.is_locked, prng);
        node.moods.oom = options.grudges.oom;
        node.threads = options.threads;
        if !options.is_spread {
            return NodePort::new(node, vec![Door::at(node_address())]);
        }
        node.become_cluster(Prng::new(!seed));
        let addresses = (0..DOORS).map(|door| Address::Ip(address_of(door)));
        NodePort::new(node, addresses.map(Door::at).collect())
    }

    fn new_client(&self, course: &Course, number: u32, from: Instant, prng: &mut Prng) -> Client {
        self.options.new_client(course, number, from, prng)
    }

    fn plan(&self) -> Plan {
        let seeds = (0..SEEDS).filter(|_| self.options.is_spread);
        Plan {
            protocol: Protocol::Redis,
            seeds: seeds.map(address_of).collect(),
            auth: Auth::Relay,
            users: Arc::default(),
            doubts: 0,
        }
    }

    fn act(
        &mut self,
        client: &mut Client,
        now: Instant,
        network: &mut Network,
        node: &Node,
    ) -> (&'static str, Vec<u8>) {
        client.act(now, network, &node.log, &mut self.shared)
    }

    fn attend(world: &mut RedisWorld) {
        let now = world.now;
        if !world.is_healed || world.is_draining {
            return;
        }
        let at = &mut world.play.announces_at;
        if *at.get_or_insert(now + ANNOUNCE_EVERY) <= now {
            *at = Some(now + ANNOUNCE_EVERY);
            world.announce();
        }
    }

    fn next_time(world: &RedisWorld) -> Option<Instant> {
        world.play.announces_at.filter(|_| !world.is_draining)
    }

    fn lose(world: &mut RedisWorld, link: LinkId, for_how_long: Duration) {
        if let Some(session) = world.port.session_of(link) {
            let until = world.now + for_how_long;
            world.port.node.log.note_loss(session, until);
        }
    }

    fn refuse(node: &mut Node, until: Instant) {
        node.log.extend_gap(until);
    }

    /// The node keeps its data, and is not what it was for a while. Of a cluster, another takes
    /// over.
    fn restart(world: &mut RedisWorld, door: usize, length: Duration) {
        let now = world.now;
        if world.play.options.is_spread {
            return world.port.node.lose_door(now, door, now + length);
        }
        let grudges = world.play.options.grudges;
        let prng = &mut world.prng;
        let mut up_to =
            |most: Duration| Duration::from_nanos(prng.between(0, most.as_nanos() as u64));
        let loaded = now + length + up_to(grudges.loading);
        let moods = &mut world.port.node.moods;
        moods.busy_until = now;
        moods.loading_until = loaded;
        moods.readonly_until = loaded + up_to(grudges.readonly);
    }

    fn strike(world: &mut RedisWorld, fault: Fault, _link: LinkId, length: Duration) {
        let now = world.now;
        let node = &mut world.port.node;
        match (fault, &mut node.cluster) {
            (Fault::Busy, _) => node.moods.busy_until = now + length,
            (Fault::Migrate, Some(cluster)) => {
                let keys = TAGS.map(|tag| slot(tag.as_bytes()));
                let channels = [&b"d0"[..], b"d1"].map(slot);
                cluster.begin_migration(now, &[&keys[..], &channels[..]].concat());
            }
            _ => {}
        }
    }

    fn check_step(world: &mut RedisWorld) -> Option<String> {
        world.port.node.log.violations.pop()
    }

    fn check_connections(world: &RedisWorld) -> Option<String> {
        let mut connections_max = world.course.connections_max;
        if world.play.options.is_spread {
            // Who has no map yet asks for it on connections that no node's limit counts.
            connections_max *= 2;
        }
        let doors = 0..world.port.doors.len();
        let each = doors.map(|door| world.port.connections(&world.network, door));
        let connections = each.max().unwrap_or(0);
        let drivers = world.shards.iter().map(|sim| &sim.driver);
        let links: usize = drivers.map(Driver::links_to_node).sum();
        // There are no cancels: every link is a connection.
        let links = links.div_ceil(world.port.doors.len());
        checker::check_connections(connections.max(links), connections_max)
    }

    fn check_end(world: &mut RedisWorld) -> Option<String> {
        let left = world.port.node.sessions_open();
        world
            .check_refused()
            .or_else(|| world.check_owners())
            .or_else(|| (left > 0).then(|| format!("I10: {left} sessions are left at the node")))
    }
}

impl RedisWorld {
    /// An operator says something on every channel and ends every wait: whoever listens hears it.
    fn announce(&mut self) {
        self.play.announced += 1;
        let (now, round) = (self.now, self.play.announced);
        self.trace.note(now, b"announce", || "announced".to_owned());
        let node = &mut self.port.node;
        node.release_all();
        for channel in ["c0", "c1", "c2", "d0", "d1"] {
            let payload = format!("operator-{round}-{channel}");
            let is_sharded = channel.starts_with('d');
            node.announce(now, channel.as_bytes(), payload.as_bytes(), is_sharded);
        }
    }

    /// I4: what a client was told is not run never is.
    fn check_refused(&self) -> Option<String> {
        let ledger = &self.port.node.log.ledger;
        let mut refused = self.clients.iter().flat_map(|client| &client.refused);
        let run = refused.find(|token| ledger.contains_key(*token));
        run.map(|token| format!("I4: {token} was run after its client was told that it was not"))
    }

    /// I1: nothing is run that nobody sent.
    fn check_owners(&self) -> Option<String> {
        let tokens = self.port.node.log.ledger.keys();
        let is_known = |token: &&String| {
            let owner = owner_of(token);
            self.clients.iter().any(|client| client.name == owner)
        };
        let mut foreign = tokens.filter(|token| !is_known(token));
        foreign
            .next()
            .map(|token| format!("I1: {token} is of nobody"))
    }
}

impl Acts for Client {
    type Node = Node;

    fn name(&self) -> &str {
        &self.name
    }

    fn link(&self) -> Option<LinkId> {
        self.link
    }

    fn is_gone(&self) -> bool {
        self.is_gone()
    }

    fn is_done(&self) -> bool {
        self.is_gone() || self.is_lingering()
    }

    fn wants_link(&self, now: Instant) -> bool {
        self.wants_link(now)
    }

    fn connect(&mut self, _now: Instant, link: LinkId) {
        self.connect(link);
    }

    fn is_ready(&self, now: Instant, network: &Network) -> bool {
        self.is_ready(now, network)
    }

    fn next_time(&self, now: Instant) -> Option<Instant> {
        self.next_time(now)
    }

    fn vanish(&mut self, now: Instant, network: &mut Network) {
        self.vanish(now, network);
    }

    fn calm(&mut self) {
        self.calm();
    }

    fn take_violation(&mut self, _node: &Node) -> Option<String> {
        self.violations.drain(..).next()
    }

    fn counts(&self) -> Counts {
        Counts {
            answered: self.answered,
            excused: self.excused,
            heard: self.heard,
        }
    }

    fn describe(&self) -> String {
        format!("{} {:?} {}", self.name, self.phase, self.in_flight())
    }
}

//! PostgreSQL in a simulated world: its clients and sessions, cancels, and what is checked of both.
//!
//! Knows the world from inside. Invariant: a client counts as one that may be cancelled from before
//! its cancel is sent until that has certainly been dealt with.

mod logins;
mod options;
mod storms;

use core::time::Duration;

use manifold_core::time::Instant;
use manifold_core::topology::Protocol;

use super::Node;
use crate::simulator::client::{ASYNC_NOTICE, Client};
use crate::simulator::driver::Driver;
use crate::simulator::network::{LinkId, Network};
use crate::simulator::prng::Prng;
use crate::simulator::world::nodes::Door;
use crate::simulator::world::setup::{Plan, node_address};
use crate::simulator::world::{Acts, Counts, Course, Fault, NodePort, Play, World};
use crate::simulator::{Setup, checker};
use options::Options;
use storms::Cancel;

/// A world with PostgreSQL.
pub type PgWorld = World<Postgres>;

/// What PostgreSQL has of its own in a world.
#[derive(Debug)]
pub struct Postgres {
    options: Options,
    /// Cancels on their way.
    cancels: Vec<Cancel>,
}

impl Play for Postgres {
    type Node = Node;
    type Client = Client;

    fn draw(seed: u64, setup: Setup) -> (Course, Self, Prng) {
        let mut prng = Prng::new(seed);
        let (mut course, options) = Options::draw(&mut prng, setup.between);
        if setup.is_harsh {
            // Numbers of its own, so that a seed is the same run without it.
            course.harshen(&mut Prng::new(!seed), true);
        }
        let cancels = Vec::new();
        (course, Self { options, cancels }, prng)
    }

    fn new_port(&self, _seed: u64, prng: Prng) -> NodePort<Node> {
        let Options {
            logins, service, ..
        } = &self.options;
        let node = Node::new(logins.node.clone(), *service, prng);
        NodePort::new(node, vec![Door::at(node_address())])
    }

    fn new_client(&self, course: &Course, number: u32, from: Instant, prng: &mut Prng) -> Client {
        self.options.new_client(course, number, from, prng)
    }

    fn plan(&self) -> Plan {
        let logins = &self.options.logins;
        Plan {
            protocol: Protocol::Postgres,
            seeds: Vec::new(),
            auth: logins.auth,
            users: logins.file.clone(),
            doubts: self.options.doubts,
        }
    }

    fn act(
        &mut self,
        client: &mut Client,
        now: Instant,
        network: &mut Network,
        _node: &Node,
    ) -> (&'static str, Vec<u8>) {
        client.act(now, network)
    }

    fn attend(world: &mut PgWorld) {
        world.end_cancels();
    }

    fn next_time(world: &PgWorld) -> Option<Instant> {
        world.next_cancel()
    }

    fn is_over(&self) -> bool {
        self.cancels.is_empty()
    }

    fn interrupt(world: &mut PgWorld, place: usize) {
        world.send_cancel(place);
    }

    fn strike(world: &mut PgWorld, fault: Fault, link: LinkId, _length: Duration) {
        let session = world.port.session_of(link);
        match (fault, session) {
            (Fault::Notice, Some(session)) => world.port.node.say(session, ASYNC_NOTICE),
            (Fault::Storm, _) => world.storm(),
            _ => {}
        }
    }

    fn check_pass(driver: &Driver, course: &Course) -> Option<String> {
        checker::check_depth(driver.depth(), &course.limits)
    }

    fn check_step(world: &mut PgWorld) -> Option<String> {
        let database = &mut world.port.node.database;
        let cancelled = core::mem::take(&mut database.cancelled);
        let hit = checker::check_cancelled(&world.clients, &cancelled);
        database.violations.pop().or(hit)
    }

    fn check_connections(world: &PgWorld) -> Option<String> {
        let connections_max = world.course.connections_max;
        let connections = world.port.connections(&world.network, 0);
        let drivers = world.shards.iter().map(|sim| &sim.driver);
        let links = drivers.map(Driver::links_to_node).sum();
        checker::check_connections(connections, connections_max)
            .or_else(|| checker::check_links(links, connections_max))
    }

    fn check_end(world: &mut PgWorld) -> Option<String> {
        let node = &world.port.node;
        checker::check_at_most_once(node)
            .or_else(|| checker::check_nothing_foreign(&world.clients, node))
            .or_else(|| checker::check_nothing_left(node))
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

    fn wants_link(&self, now: Instant) -> bool {
        self.wants_link(now)
    }

    fn connect(&mut self, now: Instant, link: LinkId) {
        self.connect(now, link);
    }

    fn is_ready(&self, now: Instant, network: &Network) -> bool {
        self.is_ready(now, network)
    }

    fn wants_interrupt(&self) -> bool {
        self.wants_cancel
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

    fn take_violation(&mut self, node: &Node) -> Option<String> {
        let noted = self.violations.drain(..).next();
        let lost = checker::check_acknowledged(self, node);
        noted.or(lost)
    }

    fn counts(&self) -> Counts {
        Counts {
            answered: self.answered,
            excused: self.excused,
            heard: self.notified,
        }
    }

    fn describe(&self) -> String {
        format!("{} {:?} {}", self.name, self.phase, self.in_flight())
    }
}

//! What a protocol has of its own in a world: its clients, its node, its faults, its checks.
//!
//! Knows no protocol. Invariant: a world asks for each of these at the same moments of every run.

use core::fmt::Debug;
use core::time::Duration;

use manifold_core::time::Instant;

use super::faults::Fault;
use super::setup::Plan;
use super::{Course, NodePort, World};
use crate::simulator::Setup;
use crate::simulator::driver::Driver;
use crate::simulator::network::{LinkId, Network};
use crate::simulator::prng::Prng;
use crate::simulator::serves::Serves;

/// What clients count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Requests answered.
    pub answered: u64,
    /// Replies that a fault excused.
    pub excused: u64,
    /// Messages that came unasked.
    pub heard: u64,
}

/// A client as the world sees it.
pub trait Acts: Debug {
    /// What it compares with.
    type Node;

    /// What its tokens begin with.
    fn name(&self) -> &str;
    /// Its connection, while it has one.
    fn link(&self) -> Option<LinkId>;
    /// Whether nothing more will happen.
    fn is_gone(&self) -> bool;
    /// Whether it needs nothing any more but the end of the run.
    fn is_done(&self) -> bool {
        self.is_gone()
    }
    /// Whether it waits for a link to be opened.
    fn wants_link(&self, now: Instant) -> bool;
    /// Its link is open.
    fn connect(&mut self, now: Instant, link: LinkId);
    /// Whether it can do something now.
    fn is_ready(&self, now: Instant, network: &Network) -> bool;
    /// Whether it wants to do something that is not on its link.
    fn wants_interrupt(&self) -> bool {
        false
    }
    /// When it may be ready without anything arriving.
    fn next_time(&self, now: Instant) -> Option<Instant>;
    /// Its host is gone, and nobody says so.
    fn vanish(&mut self, now: Instant, network: &mut Network);
    /// No more pauses and no more mischief: the run is to end.
    fn calm(&mut self);
    /// What must not have happened to it.
    fn take_violation(&mut self, node: &Self::Node) -> Option<String>;
    /// What it has counted.
    fn counts(&self) -> Counts;
    /// Who it is and what it waits for, for people.
    fn describe(&self) -> String;
}

/// A protocol in a world.
pub trait Play: Debug + Sized {
    /// Its node.
    type Node: Serves;
    /// Its clients.
    type Client: Acts<Node = Self::Node>;

    /// What a run of a seed is made of, and where everything random in it comes from.
    fn draw(seed: u64, setup: Setup) -> (Course, Self, Prng);
    /// The node, at its addresses.
    fn new_port(&self, seed: u64, prng: Prng) -> NodePort<Self::Node>;
    /// A client that has not connected yet and comes after `from`.
    fn new_client(
        &self,
        course: &Course,
        number: u32,
        from: Instant,
        prng: &mut Prng,
    ) -> Self::Client;
    /// What shards know.
    fn plan(&self) -> Plan;
    /// A client does one of the things that it can do; says which, and the bytes that moved.
    fn act(
        &mut self,
        client: &mut Self::Client,
        now: Instant,
        network: &mut Network,
        node: &Self::Node,
    ) -> (&'static str, Vec<u8>);
    /// What happens at the beginning of a turn if it is due.
    fn attend(world: &mut World<Self>);
    /// When something of its own happens next.
    fn next_time(world: &World<Self>) -> Option<Instant>;
    /// Whether nothing of its own is left.
    fn is_over(&self) -> bool {
        true
    }
    /// A client does what is not on its link.
    fn interrupt(_world: &mut World<Self>, _place: usize) {}
    /// A connection of the node is about to be lost, and may be missed for so long.
    fn lose(_world: &mut World<Self>, _link: LinkId, _for_how_long: Duration) {}
    /// A connection was refused, or timed out, and is not to be had before that.
    fn refuse(_node: &mut Self::Node, _until: Instant) {}
    /// The process at a door has died and is back after `length`.
    fn restart(_world: &mut World<Self>, _door: usize, _length: Duration) {}
    /// A fault that only this protocol has.
    fn strike(world: &mut World<Self>, fault: Fault, link: LinkId, length: Duration);
    /// What a pass must not have led to.
    fn check_pass(_driver: &Driver, _course: &Course) -> Option<String> {
        None
    }
    /// What a step must not have led to.
    fn check_step(world: &mut World<Self>) -> Option<String>;
    /// Whether there are more connections to a node than there may be.
    fn check_connections(world: &World<Self>) -> Option<String>;
    /// What must not be at the end.
    fn check_end(world: &mut World<Self>) -> Option<String>;
}

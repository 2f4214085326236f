//! What a simulated node of whatever protocol is to its network: connections with bytes in and out,
//! and steps.
//!
//! Knows no protocol. Invariant: a connection is named by its number from `accept` to `remove`.

use manifold_core::time::Instant;

/// A connection of a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// Where a connection of a node stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// A step can be done now.
    pub is_ready: bool,
    /// It does something that the end of its connection does not stop.
    pub is_busy: bool,
    /// It is over: what it has said is still sent.
    pub has_ended: bool,
    /// It has something to send.
    pub has_output: bool,
    /// It counts among the connections that the node was promised at most.
    pub is_counted: bool,
}

/// A node.
pub trait Serves {
    /// A connection is accepted at the door with this place.
    fn accept(&mut self, door: usize) -> SessionId;
    /// Where a connection stands, if it is there.
    fn standing(&self, id: SessionId, now: Instant) -> Option<Standing>;
    /// Bytes arrive.
    fn receive(&mut self, id: SessionId, bytes: &[u8]);
    /// Does one step of a connection.
    fn step(&mut self, id: SessionId, now: Instant);
    /// Takes bytes that a connection wants to send, up to `bytes_max`.
    fn take_output(&mut self, id: SessionId, bytes_max: usize) -> Vec<u8>;
    /// A connection is gone.
    fn remove(&mut self, id: SessionId);
    /// When a step may become possible without bytes arriving, after `now`.
    fn next_time(&self, now: Instant) -> Option<Instant>;
    /// How many connections there are.
    fn sessions_open(&self) -> usize;
    /// How many connections there ever were.
    fn sessions_made(&self) -> u64;
    /// How many writes it has done for good.
    fn committed(&self) -> u64;
    /// An operator ends a connection.
    fn terminate(&mut self, id: SessionId);
    /// It is now: what happens by the clock alone does so.
    fn tick(&mut self, _now: Instant) {}
    /// Everything is as it should be again.
    fn calm(&mut self, _now: Instant) {}
}

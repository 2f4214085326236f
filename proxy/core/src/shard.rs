//! The shard: one thread's clients, upstreams, buffers and timers, as a pure state machine.
//!
//! Sharing nothing, it takes events in and gives operations out. Knows no socket and no clock.
//!
//! A pass is: `handle_event` for every completion, `handle_timeout` if `poll_timeout` has come,
//! then `finish_pass` once, then `poll_operation` until it answers `None`.

use crate::event::{Event, Operation};
use crate::ids::ShardId;
use crate::limits::Limits;
use crate::time::Instant;
use crate::topology::Service;

/// What a shard is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard this is.
    pub id: ShardId,
    /// What every random choice and every hash starts from.
    pub seed: u64,
    /// The bounds.
    pub limits: Limits,
    /// The services that this shard serves, by `ServiceId`'s place.
    pub services: Vec<Service>,
}

/// One shard. See the module's documentation for the order of calls.
#[derive(Debug)]
pub struct Shard {
    _settings: Settings,
}

impl Shard {
    /// A shard with no connections.
    pub fn new(settings: Settings) -> Self {
        Self { _settings: settings }
    }

    /// Takes in one event. Never fails: what a peer does wrong becomes operations.
    pub fn handle_event(&mut self, _now: Instant, _event: Event<'_>) {}

    /// Does what was due at `now`. Call when `poll_timeout` has come.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Makes one send of all that became sendable. Call once per pass, after its events.
    pub fn finish_pass(&mut self, _now: Instant) {}

    /// The next operation, until `None`.
    pub fn poll_operation(&mut self) -> Option<Operation> {
        None
    }

    /// When `handle_timeout` wants to be called, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

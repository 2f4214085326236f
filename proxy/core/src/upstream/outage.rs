//! The time in which no node takes a service's requests: they are held, and for how long.
//!
//! A failover is such a time. Knows attempts and when they failed, and no protocol. Invariants:
//! while no upstream is ready, nobody is refused before `hold_max` is over, unless no node of the
//! service was ever reached and none is chosen by its role; after that everybody is, at once; what
//! was held is not counted as queueing.

use core::time::Duration;

use crate::event::{Address, Level};
use crate::ids::{ServiceId, UpstreamId};
use crate::shard::{Shard, Timer};
use crate::time::Instant;
use crate::upstream::postgres::State;

/// The longest pause between two attempts while requests are held: what it takes to notice that a
/// node is back comes on top of every failover. Refusing a connection costs a host some 20 us.
const HELD_PAUSE_NANOS: u64 = 50_000_000;

/// The shortest and the longest pause otherwise.
const PAUSE_NANOS: u64 = 20_000_000;
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// What is wrong while a source says that nobody leads.
pub(crate) const NOBODY: &str = "no node leads";

#[cfg(test)]
mod tests;

/// An outage that took less is none to speak of.
const WORTH_SAYING_NANOS: u64 = 100_000_000;

impl Shard {
    /// Whether a connection may be tried now: one at a time as long as none succeeds.
    pub(crate) fn may_connect(&self, service: ServiceId) -> bool {
        let connections = &self.connections[service.index()];
        let is_trying = |id: &UpstreamId| self.upstreams[*id].state != State::Ready;
        let is_open =
            connections.failing_since.is_none() || !connections.upstreams.iter().any(is_trying);
        is_open && self.now >= connections.retry_at && !connections.whereabouts.is_nobody()
    }

    /// Clients of this shard wait for a node to be there: the shard that finds it first is not to
    /// take all permits before this one has tried again.
    pub(crate) fn reserve_share(&mut self, service: ServiceId) {
        if self.is_held(service) {
            self.set_wanting(service, true);
        }
    }

    /// An attempt has failed. The next place is tried at once, if there are some that were not;
    /// before a pause is over, none is tried again.
    pub(crate) fn back_off(&mut self, service: ServiceId, address: Option<&Address>, why: &str) {
        let jitter = self.random.next() % 1_000;
        let is_held = !self.is_given_up(service);
        let connections = &mut self.connections[service.index()];
        connections.failures = connections.failures.saturating_add(1);
        connections.failing_since.get_or_insert(self.now);
        connections.trouble = Some(match address {
            Some(address) => format!("{address}: {why}").into(),
            None => why.into(),
        });
        let is_round_over = connections.whereabouts.reject(address);
        let step = PAUSE_NANOS << connections.failures.min(PAUSE_DOUBLINGS_MAX);
        let step = match is_held {
            true => step.min(HELD_PAUSE_NANOS),
            false => step,
        };
        let pause = u64::from(is_round_over) * (step / 2 + step / 2 * jitter / 1_000);
        connections.retry_at = Instant(self.now.0 + pause);
        self.timers.add(connections.retry_at, Timer::Retry);
    }

    /// Nobody takes the requests of a service any more, by what a source says.
    pub(crate) fn begin_outage(&mut self, service: ServiceId) {
        let connections = &mut self.connections[service.index()];
        connections.failing_since.get_or_insert(self.now);
        connections.trouble = Some(NOBODY.into());
    }

    /// A node has let an upstream in.
    pub(crate) fn end_outage(&mut self, service: ServiceId) {
        let connections = &mut self.connections[service.index()];
        connections.failures = 0;
        connections.retry_at = Instant(0);
        connections.has_been_up = true;
        connections.whereabouts.confirm();
        connections.trouble = None;
        let Some(since) = connections.failing_since.take() else {
            return;
        };
        connections.up_since = self.now;
        let nanos = self.now.nanos_since(since);
        if nanos >= WORTH_SAYING_NANOS {
            let text = format!(
                "service \"{}\": a node takes requests again, after {} ms without",
                self.name(service),
                nanos / 1_000_000,
            );
            self.log(Level::Info, text);
        }
    }

    /// Whether requests wait because no node takes them, and not in a queue.
    pub(crate) fn is_held(&self, service: ServiceId) -> bool {
        let connections = &self.connections[service.index()];
        let serves = |id: &UpstreamId| {
            let upstream = &self.upstreams[*id];
            upstream.state == State::Ready && !upstream.is_draining
        };
        connections.failing_since.is_some() && !connections.upstreams.iter().any(serves)
    }

    /// Whether there has been no node for so long that nobody waits for one any more.
    pub(crate) fn is_given_up(&self, service: ServiceId) -> bool {
        let since = self.connections[service.index()].failing_since;
        since.is_some_and(|since| self.now - since >= self.held_at_most(service).0)
    }

    /// Whether a service without a node is worth waiting for. Where none was ever reached, it may
    /// be a wrong address.
    pub(crate) fn holds(&self, service: ServiceId) -> bool {
        let has_been_up = self.connections[service.index()].has_been_up;
        has_been_up || self.services[service.index()].wants_primary
    }

    /// How long requests wait for a node, and the limit's name.
    fn held_at_most(&self, service: ServiceId) -> (Duration, &'static str) {
        match self.holds(service) {
            true => (self.limits.hold_max, "hold_max"),
            false => (self.limits.connect_time_max, "connect_time_max"),
        }
    }

    /// What is wrong, for whoever has waited in vain: what is missing, and since when.
    pub(crate) fn outage_text(&self, service: ServiceId) -> String {
        let connections = &self.connections[service.index()];
        let trouble = connections.trouble.as_deref();
        let trouble = trouble.unwrap_or("no connection can be established");
        let since = connections.failing_since.unwrap_or(self.now);
        let seconds = self.now.nanos_since(since) / 1_000_000_000;
        let what = match self.services[service.index()].wants_primary {
            true => "no primary",
            false => "no node",
        };
        let limit = self.held_at_most(service).1;
        format!("{trouble}; there has been {what} for {seconds} s, and {limit} is over")
    }
}

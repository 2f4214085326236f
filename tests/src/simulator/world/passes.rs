//! A shard's pass: events in, operations out, in the order that the core asks for.
//!
//! Knows the calls of a shard. Invariant: `finish_pass` runs once per pass and every operation is
//! carried out before the next pass.

use std::sync::Arc;

use manifold_core::event::{Address, Message};
use manifold_core::ids::ShardId;
use manifold_core::permits::Permits;
use manifold_core::shard::Shard;
use manifold_core::time::Instant;

use super::setup::dial;
use super::{Faults, Play, World};
use crate::simulator::checker;
use crate::simulator::driver::{Dialled, Driver, Happening, describe};
use crate::simulator::network::Network;
use crate::simulator::trace::Trace;

/// A shard and its driver.
#[derive(Debug)]
pub struct SimShard {
    /// The core.
    pub shard: Shard,
    /// Its driver.
    pub driver: Driver,
    /// The permits that it shares with the others.
    pub permits: Arc<Permits>,
}

/// Operations that one pass may give: far more than there are connections and texts.
const OPERATIONS_MAX: u32 = 10_000;

/// How long the shards may take to finish what is in flight at the end, in milliseconds.
pub(super) const DRAIN_MS: u64 = 1_000;

impl SimShard {
    pub(in crate::simulator) fn is_ready(&self, now: Instant, network: &Network) -> bool {
        self.driver.is_ready(now, network)
            || self
                .shard
                .poll_timeout()
                .is_some_and(|timeout| timeout <= now)
    }

    pub(in crate::simulator) fn next_time(&self, now: Instant) -> Option<Instant> {
        let timeout = self.shard.poll_timeout().filter(|timeout| *timeout > now);
        [timeout, self.driver.next_time(now)]
            .into_iter()
            .flatten()
            .min()
    }

    pub(in crate::simulator) fn is_over(&self) -> bool {
        self.driver.has_drained && self.driver.is_quiet()
    }

    /// I10: a shard that has drained holds nothing.
    pub(in crate::simulator) fn check_end(&self) -> Option<String> {
        let driver = &self.driver;
        if driver.conns_open() > 0 || driver.sending_bytes > 0 {
            return Some(format!(
                "I10: shard {} has connections left",
                driver.shard.0
            ));
        }
        let (free, all) = (self.permits.free(), self.permits.connections_max());
        let lost = (free != all).then(|| format!("I10: {free} of {all} permits came back"));
        lost.or_else(|| checker::check_gauges(self.shard.stats()))
    }
}

impl SimShard {
    /// Tells the core what has happened, and lets it finish its pass.
    pub(in crate::simulator) fn take_events(
        &mut self,
        now: Instant,
        network: &mut Network,
        trace: &mut Trace,
    ) {
        let place = self.driver.shard.0;
        for mut happening in self.driver.take_happenings(now, network) {
            let text = happening.describe();
            trace.note(now, text.as_bytes(), || format!("shard {place} <- {text}"));
            self.shard.handle_event(now, happening.event());
        }
        if self
            .shard
            .poll_timeout()
            .is_some_and(|timeout| timeout <= now)
        {
            trace.note(now, b"timeout", || format!("shard {place} <- timeout"));
            self.shard.handle_timeout(now);
        }
        self.shard.finish_pass(now);
    }

    /// Carries out what the core wants. Says what it must not want.
    pub(in crate::simulator) fn carry_out(
        &mut self,
        now: Instant,
        network: &mut Network,
        trace: &mut Trace,
        mut dial: impl FnMut(&mut Network, &Address) -> Dialled,
    ) -> Option<String> {
        let place = self.driver.shard.0;
        let mut count = 0;
        while let Some(operation) = self.shard.poll_operation() {
            count += 1;
            if count > OPERATIONS_MAX {
                return Some(format!(
                    "I9: more than {OPERATIONS_MAX} operations in one pass"
                ));
            }
            let text = describe(&operation);
            trace.note(now, text.as_bytes(), || format!("shard {place} -> {text}"));
            self.driver.apply(now, operation, network, &mut dial);
        }
        self.driver.end_pass(now, network);
        checker::check_understood(self.shard.stats())
            .or_else(|| checker::check_connects(self.driver.connects))
    }
}

impl<P: Play> World<P> {
    /// One pass of a shard.
    pub(super) fn pass(&mut self, place: usize) {
        let now = self.now;
        let faults = if self.is_healed {
            Faults::default()
        } else {
            self.course.faults
        };
        let patience = self.course.patience.upstream;
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
                    P::refuse(&mut port.node, now + dialled.1);
                }
                dialled
            },
        );
        let found = found.or_else(|| P::check_pass(&sim.driver, &self.course));
        self.violation = self.violation.take().or(found);
        for (shard, message) in core::mem::take(&mut sim.driver.outbox) {
            self.tell(shard, message, faults.lost_letter);
        }
    }

    /// Tells another shard something, if it exists and has room for it.
    fn tell(&mut self, shard: ShardId, message: Message, lost_letter: u32) {
        let at = Instant(self.now.0 + self.prng.between(0, 100_000));
        let has_room = lost_letter == 0 || !self.prng.chance(lost_letter);
        match (self.shards.get_mut(shard.index()), message) {
            (Some(other), message) if has_room => {
                other.driver.post(at, Happening::FromShard(message));
            }
            // Whoever asked waits for the end of the connection. A key that nobody was given may
            // name any shard.
            (_, Message::Cancel { shard, client, .. }) => {
                let taken = Happening::FromShard(Message::CancelTaken { client });
                self.shards[shard.index()].driver.post(at, taken);
            }
            (None, _) => self.fail(format!("driver contract: {shard:?} is no shard")),
            (Some(_), _) => {}
        }
    }
}

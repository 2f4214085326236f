//! What is checked from outside, at every step and at the end.
//!
//! Changes nothing but the verdict. Invariant: a run is over only when nothing is left of it.

use super::World;
use crate::simulator::checker;
use crate::simulator::driver::Driver;
use crate::simulator::redis::log::owner_of;
use crate::simulator::serves::Serves;
use crate::simulator::world::passes::SimShard;
use crate::simulator::world::{Between, STEPS_MAX};

impl World {
    pub(super) fn check_step(&mut self) {
        let noted = self.port.node.log.violations.pop();
        let mut shards = self.shards.iter_mut();
        let of_driver = shards.find_map(|shard| shard.driver.violations.pop());
        let bounds = match self.options.between {
            Between::Nothing => None,
            Between::Shards(_) => self.check_bounds(),
        };
        let found = self.violation.take().or(noted).or(of_driver).or(bounds);
        self.violation = found;
        self.check_time();
        if self.trace.steps > STEPS_MAX {
            let who = self.who_waits();
            self.fail(format!("I11: no rest after {STEPS_MAX} steps, and {who}"));
        }
    }

    fn check_bounds(&self) -> Option<String> {
        let mut connections_max = self.options.connections_max;
        if self.options.is_spread {
            // Who has no map yet asks for it on connections that no node's limit counts.
            connections_max *= 2;
        }
        let doors = 0..self.port.doors.len();
        let each = doors.map(|door| self.port.connections(&self.network, door));
        let connections = each.max().unwrap_or(0);
        let drivers = self.shards.iter().map(|sim| &sim.driver);
        let links: usize = drivers.clone().map(Driver::links_to_node).sum();
        // There are no cancels: every link is a connection.
        let links = links.div_ceil(self.port.doors.len());
        checker::check_connections(connections.max(links), connections_max).or_else(|| {
            let mut drivers = drivers;
            drivers.find_map(|driver| {
                checker::check_forgotten(self.now, driver)
                    .or_else(|| checker::check_hanging(self.now, driver, &self.options.limits))
            })
        })
    }

    pub(super) fn check_time(&mut self) {
        if self.is_healed && self.now >= self.deadline() {
            let who = self.who_waits();
            self.fail(format!("I11: the time is over, and {who}"));
        }
    }

    pub(super) fn check_end(&mut self) {
        let found = self
            .check_refused()
            .or_else(|| self.check_owners())
            .or_else(|| {
                let left = self.port.node.sessions_open();
                (left > 0).then(|| format!("I10: {left} sessions are left at the node"))
            })
            .or_else(|| self.shards.iter().find_map(SimShard::check_end));
        self.violation = found;
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

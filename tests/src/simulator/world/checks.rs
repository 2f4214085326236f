//! What is checked from outside, at every step and at the end.
//!
//! Changes nothing but the verdict. Invariant: a run is over only when nothing is left of it.

use super::passes::SimShard;
use super::{Between, Play, STEPS_MAX, World};
use crate::simulator::checker;

impl<P: Play> World<P> {
    pub(super) fn check_step(&mut self) {
        let noted = P::check_step(self);
        let mut shards = self.shards.iter_mut();
        let of_driver = shards.find_map(|shard| shard.driver.violations.pop());
        let bounds = match self.course.between {
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
        P::check_connections(self).or_else(|| {
            let mut drivers = self.shards.iter().map(|sim| &sim.driver);
            drivers.find_map(|driver| {
                checker::check_forgotten(self.now, driver)
                    .or_else(|| checker::check_hanging(self.now, driver, &self.course.limits))
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
        let found = P::check_end(self);
        self.violation = found.or_else(|| self.shards.iter().find_map(SimShard::check_end));
    }
}

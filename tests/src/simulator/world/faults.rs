//! What goes wrong during the safety phase of a run.
//!
//! Knows the world's parts from outside. Invariant: nothing strikes after the world was healed.

use core::time::Duration;

use manifold_core::time::Instant;

use super::nodes::Act;
use super::setup::{node_address, other_address};
use super::{Acts, Faults, Play, World};
use crate::simulator::network::{End, LinkId};
use crate::simulator::serves::Serves;

/// The kinds of faults, in the order of their rates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A link carries nothing for a while.
    Clog,
    /// The connection of a session breaks.
    Reset,
    /// An operator ends a session.
    Terminate,
    /// The process of a session dies before, after or amid what it does.
    Kill,
    /// The node dies and comes back.
    Restart,
    /// Nothing is run for a while.
    Freeze,
    /// Something is said out of turn.
    Notice,
    /// A link falls silent for ever.
    Silence,
    /// Many links carry nothing, each for another while.
    Swizzle,
    /// Many cancels come at once.
    Storm,
    /// A script runs for a while.
    Busy,
    /// A slot goes from node to node.
    Migrate,
    /// The name of the node leads to another address of it.
    Rename,
}

impl Faults {
    fn rates(&self) -> [(Fault, u32); 13] {
        [
            (Fault::Clog, self.clog),
            (Fault::Reset, self.reset),
            (Fault::Terminate, self.terminate),
            (Fault::Kill, self.kill),
            (Fault::Restart, self.restart),
            (Fault::Freeze, self.freeze),
            (Fault::Notice, self.notice),
            (Fault::Silence, self.silence),
            (Fault::Swizzle, self.swizzle),
            (Fault::Storm, self.storm),
            (Fault::Busy, self.busy),
            (Fault::Migrate, self.migrate),
            (Fault::Rename, self.rename),
        ]
    }
}

/// How long it may take until a lost connection is found to be lost and replaced, unless it fell
/// silent: attempts that hang, and the pauses between them.
const REPLACED_WITHIN: Duration = Duration::from_secs(8);

impl<P: Play> World<P> {
    /// Lets each fault strike as often as this run wants it.
    pub(super) fn strike(&mut self) {
        let drawn = self.prng.below(1_000_000);
        let mut bound = 0;
        for (fault, rate) in self.course.faults.rates() {
            bound += u64::from(rate);
            if drawn < bound {
                self.strike_with(fault);
                return;
            }
        }
    }

    fn strike_with(&mut self, fault: Fault) {
        let now = self.now;
        let length = Duration::from_millis(self.prng.between(1, 300));
        let links: Vec<_> = match fault {
            Fault::Clog | Fault::Silence | Fault::Swizzle => self.network.links().collect(),
            _ => self.port.links().collect(),
        };
        if links.is_empty() {
            return;
        }
        let link = *self.prng.pick(&links);
        self.trace.note(now, &[fault as u8], || {
            format!("fault {fault:?} on {link:?}")
        });
        let door = self.port.door_of(link).unwrap_or(0);
        match fault {
            Fault::Clog => self.network.clog(link, now, now + length),
            Fault::Terminate => self.terminate(link),
            Fault::Kill | Fault::Reset => self.kill_amid(link),
            Fault::Restart => self.restart(door, length),
            Fault::Freeze => self.port.doors[door].frozen_until = now + length,
            Fault::Silence => self.silence(link),
            Fault::Swizzle => self.swizzle(links),
            Fault::Rename => self.rename(),
            Fault::Notice | Fault::Storm | Fault::Busy | Fault::Migrate => {
                P::strike(self, fault, link, length);
            }
        }
    }

    /// The name leads to one of the node's addresses, and those who follow it hear so. What leads to
    /// the other is not cut off.
    fn rename(&mut self) {
        let address = match self.prng.chance(500) {
            true => node_address(),
            false => other_address(),
        };
        for sim in &mut self.shards {
            sim.driver.rename(self.now, &address);
        }
    }

    fn terminate(&mut self, link: LinkId) {
        P::lose(self, link, REPLACED_WITHIN);
        if let Some(session) = self.port.session_of(link) {
            self.port.node.terminate(session);
        }
    }

    /// A process of the node dies, with all its connections.
    fn restart(&mut self, door: usize, length: Duration) {
        let now = self.now;
        let links = self.port.links();
        let lost: Vec<_> = links
            .filter(|link| self.port.door_of(*link) == Some(door))
            .collect();
        lost.into_iter()
            .for_each(|link| P::lose(self, link, REPLACED_WITHIN));
        self.port.crash(now, &mut self.network, door, now + length);
        P::restart(self, door, length);
    }

    /// Nothing crosses a link any more: somewhere between, or because the host of one end is gone.
    fn silence(&mut self, link: LinkId) {
        let now = self.now;
        let patience = self.course.patience.upstream;
        // Who sends at the last moment waits once more.
        let within = patience.idle + patience.unacked + REPLACED_WITHIN;
        P::lose(self, link, within);
        let is_host = self.prng.chance(500);
        let client = self.clients.iter().position(|it| it.link() == Some(link));
        match client {
            Some(place) if is_host => {
                self.clients[place].vanish(now, &mut self.network);
                self.collect_from(place);
            }
            None if is_host && self.port.session_of(link).is_some() => {
                self.port.vanish(now, &mut self.network, link);
            }
            _ => self.network.silence(now, link),
        }
    }

    /// Clogs some links one after the other and frees them in another order.
    fn swizzle(&mut self, links: Vec<LinkId>) {
        let share = *self.prng.pick(&[200, 500, 1_000]);
        for link in links {
            if self.prng.chance(share) {
                let from = self.prng.between(0, 100_000_000);
                let until = from + self.prng.between(1, 300_000_000);
                let at = |nanos| Instant(self.now.0 + nanos);
                self.network.clog(link, at(from), at(until));
            }
        }
    }

    /// Kills a session before its next step, or after it with all, some or none of its reply sent.
    fn kill_amid(&mut self, link: LinkId) {
        let now = self.now;
        P::lose(self, link, REPLACED_WITHIN);
        if self.prng.chance(700) {
            let acts = self.port.acts(now, &self.network);
            if acts.contains(&(link, Act::Step)) {
                self.port.act(now, &mut self.network, link, Act::Step);
            }
        }
        if let Some(session) = self.port.session_of(link)
            && self.prng.chance(700)
        {
            let most = self.prng.size(0, 200);
            let bytes = self.port.node.take_output(session, most);
            self.network.write(now, link, End::Far, &bytes);
        }
        self.port.kill(now, &mut self.network, link);
    }
}

//! What goes wrong during the safety phase of a run.
//!
//! Knows the world's parts from outside. Invariant: nothing strikes after the world was healed.

use core::time::Duration;

use manifold_core::time::Instant;

use manifold_protocols::redis::cluster::slot;

use super::{NODES_END, World};
use crate::simulator::network::LinkId;
use crate::simulator::redis::cluster::TAGS;
use crate::simulator::serves::Serves;
use crate::simulator::world::nodes::Act;

/// The kinds of faults, in the order of their rates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Clog,
    Reset,
    Terminate,
    Kill,
    Restart,
    Freeze,
    Silence,
    Swizzle,
    Busy,
    Migrate,
}

const FAULTS: [Fault; 10] = [
    Fault::Clog,
    Fault::Reset,
    Fault::Terminate,
    Fault::Kill,
    Fault::Restart,
    Fault::Freeze,
    Fault::Silence,
    Fault::Swizzle,
    Fault::Busy,
    Fault::Migrate,
];

/// How long it may take until a lost connection is found to be lost and replaced, unless it fell
/// silent: attempts that hang, and the pauses between them.
const REPLACED_WITHIN: Duration = Duration::from_secs(8);

impl World {
    /// Lets each fault strike as often as this run wants it.
    pub(super) fn strike(&mut self) {
        let faults = self.options.faults;
        let rates = [
            faults.clog,
            faults.reset,
            faults.terminate,
            faults.kill,
            faults.restart,
            faults.freeze,
            faults.silence,
            faults.swizzle,
            self.options.grudges.busy,
            self.options.grudges.migrate,
        ];
        let drawn = self.prng.below(1_000_000);
        let mut bound = 0;
        for (fault, rate) in FAULTS.into_iter().zip(rates) {
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
            Fault::Terminate => {
                self.lose(link, REPLACED_WITHIN);
                if let Some(session) = self.port.session_of(link) {
                    self.port.node.terminate(session);
                }
            }
            Fault::Kill | Fault::Reset => self.kill_amid(link),
            Fault::Restart => self.restart(door, length),
            Fault::Freeze => self.port.doors[door].frozen_until = now + length,
            Fault::Silence => self.silence(link),
            Fault::Swizzle => self.swizzle(links),
            Fault::Busy => self.port.node.moods.busy_until = now + length,
            Fault::Migrate => {
                let keys = TAGS.map(|tag| slot(tag.as_bytes()));
                let channels = [&b"d0"[..], b"d1"].map(slot);
                let slots = [&keys[..], &channels[..]].concat();
                let cluster = self.port.node.cluster.as_mut();
                cluster
                    .expect("only a cluster has slots")
                    .begin_migration(now, &slots);
            }
        }
    }

    /// A connection of the node is about to be lost.
    fn lose(&mut self, link: LinkId, within: Duration) {
        if let Some(session) = self.port.session_of(link) {
            let until = self.now + within;
            self.port.node.log.note_loss(session, until);
        }
    }

    /// The node dies, keeps its data, and is not what it was for a while.
    fn restart(&mut self, door: usize, length: Duration) {
        let now = self.now;
        let links = self.port.links();
        let lost: Vec<_> = links
            .filter(|link| self.port.door_of(*link) == Some(door))
            .collect();
        lost.into_iter()
            .for_each(|link| self.lose(link, REPLACED_WITHIN));
        self.port.crash(now, &mut self.network, door, now + length);
        if self.options.is_spread {
            return self.port.node.lose_door(now, door, now + length);
        }
        let grudges = self.options.grudges;
        let mut up_to =
            |most: Duration| Duration::from_nanos(self.prng.between(0, most.as_nanos() as u64));
        let loaded = now + length + up_to(grudges.loading);
        let moods = &mut self.port.node.moods;
        moods.busy_until = now;
        moods.loading_until = loaded;
        moods.readonly_until = loaded + up_to(grudges.readonly);
    }

    /// Nothing crosses a link any more: somewhere between, or because the host of one end is gone.
    fn silence(&mut self, link: LinkId) {
        let now = self.now;
        let patience = self.options.patience.upstream;
        // Who sends at the last moment waits once more.
        let within = patience.idle + patience.unacked + REPLACED_WITHIN;
        self.lose(link, within);
        let is_host = self.prng.chance(500);
        let client = self.clients.iter().position(|it| it.link == Some(link));
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

    /// Kills a connection before its next step, or after it with all, some or none of its reply
    /// sent.
    fn kill_amid(&mut self, link: LinkId) {
        let now = self.now;
        self.lose(link, REPLACED_WITHIN);
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
            self.network.write(now, link, NODES_END, &bytes);
        }
        self.port.kill(now, &mut self.network, link);
    }
}

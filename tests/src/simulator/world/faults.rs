//! What goes wrong during the safety phase of a run.
//!
//! Knows the world's parts from outside. Invariant: nothing strikes after the world was healed.

use core::time::Duration;

use super::World;
use super::nodes::Act;
use crate::simulator::client::ASYNC_NOTICE;

/// The kinds of faults, in the order of their rates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Clog,
    Reset,
    Terminate,
    Kill,
    Restart,
    Freeze,
    Notice,
}

const FAULTS: [Fault; 7] = [
    Fault::Clog,
    Fault::Reset,
    Fault::Terminate,
    Fault::Kill,
    Fault::Restart,
    Fault::Freeze,
    Fault::Notice,
];

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
            faults.notice,
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
            Fault::Clog => self.network.links().collect(),
            _ => self.port.links().collect(),
        };
        if links.is_empty() {
            return;
        }
        let link = *self.prng.pick(&links);
        self.trace.note(now, &[fault as u8], || {
            format!("fault {fault:?} on {link:?}")
        });
        let session = self.port.session_of(link);
        match (fault, session) {
            (Fault::Clog, _) => self.network.clog(link, now + length),
            (Fault::Terminate, Some(session)) => self.port.node.terminate(session),
            (Fault::Kill | Fault::Reset, Some(_)) => self.kill_amid(link),
            (Fault::Restart, _) => self.port.crash(now, &mut self.network, now + length),
            (Fault::Freeze, _) => self.port.frozen_until = now + length,
            (Fault::Notice, Some(session)) => self.port.node.say(session, ASYNC_NOTICE),
            (_, None) => {}
        }
    }

    /// Kills a session before its next step, or after it with all, some or none of its reply sent.
    fn kill_amid(&mut self, link: crate::simulator::network::LinkId) {
        let now = self.now;
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
            self.network
                .write(now, link, crate::simulator::network::End::Far, &bytes);
        }
        self.port.kill(now, &mut self.network, link);
    }
}

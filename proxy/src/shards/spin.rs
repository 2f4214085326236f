//! Whether a shard looks for its next event for a moment before it sleeps.
//!
//! Knows only how passes went. Invariant: a shard that is idle, or busy, sleeps at once.

use std::thread;
use std::time::Duration;

use manifold_drivers::{Patience, Woken};

/// How long it looks. Sleeping and being woken up costs a host 10 to 60 µs: with this, one client's
/// queries took 70 µs instead of 145 on two virtual cores (`pgbench -M prepared -c 1`).
const SPIN: Duration = Duration::from_micros(80);

/// A wait that took longer would not have been shortened.
const WAIT_MAX: Duration = Duration::from_micros(200);

/// What a pass brings while one client has a request under way: something that has arrived, and
/// the end of a send.
const EVENTS_MAX: u32 = 2;

/// So many passes in a row have to be of that kind. With ten clients there are hardly ever so many,
/// and they need the processor for themselves: looking cost them a tenth of their throughput.
const PASSES_MIN: u32 = 16;

/// More of them do not count.
const PASSES_MAX: u32 = 64;

/// The recent past of one shard.
#[derive(Debug)]
pub struct Spin {
    passes: u32,
    is_affordable: bool,
}

impl Spin {
    /// For a thread that is not pinned yet: of its cores only one is left to it then.
    pub fn of_unpinned() -> Self {
        Self {
            passes: 0,
            // On a single core whoever is waited for could not run.
            is_affordable: thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
        }
    }

    /// How to wait next.
    pub fn patience(&self) -> Patience {
        match self.is_affordable && self.passes >= PASSES_MIN {
            true => Patience::Look(SPIN),
            false => Patience::Sleep,
        }
    }

    /// A pass has waited for so long, and this came of it.
    pub fn note(&mut self, woken: &Woken, waited: Duration) {
        self.passes = if woken.events > EVENTS_MAX {
            0
        } else if woken.events == 0 || waited > WAIT_MAX {
            self.passes / 2
        } else {
            PASSES_MAX.min(self.passes + 1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woken(events: u32) -> Woken {
        Woken {
            doorbell: false,
            events,
        }
    }

    /// A shard that has just served one client for a while.
    fn warm() -> Spin {
        let mut spin = Spin {
            passes: 0,
            is_affordable: true,
        };
        for _ in 0..PASSES_MIN {
            assert_eq!(spin.patience(), Patience::Sleep);
            spin.note(&woken(1), WAIT_MAX / 2);
        }
        spin
    }

    #[test]
    fn looks_while_one_client_is_served() {
        let mut spin = warm();
        assert_eq!(spin.patience(), Patience::Look(SPIN));
        spin.note(&woken(2), Duration::ZERO);
        assert_eq!(spin.patience(), Patience::Look(SPIN));
    }

    #[test]
    fn sleeps_at_once_when_many_are_served_or_nobody() {
        for (events, waited) in [(3, WAIT_MAX / 2), (0, WAIT_MAX / 2), (1, WAIT_MAX * 2)] {
            let mut spin = warm();
            spin.note(&woken(events), waited);
            assert_eq!(
                spin.patience(),
                Patience::Sleep,
                "{events} events after {waited:?}"
            );
        }
    }

    #[test]
    fn sleeps_at_once_on_a_single_core() {
        let spin = Spin {
            is_affordable: false,
            ..warm()
        };
        assert_eq!(spin.patience(), Patience::Sleep);
    }
}

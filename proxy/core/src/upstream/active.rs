//! How many upstreams a lane's shared requests use at once.
//!
//! A node runs only so much at once: more upstreams than it can serve cost throughput, fewer leave
//! it idle while heads wait for locks, commits or disks. So the size is tried out: one more where
//! requests queue, kept only if more was answered. Pure arithmetic; knows neither upstreams nor
//! requests. Invariant: the size is at least [`SIZE_MIN`], and between two trials that did not
//! help ever more time passes.

use crate::time::Instant;

/// The size to begin with: on 2 cores, short reads over 2 upstreams ran 1.2 to 1.8 times as fast as
/// over 8.
pub const SIZE_MIN: usize = 2;

/// How long answers are counted before two sizes are compared.
const WINDOW_NANOS: u64 = 200_000_000;

/// The time to the next trial after one that did not help, at first and at most.
const PAUSE_NANOS: u64 = 2_000_000_000;
const PAUSE_NANOS_MAX: u64 = 60_000_000_000;

/// One more upstream has to bring so many percent more, and one less may cost so many.
const GAIN_PERCENT: u64 = 5;
const LOSS_PERCENT: u64 = 2;

/// The size of a lane's active set and what was learned about it.
#[derive(Clone, Debug)]
pub struct ActiveSet {
    size: usize,
    trial: Trial,
    /// Shared requests answered since the window began.
    answered: u64,
    window_since: Instant,
    pause_nanos: u64,
    next_trial: Instant,
    /// The next trial is one upstream less rather than one more.
    tries_less: bool,
}

/// What is being tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trial {
    /// Nothing.
    No,
    /// One more; so many were answered before.
    More(u64),
    /// One less; so many were answered before.
    Less(u64),
}

/// How a lane's shared requests fare right now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pressure {
    /// Nobody waits and no pipe is deep.
    None,
    /// Requests wait in the queue or stand in pipes behind each other.
    Busy,
    /// And the heads they stand behind are slow: they wait for something that is not this node's
    /// processor, or for each other.
    Stuck,
}

impl Default for ActiveSet {
    fn default() -> Self {
        Self {
            size: SIZE_MIN,
            trial: Trial::No,
            answered: 0,
            window_since: Instant(0),
            pause_nanos: PAUSE_NANOS,
            next_trial: Instant(0),
            tries_less: false,
        }
    }
}

impl ActiveSet {
    /// How many upstreams are to be used.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A shared request was answered.
    pub fn note_answered(&mut self) {
        self.answered += 1;
    }

    /// Looks at what was answered under which pressure. Called now and then; there is no use in
    /// more than `size_max` upstreams.
    pub fn adapt(&mut self, now: Instant, pressure: Pressure, size_max: usize) {
        let size_max = size_max.max(SIZE_MIN);
        self.size = self.size.min(size_max);
        if pressure == Pressure::Stuck && self.size < size_max {
            self.size += 1;
            self.trial = Trial::No;
            self.begin_window(now);
            return;
        }
        if now.nanos_since(self.window_since) < WINDOW_NANOS {
            return;
        }
        let answered = self.answered;
        self.begin_window(now);
        if pressure == Pressure::None {
            self.trial = Trial::No;
            return;
        }
        match self.trial {
            Trial::No if now >= self.next_trial => self.begin_trial(answered, size_max),
            Trial::No => {}
            Trial::More(before) if answered * 100 >= before * (100 + GAIN_PERCENT) => {
                self.succeed(now);
            }
            Trial::More(_) => {
                self.size -= 1;
                self.fail(now);
            }
            Trial::Less(before) if answered * 100 >= before * (100 - LOSS_PERCENT) => {
                self.succeed(now);
            }
            Trial::Less(_) => {
                self.size += 1;
                self.fail(now);
            }
        }
    }

    fn begin_window(&mut self, now: Instant) {
        self.answered = 0;
        self.window_since = now;
    }

    fn begin_trial(&mut self, answered: u64, size_max: usize) {
        let can_shrink = self.size > SIZE_MIN;
        let can_grow = self.size < size_max;
        if can_shrink && (self.tries_less || !can_grow) {
            self.size -= 1;
            self.trial = Trial::Less(answered);
        } else if can_grow {
            self.size += 1;
            self.trial = Trial::More(answered);
        }
    }

    /// What was tried is kept, and the next step in the same direction follows soon.
    fn succeed(&mut self, now: Instant) {
        self.tries_less = matches!(self.trial, Trial::Less(_));
        self.trial = Trial::No;
        self.pause_nanos = PAUSE_NANOS;
        self.next_trial = now;
    }

    /// What was tried did not help: the other direction next, after a while.
    fn fail(&mut self, now: Instant) {
        self.tries_less = matches!(self.trial, Trial::More(_));
        self.trial = Trial::No;
        self.next_trial = Instant(now.0 + self.pause_nanos);
        self.pause_nanos = (self.pause_nanos * 2).min(PAUSE_NANOS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a lane whose node answers `rate(size)` requests in a window; the size afterwards.
    fn run(windows: u64, rate: impl Fn(usize) -> u64, pressure: Pressure) -> (ActiveSet, usize) {
        let mut set = ActiveSet::default();
        let mut largest = 0;
        for window in 1..=windows {
            for _ in 0..rate(set.size()) {
                set.note_answered();
            }
            set.adapt(Instant(window * WINDOW_NANOS), pressure, 8);
            largest = largest.max(set.size());
        }
        (set, largest)
    }

    #[test]
    fn widens_while_more_is_answered() {
        let (set, _) = run(60, |size| 1_000 * size.min(6) as u64, Pressure::Busy);
        assert!((6..=7).contains(&set.size()), "{set:?}");
    }

    #[test]
    fn stays_small_when_more_upstreams_do_not_help() {
        let (set, largest) = run(2_000, |size| 1_000 - 50 * size as u64, Pressure::Busy);
        assert_eq!((set.size(), largest), (SIZE_MIN, SIZE_MIN + 1));
    }

    #[test]
    fn tries_ever_less_often_what_does_not_help() {
        let mut set = ActiveSet::default();
        let mut trials = 0;
        for window in 1..=3_000 {
            let before = set.size();
            (0..1_000).for_each(|_| set.note_answered());
            set.adapt(Instant(window * WINDOW_NANOS), Pressure::Busy, 8);
            trials += u32::from(set.size() > before);
        }
        // Ten minutes: after 2, 4, 8, 16, 32, and then every 60 seconds.
        assert!((10..=16).contains(&trials), "{trials}");
    }

    #[test]
    fn widens_at_once_when_heads_are_stuck() {
        let mut set = ActiveSet::default();
        for tick in 1..=4 {
            set.adapt(Instant(tick), Pressure::Stuck, 5);
        }
        assert_eq!(set.size(), 5);
    }

    #[test]
    fn narrows_when_fewer_serve_as_well() {
        let (mut set, _) = run(60, |size| 1_000 * size.min(6) as u64, Pressure::Busy);
        for window in 100..400 {
            (0..1_000).for_each(|_| set.note_answered());
            set.adapt(Instant(window * WINDOW_NANOS), Pressure::Busy, 8);
        }
        assert!(set.size() <= SIZE_MIN + 1, "{set:?}");
    }
}

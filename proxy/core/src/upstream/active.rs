//! How many upstreams a lane's shared requests use at once.
//!
//! A node runs only so much at once: more upstreams than it can serve cost throughput, fewer leave
//! it idle while heads wait for locks, commits or disks. So the size is tried out: one more where
//! requests queue, kept only if more was answered, by the whole service: what one lane gains from
//! the others is no gain. Pure arithmetic; knows neither upstreams nor requests. Invariant: the
//! size is at least one, and between two trials that did not help ever more time passes.

use crate::time::Instant;

/// The size that the only busy lane of a service begins with: on 2 cores, short reads over 2
/// upstreams ran 1.2 to 1.8 times as fast as over 8. Where several are busy each begins with one.
pub const SIZE_ALONE: usize = 2;

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
    /// What the size began with.
    size_min: usize,
    trial: Trial,
    /// Shared requests of the lane answered since the window began.
    own: u64,
    /// Whether there were any in the window before.
    is_busy: bool,
    /// What the service had answered when the window began.
    answered_before: u64,
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

/// What a lane sees of itself and its service.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// How its shared requests fare.
    pub pressure: Pressure,
    /// How many lanes of the service are busy.
    pub busy_lanes: usize,
    /// There is no use in more upstreams.
    pub size_max: usize,
    /// Shared requests that the service has ever answered.
    pub answered: u64,
}

impl Default for ActiveSet {
    fn default() -> Self {
        Self {
            size: SIZE_ALONE,
            size_min: SIZE_ALONE,
            trial: Trial::No,
            own: 0,
            is_busy: false,
            answered_before: 0,
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

    /// A shared request of the lane was answered.
    pub fn note_answered(&mut self) {
        self.own += 1;
    }

    /// Whether shared requests of the lane were answered lately.
    pub fn is_busy(&self) -> bool {
        self.is_busy || self.own > 0
    }

    /// Looks at what was answered under which pressure. Called now and then.
    pub fn adapt(&mut self, now: Instant, view: View) {
        let size_max = view.size_max.max(1);
        self.begin_with(if view.busy_lanes > 1 { 1 } else { SIZE_ALONE });
        self.size = self.size.min(size_max);
        if view.pressure == Pressure::Stuck && self.size < size_max {
            self.size += 1;
            self.trial = Trial::No;
            self.begin_window(now, view.answered);
            return;
        }
        if now.nanos_since(self.window_since) < WINDOW_NANOS {
            return;
        }
        let answered = view.answered - self.answered_before;
        self.begin_window(now, view.answered);
        if view.pressure == Pressure::None {
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

    /// Other lanes became busy, or came to rest.
    fn begin_with(&mut self, size_min: usize) {
        if size_min != self.size_min {
            self.size = (self.size + size_min).saturating_sub(self.size_min).max(1);
            self.size_min = size_min;
            self.trial = Trial::No;
        }
    }

    fn begin_window(&mut self, now: Instant, answered: u64) {
        self.is_busy = self.own > 0;
        self.own = 0;
        self.answered_before = answered;
        self.window_since = now;
    }

    fn begin_trial(&mut self, answered: u64, size_max: usize) {
        let can_shrink = self.size > self.size_min;
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

    /// A lane and its node, which answers `rate(size)` requests in a window.
    #[derive(Default)]
    struct Run {
        set: ActiveSet,
        answered: u64,
        window: u64,
        largest: usize,
        growths: u64,
    }

    impl Run {
        fn windows(&mut self, count: u64, busy_lanes: usize, rate: impl Fn(usize) -> u64) {
            for _ in 0..count {
                self.window += 1;
                let before = self.set.size();
                self.answered += rate(before);
                self.set.note_answered();
                let view = View {
                    pressure: Pressure::Busy,
                    busy_lanes,
                    size_max: 8,
                    answered: self.answered,
                };
                self.set.adapt(Instant(self.window * WINDOW_NANOS), view);
                self.largest = self.largest.max(self.set.size());
                self.growths += u64::from(self.set.size() > before);
            }
        }
    }

    #[test]
    fn widens_while_more_is_answered() {
        let mut run = Run::default();
        run.windows(60, 1, |size| 1_000 * size.min(6) as u64);
        assert!((6..=7).contains(&run.set.size()), "{:?}", run.set);
    }

    #[test]
    fn stays_small_when_more_upstreams_do_not_help() {
        let mut run = Run::default();
        run.windows(2_000, 1, |size| 1_000 - 50 * size as u64);
        assert_eq!((run.set.size(), run.largest), (SIZE_ALONE, SIZE_ALONE + 1));
    }

    #[test]
    fn tries_ever_less_often_what_does_not_help() {
        let mut run = Run::default();
        run.windows(3_000, 1, |_| 1_000);
        // Ten minutes: after 2, 4, 8, 16, 32, and then every 60 seconds.
        assert!((10..=16).contains(&run.growths), "{}", run.growths);
    }

    #[test]
    fn widens_at_once_when_heads_are_stuck() {
        let mut set = ActiveSet::default();
        for tick in 1..=4 {
            let view = View {
                pressure: Pressure::Stuck,
                busy_lanes: 1,
                size_max: 5,
                answered: 0,
            };
            set.adapt(Instant(tick), view);
        }
        assert_eq!(set.size(), 5);
    }

    #[test]
    fn narrows_when_fewer_serve_as_well() {
        let mut run = Run::default();
        run.windows(60, 1, |size| 1_000 * size.min(6) as u64);
        run.windows(300, 1, |_| 1_000);
        assert!(run.set.size() <= SIZE_ALONE + 1, "{:?}", run.set);
    }

    #[test]
    fn uses_one_upstream_while_other_lanes_are_busy() {
        let mut run = Run::default();
        run.windows(1, 1, |_| 1_000);
        run.windows(1, 4, |_| 1_000);
        let beside = run.set.size();
        run.windows(1, 1, |_| 1_000);
        assert!(beside < run.set.size(), "{beside}, {:?}", run.set);
    }
}

//! Whether a shard should let events gather before it works on them.
//!
//! A pass costs waking up, and so does each burst of requests cost its node and each burst of
//! replies its client: much, compared with a request that a node answers within microseconds. Knows
//! only who sent something, and when. Invariant: nobody waits for events that are not expected
//! within the time that gathering may take.
//!
//! `redis-benchmark -t get` on two virtual cores, GETs per second in thousands and CPU of all three
//! processes for each, without and with: 100 clients 62 to 70 and 76 to 80 (26 and 21 µs), 500
//! clients 55 to 72 and 65 to 78 (28 and 23), 5 000 clients 57 to 60 and 61 to 63 (33 and 29). With
//! 50 clients it was a gain beside busy neighbours (58 and 68) and a loss without (82 and 78). For
//! PostgreSQL, whose queries cost the node ten times as much, it cost a tenth of the throughput.

use core::time::Duration;

use crate::ids::ConnId;
use crate::time::Instant;

/// How long is counted before what was counted is believed.
const PERIOD: Duration = Duration::from_millis(5);

/// How long gathering is meant to take.
const USUAL_MICROS: u64 = 200;

/// How long it may take if less happens than was expected.
const TIME_MAX: Duration = Duration::from_micros(300);

/// Of those who take part, one in so many is waited for: the others are still being served, or
/// their clients at work, so that nobody stands still meanwhile.
const SHARE: u32 = 4;

/// With fewer of them it is not worth it: whoever waits is waited for.
const CONNS_MIN: u32 = 80;

/// Nor is it for fewer events.
const EVENTS_MIN: u32 = 4;

/// More than this at a time bring little, and each has to wait for all.
const EVENTS_MAX: u32 = 48;

/// What to wait for before the next pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gather {
    /// How many connections should have brought something.
    pub events: u32,
    /// How long at most.
    pub time: Duration,
}

/// Who sent something lately.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// When the period began.
    began: Instant,
    /// Its number; it wraps.
    period: u8,
    /// For each place of a connection, the period in which it sent something last.
    last: Vec<u8>,
    /// Connections that sent something in this period.
    conns: u32,
    /// How often somebody did.
    receives: u32,
    /// What follows from the period before.
    gather: Option<Gather>,
}

impl Crowd {
    /// Nobody.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant(0),
            period: 1,
            last: Vec::new(),
            conns: 0,
            receives: 0,
            gather: None,
        }
    }

    /// Somebody sent something.
    pub(crate) fn note(&mut self, conn: ConnId) {
        let place = conn.index as usize;
        if place >= self.last.len() {
            self.last.resize(place + 1, self.period.wrapping_sub(1));
        }
        self.receives += 1;
        if self.last[place] != self.period {
            self.last[place] = self.period;
            self.conns += 1;
        }
    }

    /// What is worth waiting for, if anything.
    pub(crate) fn gather(&mut self, now: Instant) -> Option<Gather> {
        let length = now.since(self.began);
        if length >= PERIOD {
            self.gather = self.judge(length);
            self.began = now;
            self.period = self.period.wrapping_add(1);
            self.conns = 0;
            self.receives = 0;
        }
        self.gather
    }

    fn judge(&self, length: Duration) -> Option<Gather> {
        let length = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let expected = u64::from(self.receives) * USUAL_MICROS / length;
        let expected = u32::try_from(expected).unwrap_or(u32::MAX);
        let events = expected.min(self.conns / SHARE).min(EVENTS_MAX);
        let is_worth_it = self.conns >= CONNS_MIN && events >= EVENTS_MIN;
        is_worth_it.then_some(Gather {
            events,
            time: TIME_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Instant = Instant(7_000_000_000);

    /// A period in which so many connections each sent something so many times.
    fn after(conns: u32, times: u32, length: Duration) -> Option<Gather> {
        let mut crowd = Crowd::new();
        assert_eq!(crowd.gather(BEGIN), None);
        for _ in 0..times {
            for index in 0..conns {
                let generation = 0;
                crowd.note(ConnId { index, generation });
            }
        }
        crowd.gather(BEGIN + length)
    }

    fn events(conns: u32, times: u32, length: Duration) -> u32 {
        after(conns, times, length).map_or(0, |gather| gather.events)
    }

    #[test]
    fn gathers_a_share_of_those_who_take_part() {
        assert_eq!(events(100, 8, PERIOD), 25);
        assert_eq!(events(500, 1, PERIOD), 20);
        assert_eq!(events(5_000, 1, PERIOD), EVENTS_MAX);
    }

    #[test]
    fn waits_for_nothing_that_does_not_come_in_time() {
        assert_eq!(events(100, 1, PERIOD), 4);
        assert_eq!(events(80, 1, PERIOD), 0);
        assert_eq!(events(500, 1, PERIOD * 10), 0);
    }

    #[test]
    fn lets_few_clients_never_wait() {
        assert_eq!(events(79, 1_000, PERIOD), 0);
        assert_eq!(events(80, 1_000, PERIOD), 20);
    }

    #[test]
    fn forgets_those_who_have_fallen_silent() {
        let mut crowd = Crowd::new();
        crowd.gather(BEGIN);
        for period in 1..=1_000 {
            for index in 0..90 {
                let generation = 0;
                crowd.note(ConnId { index, generation });
            }
            let gather = crowd.gather(BEGIN + PERIOD * period);
            assert_eq!(gather, None, "90 receives in 5 ms are too few");
        }
        assert_eq!(crowd.gather(BEGIN + PERIOD * 1_001), None);
    }
}

//! A hashed timer wheel: 6 levels of 64 slots, ticks of 10 ms.
//!
//! Knows nothing of what it wakes. Nothing is ever cancelled: whoever is woken looks whether the
//! reason still holds, and its deadline lives with it. Invariant: a timer fires at or after its
//! time, never before, and at most one tick plus the length of a pass late.

use core::time::Duration;

use crate::time::Instant;

/// The length of a tick. Coarse, because what it serves are deadlines and not latencies.
pub const TICK: Duration = Duration::from_millis(10);

const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
const LEVELS: usize = 6;

/// Timers that carry a `T` each.
#[derive(Debug)]
pub struct Timers<T> {
    /// The tick up to which everything has fired.
    now: u64,
    levels: [Level<T>; LEVELS],
    count: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// Which slots hold something.
    occupied: u64,
    slots: [Vec<(u64, T)>; SLOTS],
}

impl<T> Timers<T> {
    /// A wheel that begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            now: now.0 / tick_nanos(),
            levels: core::array::from_fn(|_| Level {
                occupied: 0,
                slots: core::array::from_fn(|_| Vec::new()),
            }),
            count: 0,
        }
    }

    /// Wakes `value` at `when`, or in the next tick if that has passed.
    pub fn add(&mut self, when: Instant, value: T) {
        let tick = when.0.div_ceil(tick_nanos()).max(self.now + 1);
        self.count += 1;
        self.place(tick, value);
    }

    /// When the next timer may fire, if there is one. It may be early (a level has to be opened
    /// first) and is never late.
    pub fn next(&self) -> Option<Instant> {
        let tick = self
            .levels
            .iter()
            .enumerate()
            .filter_map(|(level, slots)| slots.next_tick(level, self.now))
            .min()?;
        Some(Instant(tick.saturating_mul(tick_nanos())))
    }

    /// Moves everything that is due at `now` to `due`.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<T>) {
        let target = now.0 / tick_nanos();
        while self.now < target {
            let Some(next) = self.next() else { break };
            let next = next.0 / tick_nanos();
            if next > target {
                break;
            }
            self.now = next;
            self.open(next, due);
        }
        self.now = self.now.max(target);
    }

    /// Fires or moves down whatever lies in the slots that begin at `tick`.
    fn open(&mut self, tick: u64, due: &mut Vec<T>) {
        for level in (0..LEVELS).rev() {
            let shift = SLOT_BITS * level as u32;
            if tick & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = (tick >> shift) as usize % SLOTS;
            if self.levels[level].occupied & (1 << slot) == 0 {
                continue;
            }
            self.levels[level].occupied &= !(1 << slot);
            let mut opened = core::mem::take(&mut self.levels[level].slots[slot]);
            for (when, value) in opened.drain(..) {
                if when <= tick {
                    self.count -= 1;
                    due.push(value);
                } else {
                    self.place(when, value);
                }
            }
            if self.levels[level].slots[slot].is_empty() {
                self.levels[level].slots[slot] = opened;
            }
        }
    }

    fn place(&mut self, tick: u64, value: T) {
        let horizon = (1_u64 << (SLOT_BITS * LEVELS as u32)) - 1;
        let tick = tick.min(self.now + horizon);
        let distance = tick ^ self.now;
        let level = (63 - distance.max(1).leading_zeros()) / SLOT_BITS;
        let level = (level as usize).min(LEVELS - 1);
        let slot = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        self.levels[level].occupied |= 1 << slot;
        self.levels[level].slots[slot].push((tick, value));
    }

    /// How many timers wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<T> Level<T> {
    /// The first tick after `now` at which a slot of this level has to be opened.
    fn next_tick(&self, level: usize, now: u64) -> Option<u64> {
        if self.occupied == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let current = now >> shift;
        let ahead = self
            .occupied
            .rotate_right((current as u32 + 1) % SLOTS as u32);
        Some((current + 1 + u64::from(ahead.trailing_zeros())) << shift)
    }
}

fn tick_nanos() -> u64 {
    TICK.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fires_each_timer_once_and_never_early(
            start in 0_u64..1 << 40,
            delays in prop::collection::vec(0_u64..400_000_000_000_000, 1..50),
            step in 1_000_000_u64..3_000_000_000_000,
        ) {
            let mut timers = Timers::new(Instant(start));
            for (index, delay) in delays.iter().enumerate() {
                timers.add(Instant(start + delay), index);
            }
            let mut fired = vec![false; delays.len()];
            let mut now = start;
            let mut due = Vec::new();
            while !timers.is_empty() {
                now += step;
                timers.expire(Instant(now), &mut due);
                for index in due.drain(..) {
                    prop_assert!(!fired[index]);
                    fired[index] = true;
                    prop_assert!(start + delays[index] <= now);
                }
                for (index, delay) in delays.iter().enumerate() {
                    let overdue = start + delay + 2 * tick_nanos() < now;
                    prop_assert!(fired[index] || !overdue);
                }
                if let Some(next) = timers.next() {
                    prop_assert!(next.0 + tick_nanos() > now);
                }
            }
            prop_assert!(fired.iter().all(|&fired| fired));
        }
    }
}

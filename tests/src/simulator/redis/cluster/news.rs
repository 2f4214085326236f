//! How the slots of a simulated cluster change hands, and who hears of it when.
//!
//! Invariants: whoever gives or gets a slot knows it at once; everybody knows the last of it in the
//! end.

use core::time::Duration;

use manifold_core::time::Instant;
use manifold_protocols::redis::cluster::slot;

use super::{Belief, Cluster, DOORS, Migration, NEWS_MAX, SHARDS};
use crate::simulator::redis::data::Key;

/// Something about the slots that is new.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// The primary of a third has died.
    Dead(usize),
    /// A third has a primary.
    Primary(usize, usize),
    /// A slot is with another third.
    Slot(u16, usize),
}

/// Something that is going to happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A node hears of something.
    Hear(usize, News),
    /// Some keys of the slot on its way arrive, or the slot itself.
    Move,
    /// Somebody else becomes the primary of a third.
    TakeOver(usize),
}

impl Belief {
    fn hear(&mut self, news: News) {
        match news {
            News::Dead(third) => self.is_dead[third] = true,
            News::Primary(third, primary) => {
                self.primaries[third] = primary;
                self.is_dead[third] = false;
            }
            News::Slot(slot, third) => {
                self.moved.insert(slot, third);
            }
        }
    }
}

impl Cluster {
    /// When something happens next.
    pub fn next_time(&self) -> Option<Instant> {
        self.events.iter().map(|(at, _)| *at).min()
    }

    /// The next thing that is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Event> {
        let due = self.events.iter().enumerate();
        let due = due.filter(|(_, (at, _))| *at <= now);
        let (place, _) = due.min_by_key(|(place, (at, _))| (*at, *place))?;
        Some(self.events.remove(place).1)
    }

    fn later(&mut self, now: Instant, least: Duration, most: Duration) -> Instant {
        let nanos = self
            .prng
            .between(least.as_nanos() as u64, most.as_nanos() as u64);
        Instant(now.0 + nanos)
    }

    /// A node hears of something.
    pub fn hear(&mut self, door: usize, news: News) {
        self.beliefs[door].hear(news);
    }

    /// Something is true from now on. Some know it at once, the others hear of it.
    fn announce(&mut self, now: Instant, news: News, knowing: &[usize]) {
        self.truth.hear(news);
        for door in 0..DOORS {
            if knowing.contains(&door) {
                self.beliefs[door].hear(news);
            } else {
                let at = self.later(now, Duration::ZERO, NEWS_MAX);
                self.tell(at, door, news);
            }
        }
    }

    /// A node will hear of something, and not of what was true before.
    fn tell(&mut self, at: Instant, door: usize, news: News) {
        self.events.retain(|(_, event)| match (event, news) {
            (
                Event::Hear(one, News::Dead(old) | News::Primary(old, _)),
                News::Dead(new) | News::Primary(new, _),
            ) => *one != door || *old != new,
            _ => true,
        });
        self.events.push((at, Event::Hear(door, news)));
    }

    /// One of these slots goes from node to node, if all is well.
    pub fn begin_migration(&mut self, now: Instant, slots: &[u16]) -> bool {
        let is_well =
            self.truth.is_whole() && self.truth.primaries.iter().all(|it| self.is_up(now, *it));
        let fresh = slots.iter().filter(|slot| !self.migrated.contains(slot));
        let fresh: Vec<u16> = fresh.copied().collect();
        if !is_well || self.migration.is_some() || fresh.is_empty() {
            return false;
        }
        let slot = *self.prng.pick(&fresh);
        let from = self.truth.third_of(slot);
        let to = (from + self.prng.between(1, SHARDS as u64 - 1) as usize) % SHARDS;
        self.migrated.insert(slot);
        self.migration = Some(Migration {
            slot,
            from,
            to,
            landed: Default::default(),
        });
        self.go_on_moving(now);
        true
    }

    fn is_up(&self, now: Instant, door: usize) -> bool {
        self.up_at[door] <= now
    }

    fn go_on_moving(&mut self, now: Instant) {
        let at = self.later(now, Duration::from_micros(100), Duration::from_millis(50));
        self.events.push((at, Event::Move));
    }

    /// Takes one of these keys to its new place; says which, if any is left.
    pub fn move_one<'a>(
        &mut self,
        now: Instant,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Option<Key> {
        let moving = self.migration.as_mut()?;
        let mut left =
            keys.filter(|key| slot(&key.1) == moving.slot && !moving.landed.contains(*key));
        let key = left.next()?.clone();
        moving.landed.insert(key.clone());
        self.go_on_moving(now);
        Some(key)
    }

    /// The slot on its way is there. Says whose it was.
    pub fn end_migration(&mut self, now: Instant) -> Option<usize> {
        let moving = self.migration.take()?;
        self.events.retain(|(_, event)| *event != Event::Move);
        let ends = [moving.from, moving.to].map(|third| self.truth.primaries[third]);
        self.announce(now, News::Slot(moving.slot, moving.to), &ends);
        Some(ends[0])
    }

    /// Whether the slot on its way is this node's to give or to get.
    pub fn is_moving_at(&self, door: usize) -> bool {
        let ends = self.migration.iter().flat_map(|it| [it.from, it.to]);
        ends.into_iter()
            .any(|third| self.truth.primaries[third] == door)
    }

    /// A node has died and is back at `up_at`. What it had goes to another.
    pub fn lose(&mut self, now: Instant, door: usize, up_at: Instant) {
        self.up_at[door] = up_at;
        let primaries = self.truth.primaries;
        let Some(third) = primaries.iter().position(|it| *it == door) else {
            return;
        };
        let least = Duration::from_millis(200);
        let over = self.later(now, least, least * 10);
        let is_noticed = self.prng.chance(700);
        for other in 0..DOORS {
            let at = if other == door {
                now
            } else {
                self.later(now, Duration::ZERO, over - now)
            };
            if is_noticed || other == door {
                self.tell(at, other, News::Dead(third));
            }
        }
        self.events
            .retain(|(_, event)| *event != Event::TakeOver(third));
        self.events.push((over, Event::TakeOver(third)));
    }

    /// Somebody becomes the primary of a third whose primary has died.
    pub fn take_over(&mut self, now: Instant, third: usize) {
        let primaries = self.truth.primaries;
        let is_free = |door: &usize| {
            let has_slots = primaries.contains(door);
            self.is_up(now, *door) && (!has_slots || primaries[third] == *door)
        };
        let free: Vec<usize> = (0..DOORS).filter(is_free).collect();
        if free.is_empty() {
            let at = self.later(now, Duration::from_millis(100), Duration::from_secs(1));
            return self.events.push((at, Event::TakeOver(third)));
        }
        let door = *self.prng.pick(&free);
        self.announce(now, News::Primary(third, door), &[door]);
    }

    /// Everything is as it should be, and everybody knows it.
    pub fn calm(&mut self, now: Instant) {
        self.up_at = [now; DOORS];
        self.end_migration(now);
        for (_, event) in core::mem::take(&mut self.events) {
            if let Event::TakeOver(third) = event {
                self.take_over(now, third);
            }
        }
        self.events.clear();
        self.beliefs.fill(self.truth.clone());
    }
}

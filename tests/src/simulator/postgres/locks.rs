//! Who holds and who waits for which lock.
//!
//! Knows keys and sessions, nothing of statements. Invariant: no two sessions hold a lock in modes
//! that exclude each other, and nobody overtakes a waiter that excludes it.

use std::collections::{BTreeMap, VecDeque};

use super::SessionId;

/// What is locked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LockKey {
    /// A session advisory lock.
    Advisory(u32),
    /// The table that LOCK TABLE names.
    Board,
    /// A row.
    Row(u32),
}

/// How it is locked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Together with other readers.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Clone, Debug, Default)]
struct Lock {
    holders: BTreeMap<SessionId, Mode>,
    queue: VecDeque<(SessionId, Mode)>,
}

/// All locks of a node.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    table: BTreeMap<LockKey, Lock>,
}

impl Lock {
    fn is_free_for(&self, who: SessionId, mode: Mode) -> bool {
        let conflicts = |&(other, held): &(SessionId, Mode)| {
            other != who && (mode == Mode::Exclusive || held == Mode::Exclusive)
        };
        let holders = self.holders.iter().map(|(&other, &held)| (other, held));
        let ahead = self
            .queue
            .iter()
            .take_while(|(other, _)| *other != who)
            .copied();
        !holders.chain(ahead).any(|entry| conflicts(&entry))
    }
}

impl Locks {
    /// Takes a lock or waits in its queue; says whether it is held now.
    pub fn acquire(&mut self, who: SessionId, key: LockKey, mode: Mode) -> bool {
        let lock = self.table.entry(key).or_default();
        if lock
            .holders
            .get(&who)
            .is_some_and(|&held| held == Mode::Exclusive || held == mode)
        {
            return true;
        }
        if !lock.is_free_for(who, mode) {
            if !lock.queue.iter().any(|(other, _)| *other == who) {
                lock.queue.push_back((who, mode));
            }
            return false;
        }
        lock.queue.retain(|(other, _)| *other != who);
        lock.holders.insert(who, mode);
        true
    }

    /// Whether `acquire` would succeed.
    pub fn is_free_for(&self, who: SessionId, key: LockKey, mode: Mode) -> bool {
        self.table
            .get(&key)
            .is_none_or(|lock| lock.is_free_for(who, mode))
    }

    /// Whether the session holds it.
    pub fn holds(&self, who: SessionId, key: LockKey) -> bool {
        self.table
            .get(&key)
            .is_some_and(|lock| lock.holders.contains_key(&who))
    }

    /// Gives back or stops waiting for every lock of the session that `is_meant` names.
    pub fn release(&mut self, who: SessionId, is_meant: impl Fn(LockKey) -> bool) {
        self.table.retain(|&key, lock| {
            if is_meant(key) {
                lock.holders.remove(&who);
                lock.queue.retain(|(other, _)| *other != who);
            }
            !lock.holders.is_empty() || !lock.queue.is_empty()
        });
    }

    /// Stops waiting for a lock; one that is held stays held.
    pub fn leave_queue(&mut self, who: SessionId, key: LockKey) {
        if let Some(lock) = self.table.get_mut(&key) {
            lock.queue.retain(|(other, _)| *other != who);
        }
        self.table
            .retain(|_, lock| !lock.holders.is_empty() || !lock.queue.is_empty());
    }

    /// Whether nobody holds or waits for anything.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_readers_share_and_queues_them_behind_a_waiting_writer() {
        let mut locks = Locks::default();
        let [one, two, three] = [1, 2, 3].map(SessionId);
        assert!(locks.acquire(one, LockKey::Board, Mode::Shared));
        assert!(!locks.acquire(two, LockKey::Board, Mode::Exclusive));
        assert!(!locks.acquire(three, LockKey::Board, Mode::Shared));
        locks.release(one, |_| true);
        assert!(!locks.acquire(three, LockKey::Board, Mode::Shared));
        assert!(locks.acquire(two, LockKey::Board, Mode::Exclusive));
        locks.release(two, |_| true);
        assert!(locks.acquire(three, LockKey::Board, Mode::Shared));
        locks.release(three, |_| true);
        assert!(locks.is_empty());
    }
}

//! Who waits in a lane, in three queues: nobody who could go on stands behind one who cannot.
//!
//! A request is looked at twice, when it comes and when its turn has come. Queueing it unseen while
//! others wait was tried: with 5 000 clients it cost 5 % more CPU, for then nothing of it is in the
//! caches when its turn has come.
//!
//! Knows places and their order; knows no upstream. Invariant: the places of one kind keep the
//! order in which they were taken.

use std::collections::VecDeque;

use crate::ids::ClientId;
use crate::profile::Class;
use crate::time::Instant;
use crate::upstream::schedule::Demand;

/// A place in a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Who.
    pub client: ClientId,
    /// Since when.
    pub since: Instant,
    /// For what.
    pub demand: Demand,
}

/// What a place waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An upstream alone: it writes, or needs a lease.
    Owned,
    /// The end of a pipe, with nobody behind it: it reads, and may be slow.
    Tail,
    /// Any place in a pipe.
    Shared,
}

/// All kinds; where two have waited equally long, the earlier goes first.
pub const KINDS: [Kind; 3] = [Kind::Owned, Kind::Tail, Kind::Shared];

impl Kind {
    /// What a demand waits for.
    pub fn of(demand: Demand) -> Self {
        match demand.class {
            _ if demand.is_owned() => Self::Owned,
            Class::Share => Self::Shared,
            _ => Self::Tail,
        }
    }
}

/// The queues of one lane.
#[derive(Debug, Default)]
pub struct Queues {
    queues: [VecDeque<Place>; KINDS.len()],
}

impl Queues {
    /// Who waits for this, in order.
    pub fn of(&self, kind: Kind) -> &VecDeque<Place> {
        &self.queues[kind as usize]
    }

    /// Takes a place, at the end or, for one whose turn came too early, in front.
    pub fn push(&mut self, place: Place, is_in_front: bool) {
        let queue = &mut self.queues[Kind::of(place.demand) as usize];
        if is_in_front {
            queue.push_front(place);
        } else {
            queue.push_back(place);
        }
    }

    /// Gives the first place up.
    pub fn pop(&mut self, kind: Kind) -> Option<Place> {
        self.queues[kind as usize].pop_front()
    }

    /// Gives all places of a kind up.
    pub fn take(&mut self, kind: Kind) -> VecDeque<Place> {
        core::mem::take(&mut self.queues[kind as usize])
    }

    /// Turns the order of a kind round.
    pub fn reverse(&mut self, kind: Kind) {
        self.queues[kind as usize].make_contiguous().reverse();
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// All places, kind after kind.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.queues.iter().flatten()
    }

    /// When the one who waits longest began to.
    pub fn since(&self) -> Option<Instant> {
        let heads = self.queues.iter().filter_map(VecDeque::front);
        heads.map(|place| place.since).min()
    }

    /// The kinds in which somebody waits, who has waited longest first.
    pub fn by_age(&self) -> impl Iterator<Item = (Kind, Place)> + use<> {
        let mut heads = KINDS.map(|kind| Some((kind, *self.of(kind).front()?)));
        heads.sort_by_key(|head| head.map(|(_, place)| place.since));
        heads.into_iter().flatten()
    }

    /// Gives these places up.
    pub fn remove(&mut self, places: &[Place]) {
        for queue in &mut self.queues {
            queue.retain(|place| !places.contains(place));
        }
    }
}

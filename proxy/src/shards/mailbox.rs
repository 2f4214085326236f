//! What reaches a shard from other threads, and how it is woken for it.
//!
//! Rare things only. Bounded: whoever owes an answer waits for room, whoever only has something to
//! say drops it. Invariant: a letter that was taken in is seen in the shard's next pass.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use manifold_core::auth::Users;
use manifold_core::event::{Lead, Message};
use manifold_core::ids::{DatabaseId, ServiceId, ShardId};
use manifold_core::proof::Verdict;
use manifold_drivers::{Doorbell, Driver};

use crate::config::SHARDS_MAX;

/// Letters that may wait in one mailbox.
const LETTERS_MAX: usize = 4_096;

/// Letters that are read in one pass, so that clients do not wait for all of them.
const LETTERS_PER_PASS_MAX: usize = 256;

/// Which core of a shard an answer is meant for: a fresh core numbers its questions anew, and must
/// never get an answer to a question of the core before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Life(u32);

impl Life {
    /// Lives that are told apart before their numbers come again.
    const COUNT: u32 = u32::MAX / SHARDS_MAX;

    /// The first.
    pub const FIRST: Self = Self(0);

    /// The one after this.
    pub fn next(self) -> Self {
        Self((self.0 + 1) % Self::COUNT)
    }

    /// Under which name this life of a shard asks the classifier: each has its own, because a fresh
    /// core numbers databases anew and must not be judged by the catalogs of the core before it.
    pub fn asker(self, shard: ShardId) -> ShardId {
        ShardId(self.0 * SHARDS_MAX + shard.0)
    }

    /// Which shard, in which life, asked under a name.
    pub fn of_asker(asker: ShardId) -> (ShardId, Self) {
        (ShardId(asker.0 % SHARDS_MAX), Self(asker.0 / SHARDS_MAX))
    }
}

/// What a shard is told.
#[derive(Debug)]
pub enum Letter {
    /// The answer to a question of this life.
    Answer(Life, Answer),
    /// Finish what is in flight until so many milliseconds from now, and end.
    Drain(u64),
    /// Something from another shard.
    FromShard(Message),
    /// Who takes the writes of a service from now on.
    Nodes(ServiceId, Lead),
    /// Who may log in to a service from now on.
    Users(ServiceId, Arc<Users>),
}

/// What a core asked for.
#[derive(Debug)]
pub enum Answer {
    /// To `Operation::Catalog`.
    CatalogReady(DatabaseId, bool),
    /// To `Operation::Classify`, with its ticket.
    Classified(u64, Arc<Verdict>),
    /// To `Operation::Resolve`.
    Resolved(ServiceId, Lead),
}

/// Where letters for one shard are put in.
#[derive(Clone)]
pub struct Mailbox {
    letters: SyncSender<Letter>,
    bell: Arc<Bell>,
}

/// Where one shard takes its letters out.
#[derive(Debug)]
pub struct Inbox {
    letters: Receiver<Letter>,
    bell: Arc<Bell>,
}

/// The doorbell, rung once for all letters of a pass.
#[derive(Debug)]
struct Bell {
    doorbell: Doorbell,
    is_rung: AtomicBool,
}

/// A mailbox for the shard whose driver has this doorbell.
pub fn mailbox(doorbell: Doorbell) -> (Mailbox, Inbox) {
    let (sender, receiver) = sync_channel(LETTERS_MAX);
    let bell = Arc::new(Bell {
        doorbell,
        is_rung: AtomicBool::new(false),
    });
    (
        Mailbox {
            letters: sender,
            bell: bell.clone(),
        },
        Inbox {
            letters: receiver,
            bell,
        },
    )
}

impl Mailbox {
    /// Puts a letter in, waiting for room. Never to be called by a shard: two could wait for each
    /// other.
    pub fn send(&self, letter: Letter) {
        // A shard that has ended needs no letters.
        if self.letters.send(letter).is_ok() {
            self.bell.ring();
        }
    }

    /// Puts a letter of another shard in, whose driver this is, if there is room. Answers whether
    /// there was.
    pub fn try_send(&self, letter: Letter, driver: &mut Driver) -> bool {
        let is_in = self.letters.try_send(letter).is_ok();
        if is_in && self.bell.is_silent() {
            driver.ring(&self.bell.doorbell);
        }
        is_in
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Inbox {
    /// The letters that are there, as many as one pass reads. If there are more, the next pass
    /// comes at once.
    pub fn take(&self) -> impl Iterator<Item = Letter> {
        // First, so that whatever is put in from now on rings again.
        self.bell.is_rung.store(false, Ordering::SeqCst);
        let mut taken = 0;
        std::iter::from_fn(move || {
            taken += 1;
            if taken > LETTERS_PER_PASS_MAX {
                self.bell.ring();
                return None;
            }
            self.letters.try_recv().ok()
        })
    }
}

impl Bell {
    fn ring(&self) {
        if self.is_silent() {
            self.doorbell.ring();
        }
    }

    /// Whether nobody has rung since the letters were read last. Whoever hears so rings.
    fn is_silent(&self) -> bool {
        !self.is_rung.swap(true, Ordering::SeqCst)
    }
}

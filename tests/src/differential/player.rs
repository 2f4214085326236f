//! One session: its private connection, and its session of the proxy.
//!
//! Knows no plan. Invariant: both sides have been sent the same bytes.

use std::time::Duration;

use super::connection::Connection;
use super::plan::Sending;
use super::world::{Tally, World};

/// Both sides of a session.
#[derive(Debug)]
pub(super) struct Player {
    pub direct: Connection,
    pub proxied: Connection,
    /// Who the two are, once they have been asked.
    pub numbers: Option<(i64, i64)>,
    /// When it was last known to be whole.
    pub epoch: u64,
    /// It has, or may have, an upstream alone.
    pub holds: bool,
    /// What it sent last had a transaction in it.
    pub had_multi: bool,
    /// A transaction of its may have changed what its session is made of. If its user may not ask
    /// the node what became of it, the session keeps the upstream that knows.
    pub is_in_doubt: bool,
    /// It may not be told what became of its commands.
    pub is_mute: bool,
}

/// How long the proxy may take, whatever it is that it does.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// How much later than the other a node may be, if nothing but the machine is slow.
const DELAY: Duration = Duration::from_millis(500);

impl Player {
    /// Connects both.
    pub fn new(world: &World) -> Self {
        Tally::add(&world.tally.sessions, 1);
        Self {
            direct: Connection::open(world.direct.address()),
            proxied: Connection::open(world.proxy.address()),
            numbers: None,
            epoch: world.now(),
            holds: false,
            had_multi: false,
            is_in_doubt: false,
            is_mute: false,
        }
    }

    /// What it has sent may matter when its upstream is lost.
    pub fn note(&mut self, sending: &Sending) {
        self.had_multi = sending.has_multi();
        let is_session = sending.mentions(&["auth", "client", "hello", "select"]);
        self.is_in_doubt |= is_session && (self.had_multi || self.holds);
        self.is_mute |= sending.mentions(&["reply"]);
    }

    /// Takes what the direct side has said; the proxied side has to say as much. Whether a part of
    /// a reply is there does not matter to it.
    pub fn take_turn(&mut self, time_max: Duration) -> Turn {
        let mut direct: Vec<_> = self.direct.replies.drain(..).collect();
        self.proxied.wait(direct.len(), time_max);
        self.let_direct_catch_up(direct.len());
        direct.extend(self.direct.replies.drain(..));
        let has_ended = self.direct.has_ended;
        if has_ended {
            self.proxied.wait_for_end(time_max);
        }
        let mut proxied: Vec<_> = self.proxied.replies.drain(..).collect();
        // Whoever closes with bytes unread takes back what was not read by the client yet, and how
        // much that is depends on who is faster.
        if has_ended && (self.direct.was_reset || self.proxied.was_reset) {
            let count = direct.len().min(proxied.len());
            direct.truncate(count);
            proxied.truncate(count);
        }
        Turn {
            direct,
            proxied,
            has_direct_ended: has_ended,
            has_proxied_ended: self.proxied.has_ended,
        }
    }

    /// Where the proxy was faster, as on a busy machine when a wait ends or a connection, the
    /// direct side gets its time, too.
    fn let_direct_catch_up(&mut self, had: usize) {
        if self.proxied.replies.len() > had {
            self.direct.wait(self.proxied.replies.len() - had, DELAY);
        }
        if self.proxied.has_ended && !self.direct.has_ended {
            self.direct.wait_for_end(DELAY);
        }
    }
}

/// What both sides said to the same.
#[derive(Debug)]
pub(super) struct Turn {
    pub direct: Vec<Vec<u8>>,
    pub proxied: Vec<Vec<u8>>,
    pub has_direct_ended: bool,
    pub has_proxied_ended: bool,
}

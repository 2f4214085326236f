//! Cancel requests: those that clients want, and storms of them, right and wrong.
//!
//! Knows the keys that clients were told. Invariant: a client counts as one that asked from before
//! its cancel is sent until the cancel has certainly been dealt with.

use core::time::Duration;

use manifold_core::time::Instant;

use super::PgWorld;
use crate::simulator::network::{End, LinkId, Network};
use crate::simulator::request;

/// A cancel request on its way.
#[derive(Debug)]
pub(super) struct Cancel {
    /// Whom it may hit: the one whose key it shows.
    client: Option<usize>,
    link: LinkId,
    manner: Manner,
    /// When its asker stops waiting.
    leaves_at: Option<Instant>,
    /// When the other side was seen to have closed.
    ended_at: Option<Instant>,
}

/// How a cancel is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    /// Waits for the other side to close, as it should.
    Patient,
    /// Closes behind its request.
    Closing,
    /// Breaks the connection behind its request.
    Breaking,
    /// Sends bytes behind its request that nobody asked for.
    Garbling,
    /// Sends a piece of its request and waits, shorter or longer than anybody may.
    Halting,
    /// Falls silent behind its request.
    Vanishing,
}

const MANNERS: [Manner; 6] = [
    Manner::Patient,
    Manner::Closing,
    Manner::Breaking,
    Manner::Garbling,
    Manner::Halting,
    Manner::Vanishing,
];

/// How long a cancel may travel between shards, whose asker is already gone.
const GRACE: Duration = Duration::from_millis(50);

/// Cancels that are on their way at once, at most: some of them stay for long.
const CANCELS_MAX: usize = 40;

impl PgWorld {
    /// A client cancels what it has running.
    pub(super) fn send_cancel(&mut self, place: usize) {
        let client = &mut self.clients[place];
        client.wants_cancel = false;
        if let Some(key) = client.key {
            self.show_key(Some(place), key, Manner::Patient);
        }
    }

    /// Many cancels at once: for one request again and again, or for everybody's, with keys that
    /// are right, wrong, or of clients that have gone.
    pub(super) fn storm(&mut self) {
        let count = CANCELS_MAX.saturating_sub(self.play.cancels.len());
        let count = self.prng.size(0, count);
        let favourite = self.prng.below(self.clients.len() as u64) as usize;
        let loyalty = *self.prng.pick(&[0, 500, 1_000]);
        for _ in 0..count {
            let place = if self.prng.chance(loyalty) {
                favourite
            } else {
                self.prng.below(self.clients.len() as u64) as usize
            };
            let manner = MANNERS[self.prng.weighted(&[20, 4, 4, 4, 1, 1])];
            let Some((pid, secret)) = self.clients[place].key else {
                continue;
            };
            let noise = self.prng.next() as i32;
            match self.prng.weighted(&[6, 1, 1, 1]) {
                0 => self.show_key(Some(place), (pid, secret), manner),
                1 => self.show_key(None, (pid, secret ^ (1 << (noise & 31))), manner),
                2 => self.show_key(None, (pid ^ (1 << (noise & 31)), secret), manner),
                _ => self.show_key(None, (noise, noise), manner),
            }
        }
    }

    fn show_key(&mut self, client: Option<usize>, (pid, secret): (i32, i32), manner: Manner) {
        let now = self.now;
        let Some(link) = self.open_link() else { return };
        let mut bytes = request::cancel(pid, secret);
        match manner {
            Manner::Garbling => {
                let more = self.prng.size(1, 50);
                bytes.extend((0..more).map(|_| self.prng.next() as u8));
            }
            Manner::Halting => bytes.truncate(self.prng.size(0, 15)),
            _ => {}
        }
        if let Some(place) = client {
            // It may hit anything sent until the cancel has been dealt with.
            self.clients[place].cancelled_until = Some(u64::MAX);
        }
        self.trace.note(now, b"cancel", || {
            format!("{manner:?} cancel of {client:?} with {pid}, {secret} on {link:?}")
        });
        self.network.write(now, link, End::Near, &bytes);
        match manner {
            Manner::Closing => self.network.close(now, link, End::Near),
            Manner::Breaking => self.network.reset(now, link, End::Near),
            Manner::Vanishing => self.network.vanish(now, link, End::Near),
            Manner::Patient | Manner::Garbling | Manner::Halting => {}
        }
        let wait = Duration::from_secs(self.prng.between(0, 120));
        let leaves_at = (manner == Manner::Halting).then_some(now + wait);
        self.play.cancels.push(Cancel {
            client,
            link,
            manner,
            leaves_at,
            ended_at: None,
        });
    }

    /// A cancel is dealt with when the other side has closed, or soon after if its asker did not
    /// wait for that.
    pub(super) fn end_cancels(&mut self) {
        let now = self.now;
        for cancel in &mut self.play.cancels {
            if cancel.leaves_at.take_if(|at| *at <= now).is_some() {
                self.network.close(now, cancel.link, End::Near);
            }
            if cancel.ended_at.is_none() && cancel.has_ended(now, &self.network) {
                cancel.ended_at = Some(now);
                self.network.close(now, cancel.link, End::Near);
            }
        }
        let cancels = core::mem::take(&mut self.play.cancels).into_iter();
        let (done, left): (Vec<_>, _) = cancels.partition(|cancel| cancel.is_done(now));
        self.play.cancels = left;
        for client in done.into_iter().filter_map(|cancel| cancel.client) {
            if self
                .play
                .cancels
                .iter()
                .all(|other| other.client != Some(client))
            {
                self.clients[client].end_cancel();
            }
        }
    }

    /// When a cancel is known to have been dealt with, without anything happening.
    pub(super) fn next_cancel(&self) -> Option<Instant> {
        let times = self.play.cancels.iter().flat_map(|cancel| {
            let times = [cancel.done_at(), cancel.leaves_at];
            times.into_iter().flatten()
        });
        times.filter(|time| *time > self.now).min()
    }
}

impl Cancel {
    fn has_ended(&self, now: Instant, network: &Network) -> bool {
        if !network.is_held(self.link, End::Near) {
            return !network.is_held(self.link, End::Far);
        }
        let readable = network.readable(now, self.link, End::Near);
        readable.is_eof || readable.is_reset
    }

    fn done_at(&self) -> Option<Instant> {
        let is_promised = self.manner == Manner::Patient;
        let grace = if is_promised { Duration::ZERO } else { GRACE };
        self.ended_at.map(|at| at + grace)
    }

    fn is_done(&self, now: Instant) -> bool {
        self.done_at().is_some_and(|at| at <= now)
    }
}

//! Links that fall silent: what is sent is never acknowledged, and nothing comes.
//!
//! Knows how long each end's kernel waits before it gives up. Invariant: once a link is silent
//! nothing crosses it any more, not even the news of its end; each end finds out by itself.

use core::time::Duration;

use manifold_core::time::Instant;

use super::{End, Link, LinkId, Network};

/// How long an end waits for the other before its kernel gives up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// With nothing under way: until keepalive has found nobody.
    pub idle: Duration,
    /// With bytes sent that nobody has acknowledged.
    pub unacked: Duration,
}

/// What is left of a link that is silent. By end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    gives_up: [Instant; 2],
    /// Bytes that will never be acknowledged.
    unacked: [usize; 2],
}

impl Silence {
    /// When an end's kernel gives up.
    pub(super) fn gives_up(&self, end: End) -> Instant {
        self.gives_up[end as usize]
    }

    /// Bytes of an end's window that nobody will ever make free.
    pub(super) fn unacked(&self, end: End) -> usize {
        self.unacked[end as usize]
    }
}

impl Link {
    /// Takes bytes of an end into its window, where they stay.
    pub(super) fn swallow(&mut self, now: Instant, from: End, count: usize) {
        let patience = self.patience[from as usize].unacked;
        let silence = self.silence.as_mut().expect("only silence swallows");
        let unacked = &mut silence.unacked[from as usize];
        if *unacked == 0 && count > 0 {
            silence.gives_up[from as usize] = now + patience;
        }
        *unacked += count;
    }

    /// Whether an end's kernel has given up.
    pub(super) fn has_given_up(&self, now: Instant, end: End) -> bool {
        self.silence
            .is_some_and(|silence| silence.gives_up(end) <= now)
    }
}

impl Network {
    /// A link falls silent: what has not arrived never will.
    pub fn silence(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if link.silence.is_some() {
            return;
        }
        let mut unacked = [0; 2];
        for from in [End::Near, End::Far] {
            let direction = &mut link.directions[from.other() as usize];
            let arrived = direction.queue.partition_point(|(due, _)| *due <= now);
            unacked[from as usize] = direction.queue.len() - arrived;
            direction.queue.truncate(arrived);
            direction.fin = direction.fin.filter(|due| *due <= now);
        }
        for reset in &mut link.resets {
            *reset = reset.filter(|due| *due <= now);
        }
        let gives_up = [End::Near, End::Far].map(|end| {
            let patience = link.patience[end as usize];
            let is_idle = unacked[end as usize] == 0;
            now + if is_idle {
                patience.idle
            } else {
                patience.unacked
            }
        });
        link.silence = Some(Silence { gives_up, unacked });
    }

    /// The host of an end is gone, and nobody says so.
    pub fn vanish(&mut self, now: Instant, id: LinkId, end: End) {
        self.silence(now, id);
        self.leave(id, end);
    }

    /// Whether an end's kernel has given up waiting for the other.
    pub fn is_timed_out(&self, now: Instant, id: LinkId, end: End) -> bool {
        self.links
            .get(&id)
            .is_some_and(|link| link.has_given_up(now, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::network::{Readable, Weather};
    use crate::simulator::prng::Prng;

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(40),
        unacked: Duration::from_secs(30),
    };

    fn network() -> Network {
        let latency = Duration::from_micros(10);
        let weather = Weather {
            latency_min: latency,
            latency_max: latency,
            window: 8,
            chunk_max: 100,
        };
        Network::new(weather, Prng::new(1))
    }

    #[test]
    fn tells_each_end_by_its_own_clock_when_link_falls_silent() {
        let mut network = network();
        let link = network.open([PATIENCE; 2]);
        let begin = Instant(0);
        network.silence(begin, link);
        let later = begin + Duration::from_secs(20);
        assert_eq!(network.write(later, link, End::Near, b"0123456789"), 8);
        assert_eq!(network.room(later, link, End::Near), 0);
        network.close(later, link, End::Near);
        let far = |network: &Network, seconds| {
            let now = begin + Duration::from_secs(seconds);
            network.readable(now, link, End::Far)
        };
        assert_eq!(far(&network, 39), Readable::default());
        assert!(far(&network, 40).is_reset);
    }

    #[test]
    fn gives_up_after_first_byte_that_nobody_acknowledges() {
        let mut network = network();
        let link = network.open([PATIENCE; 2]);
        network.silence(Instant(0), link);
        let sent_at = Instant(0) + Duration::from_secs(20);
        network.write(sent_at, link, End::Near, b"x");
        network.write(sent_at + Duration::from_secs(9), link, End::Near, b"y");
        let given_up = sent_at + PATIENCE.unacked;
        assert!(!network.is_timed_out(Instant(given_up.0 - 1), link, End::Near));
        assert!(network.is_timed_out(given_up, link, End::Near));
        assert_eq!(network.next_time(sent_at), Some(Instant(0) + PATIENCE.idle));
    }

    #[test]
    fn keeps_what_had_arrived_and_loses_the_rest() {
        let mut network = network();
        let link = network.open([PATIENCE; 2]);
        network.write(Instant(0), link, End::Near, b"a");
        network.write(Instant(50_000), link, End::Near, b"b");
        network.silence(Instant(50_000), link);
        let later = Instant(90_000);
        assert_eq!(network.read(later, link, End::Far, 10), b"a");
        assert_eq!(network.readable(later, link, End::Far), Readable::default());
    }
}

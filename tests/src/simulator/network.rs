//! The simulated network: links with two byte queues each, latency, windows, clogs, FIN and RST.
//!
//! Knows bytes and time, nothing of who speaks. Invariant: within one direction bytes arrive in
//! order, complete up to the end or a reset, and never before their time.

mod silence;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use manifold_core::time::Instant;

use super::prng::Prng;
use silence::Silence;

pub use silence::Patience;

/// A link between two ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u64);

/// One of the two ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum End {
    /// The one that opened the link.
    Near,
    /// The one that accepted it.
    Far,
}

impl End {
    /// The opposite one.
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// How the links of a run behave.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The shortest way of a byte.
    pub latency_min: Duration,
    /// The longest way of a byte on an unclogged link.
    pub latency_max: Duration,
    /// Bytes that fit into one direction.
    pub window: usize,
    /// The most bytes that one read gives; 1 makes every byte arrive by itself.
    pub chunk_max: usize,
}

#[derive(Clone, Debug, Default)]
struct Direction {
    queue: VecDeque<(Instant, u8)>,
    latest: Instant,
    fin: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Link {
    /// What travels to the near end and to the far end.
    directions: [Direction; 2],
    /// When each end learns of a reset.
    resets: [Option<Instant>; 2],
    /// Which ends are still there.
    gone: [bool; 2],
    /// Nothing arrives from the first of these moments to the second.
    clogged: [Instant; 2],
    patience: [Patience; 2],
    silence: Option<Silence>,
}

/// What an end can take in now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Readable {
    /// Bytes that have arrived.
    pub bytes: usize,
    /// Nothing comes after them.
    pub is_eof: bool,
    /// The link is broken.
    pub is_reset: bool,
}

/// All links of a run.
#[derive(Clone, Debug)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    links_made: u64,
    weather: Weather,
    prng: Prng,
}

impl Network {
    /// A network without links.
    pub fn new(weather: Weather, prng: Prng) -> Self {
        Self {
            links: BTreeMap::new(),
            links_made: 0,
            weather,
            prng,
        }
    }

    /// Opens a link between ends of such patience, the near one's first.
    pub fn open(&mut self, patience: [Patience; 2]) -> LinkId {
        self.links_made += 1;
        let id = LinkId(self.links_made);
        let link = Link {
            directions: Default::default(),
            resets: [None; 2],
            gone: [false; 2],
            clogged: [Instant(0); 2],
            patience,
            silence: None,
        };
        self.links.insert(id, link);
        id
    }

    /// The weather, to change it.
    pub fn weather_mut(&mut self) -> &mut Weather {
        &mut self.weather
    }

    /// How many bytes an end can write now.
    pub fn room(&self, now: Instant, id: LinkId, from: End) -> usize {
        let Some(link) = self.links.get(&id) else {
            return 0;
        };
        if link.has_given_up(now, from) {
            return self.weather.window;
        }
        let unacked = link.silence.map_or(0, |silence| silence.unacked(from));
        let queued = link.directions[from.other() as usize].queue.len();
        self.weather.window.saturating_sub(queued + unacked)
    }

    /// Writes as many bytes as there is room for, and says how many. A link that is broken takes
    /// everything and delivers nothing.
    pub fn write(&mut self, now: Instant, id: LinkId, from: End, bytes: &[u8]) -> usize {
        let room = self.room(now, id, from);
        let (low, high) = (self.weather.latency_min, self.weather.latency_max);
        let way = self
            .prng
            .between(low.as_nanos() as u64, high.as_nanos() as u64);
        let Some(link) = self.links.get_mut(&id) else {
            return bytes.len();
        };
        if link.silence.is_some() {
            let is_broken = link.has_given_up(now, from) || link.resets[from as usize].is_some();
            let count = if is_broken {
                bytes.len()
            } else {
                room.min(bytes.len())
            };
            link.swallow(now, from, count);
            return count;
        }
        let to = from.other() as usize;
        if link.gone[to] || link.resets[to].is_some() || link.resets[from as usize].is_some() {
            link.resets[from as usize].get_or_insert(now + low);
            return bytes.len();
        }
        let direction = &mut link.directions[to];
        let at = direction.latest.max(now + Duration::from_nanos(way));
        direction.latest = at;
        let count = room.min(bytes.len());
        direction
            .queue
            .extend(bytes[..count].iter().map(|&byte| (at, byte)));
        count
    }

    /// What an end can take in now.
    pub fn readable(&self, now: Instant, id: LinkId, at: End) -> Readable {
        let Some(link) = self.links.get(&id) else {
            return Readable {
                is_reset: true,
                ..Readable::default()
            };
        };
        if link.is_clogged(now) {
            return Readable::default();
        }
        let direction = &link.directions[at as usize];
        let bytes = direction.queue.partition_point(|(due, _)| *due <= now);
        let is_drained = bytes == direction.queue.len();
        Readable {
            bytes,
            is_eof: is_drained && direction.fin.is_some_and(|due| due <= now),
            is_reset: link.resets[at as usize].is_some_and(|due| due <= now)
                || link.has_given_up(now, at),
        }
    }

    /// Takes in a random piece of what has arrived, at most `bytes_max` bytes.
    pub fn read(&mut self, now: Instant, id: LinkId, at: End, bytes_max: usize) -> Vec<u8> {
        let arrived = self.readable(now, id, at).bytes.min(bytes_max);
        let Some(link) = self.links.get_mut(&id).filter(|_| arrived > 0) else {
            return Vec::new();
        };
        // A flood is not split into single bytes: the run would not end.
        let chunk_max = self.weather.chunk_max.max(arrived / 16);
        let whole = self.prng.chance(300);
        let count = if whole {
            arrived.min(chunk_max)
        } else {
            self.prng.size(1, arrived.min(chunk_max))
        };
        link.directions[at as usize]
            .queue
            .drain(..count)
            .map(|(_, byte)| byte)
            .collect()
    }

    /// An end sends no more.
    pub fn finish(&mut self, now: Instant, id: LinkId, from: End) {
        let latency = self.weather.latency_max;
        if let Some(link) = self.links.get_mut(&id).filter(|it| it.silence.is_none()) {
            let direction = &mut link.directions[from.other() as usize];
            let at = direction.latest.max(now + latency);
            direction.latest = at;
            direction.fin.get_or_insert(at);
        }
    }

    /// An end breaks the link; what it had sent may or may not arrive.
    pub fn reset(&mut self, now: Instant, id: LinkId, by: End) {
        let loses = self.prng.chance(500);
        let latency = self.weather.latency_min;
        if let Some(link) = self.links.get_mut(&id) {
            if link.silence.is_some() {
                self.leave(id, by);
                return;
            }
            let to = by.other() as usize;
            let direction = &mut link.directions[to];
            let at = if loses {
                now + latency
            } else {
                direction.latest.max(now + latency)
            };
            if loses {
                direction.queue.retain(|(due, _)| *due <= now);
            }
            link.resets[to].get_or_insert(at);
            self.leave(id, by);
        }
    }

    /// An end closes its socket: a reset if it had not read everything, else the end.
    pub fn close(&mut self, now: Instant, id: LinkId, by: End) {
        let has_unread = self
            .links
            .get(&id)
            .is_some_and(|link| !link.directions[by as usize].queue.is_empty());
        if has_unread {
            self.reset(now, id, by);
        } else {
            self.finish(now, id, by);
            self.leave(id, by);
        }
    }

    fn leave(&mut self, id: LinkId, end: End) {
        if let Some(link) = self.links.get_mut(&id) {
            link.gone[end as usize] = true;
            link.directions[end as usize].queue.clear();
            if link.gone == [true, true] {
                self.links.remove(&id);
            }
        }
    }

    /// Whether an end has not closed its socket.
    pub fn is_held(&self, id: LinkId, by: End) -> bool {
        self.links
            .get(&id)
            .is_some_and(|link| !link.gone[by as usize])
    }

    /// Nothing arrives on a link from `from` until `until`.
    pub fn clog(&mut self, id: LinkId, from: Instant, until: Instant) {
        if let Some(link) = self.links.get_mut(&id)
            && link.clogged[1] < until
        {
            link.clogged = [from, until];
        }
    }

    /// Lifts every clog.
    pub fn unclog(&mut self) {
        self.links
            .values_mut()
            .for_each(|link| link.clogged = [Instant(0); 2]);
    }

    /// The links that are there.
    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        self.links.keys().copied()
    }

    /// The next moment after `now` at which something arrives somewhere.
    pub fn next_time(&self, now: Instant) -> Option<Instant> {
        self.links
            .values()
            .filter_map(|link| link.next_time(now))
            .min()
    }
}

impl Link {
    fn is_clogged(&self, now: Instant) -> bool {
        let [from, until] = self.clogged;
        from <= now && now < until
    }

    fn next_time(&self, now: Instant) -> Option<Instant> {
        let given_up = self
            .silence
            .map(|silence| [End::Near, End::Far].map(|end| silence.gives_up(end)));
        let resets = self.resets.iter().flatten().copied();
        let of_direction = |direction: &Direction| {
            let later = direction.queue.partition_point(|(due, _)| *due <= now);
            let first = direction.queue.get(later).map(|(due, _)| *due);
            [
                first,
                direction.fin.filter(|_| later == direction.queue.len()),
            ]
        };
        let arrivals = self.directions.iter().flat_map(of_direction).flatten();
        let all = resets.chain(arrivals).chain(given_up.into_iter().flatten());
        let next = all.filter(|due| *due > now).min();
        if self.is_clogged(now) {
            Some(self.clogged[1])
        } else {
            next
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn delivers_in_order_after_latency_and_within_window() {
        let mut network = network();
        let link = network.open([PATIENCE; 2]);
        assert_eq!(network.write(Instant(0), link, End::Near, b"0123456789"), 8);
        assert_eq!(network.readable(Instant(9_999), link, End::Far).bytes, 0);
        assert_eq!(network.next_time(Instant(0)), Some(Instant(10_000)));
        let mut arrived = Vec::new();
        while arrived.len() < 8 {
            arrived.extend(network.read(Instant(10_000), link, End::Far, 100));
        }
        assert_eq!(arrived, b"01234567");
        assert_eq!(network.room(Instant(10_000), link, End::Near), 8);
    }

    #[test]
    fn tells_end_after_last_byte_and_reset_to_writer_on_closed_link() {
        let mut network = network();
        let link = network.open([PATIENCE; 2]);
        network.write(Instant(0), link, End::Near, b"x");
        network.close(Instant(0), link, End::Near);
        let later = Instant(20_000);
        assert!(network.readable(later, link, End::Far).is_eof);
        assert_eq!(network.read(later, link, End::Far, 10), b"x");
        network.write(later, link, End::Far, b"y");
        assert!(network.readable(Instant(40_000), link, End::Far).is_reset);
    }

    #[test]
    fn delivers_nothing_while_clogged() {
        let mut network = network();
        let link = network.open([PATIENCE; 2]);
        network.write(Instant(0), link, End::Near, b"x");
        network.clog(link, Instant(0), Instant(50_000));
        assert_eq!(
            network.readable(Instant(20_000), link, End::Far),
            Readable::default()
        );
        network.unclog();
        assert_eq!(network.readable(Instant(20_000), link, End::Far).bytes, 1);
    }
}

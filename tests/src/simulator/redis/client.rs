//! A simulated Redis client: sends its script and judges every reply.
//!
//! Knows its own session only. Invariant: a reply is taken only if a connection of its own would
//! have brought it, or if a fault of this run excuses another one.

mod replies;

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use manifold_core::time::Instant;

use super::log::{Log, token_of};
use super::model::Model;
use super::resp::request;
use super::script::{Script, Unit};
use crate::simulator::network::{End, LinkId, Network};
use crate::simulator::prng::Prng;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Requests sent before a reply is awaited.
    pub depth: usize,
    /// The longest pause before a request.
    pub pause_max: Duration,
    /// Bytes read at once, and the longest pause between two reads.
    pub read_max: usize,
    /// See `read_max`.
    pub read_pause_max: Duration,
    /// Bytes written at once.
    pub write_max: usize,
    /// The longest pause between two writes.
    pub write_pause_max: Duration,
    /// In a thousand moments, how many end with a disconnect without a word.
    pub leaves: u32,
    /// In a thousand requests, how many are no requests.
    pub garbles: u32,
    /// Sends its last byte and waits for the other side to close.
    pub half_closes: bool,
    /// In a thousand requests, how many are written as people write them.
    pub inlines: u32,
}

/// What may differ from a connection of its own, because the run makes it happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// Connections to the node are lost: outcomes may be unknown.
    pub is_lossy: bool,
    /// Nobody may get a connection to the node in time.
    pub is_starved: bool,
    /// There is no room for subscriptions.
    pub has_no_hub: bool,
    /// The connection may be closed.
    pub closes: bool,
    /// It may be, when a reply is longer than its beginning said, or cannot be asked for anew.
    pub cuts_long: bool,
    /// The node refuses things now and then.
    pub is_moody: bool,
    /// The node wants a password.
    pub is_locked: bool,
    /// The node is a cluster.
    pub is_spread: bool,
    /// Requests are passed on while they come, and not kept.
    pub forgets: bool,
    /// There may be fewer connections than users who subscribe.
    pub is_narrow: bool,
    /// So there are, and what was subscribed to may be lost.
    pub is_cramped: bool,
}

/// What clients know of each other.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// The numbers of sessions.
    pub numbers: Vec<i64>,
    /// Those whose waiting somebody wanted to end.
    pub unblocked: BTreeSet<i64>,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Has not connected.
    New,
    /// Sends requests.
    Working,
    /// Has sent its last byte.
    Leaving,
    /// Is gone.
    Gone,
}

/// A request in flight.
#[derive(Clone, Debug)]
struct Flight {
    words: Vec<Vec<u8>>,
    is_garbage: bool,
    /// What the node had done by then.
    sent_at: u64,
    /// It is known that it has a reply.
    has_reply: bool,
    /// Confirmations that are still to come, once the first is.
    pieces_left: Option<usize>,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// `c` and a number: what its tokens begin with.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Its connection, while it has one.
    pub link: Option<LinkId>,
    /// What may differ.
    pub excuses: Excuses,
    /// What went wrong, in the checker's words.
    pub violations: Vec<String>,
    /// Tokens of which it was told that they were not run.
    pub refused: Vec<String>,
    /// Requests answered.
    pub answered: u64,
    /// Faults that were excused.
    pub excused: u64,
    /// Messages that came.
    pub heard: u64,
    model: Model,
    habits: Habits,
    script: Script,
    flights: VecDeque<Flight>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    act_at: Instant,
    read_at: Instant,
    write_at: Instant,
    prng: Prng,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(
        name: String,
        habits: Habits,
        excuses: Excuses,
        script: Script,
        prng: Prng,
        starts_at: Instant,
    ) -> Self {
        Self {
            name,
            phase: Phase::New,
            link: None,
            excuses,
            violations: Vec::new(),
            refused: Vec::new(),
            answered: 0,
            excused: 0,
            heard: 0,
            model: Model {
                is_spread: excuses.is_spread,
                is_cramped: excuses.is_cramped,
                ..Model::new(excuses.is_locked)
            },
            habits,
            script,
            flights: VecDeque::new(),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            act_at: starts_at,
            read_at: starts_at,
            write_at: starts_at,
            prng,
        }
    }

    /// Whether nothing more will happen.
    pub fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether it waits for a link to be opened.
    pub fn wants_link(&self, now: Instant) -> bool {
        self.phase == Phase::New && self.act_at <= now
    }

    /// Its link is open.
    pub fn connect(&mut self, link: LinkId) {
        self.link = Some(link);
        self.phase = Phase::Working;
    }

    /// Whether it only waits for the last words of an operator on what it listens to.
    pub fn is_lingering(&self) -> bool {
        self.phase == Phase::Working
            && self.flights.is_empty()
            && self.outgoing.is_empty()
            && self.script.is_over()
            && self.model.is_listening()
            && !self.model.has_finals()
    }

    /// Whether it can do something now.
    pub fn is_ready(&self, now: Instant, network: &Network) -> bool {
        let Some(link) = self.link else { return false };
        self.can_compose(now)
            || self.can_write(now, network, link)
            || self.can_read(now, network, link)
    }

    /// When it may be ready without anything arriving.
    pub fn next_time(&self, now: Instant) -> Option<Instant> {
        let times = [self.act_at, self.read_at, self.write_at];
        let times = times.into_iter().filter(|&time| time > now);
        times.filter(|_| !self.is_gone()).min()
    }

    /// Does one of the things that it can do; says which, and the bytes that moved.
    pub fn act(
        &mut self,
        now: Instant,
        network: &mut Network,
        log: &Log,
        shared: &mut Shared,
    ) -> (&'static str, Vec<u8>) {
        let Some(link) = self.link else {
            return ("is gone", Vec::new());
        };
        let can = [
            u32::from(self.can_compose(now)),
            u32::from(self.can_write(now, network, link)),
            u32::from(self.can_read(now, network, link)),
        ];
        if can == [0, 0, 0] {
            return ("waits", Vec::new());
        }
        let done = match self.prng.weighted(&can) {
            0 => {
                let composed = self.compose(now, log, shared);
                self.finish_if_done(now, network, link);
                ("composes", composed)
            }
            1 => ("writes", self.write(now, network, link)),
            _ => ("reads", self.read(now, network, link, log, shared)),
        };
        // Rather with something in flight than without.
        let leaves = if done.0 == "writes" {
            self.habits.leaves * 4
        } else {
            self.habits.leaves
        };
        if self.prng.chance(leaves) && self.phase == Phase::Working {
            self.leave(now, network, true);
        }
        done
    }

    fn can_compose(&self, now: Instant) -> bool {
        let is_idle = self.flights.is_empty() && self.outgoing.is_empty();
        self.phase == Phase::Working
            && self.act_at <= now
            && self.flights.len() < self.habits.depth
            && self.outgoing.len() < 4096
            && !self.flights.iter().any(|flight| flight.is_garbage)
            && (!self.script.is_over()
                || self.habits.half_closes
                || is_idle && !self.is_lingering())
    }

    fn can_write(&self, now: Instant, network: &Network, link: LinkId) -> bool {
        !self.outgoing.is_empty() && self.write_at <= now && network.room(now, link, End::Near) > 0
    }

    fn can_read(&self, now: Instant, network: &Network, link: LinkId) -> bool {
        if self.read_at > now {
            return false;
        }
        let readable = network.readable(now, link, End::Near);
        readable.bytes > 0 || readable.is_eof || readable.is_reset
    }

    fn pause(&mut self, now: Instant, longest: Duration) -> Instant {
        now + Duration::from_nanos(self.prng.between(0, longest.as_nanos() as u64))
    }

    /// Sends the next request, and those that go out with it.
    fn compose(&mut self, now: Instant, log: &Log, shared: &mut Shared) -> Vec<u8> {
        self.act_at = self.pause(now, self.habits.pause_max);
        let before = self.outgoing.len();
        if self.prng.chance(self.habits.garbles) {
            let unit = garbage(&mut self.prng);
            self.send_unit(unit, log, shared);
        } else {
            loop {
                let Some(unit) = self.script.next_unit() else {
                    self.end(log, shared);
                    break;
                };
                let is_followed = unit.is_followed;
                self.send_unit(unit, log, shared);
                if !is_followed {
                    break;
                }
            }
        }
        self.skip_silent();
        self.outgoing[before..].to_vec()
    }

    /// The script is over: says good-bye, or sends nothing more.
    fn end(&mut self, log: &Log, shared: &mut Shared) {
        self.phase = Phase::Leaving;
        if !self.habits.half_closes {
            let unit = Unit {
                words: vec![b"QUIT".to_vec()],
                ..Unit::default()
            };
            self.send_unit(unit, log, shared);
        }
    }

    fn send_unit(&mut self, unit: Unit, log: &Log, shared: &mut Shared) {
        let mut words = unit.words;
        if words.get(2).is_some_and(|word| word == b"?") {
            let number = match &shared.numbers[..] {
                [] => 0,
                numbers => *self.prng.pick(numbers),
            };
            shared.unblocked.insert(number);
            words[2] = number.to_string().into_bytes();
        }
        let is_short = words.iter().map(Vec::len).sum::<usize>() < 1_000;
        let is_plain = is_short
            && words.iter().all(|word| {
                let mut bytes = word.iter();
                !word.is_empty()
                    && bytes.all(|byte| byte.is_ascii_graphic() && !b"\"'*".contains(byte))
            });
        match &unit.garbage {
            Some(bytes) => self.outgoing.extend(bytes),
            None if is_plain && self.prng.chance(self.habits.inlines) => {
                self.outgoing.extend(words.join(&b' '));
                self.outgoing.extend(b"\r\n");
            }
            None => self.outgoing.extend(request(&words)),
        }
        self.flights.push_back(Flight {
            words,
            is_garbage: unit.garbage.is_some(),
            sent_at: log.seq,
            has_reply: false,
            pieces_left: None,
        });
    }

    fn write(&mut self, now: Instant, network: &mut Network, link: LinkId) -> Vec<u8> {
        let count = self.outgoing.len().min(self.habits.write_max);
        let written = network.write(now, link, End::Near, &self.outgoing[..count]);
        let bytes = self.outgoing.drain(..written).collect();
        self.write_at = self.pause(now, self.habits.write_pause_max);
        self.finish_if_done(now, network, link);
        bytes
    }

    fn finish_if_done(&mut self, now: Instant, network: &mut Network, link: LinkId) {
        let is_done = self.outgoing.is_empty() && self.phase == Phase::Leaving;
        if is_done && self.habits.half_closes {
            network.finish(now, link, End::Near);
        }
    }

    fn read(
        &mut self,
        now: Instant,
        network: &mut Network,
        link: LinkId,
        log: &Log,
        shared: &mut Shared,
    ) -> Vec<u8> {
        let readable = network.readable(now, link, End::Near);
        let bytes = network.read(now, link, End::Near, self.habits.read_max);
        self.read_at = self.pause(now, self.habits.read_pause_max);
        if bytes.is_empty() {
            if readable.is_eof || readable.is_reset {
                self.closed_by_peer(now, network);
            }
            return bytes;
        }
        self.incoming.extend(&bytes);
        self.take_replies(log, shared);
        bytes
    }

    /// Goes without a word.
    pub fn leave(&mut self, now: Instant, network: &mut Network, abruptly: bool) {
        if let Some(link) = self.link.take() {
            if abruptly && self.prng.chance(500) {
                network.reset(now, link, End::Near);
            } else {
                network.close(now, link, End::Near);
            }
        }
        self.forget_all();
    }

    /// Its host is gone, and nobody says so.
    pub fn vanish(&mut self, now: Instant, network: &mut Network) {
        if let Some(link) = self.link.take() {
            network.vanish(now, link, End::Near);
        }
        self.forget_all();
    }

    fn forget_all(&mut self) {
        self.flights.clear();
        self.outgoing.clear();
        self.phase = Phase::Gone;
    }

    fn closed_by_peer(&mut self, now: Instant, network: &mut Network) {
        self.skip_silent();
        let is_garbled = self.flights.iter().any(|flight| flight.is_garbage);
        // Whoever waits on behalf of somebody who has gone gives up.
        let is_blocked = |flight: &Flight| {
            let name = flight.words.first().map(|name| name.to_ascii_lowercase());
            matches!(name.as_deref(), Some(b"blpop" | b"brpop"))
        };
        let may_wait = self.habits.half_closes && self.flights.iter().any(is_blocked);
        let is_over = self.phase == Phase::Leaving && (self.flights.is_empty() || may_wait);
        let is_long = self.excuses.cuts_long && !self.flights.iter().all(is_asked_anew);
        let is_expected = is_over || is_garbled || is_long;
        if !is_expected && !self.excuses.closes {
            let text = format!(
                "I5: {} was closed in {:?} with {}",
                self.name,
                self.phase,
                self.in_flight()
            );
            self.violations.push(text);
        }
        self.leave(now, network, false);
    }

    /// What it waits for, for people.
    pub fn in_flight(&self) -> String {
        let names = self.flights.iter().map(|flight| {
            let words = flight.words.iter().take(3);
            let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
            words.collect::<Vec<_>>().join(" ")
        });
        format!("[{}]", names.collect::<Vec<_>>().join(", "))
    }

    /// Tokens that it waits for.
    pub fn tokens_in_flight(&self) -> impl Iterator<Item = String> {
        self.flights.iter().filter_map(|it| token_of(&it.words))
    }

    /// No more pauses and no more mischief: the run is to end.
    pub fn calm(&mut self) {
        self.habits.leaves = 0;
        self.habits.garbles = 0;
        self.habits.read_max = usize::MAX;
        self.habits.read_pause_max = Duration::ZERO;
        self.habits.write_max = usize::MAX;
        self.habits.write_pause_max = Duration::ZERO;
        self.script.hurry();
    }
}

/// Whether a request that turns out to be answered at length can be asked for anew, because its
/// reply says how long it is at once, or is short anyway.
fn is_asked_anew(flight: &Flight) -> bool {
    let Some(name) = flight.words.first() else {
        return true;
    };
    let names: [&[u8]; 5] = [b"get", b"strlen", b"llen", b"exists", b"type"];
    names.iter().any(|it| name.eq_ignore_ascii_case(it))
}

/// Bytes that are no request: the end of any connection.
fn garbage(prng: &mut Prng) -> Unit {
    let bytes: &[u8] = match prng.below(3) {
        0 => b"*1\r\n!3\r\nGET\r\n",
        1 => b"*x\r\n",
        _ => b"*1\r\n$-5\r\n",
    };
    Unit {
        garbage: Some(bytes.to_vec()),
        ..Unit::default()
    }
}

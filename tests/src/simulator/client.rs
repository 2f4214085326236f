//! A simulated client: sends its script and compares every reply with a private connection.
//!
//! Knows its own session only. Invariant: a frame is taken only if the private connection would
//! have sent it next, or if a fault of this run excuses another one.

mod compare;
mod flight;
mod proof;
mod reply;

use core::time::Duration;
use std::collections::BTreeSet;

use manifold_core::time::Instant;

use super::network::{End, LinkId, Network};
use super::postgres::Users;
use super::private::Private;
use super::prng::Prng;
use super::request::{startup, tls_request};
use super::script::Script;

use proof::Proof;

pub use flight::Flight;
pub use reply::ASYNC_NOTICE;

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
    /// Asks for TLS first.
    pub asks_tls: bool,
    /// In a thousand requests, how many are followed by a disconnect without a word.
    pub leaves: u32,
    /// In a thousand requests, how many are followed by a cancel.
    pub cancels: u32,
    /// In a thousand requests, how many are followed by bytes that are no message.
    pub garbles: u32,
    /// Sends FIN after Terminate and waits for the other side to close.
    pub half_closes: bool,
    /// Sends a wrong password.
    pub forgets_password: bool,
}

/// What may differ from a private connection, because the run makes it happen.
#[derive(Clone, Debug, Default)]
pub struct Excuses {
    /// SQLSTATEs of errors that a private connection would not have given.
    pub codes: BTreeSet<&'static str>,
    /// The connection may be closed.
    pub closes: bool,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Has not connected.
    New,
    /// Waits for the answer to its request for TLS.
    AskingTls,
    /// Has sent its startup packet.
    LoggingIn,
    /// Sends requests.
    Working,
    /// Has sent its last message.
    Leaving,
    /// Is gone.
    Gone,
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
    /// How it behaves.
    pub habits: Habits,
    /// What may differ.
    pub excuses: Excuses,
    /// What went wrong, in the checker's words.
    pub violations: Vec<String>,
    /// Tokens whose commit the client was told of, since the checker asked last.
    pub acknowledged: Vec<String>,
    /// Tokens that may have been committed without the client having been told.
    pub unknown: BTreeSet<String>,
    /// The cancel key: process id and secret.
    pub key: Option<(i32, i32)>,
    /// A cancel that is to be sent.
    pub wants_cancel: bool,
    /// The number of the last request that a cancel may hit.
    pub cancelled_until: Option<u64>,
    /// Notifications received.
    pub notified: u64,
    /// Requests answered.
    pub answered: u64,
    /// Faults that were excused.
    pub excused: u64,
    /// When the oldest unanswered request was sent.
    pub waiting_since: Option<Instant>,
    pairs: Vec<(String, String)>,
    proof: Proof,
    /// The same for the private connection.
    private_proof: Proof,
    private: Private,
    script: Script,
    flights: Vec<Flight>,
    /// Tokens of statements whose transaction has not ended.
    pending: Vec<String>,
    units_sent: u64,
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
        pairs: Vec<(String, String)>,
        users: &Users,
        habits: Habits,
        script: Script,
        prng: Prng,
        starts_at: Instant,
    ) -> Self {
        let user = pairs
            .iter()
            .find(|(key, _)| key == "user")
            .map(|(_, user)| user.clone());
        let user = user.unwrap_or_default();
        let password = match users.get(&user) {
            Some((_, password)) if !habits.forgets_password => password.clone(),
            _ => "wrong".to_owned(),
        };
        Self {
            name,
            phase: Phase::New,
            link: None,
            habits,
            excuses: Excuses::default(),
            violations: Vec::new(),
            acknowledged: Vec::new(),
            unknown: BTreeSet::new(),
            key: None,
            wants_cancel: false,
            cancelled_until: None,
            notified: 0,
            answered: 0,
            excused: 0,
            waiting_since: None,
            pairs,
            proof: Proof::new(&user, &password, 1),
            private_proof: Proof::new(&user, &password, 2),
            private: Private::new(users.clone()),
            script,
            flights: Vec::new(),
            pending: Vec::new(),
            units_sent: 0,
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

    /// Its link is open: the first bytes go out.
    pub fn connect(&mut self, now: Instant, link: LinkId) {
        self.link = Some(link);
        self.waiting_since = Some(now);
        if self.habits.asks_tls {
            self.phase = Phase::AskingTls;
            self.outgoing.extend(tls_request());
        } else {
            self.log_in();
        }
    }

    fn log_in(&mut self) {
        self.phase = Phase::LoggingIn;
        let bytes = startup(&self.pairs);
        self.outgoing.extend(&bytes);
        self.begin_login_flight(&bytes);
    }

    /// Whether it can do something now: compose, write or read.
    pub fn is_ready(&self, now: Instant, network: &Network) -> bool {
        let Some(link) = self.link else { return false };
        self.can_compose(now)
            || self.can_write(now, network, link)
            || self.can_read(now, network, link)
    }

    /// When it may be ready without anything arriving.
    pub fn next_time(&self, now: Instant) -> Option<Instant> {
        let times = [self.act_at, self.read_at, self.write_at];
        times
            .into_iter()
            .filter(|&time| time > now && !self.is_gone())
            .min()
    }

    /// Does one of the things that it can do; says which, and the bytes that moved.
    pub fn act(&mut self, now: Instant, network: &mut Network) -> (&'static str, Vec<u8>) {
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
                self.compose(now);
                (
                    "composes",
                    self.flights.last().map_or("", |it| it.unit.name).into(),
                )
            }
            1 => ("writes", self.write(now, network, link)),
            _ => ("reads", self.read(now, network, link)),
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
        self.act_at <= now && (self.can_send_part() || self.can_send_unit())
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

    fn write(&mut self, now: Instant, network: &mut Network, link: LinkId) -> Vec<u8> {
        let count = self.outgoing.len().min(self.habits.write_max);
        let written = network.write(now, link, End::Near, &self.outgoing[..count]);
        let bytes = self.outgoing.drain(..written).collect();
        self.write_at = self.pause(now, self.habits.write_pause_max);
        if self.outgoing.is_empty() && self.phase == Phase::Leaving {
            if self.habits.half_closes {
                network.finish(now, link, End::Near);
            } else if self.flights.len() <= 1 {
                self.leave(now, network, false);
            }
        }
        bytes
    }

    fn read(&mut self, now: Instant, network: &mut Network, link: LinkId) -> Vec<u8> {
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
        self.take_replies(now);
        if self.phase == Phase::Leaving && self.flights.len() <= 1 && self.outgoing.is_empty() {
            let ended = self
                .flights
                .first()
                .is_none_or(|flight| flight.unit.is_last);
            if ended && !self.habits.half_closes {
                self.leave(now, network, false);
            }
        }
        bytes
    }

    /// Goes, with or without a word: whatever was not answered may have happened.
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

    fn closed_by_peer(&mut self, now: Instant, network: &mut Network) {
        // Whoever receives no message closes with input unread, and so may lose what it had said.
        let is_garbled = self
            .flights
            .last()
            .is_some_and(|flight| flight.unit.name == "garbled");
        let is_leaving = self.phase == Phase::Leaving && self.flights.len() <= 1;
        let is_expected = self.private.has_ended() || is_leaving || is_garbled;
        if !is_expected && !self.excuses.closes {
            let text = format!(
                "I5: {} was closed in {:?} with {}",
                self.name,
                self.phase,
                self.in_flight()
            );
            self.violations.push(text);
        }
        if !self.incoming.is_empty() && !is_expected && !self.excuses.closes {
            self.violations
                .push(format!("I2: {} was closed inside a message", self.name));
        }
        self.leave(now, network, false);
    }

    /// Its host is gone, and nobody says so.
    pub fn vanish(&mut self, now: Instant, network: &mut Network) {
        if let Some(link) = self.link.take() {
            network.vanish(now, link, End::Near);
        }
        self.forget_all();
    }

    fn forget_all(&mut self) {
        let in_flight = self.flights.drain(..).flat_map(|flight| flight.unit.tokens);
        let lost: Vec<String> = self.pending.drain(..).chain(in_flight).collect();
        let ledger = self.private.ledger();
        self.unknown
            .extend(lost.into_iter().filter(|token| !ledger.contains_key(token)));
        self.phase = Phase::Gone;
        self.waiting_since = None;
    }

    /// What it waits for, for people.
    pub fn in_flight(&self) -> String {
        let names = self.flights.iter().map(|flight| flight.unit.name);
        format!("[{}]", names.collect::<Vec<_>>().join(", "))
    }

    /// The tokens that the private connection has committed.
    pub fn committed(&self) -> impl Iterator<Item = &String> {
        self.private.ledger().keys()
    }

    /// Whether a cancel that it asked for may hit this statement. One that it no longer waits for
    /// was among those before.
    pub fn may_be_cancelled(&self, token: &String) -> bool {
        let mut flights = self.flights.iter();
        let flight = flights.find(|flight| flight.unit.tokens.contains(token));
        self.cancelled_until
            .is_some_and(|last| flight.is_none_or(|flight| flight.number <= last))
    }

    /// Its cancel has been dealt with: it can hit what was sent so far, and nothing later.
    pub fn end_cancel(&mut self) {
        self.cancelled_until = Some(self.units_sent);
    }

    /// No more pauses and no more mischief: the run is to end.
    pub fn calm(&mut self) {
        self.habits.leaves = 0;
        self.habits.cancels = 0;
        self.habits.garbles = 0;
        self.habits.read_max = usize::MAX;
        self.habits.read_pause_max = Duration::ZERO;
        self.habits.write_max = usize::MAX;
        self.habits.write_pause_max = Duration::ZERO;
        self.script.hurry();
    }
}

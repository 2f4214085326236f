//! The third driver of a shard: operations in, events out, over the simulated network.
//!
//! Knows connections and their bytes, nothing of what they mean, and checks that the core keeps to
//! the contract of `event`. Invariant: an id is named by events only between `Adopt` or `Connect`
//! and `Closed`.

mod apply;
mod watch;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use manifold_core::event::{Address, Event, Failure, Lead, Message, Operation, Peer, Socket};
use manifold_core::ids::{ConnId, DatabaseId, ListenerId, ServiceId, ShardId};
use manifold_core::proof::Verdict;
use manifold_core::time::Instant;

use super::classifier::Classifier;
use super::network::{End, LinkId, Network};
use super::prng::Prng;
use watch::Watch;

/// What the driver itself makes difficult.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// Events taken in one pass, at most.
    pub batch_max: usize,
    /// The longest time between the end of an operation and its event.
    pub delay_max: Duration,
    /// Bytes that may still come after `Pause`.
    pub burst_max: usize,
    /// Bytes of one `Received`, at most.
    pub receive_max: usize,
    /// In a thousand connections being closed, how many still deliver bytes before `Closed`.
    pub late_bytes: u32,
    /// The longest time that a classification takes.
    pub classify_max: Duration,
    /// Whether a connection that is paused and sends nothing is not known to be broken.
    pub is_deaf: bool,
}

/// An event with its own bytes, as it waits to be told.
#[derive(Debug)]
pub enum Happening {
    /// [`Event::Accepted`].
    Accepted(Socket, Peer),
    /// [`Event::Connected`].
    Connected(ConnId),
    /// [`Event::Received`].
    Received(ConnId, Vec<u8>),
    /// [`Event::Sent`].
    Sent(ConnId, Vec<u8>, usize),
    /// [`Event::Eof`].
    Eof(ConnId),
    /// [`Event::Failed`].
    Failed(ConnId, Failure),
    /// [`Event::Closed`].
    Closed(ConnId),
    /// [`Event::Classified`].
    Classified(u64, Arc<Verdict>),
    /// [`Event::CatalogReady`].
    CatalogReady(DatabaseId, bool),
    /// [`Event::Resolved`].
    Resolved(ServiceId, Lead),
    /// [`Event::FromShard`].
    FromShard(Message),
    /// [`Event::Drain`].
    Drain(u64),
}

impl Happening {
    /// The event that tells it.
    pub fn event(&mut self) -> Event<'_> {
        match self {
            &mut Self::Accepted(socket, peer) => Event::Accepted {
                listener: ListenerId(0),
                socket,
                peer,
            },
            &mut Self::Connected(conn) => Event::Connected { conn },
            Self::Received(conn, bytes) => Event::Received { conn: *conn, bytes },
            Self::Sent(conn, buffer, sent) => Event::Sent {
                conn: *conn,
                buffer: core::mem::take(buffer),
                sent: *sent,
            },
            &mut Self::Eof(conn) => Event::Eof { conn },
            &mut Self::Failed(conn, failure) => Event::Failed { conn, failure },
            &mut Self::Closed(conn) => Event::Closed { conn },
            Self::Classified(ticket, verdict) => Event::Classified {
                ticket: *ticket,
                verdict: verdict.clone(),
            },
            &mut Self::CatalogReady(database, understood) => Event::CatalogReady {
                database,
                understood,
            },
            Self::Resolved(service, lead) => Event::Resolved {
                service: *service,
                lead: lead.clone(),
            },
            Self::FromShard(message) => Event::FromShard {
                message: message.clone(),
            },
            &mut Self::Drain(deadline_ms) => Event::Drain { deadline_ms },
        }
    }

    /// The event in a few words, for the trace.
    pub fn describe(&self) -> String {
        match self {
            Self::Received(conn, bytes) => {
                format!(
                    "Received({}.{}) {}",
                    conn.index,
                    conn.generation,
                    text_of(bytes)
                )
            }
            Self::Sent(conn, buffer, sent) => {
                format!(
                    "Sent({}.{}) {sent} of {}",
                    conn.index,
                    conn.generation,
                    buffer.len()
                )
            }
            other => format!("{other:?}"),
        }
    }
}

/// An operation in a few words, for the trace.
pub(super) fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Send { conn, buffer } => {
            format!(
                "Send({}.{}) {}",
                conn.index,
                conn.generation,
                text_of(buffer)
            )
        }
        Operation::Classify { ticket, text, .. } => format!("Classify {ticket} {}", text_of(text)),
        other => format!("{other:?}"),
    }
}

/// Bytes as text, for the trace.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let sign = |&byte: &u8| {
        if (0x20..0x7f).contains(&byte) {
            char::from(byte)
        } else {
            '.'
        }
    };
    let text: String = bytes.iter().take(300).map(sign).collect();
    format!("{} bytes: {text}", bytes.len())
}

/// A send under way.
#[derive(Debug)]
struct Sending {
    buffer: Vec<u8>,
    sent: usize,
    /// When its end is told, once all is sent or nothing more can be.
    told_at: Option<Instant>,
}

/// What is known of a connect under way.
#[derive(Clone, Copy, Debug)]
struct Connecting {
    at: Instant,
    result: Result<LinkId, Failure>,
}

/// A connection.
#[derive(Debug)]
struct Conn {
    link: Option<LinkId>,
    end: End,
    connecting: Option<Connecting>,
    is_paused: bool,
    /// Bytes that may still come although it is paused.
    burst: usize,
    send: Option<Sending>,
    /// Bytes that were taken in before the close and are told after it.
    late: Option<Vec<u8>>,
    closed_at: Option<Instant>,
    is_eof_told: bool,
    is_failure_told: bool,
    opened_at: Instant,
    /// When its failure was told.
    failed_at: Option<Instant>,
    /// Whether nobody listens to it while it is paused.
    is_deaf: bool,
    /// What is in flight, where the other end is a node.
    watch: Option<Watch>,
}

/// What a connect comes to, and how long it takes.
pub type Dialled = (Result<LinkId, Failure>, Duration);

/// One shard's driver.
#[derive(Debug)]
pub struct Driver {
    /// Whose.
    pub shard: ShardId,
    /// What went wrong with the contract, in the checker's words.
    pub violations: Vec<String>,
    /// Messages for other shards.
    pub outbox: Vec<(ShardId, Message)>,
    /// What the core says to operators.
    pub log: Vec<String>,
    /// Whether the core said that it has drained.
    pub has_drained: bool,
    /// Bytes of all buffers that are being sent.
    pub sending_bytes: usize,
    /// Operations of `Connect`.
    pub connects: u64,
    conns: BTreeMap<ConnId, Conn>,
    /// The generation that each place of the table was used with last.
    generations: BTreeMap<u32, u32>,
    backlog: VecDeque<LinkId>,
    /// Accepted and neither adopted nor rejected.
    offered: BTreeMap<u64, LinkId>,
    sockets_made: u64,
    is_accepting: bool,
    mailbox: Vec<(Instant, Happening)>,
    tickets: BTreeSet<u64>,
    classifier: Classifier,
    addresses: Vec<Address>,
    /// It hears when the name of the service leads elsewhere.
    pub follows: bool,
    temper: Temper,
    prng: Prng,
}

impl Driver {
    /// A driver without connections; names are resolved to `addresses`.
    pub fn new(
        shard: ShardId,
        temper: Temper,
        classifier: Classifier,
        addresses: Vec<Address>,
        prng: Prng,
    ) -> Self {
        Self {
            shard,
            violations: Vec::new(),
            outbox: Vec::new(),
            log: Vec::new(),
            has_drained: false,
            sending_bytes: 0,
            connects: 0,
            conns: BTreeMap::new(),
            generations: BTreeMap::new(),
            backlog: VecDeque::new(),
            offered: BTreeMap::new(),
            sockets_made: 0,
            is_accepting: true,
            mailbox: Vec::new(),
            tickets: BTreeSet::new(),
            classifier,
            addresses,
            follows: false,
            temper,
            prng,
        }
    }

    /// Somebody connects to the listener.
    pub fn offer(&mut self, link: LinkId) {
        self.backlog.push_back(link);
    }

    /// The name of the service leads there from now on. Every other time nobody leads before, for
    /// up to a second.
    pub fn rename(&mut self, now: Instant, address: &Address) {
        if self.follows {
            self.addresses = vec![address.clone()];
            let mut at = self.later(now, self.temper.classify_max);
            if self.prng.below(2) == 0 {
                self.post(at, Happening::Resolved(ServiceId(0), Lead::Nobody));
                at += Duration::from_millis(self.prng.below(1_000));
            }
            let told = Happening::Resolved(ServiceId(0), Lead::Among(self.addresses.clone()));
            self.post(at, told);
        }
    }

    /// Something is to be told at `at`.
    pub fn post(&mut self, at: Instant, happening: Happening) {
        self.mailbox.push((at, happening));
    }

    /// The most requests that are in flight on one connection to a node.
    pub fn depth(&self) -> u64 {
        let watches = self.conns.values().filter_map(|conn| conn.watch.as_ref());
        watches.map(Watch::depth).max().unwrap_or(0)
    }

    /// Connections to the node, of whatever kind, that have not been closed.
    pub fn links_to_node(&self) -> usize {
        let is_held = |conn: &&Conn| conn.end == End::Near && conn.closed_at.is_none();
        self.conns.values().filter(is_held).count()
    }

    /// A connection that failed so long ago and is still not being closed.
    pub fn has_forgotten(&self, now: Instant, longest: Duration) -> Option<ConnId> {
        let is_forgotten = |(_, conn): &(&ConnId, &Conn)| {
            conn.closed_at.is_none() && conn.failed_at.is_some_and(|at| now - at > longest)
        };
        self.conns.iter().find(is_forgotten).map(|(id, _)| *id)
    }

    /// A connect or a cancel that has been under way for so long.
    pub fn has_hung(&self, now: Instant, longest: Duration) -> Option<ConnId> {
        let is_hung = |(_, conn): &(&ConnId, &Conn)| {
            let is_cancel = conn.watch.as_ref().is_some_and(Watch::is_cancel);
            conn.closed_at.is_none()
                && (conn.connecting.is_some() || is_cancel)
                && now - conn.opened_at > longest
        };
        self.conns.iter().find(is_hung).map(|(id, _)| *id)
    }

    /// Whether no connection is left and nothing waits to be told.
    pub fn is_quiet(&self) -> bool {
        self.conns.is_empty() && self.backlog.is_empty() && self.mailbox.is_empty()
    }

    /// How many connections there are.
    pub fn conns_open(&self) -> usize {
        self.conns.len()
    }

    /// No more difficulties of its own.
    pub fn calm(&mut self) {
        self.temper.delay_max = Duration::from_micros(10);
        self.classifier.doubts = 0;
    }

    /// When something may be told without anything arriving.
    pub fn next_time(&self, now: Instant) -> Option<Instant> {
        let of_conn = |conn: &Conn| {
            let connect = conn.connecting.map(|connecting| connecting.at);
            let sent = conn.send.as_ref().and_then(|send| send.told_at);
            [connect, sent, conn.closed_at].into_iter().flatten()
        };
        let mail = self.mailbox.iter().map(|(at, _)| *at);
        let times = self.conns.values().flat_map(of_conn).chain(mail);
        times.filter(|time| *time > now).min()
    }

    /// Lets the kernel take bytes of the sends under way.
    pub fn progress(&mut self, now: Instant, network: &mut Network) {
        if !self.is_accepting {
            // The listeners are closed: nobody is there any more.
            for link in core::mem::take(&mut self.backlog) {
                network.reset(now, link, End::Far);
            }
        }
        for conn in self.conns.values_mut() {
            let Some(send) = conn.send.as_mut().filter(|send| send.told_at.is_none()) else {
                continue;
            };
            let Some(link) = conn.link else { continue };
            let readable = network.readable(now, link, conn.end);
            if network.room(now, link, conn.end) > 0 {
                send.sent += network.write(now, link, conn.end, &send.buffer[send.sent..]);
            }
            if send.sent == send.buffer.len() || readable.is_reset {
                let delay = self
                    .prng
                    .between(0, self.temper.delay_max.as_nanos() as u64);
                send.told_at = Some(now + Duration::from_nanos(delay));
            }
        }
    }

    /// Whether anything can be told now.
    pub fn is_ready(&self, now: Instant, network: &Network) -> bool {
        !self.backlog.is_empty() && self.is_accepting
            || self.mailbox.iter().any(|(at, _)| *at <= now)
            || self.conns.values().any(|conn| conn.is_ready(now, network))
    }

    /// Takes some of what can be told now, in an order that is random between connections.
    pub fn take_happenings(&mut self, now: Instant, network: &mut Network) -> Vec<Happening> {
        let mut taken = Vec::new();
        let batch = self.prng.size(1, self.temper.batch_max);
        while taken.len() < batch {
            let ready = self
                .conns
                .iter()
                .filter(|(_, conn)| conn.is_ready(now, network));
            let ready: Vec<ConnId> = ready.map(|(id, _)| *id).collect();
            let mails = self.mailbox.iter().filter(|(at, _)| *at <= now).count();
            let calls = if self.is_accepting {
                self.backlog.len()
            } else {
                0
            };
            let weights = [ready.len() as u32, mails as u32, calls as u32];
            if weights == [0, 0, 0] {
                break;
            }
            taken.push(match self.prng.weighted(&weights) {
                0 => {
                    let id = *self.prng.pick(&ready);
                    self.tell_of_conn(now, network, id)
                }
                1 => self.take_mail(now),
                _ => self.accept(),
            });
        }
        taken
    }

    fn take_mail(&mut self, now: Instant) -> Happening {
        let due = self
            .mailbox
            .iter()
            .enumerate()
            .filter(|(_, (at, _))| *at <= now);
        let due: Vec<usize> = due.map(|(place, _)| place).collect();
        let place = *self.prng.pick(&due);
        let (_, happening) = self.mailbox.remove(place);
        if let Happening::Classified(ticket, _) = &happening {
            self.tickets.remove(ticket);
        }
        happening
    }

    fn accept(&mut self) -> Happening {
        let link = self.backlog.pop_front().expect("somebody is connecting");
        self.sockets_made += 1;
        self.offered.insert(self.sockets_made, link);
        let port = 1024 + (self.sockets_made % 60_000) as u16;
        let local = Peer::Ip(([127, 0, 0, 1], port).into());
        Happening::Accepted(
            Socket(self.sockets_made),
            *self.prng.pick(&[Peer::Unix, local]),
        )
    }

    fn tell_of_conn(&mut self, now: Instant, network: &mut Network, id: ConnId) -> Happening {
        let conn = self
            .conns
            .get_mut(&id)
            .expect("a ready connection is in the table");
        if let Some(connecting) = conn.connecting.take() {
            return match connecting.result {
                Ok(link) => {
                    conn.link = Some(link);
                    Happening::Connected(id)
                }
                Err(failure) => {
                    conn.is_failure_told = true;
                    conn.failed_at = Some(now);
                    Happening::Failed(id, failure)
                }
            };
        }
        if conn.is_send_over(now) && (conn.closed_at.is_some() || self.prng.chance(500)) {
            return self.end_send(id);
        }
        if let Some(bytes) = conn.late.take() {
            return Happening::Received(id, bytes);
        }
        if conn.can_close(now) {
            self.conns.remove(&id);
            return Happening::Closed(id);
        }
        let link = conn.link.filter(|_| conn.closed_at.is_none());
        let readable = link
            .map(|link| network.readable(now, link, conn.end))
            .unwrap_or_default();
        if readable.bytes > 0 && conn.may_receive() {
            let limit = if conn.is_paused {
                conn.burst
            } else {
                self.temper.receive_max
            };
            let end = conn.end;
            let bytes = link
                .map(|link| network.read(now, link, end, limit))
                .unwrap_or_default();
            conn.burst = conn.burst.saturating_sub(bytes.len());
            if let Some(watch) = &mut conn.watch {
                watch.see_received(&bytes);
            }
            return Happening::Received(id, bytes);
        }
        if conn.is_send_over(now) {
            return self.end_send(id);
        }
        if readable.is_eof && !readable.is_reset && !conn.is_eof_told {
            conn.is_eof_told = true;
            return Happening::Eof(id);
        }
        conn.is_failure_told = true;
        conn.failed_at = Some(now);
        let is_timed_out = link.is_some_and(|link| network.is_timed_out(now, link, conn.end));
        let failure = if is_timed_out {
            Failure::TimedOut
        } else {
            Failure::Reset
        };
        Happening::Failed(id, failure)
    }

    fn end_send(&mut self, id: ConnId) -> Happening {
        let conn = self
            .conns
            .get_mut(&id)
            .expect("a sending connection is in the table");
        let send = conn.send.take().expect("a send is over");
        self.sending_bytes -= send.buffer.len();
        Happening::Sent(id, send.buffer, send.sent)
    }
}

impl Conn {
    fn may_receive(&self) -> bool {
        !self.is_failure_told && (!self.is_paused || self.burst > 0)
    }

    /// Whether neither a receive nor a send is under way that could fail.
    fn hears_nothing(&self) -> bool {
        self.is_deaf && self.is_paused && self.burst == 0 && self.send.is_none()
    }

    fn is_send_over(&self, now: Instant) -> bool {
        let told_at = self.send.as_ref().and_then(|send| send.told_at);
        told_at.is_some_and(|at| at <= now)
    }

    fn can_close(&self, now: Instant) -> bool {
        self.closed_at.is_some_and(|at| at <= now) && self.send.is_none() && self.late.is_none()
    }

    fn is_ready(&self, now: Instant, network: &Network) -> bool {
        if let Some(connecting) = self.connecting {
            return connecting.at <= now && self.closed_at.is_none();
        }
        if self.is_send_over(now) || self.can_close(now) || self.late.is_some() {
            return true;
        }
        let Some(link) = self.link.filter(|_| self.closed_at.is_none()) else {
            return false;
        };
        let readable = network.readable(now, link, self.end);
        let reads = readable.bytes > 0 && self.may_receive();
        let ends = readable.bytes == 0 || !self.may_receive();
        reads
            || readable.is_reset && ends && !self.is_failure_told && !self.hears_nothing()
            || readable.is_eof
                && ends
                && !self.is_eof_told
                && !self.is_failure_told
                && !self.is_paused
    }
}

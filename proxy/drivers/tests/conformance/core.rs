//! The smallest core that can keep to the seam: it remembers what happened on each connection and
//! does what a test asks for.
//!
//! Checks at every event what must always hold: no event for a dead id, none but `Sent` and
//! `Closed` after `Close`, each of `Eof` and `Failed` at most once, and a short `Sent` only when
//! the connection has failed or is being closed.

use std::net::SocketAddr;
use std::ops::Index;
use std::time::{Duration, Instant};

use manifold_core::event::{Address, Event, Failure, Operation, Peer, Socket};
use manifold_core::ids::{ConnId, ListenerId};
use manifold_core::slab::Slab;
use manifold_drivers::{Config, Driver, ListenAddress, Woken, bind};
use socket2::{Domain, Type};

use crate::Kind;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the port of a listener of this process, without listening on it: who connects once the
/// listener has gone is refused, and does not reach whoever was given the port next.
pub fn keep_port(address: SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// What has happened on one connection.
#[derive(Debug, Default)]
pub struct Conn {
    /// Where it came from, if it was accepted.
    pub accepted: Option<(ListenerId, Peer)>,
    /// The connect is through.
    pub is_connected: bool,
    /// All bytes received.
    pub received: Vec<u8>,
    /// The peer sends no more.
    pub has_eof: bool,
    /// It broke.
    pub failed: Option<Failure>,
    /// Buffers that came back: their length, and how much was sent.
    pub sent: Vec<(usize, usize)>,
    /// A send is under way.
    pub is_sending: bool,
    /// `Close` was asked for.
    pub is_closing: bool,
    /// It has ended.
    pub is_closed: bool,
    /// What is still to be echoed.
    output: Vec<u8>,
}

/// A core, and the driver under test.
pub struct Core {
    /// The driver under test.
    pub driver: Driver,
    /// Everything received is sent back.
    pub is_echo: bool,
    /// What is accepted is rejected.
    pub is_rejecting: bool,
    /// The next bytes make the core panic.
    pub panics_at_bytes: bool,
    /// How often the doorbell woke the driver.
    pub rings: u32,
    /// The sockets rejected so far.
    pub rejected: u32,
    /// Ids as the real core gives them out.
    ids: Slab<ConnId, ()>,
    conns: Vec<(ConnId, Conn)>,
    listeners: u32,
    /// How many clients the test has asked for.
    taken: usize,
}

impl Core {
    /// A core over a driver with the usual configuration.
    pub fn open(kind: Kind) -> Self {
        Self::open_with(kind, &Config::default())
    }

    /// A core over a driver.
    pub fn open_with(kind: Kind, config: &Config) -> Self {
        Self {
            driver: Driver::open(kind, config).unwrap(),
            is_echo: false,
            is_rejecting: false,
            panics_at_bytes: false,
            rings: 0,
            rejected: 0,
            ids: Slab::new(),
            conns: Vec::new(),
            listeners: 0,
            taken: 0,
        }
    }

    /// Listens on a port of its own.
    pub fn listen_tcp(&mut self) -> SocketAddr {
        match self.listen(&ListenAddress::Tcp(([127, 0, 0, 1], 0).into())) {
            ListenAddress::Tcp(address) => address,
            ListenAddress::Unix(path) => unreachable!("{path:?} is not TCP"),
        }
    }

    /// Listens, under the next id from 0 on.
    pub fn listen(&mut self, address: &ListenAddress) -> ListenAddress {
        let listener = bind(address, true, 1024).unwrap();
        let address = listener.address().unwrap();
        self.driver
            .listen(ListenerId(self.listeners), listener)
            .unwrap();
        self.listeners += 1;
        address
    }

    /// Begins to connect.
    pub fn connect(&mut self, address: Address) -> ConnId {
        let conn = self.ids.insert(());
        self.conns.push((conn, Conn::default()));
        self.driver.submit(Operation::Connect { conn, address });
        conn
    }

    /// Begins to send.
    pub fn send(&mut self, conn: ConnId, buffer: Vec<u8>) {
        assert!(!self[conn].is_sending, "one send at a time");
        self.conn_mut(conn).is_sending = true;
        self.driver.submit(Operation::Send { conn, buffer });
    }

    /// Submits an operation as it is.
    pub fn submit(&mut self, operation: Operation) {
        if let Operation::Close { conn } = operation {
            self.conn_mut(conn).is_closing = true;
        }
        self.driver.submit(operation);
    }

    /// What a supervisor does after a panic: the driver stays, ids begin anew.
    pub fn begin_anew(&mut self) {
        self.driver.close_all();
        self.ids = Slab::new();
        self.conns.clear();
        self.taken = 0;
    }

    /// Closes a connection and waits for its end.
    pub fn close(&mut self, conn: ConnId) {
        self.submit(Operation::Close { conn });
        self.until("Closed", |core| core[conn].is_closed);
    }

    /// The next client in the order of acceptance, waiting for it if need be.
    pub fn accepted(&mut self) -> ConnId {
        let known = self.taken;
        self.until("a client is accepted", |core| {
            core.accepted_so_far() > known
        });
        self.taken += 1;
        let mut accepted = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.accepted.is_some());
        accepted.nth(known).unwrap().0
    }

    /// How many clients have been accepted.
    pub fn accepted_so_far(&self) -> usize {
        self.conns
            .iter()
            .filter(|(_, conn)| conn.accepted.is_some())
            .count()
    }

    /// Makes passes until something holds.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(
                begin.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}"
            );
            self.pass(Some(Duration::from_millis(100)));
        }
    }

    /// Makes passes for some time.
    pub fn run(&mut self, time: Duration) {
        let begin = Instant::now();
        while let Some(left) = time
            .checked_sub(begin.elapsed())
            .filter(|left| !left.is_zero())
        {
            self.pass(Some(left));
        }
    }

    /// Makes one pass, and echoes what it brought.
    pub fn pass(&mut self, timeout: Option<Duration>) -> Woken {
        let mut accepted = Vec::new();
        let conns = &mut self.conns;
        let ids = &mut self.ids;
        let is_echo = self.is_echo;
        let panics_at_bytes = &mut self.panics_at_bytes;
        let woken = self.driver.wait(timeout, &mut |event| match event {
            Event::Accepted {
                listener,
                socket,
                peer,
            } => accepted.push((listener, socket, peer)),
            Event::Received { .. } if std::mem::take(panics_at_bytes) => panic!("as asked for"),
            event => take(conns, ids, is_echo, event),
        });
        let woken = woken.unwrap();
        self.rings += u32::from(woken.doorbell);
        for (listener, socket, peer) in accepted {
            self.answer(listener, socket, peer);
        }
        if self.is_echo {
            self.send_output();
        }
        woken
    }

    fn answer(&mut self, listener: ListenerId, socket: Socket, peer: Peer) {
        if self.is_rejecting {
            self.rejected += 1;
            return self.driver.submit(Operation::Reject { socket });
        }
        let conn = self.ids.insert(());
        let accepted = Some((listener, peer));
        self.conns.push((
            conn,
            Conn {
                accepted,
                is_connected: true,
                ..Conn::default()
            },
        ));
        self.driver.submit(Operation::Adopt { conn, socket });
    }

    fn send_output(&mut self) {
        for (id, conn) in &mut self.conns {
            if !conn.is_sending && !conn.is_closing && !conn.output.is_empty() {
                conn.is_sending = true;
                let buffer = std::mem::take(&mut conn.output);
                self.driver.submit(Operation::Send { conn: *id, buffer });
            }
        }
    }

    fn conn_mut(&mut self, conn: ConnId) -> &mut Conn {
        find(&mut self.conns, conn)
    }
}

impl Index<ConnId> for Core {
    type Output = Conn;

    fn index(&self, conn: ConnId) -> &Conn {
        &self
            .conns
            .iter()
            .rev()
            .find(|(id, _)| *id == conn)
            .expect("a known connection")
            .1
    }
}

fn find(conns: &mut [(ConnId, Conn)], conn: ConnId) -> &mut Conn {
    let found = conns.iter_mut().rev().find(|(id, _)| *id == conn);
    &mut found
        .expect("an event for a connection that was given out")
        .1
}

/// Takes in an event of a connection.
fn take(conns: &mut [(ConnId, Conn)], ids: &mut Slab<ConnId, ()>, is_echo: bool, event: Event<'_>) {
    let id = match &event {
        Event::Connected { conn }
        | Event::Received { conn, .. }
        | Event::Sent { conn, .. }
        | Event::Eof { conn }
        | Event::Failed { conn, .. }
        | Event::Closed { conn } => *conn,
        other => panic!("not an event of a connection: {other:?}"),
    };
    let conn = find(conns, id);
    assert!(!conn.is_closed, "after Closed: {event:?}");
    match event {
        Event::Sent { buffer, sent, .. } => {
            assert!(conn.is_sending, "nothing was being sent on {id:?}");
            let may_be_short = conn.failed.is_some() || conn.is_closing;
            assert!(
                sent == buffer.len() || may_be_short,
                "{sent} of {}",
                buffer.len()
            );
            assert!(sent <= buffer.len());
            conn.is_sending = false;
            conn.sent.push((buffer.len(), sent));
        }
        Event::Closed { .. } => {
            assert!(conn.is_closing, "nobody asked to close {id:?}");
            assert!(!conn.is_sending, "a buffer is missing at Closed");
            conn.is_closed = true;
            ids.remove(id).expect("a live id");
        }
        event => {
            assert!(!conn.is_closing, "after Close: {event:?}");
            take_other(conn, is_echo, event);
        }
    }
}

fn take_other(conn: &mut Conn, is_echo: bool, event: Event<'_>) {
    match event {
        Event::Connected { .. } => {
            assert!(!conn.is_connected && conn.failed.is_none());
            conn.is_connected = true;
        }
        Event::Received { bytes, .. } => {
            assert!(
                conn.is_connected && !conn.has_eof,
                "bytes before the begin or after the end"
            );
            assert!(!bytes.is_empty());
            conn.received.extend_from_slice(bytes);
            if is_echo {
                conn.output.extend_from_slice(bytes);
            }
        }
        Event::Eof { .. } => {
            assert!(!conn.has_eof && conn.failed.is_none());
            conn.has_eof = true;
        }
        Event::Failed { failure, .. } => {
            assert!(conn.failed.is_none());
            conn.failed = Some(failure);
        }
        other => panic!("not expected here: {other:?}"),
    }
}

//! The epoll driver: readiness, on every Linux.
//!
//! Knows nothing of sessions. Invariant: the kernel never holds memory of ours, so a connection
//! ends as soon as that is asked for.

mod accept;
mod connection;
mod poller;
mod ready;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use manifold_core::event::{Address, Event, Operation, Socket};
use manifold_core::ids::{ConnId, ListenerId};
use manifold_core::time::Instant;
use socket2::SockRef;

use self::accept::Listening;
use self::connection::Connection;
use self::poller::Poller;
use crate::clock;
use crate::config::{Config, Counters, DriverError, Patience, Woken};
use crate::doorbell::Doorbell;
use crate::listener::Listener;
use crate::sending::Sending;
use crate::sink::Sink;
use crate::socket::{self, Outbound};
use crate::table::Table;
use crate::token::{Kind, Place, decode_token, encode_token};
use crate::waiting::Waiting;

/// What one receive may bring, in bytes.
const SCRATCH_BYTES: usize = 64 << 10;
/// Connections that a pass has to do with, usually; the lists grow for more and stay so.
const LIST_LEN: usize = 1024;
/// Interest of every connection, each change of it reported once.
const READ_INTEREST: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
/// Interest of a connection that is being connected or whose send is blocked.
const WRITE_INTEREST: i32 = READ_INTEREST | libc::EPOLLOUT;

/// See the documentation of the crate.
pub(crate) struct Epoll {
    poller: Poller,
    table: Table<Connection>,
    waiting: Waiting,
    listeners: Vec<Listening>,
    /// When accepting is tried again after it failed.
    accept_retry: Option<Instant>,
    /// Events that came of operations, to be delivered by the next pass.
    due: Vec<Event<'static>>,
    /// Connections with a buffer that the next pass sends.
    unsent: Vec<Place>,
    /// Connections that this pass, or the next, has to serve.
    ready: Vec<Place>,
    /// The list that is being served; empty between passes.
    serving: Vec<Place>,
    scratch: Vec<u8>,
    doorbell: Doorbell,
    has_rung: bool,
    config: Config,
    /// How the next wait waits.
    pub(crate) patience: Patience,
    pub(crate) counters: Counters,
}

impl Epoll {
    /// A driver that watches nothing but its doorbell.
    pub(crate) fn open(config: &Config) -> Result<Self, DriverError> {
        let at = DriverError::from_kernel;
        let poller = Poller::open().map_err(|e| at("opening epoll", e))?;
        let doorbell = Doorbell::new().map_err(|e| at("making a doorbell", e))?;
        let nowhere = Place {
            index: u32::MAX,
            generation: 0,
        };
        poller
            .add(
                doorbell.raw(),
                libc::EPOLLIN,
                encode_token(Kind::Bell, nowhere),
            )
            .map_err(|e| at("watching the doorbell", e))?;
        Ok(Self {
            poller,
            table: Table::new(),
            waiting: Waiting::new(),
            listeners: Vec::new(),
            accept_retry: None,
            due: Vec::with_capacity(LIST_LEN),
            unsent: Vec::with_capacity(LIST_LEN),
            ready: Vec::with_capacity(LIST_LEN),
            serving: Vec::with_capacity(LIST_LEN),
            scratch: vec![0; SCRATCH_BYTES],
            doorbell,
            has_rung: false,
            config: config.clone(),
            patience: Patience::Sleep,
            counters: Counters::default(),
        })
    }

    /// Begins to accept on a socket.
    pub(crate) fn listen(&mut self, listener: ListenerId, socket: Listener) -> io::Result<()> {
        socket::prepare_listener(&socket, true)?;
        self.listeners.push(Listening::new(listener, socket));
        self.watch_listeners();
        Ok(())
    }

    /// Takes an operation in. Nothing is delivered before the next `wait`.
    pub(crate) fn submit(&mut self, operation: Operation) {
        match operation {
            Operation::Adopt { conn, socket } => self.adopt(conn, socket),
            Operation::Reject { socket } => self.reject(socket),
            Operation::Connect { conn, address } => self.connect(conn, &address),
            Operation::Send { conn, buffer } => self.send(conn, buffer),
            Operation::Pause { conn } => self.pause(conn),
            Operation::Resume { conn } => self.resume(conn),
            Operation::Close { conn } => self.close(conn),
            Operation::AcceptOff => self.stop_accepting(),
            other => panic!("not an operation for a driver: {other:?}"),
        }
    }

    /// One pass: sends, waits, receives, delivers. See [`crate::Driver::wait`].
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        handle: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<Woken> {
        debug_assert!(
            self.waiting.is_empty(),
            "the core answers for a socket in the same pass"
        );
        self.counters.passes += 1;
        let mut sink = Sink::new(handle);
        self.deliver_due(&mut sink);
        self.flush(&mut sink);
        let has_work = sink.events() > 0 || !self.ready.is_empty() || self.has_rung;
        let timeout = if has_work {
            Some(Duration::ZERO)
        } else {
            self.accept_timeout(timeout)
        };
        self.look(timeout)?;
        self.mark_ready();
        self.serve_all(&mut sink);
        self.accept_all(&mut sink);
        self.retry_accept_if_due();
        Ok(Woken {
            doorbell: std::mem::take(&mut self.has_rung),
            events: sink.events(),
        })
    }

    /// Ends every connection, without an event for any of them.
    pub(crate) fn close_all(&mut self) {
        for index in 0..self.table.width() {
            if let Some(place) = self.table.place_of(index) {
                self.remove(place);
            }
        }
        self.due.clear();
        self.unsent.clear();
        self.ready.clear();
        self.serving.clear();
        self.waiting.clear();
        self.retry_accept();
    }

    /// What wakes this driver up.
    pub(crate) fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    fn adopt(&mut self, conn: ConnId, socket: Socket) {
        let socket = self.waiting.remove(socket);
        self.establish(conn, socket);
    }

    fn reject(&mut self, socket: Socket) {
        drop(self.waiting.remove(socket));
        self.retry_accept();
    }

    fn connect(&mut self, conn: ConnId, address: &Address) {
        self.counters.connects += 1;
        let error = match socket::open_outbound(address, &self.config) {
            Ok(Outbound {
                socket,
                target: None,
            }) => {
                self.due.push(Event::Connected { conn });
                return self.establish(conn, socket);
            }
            Ok(Outbound {
                socket,
                target: Some(target),
            }) => {
                let begun = socket::set_nonblocking(&socket, true)
                    .and_then(|()| SockRef::from(&socket).connect(&target));
                match begun.map_err(|error| (socket::errno(&error), error)) {
                    Ok(()) | Err((libc::EINPROGRESS | libc::EINTR, _)) => {
                        return self.await_connect(conn, socket);
                    }
                    Err((_, error)) => error,
                }
            }
            Err(error) => error,
        };
        self.table.insert(conn, Connection::default());
        self.fail_later(conn, &error);
    }

    /// Takes on a socket that is connected.
    fn establish(&mut self, conn: ConnId, socket: OwnedFd) {
        let place = self.table.insert(conn, Connection::over(socket));
        self.watch(conn, place, READ_INTEREST);
    }

    /// Takes on a socket that reports when it is connected.
    fn await_connect(&mut self, conn: ConnId, socket: OwnedFd) {
        let connection = Connection {
            is_connecting: true,
            has_write_interest: true,
            ..Connection::over(socket)
        };
        let place = self.table.insert(conn, connection);
        self.watch(conn, place, WRITE_INTEREST);
    }

    /// What a socket is ready for already is reported as well.
    fn watch(&mut self, conn: ConnId, place: Place, interest: i32) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        let token = encode_token(Kind::Receive, place);
        if let Err(error) = self.poller.add(connection.raw(), interest, token) {
            self.fail_later(conn, &error);
        }
    }

    /// Lets the next pass say that a connection is broken.
    fn fail_later(&mut self, conn: ConnId, error: &io::Error) {
        if let Some((_, connection)) = self.table.find(conn) {
            connection.has_failed = true;
            connection.has_ended = true;
            let failure = socket::failure(socket::errno(error));
            self.due.push(Event::Failed { conn, failure });
        }
    }

    fn send(&mut self, conn: ConnId, buffer: Vec<u8>) {
        let (place, connection) = self
            .table
            .find(conn)
            .expect("the core sends to what is open");
        assert!(!buffer.is_empty(), "a send has something to send");
        assert!(connection.sending.is_none(), "one send at a time: {conn:?}");
        assert!(
            !connection.is_connecting,
            "no send before Connected: {conn:?}"
        );
        connection.sending = Some(Sending::new(buffer));
        self.unsent.push(place);
    }

    fn pause(&mut self, conn: ConnId) {
        let (_, connection) = self.table.find(conn).expect("the core pauses what is open");
        connection.is_paused = true;
    }

    fn resume(&mut self, conn: ConnId) {
        let (place, connection) = self
            .table
            .find(conn)
            .expect("the core resumes what is open");
        connection.is_paused = false;
        if connection.wants_receive() {
            self.queue(place);
        }
    }

    fn close(&mut self, conn: ConnId) {
        let (place, _) = self
            .table
            .find(conn)
            .expect("the core closes what is open, once");
        if let Some(Sending { buffer, sent }) = self.remove(place) {
            self.due.push(Event::Sent { conn, buffer, sent });
        }
        self.due.push(Event::Closed { conn });
        self.retry_accept();
    }

    /// Closes a socket, which ends the watching, too. Hands out what was being sent.
    fn remove(&mut self, place: Place) -> Option<Sending> {
        let (_, connection) = self.table.remove(place)?;
        connection.sending
    }

    /// Looks what is ready, waiting for it if there is time.
    fn look(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let Patience::Look(time) = self.patience else {
            return self.poller.wait(timeout);
        };
        let time = timeout.map_or(time, |timeout| timeout.min(time));
        let until = clock::now() + time;
        loop {
            self.poller.wait(Some(Duration::ZERO))?;
            if self.poller.found() > 0 {
                return Ok(());
            }
            if clock::now() >= until {
                return self.poller.wait(timeout.map(|timeout| timeout - time));
            }
        }
    }

    /// Notes what is ready, and queues whom it concerns.
    fn mark_ready(&mut self) {
        for n in 0..self.poller.found() {
            let (token, events) = self.poller.ready(n);
            match decode_token(token) {
                Some((Kind::Bell, _)) => {
                    self.doorbell.answer();
                    self.has_rung = true;
                }
                Some((Kind::Accept, place)) => self.mark_listener(place),
                Some((_, place)) => self.mark_connection(place, events),
                None => self.counters.stale += 1,
            }
        }
    }

    fn mark_connection(&mut self, place: Place, events: i32) {
        let Some((_, connection)) = self.table.at(place) else {
            self.counters.stale += 1;
            return;
        };
        let hung_up = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        connection.is_readable |= events & (libc::EPOLLIN | hung_up) != 0;
        connection.is_hung_up |= events & hung_up != 0;
        connection.is_writable |= events & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0;
        self.queue(place);
    }

    fn queue(&mut self, place: Place) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        if !connection.is_queued {
            connection.is_queued = true;
            self.ready.push(place);
        }
    }

    /// Delivers what operations led to by themselves.
    fn deliver_due(&mut self, sink: &mut Sink<'_>) {
        let mut due = std::mem::take(&mut self.due);
        for event in due.drain(..) {
            match event {
                // The core has asked for the end in the meantime.
                Event::Connected { conn } | Event::Failed { conn, .. }
                    if self.table.find(conn).is_none() => {}
                event => sink.deliver(event),
            }
        }
        self.due = due;
    }
}

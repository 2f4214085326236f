//! The io_uring driver: completions, Linux 6.1 or newer.
//!
//! Knows nothing of sessions. Invariant: a socket is closed, and its index free for another use,
//! only when nothing of it is in flight in the kernel.

mod accept;
mod buffers;
mod completion;
mod connection;
mod entry;
mod knock;
mod operation;
mod ring;
#[cfg(test)]
mod tests;

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::CancelBuilder;
use manifold_core::event::{Event, Operation};
use manifold_core::ids::{ConnId, ListenerId};
use manifold_core::time::Instant;

use self::accept::Listening;
use self::buffers::Buffers;
use self::connection::Connection;
use self::ring::Ring;
use crate::clock;
use crate::config::{Config, Counters, DriverError, Patience, Woken};
use crate::doorbell::Doorbell;
use crate::listener::Listener;
use crate::sink::Sink;
use crate::socket;
use crate::table::Table;
use crate::token::{Kind, Place, decode_token, encode_token};
use crate::waiting::Waiting;

/// Connections that a pass has to do with, usually; the lists grow for more and stay so.
const LIST_LEN: usize = 1024;
/// From Linux 6.13 on, a call hands over what has arrived for so many sockets, if it does not wait
/// for more.
const SHARE_OF_CALL: usize = 20;
/// Calls after which a pass takes no more: what came should be worked on before long.
const CALLS_MAX: usize = 25;
/// The most that one send operation is given, in bytes.
const SEND_BYTES_MAX: usize = 256 << 10;
/// After this time without an answer the kernel is not what this driver believes it to be.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long dropping a driver waits before it rather loses memory.
const QUIESCE_TIME_MAX: Duration = Duration::from_secs(1);
/// What ring-wide operations carry for a place.
const NOWHERE: Place = Place {
    index: u32::MAX,
    generation: 0,
};

/// See the documentation of the crate.
pub(crate) struct Uring {
    ring: Ring,
    /// Dropped only if the kernel has nothing in flight that could write to it.
    buffers: ManuallyDrop<Buffers>,
    table: Table<Connection>,
    waiting: Waiting,
    listeners: Vec<Listening>,
    is_accepting: bool,
    /// When accepting is tried again after it failed.
    accept_retry: Option<Instant>,
    /// Events that came of operations, to be delivered by the next pass.
    due: Vec<Event<'static>>,
    /// Connections that found no receive buffer.
    starved: Vec<Place>,
    doorbell: Doorbell,
    /// Doorbells of other drivers that this one has rung from ring to ring.
    knocked: Vec<Doorbell>,
    /// Where the kernel writes the doorbell's count. Dropped like the buffers.
    bell: ManuallyDrop<Box<u64>>,
    is_bell_armed: bool,
    has_rung: bool,
    config: Config,
    /// How the next wait waits.
    pub(crate) patience: Patience,
    pub(crate) counters: Counters,
}

impl Uring {
    /// A driver for the calling thread.
    pub(crate) fn open(config: &Config) -> Result<Self, DriverError> {
        let at = DriverError::from_kernel;
        let ring = Ring::open(config.completions).map_err(|e| at("setting up a ring", e))?;
        let buffers = Buffers::register(ring.submitter(), config.buffers, config.buffer_bytes)
            .map_err(|e| at("registering receive buffers", e))?;
        let doorbell = Doorbell::new().map_err(|e| at("making a doorbell", e))?;
        let doorbell = doorbell.with_line(knock::line_of(&ring));
        let mut uring = Self {
            ring,
            buffers: ManuallyDrop::new(buffers),
            table: Table::new(),
            waiting: Waiting::new(),
            listeners: Vec::new(),
            is_accepting: true,
            accept_retry: None,
            due: Vec::with_capacity(LIST_LEN),
            starved: Vec::with_capacity(LIST_LEN),
            doorbell,
            knocked: Vec::new(),
            bell: ManuallyDrop::new(Box::new(0)),
            is_bell_armed: false,
            has_rung: false,
            config: config.clone(),
            patience: Patience::Sleep,
            counters: Counters::default(),
        };
        uring.arm_bell();
        Ok(uring)
    }

    /// Begins to accept on a socket.
    pub(crate) fn listen(&mut self, listener: ListenerId, socket: Listener) -> io::Result<()> {
        socket::prepare_listener(&socket, false)?;
        self.listeners.push(Listening::new(listener, socket));
        self.arm_listeners();
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

    /// One pass: submits, waits, delivers. See [`crate::Driver::wait`].
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
        let timeout = if self.due.is_empty() && !self.has_rung {
            self.accept_timeout(timeout)
        } else {
            Some(Duration::ZERO)
        };
        self.enter(timeout)?;
        self.deliver_due(&mut sink);
        for _ in 0..CALLS_MAX {
            if !self.drain(&mut sink) || !self.ring.has_work() {
                break;
            }
            self.ring.enter(0, None)?;
        }
        Ok(Woken {
            doorbell: std::mem::take(&mut self.has_rung),
            events: sink.events(),
        })
    }

    /// Ends every connection, without an event for any of them.
    pub(crate) fn close_all(&mut self) {
        self.due.clear();
        for index in 0..self.table.width() {
            if let Some(place) = self.table.place_of(index) {
                self.close_place(place);
            }
        }
        let deadline = clock::now() + CLOSE_TIME_MAX;
        while self.table.len() > 0 {
            assert!(
                clock::now() < deadline,
                "{} connections do not end",
                self.table.len()
            );
            let entered = self.ring.enter(1, Some(Duration::from_millis(100)));
            entered.expect("a ring that was set up can be entered");
            self.drain(&mut Sink::new(&mut |_| ()));
        }
        self.due.clear();
        self.starved.clear();
        self.waiting.clear();
        self.retry_accept();
    }

    /// What wakes this driver up.
    pub(crate) fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    /// Submits what was pushed and waits for a completion.
    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return self.ring.enter(0, None);
        }
        match self.patience {
            Patience::Sleep => self.ring.enter(1, timeout),
            Patience::Look(time) => self.look(time, timeout),
            Patience::Gather { events, time } => self.gather(events, time, timeout),
        }
    }

    /// Looks for a completion for a while before it sleeps.
    fn look(&mut self, time: Duration, timeout: Option<Duration>) -> io::Result<()> {
        self.ring.enter(0, None)?;
        let time = timeout.map_or(time, |timeout| timeout.min(time));
        let until = clock::now() + time;
        while !self.ring.has_work() && clock::now() < until {
            std::hint::spin_loop();
        }
        let rest = timeout.map(|timeout| timeout - time);
        let is_over = self.ring.has_work() || rest == Some(Duration::ZERO);
        self.ring.enter(u32::from(!is_over), rest)
    }

    /// Waits for several events, but not for long.
    fn gather(&mut self, events: u32, time: Duration, timeout: Option<Duration>) -> io::Result<()> {
        // What is submitted is sent at once, mostly, and completes.
        let want = self.ring.pushed() + events;
        let time = timeout.map_or(time, |timeout| timeout.min(time));
        self.ring.enter(want, Some(time))?;
        match self.ring.has_work() {
            true => Ok(()),
            false => self.ring.enter(1, timeout.map(|timeout| timeout - time)),
        }
    }

    /// Delivers what operations led to by themselves.
    fn deliver_due(&mut self, sink: &mut Sink<'_>) {
        let mut due = std::mem::take(&mut self.due);
        for event in due.drain(..) {
            match event {
                // The core may have asked for the end in the meantime.
                Event::Connected { conn } | Event::Failed { conn, .. } if self.is_ending(conn) => {}
                event => sink.deliver(event),
            }
        }
        self.due = due;
    }

    fn is_ending(&mut self, conn: ConnId) -> bool {
        self.table
            .find(conn)
            .is_none_or(|(_, connection)| connection.is_closing)
    }

    /// Takes in all completions, and gives the kernel its buffers back, all at once. Answers
    /// whether the kernel may hold back more sockets that have something: not if one had so much
    /// that the others should have their turn first.
    fn drain(&mut self, sink: &mut Sink<'_>) -> bool {
        if self.ring.is_overflown() {
            self.counters.overflows += 1;
        }
        let (mut last, mut receives, mut has_burst) = (None, 0, false);
        while let Some(completion) = self.ring.pop() {
            if matches!(decode_token(completion.token), Some((Kind::Receive, _))) {
                has_burst |= last.replace(completion.token) == Some(completion.token);
                receives += 1;
            }
            self.handle_completion(completion, sink);
        }
        self.ring.release();
        self.buffers.publish();
        self.feed_starved();
        self.retry_accept_if_due();
        receives >= SHARE_OF_CALL && !has_burst
    }

    /// Arms the connections that found no buffer. Every buffer that a completion has named is back
    /// by now, and there was at least one: so this waits for no timer and cannot spin.
    fn feed_starved(&mut self) {
        while let Some(place) = self.starved.pop() {
            if let Some((_, connection)) = self.table.at(place) {
                connection.is_starved = false;
                self.arm(place);
            }
        }
    }

    /// Ends everything in the kernel. Answers whether it did end.
    fn quiesce(&mut self) -> bool {
        self.close_all();
        self.is_accepting = false;
        let deadline = clock::now() + QUIESCE_TIME_MAX;
        while clock::now() < deadline {
            if !self.is_bell_armed && self.listeners.iter().all(|listening| !listening.is_armed) {
                return true;
            }
            // In every round, because a ring of the doorbell has its read armed anew.
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
            let cancel = cancel.user_data(encode_token(Kind::Cancel, NOWHERE));
            // SAFETY: a cancel points to no memory.
            unsafe { self.ring.push(&cancel) };
            if self.ring.enter(1, Some(Duration::from_millis(10))).is_err() {
                return false;
            }
            self.drain(&mut Sink::new(&mut |_| ()));
        }
        false
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if !self.quiesce()
            || self
                .ring
                .submitter()
                .unregister_buf_ring(buffers::GROUP)
                .is_err()
        {
            // The kernel may still write: better to lose the memory than to share it.
            return;
        }
        // SAFETY: dropped once, here, and nobody uses them after; nothing is in flight that could
        // write to them and the ring knows them no longer.
        unsafe {
            ManuallyDrop::drop(&mut self.buffers);
            ManuallyDrop::drop(&mut self.bell);
        }
    }
}

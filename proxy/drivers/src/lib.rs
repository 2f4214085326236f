//! What does a shard's I/O: io_uring and epoll. The only system calls of the data plane, and the
//! only unsafe code.
//!
//! A [`Driver`] takes [`Operation`]s in and delivers [`Event`]s, as `manifold_core::event` says to
//! the letter. It knows sockets and nothing of sessions. Which of the two drivers a process uses is
//! chosen once, by [`choose`]; both behave alike, and one conformance suite holds them to it.
//!
//! # A pass
//!
//! A shard's loop is: [`Driver::wait`] delivers everything that has happened, the core takes it in,
//! and every operation that it answers with goes to [`Driver::submit`]. Nothing is sent or received
//! between two calls of `wait`, so what a pass leads to is submitted together. This one echoes:
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use manifold_core::event::{Event, Operation};
//! use manifold_core::ids::{ConnId, ListenerId};
//! use manifold_core::slab::Slab;
//! use manifold_drivers::{Config, Driver, ListenAddress, Wanted, bind, choose};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (kind, _reason) = choose(Wanted::Auto)?;
//! let mut driver = Driver::open(kind, &Config::default())?;
//! let listener = bind(&ListenAddress::Tcp("127.0.0.1:0".parse()?), false, 128)?;
//! let ListenAddress::Tcp(address) = listener.address()? else { unreachable!() };
//! driver.listen(ListenerId(0), listener)?;
//!
//! let client = std::thread::spawn(move || {
//!     let mut client = TcpStream::connect(address).unwrap();
//!     client.write_all(b"hello").unwrap();
//!     let mut back = [0; 5];
//!     client.read_exact(&mut back).unwrap();
//!     assert_eq!(&back, b"hello");
//! });
//!
//! let mut ids = Slab::<ConnId, ()>::new();
//! let mut operations = Vec::new();
//! let mut open = true;
//! while open {
//!     let mut now = None;
//!     driver.wait(None, &mut |event| {
//!         // One look at the clock for all events of a pass, after the waiting.
//!         let _now = *now.get_or_insert_with(Driver::now);
//!         match event {
//!             Event::Accepted { socket, .. } => {
//!                 operations.push(Operation::Adopt { conn: ids.insert(()), socket });
//!             }
//!             // A real core collects what is to be sent, and has one `Send` under way at a time.
//!             Event::Received { conn, bytes } => {
//!                 operations.push(Operation::Send { conn, buffer: bytes.to_vec() });
//!             }
//!             Event::Eof { conn } => operations.push(Operation::Close { conn }),
//!             Event::Closed { conn } => {
//!                 ids.remove(conn);
//!                 open = false;
//!             }
//!             _ => {}
//!         }
//!     })?;
//!     operations.drain(..).for_each(|operation| driver.submit(operation));
//! }
//! # client.join().unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # What the core can rely on beyond the seam
//!
//! - After `Close` only `Sent` and `Closed` come. A `Send` that is submitted in the same pass as
//!   the `Close` after it has sent nothing: whoever wants bytes to arrive waits for `Sent`.
//! - After `Pause` up to one burst of bytes (132 KiB with the default buffers) may still come, with
//!   io_uring only. While paused, the end or the breaking of a connection is not noticed unless
//!   something is being sent; `Resume` brings it.
//! - Bytes that were received before a `Failed` may still be delivered after it, if it was a send
//!   that failed.
//! - Operations for ids that are not open, and a second `Close`, are faults of the core: `submit`
//!   panics, with the driver unharmed.
//! - `Accepted` has to be answered before the next `wait`.
//! - When accepting fails for want of descriptors or memory, it rests until this driver closes a
//!   socket, and at most 100 ms. No client is lost by that.
//! - If the taker of events panics, the driver is still sound: [`Driver::close_all`] brings it to
//!   where a fresh core can begin.
//!
//! # The life of a socket with io_uring
//!
//! 1. A multishot accept brings it, or a connect is queued. It stays *blocking*, so that no kernel
//!    has a reason to answer EAGAIN rather than wait. A unix socket is connected on the spot, in
//!    both drivers.
//! 2. One multishot receive is armed for as long as it lives; each completion names a buffer of the
//!    ring that all sockets share. `Pause` cancels it, and waits for both completions in whichever
//!    order they come; if the kernel claims to know nothing of a receive that has not ended, it is
//!    asked again by descriptor. A receive that finds no buffer ends, and is armed again at the end
//!    of the pass, when the buffers are back.
//! 3. One send at most is in the kernel, of at most 256 KiB; the rest of the buffer follows when it
//!    has completed. Two at a time could overtake each other.
//! 4. `Close` shuts the socket down with the system call, so that receive and send end; a connect
//!    is cancelled instead. When `in_flight` is zero, and not before, the socket is closed, the
//!    index is free, and `Closed` is delivered. If the receive took out bytes after the shutdown,
//!    the close resets the connection, as it does by itself with bytes that nobody took.
//!
//! # What was measured with io_uring and left out
//!
//! `pgbench -S -M prepared` on two virtual cores, alternating runs:
//!
//! - `send` called directly instead of queued: 15 to 20 % more CPU for each query at 10 clients.
//!   Every return from a system call is a point where the peer just woken takes the core; the ring
//!   sends all of a pass before that.
//! - Sends that complete only when they fail (MSG_DONTWAIT with SKIP_SUCCESS), which saves the call
//!   that returns at once because a send has completed: no gain at 10 clients or for transactions,
//!   10 % less throughput at 500, where that call brings what has arrived meanwhile.
//! - Waiting for two to six events, for at most 50 to 200 us: 15 to 40 % less throughput at 10
//!   clients.
//! - SO_RCVLOWAT on a pipelined upstream, so that all replies of a send wake the shard once: no
//!   gain at 10 clients, 5 to 10 % less throughput at 50.
//! - Giving the core away (`sched_yield`) while looking before sleeping: no gain at any number.
//!
//! # The life of a socket with epoll
//!
//! 1. `accept4` brings it, or a connect that does not wait; it is watched from then on for as long
//!    as it lives, edge-triggered.
//! 2. What is reported is remembered until a receive has emptied the socket; a pass receives at
//!    most 132 KiB from one socket, and the rest after everybody else's turn. `Pause` only ceases
//!    to receive.
//! 3. A send is tried at the begin of the next pass. Only when the kernel takes no more is the
//!    socket watched for more room, and only until the buffer is sent.
//! 4. `Close` closes it at once; the next pass delivers `Sent` and `Closed`.
//!
//! # Who owns which memory, until when
//!
//! - **What is sent**: [`Operation::Send`] moves the buffer into the connection's entry, where
//!   nobody touches it. With io_uring it leaves the entry only with the last completion of its
//!   sends; the entry leaves the table only at zero operations in flight. The table may move the
//!   vector, which does not move the bytes.
//! - **What is received**: a buffer of the ring is the kernel's from the store that publishes it to
//!   the completion that names it. From there it is ours until the next publication, which is the
//!   last act of a pass; the slice in `Received` borrows from the driver and ends before that.
//! - **The address of a connect and the count of the doorbell** are boxed, and stay until the
//!   completion.
//! - **A message that wakes another ring** points to no memory. Its descriptor is the doorbell's
//!   own copy of that ring's, and the driver that rings keeps the doorbell.
//! - **Late completions**: `user_data` carries kind, generation and index. The generation is the
//!   driver's own, so that a fresh core may begin with the ids of the last. A completion of another
//!   generation is counted; if it names a buffer, the buffer goes back.
//! - **The end**: dropping a driver cancels everything and waits; memory that the kernel might
//!   still write to is rather lost than freed.
//! - With epoll the kernel sees memory of ours only during a system call.

mod accept;
mod clock;
mod config;
mod doorbell;
mod epoll;
mod listener;
mod probe;
mod sending;
mod sink;
mod socket;
mod table;
mod token;
mod uring;
mod waiting;

use std::io;
use std::time::Duration;

use manifold_core::event::{Event, Operation};
use manifold_core::ids::ListenerId;
use manifold_core::time::Instant;

pub use config::{Config, Counters, DriverError, Kind, Patience, Woken};
pub use doorbell::Doorbell;
pub use listener::{ListenAddress, Listener, bind};
pub use probe::{Wanted, choose};

use epoll::Epoll;
use uring::Uring;

/// One shard's driver. It stays on the thread that opened it.
pub struct Driver {
    inner: Inner,
}

enum Inner {
    Epoll(Epoll),
    IoUring(Uring),
}

impl Driver {
    /// Opens a driver for the calling thread.
    pub fn open(kind: Kind, config: &Config) -> Result<Self, DriverError> {
        config.check()?;
        let inner = match kind {
            Kind::Epoll => Inner::Epoll(Epoll::open(config)?),
            Kind::IoUring => Inner::IoUring(Uring::open(config)?),
        };
        Ok(Self { inner })
    }

    /// Begins to accept on a socket that is bound and listens, until `AcceptOff` or the end of the
    /// driver.
    pub fn listen(&mut self, listener: ListenerId, socket: Listener) -> io::Result<()> {
        match &mut self.inner {
            Inner::Epoll(epoll) => epoll.listen(listener, socket),
            Inner::IoUring(uring) => uring.listen(listener, socket),
        }
    }

    /// Takes in one of `Adopt`, `Reject`, `Connect`, `Send`, `Pause`, `Resume`, `Close`
    /// and `AcceptOff`. Delivers nothing: what it leads to comes with the next `wait`.
    ///
    /// # Panics
    ///
    /// For any other operation, and for one that the core must not ask for in that state: on an id
    /// that is not open, a second send, a send before `Connected`, a second `Close`.
    pub fn submit(&mut self, operation: Operation) {
        match &mut self.inner {
            Inner::Epoll(epoll) => epoll.submit(operation),
            Inner::IoUring(uring) => uring.submit(operation),
        }
    }

    /// One pass: hands what was submitted to the kernel, waits until something has completed, a
    /// doorbell rings or the time is up (`None` for no end), and delivers all that has happened. It
    /// may also come back with nothing.
    ///
    /// An error means that the kernel refuses to work with this driver at all.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        handle: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<Woken> {
        match &mut self.inner {
            Inner::Epoll(epoll) => epoll.wait(timeout, handle),
            Inner::IoUring(uring) => uring.wait(timeout, handle),
        }
    }

    /// Ends every connection and forgets every id and every answer owed: for a fresh core in the
    /// place of one that has panicked. The listeners stay as they are. Returns when nothing is in
    /// flight any more; no event tells of it.
    pub fn close_all(&mut self) {
        match &mut self.inner {
            Inner::Epoll(epoll) => epoll.close_all(),
            Inner::IoUring(uring) => uring.close_all(),
        }
    }

    /// How the next waits wait; at first they sleep.
    pub fn set_patience(&mut self, patience: Patience) {
        match &mut self.inner {
            Inner::Epoll(epoll) => epoll.patience = patience,
            Inner::IoUring(uring) => uring.patience = patience,
        }
    }

    /// What wakes this driver up from another thread.
    pub fn doorbell(&self) -> Doorbell {
        match &self.inner {
            Inner::Epoll(epoll) => epoll.doorbell(),
            Inner::IoUring(uring) => uring.doorbell(),
        }
    }

    /// Wakes another driver up, or keeps it from falling asleep: at the latest with the next `wait`
    /// or the end of this driver, and from ring to ring where both have one.
    pub fn ring(&mut self, doorbell: &Doorbell) {
        match &mut self.inner {
            Inner::Epoll(_) => doorbell.ring(),
            Inner::IoUring(uring) => uring.ring(doorbell),
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> &Counters {
        match &self.inner {
            Inner::Epoll(epoll) => &epoll.counters,
            Inner::IoUring(uring) => &uring.counters,
        }
    }

    /// Which of the two it is.
    pub fn kind(&self) -> Kind {
        match &self.inner {
            Inner::Epoll(_) => Kind::Epoll,
            Inner::IoUring(_) => Kind::IoUring,
        }
    }

    /// Its name, as settings and logs use it.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The time, for the core. To be taken once in a pass, after its waiting.
    pub fn now() -> Instant {
        clock::now()
    }
}

//! What does a shard's I/O: io_uring and epoll.

mod accept;
mod clock;
mod config;
mod doorbell;
mod epoll;
mod listener;
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

pub use config::{Config, Counters, DriverError, Kind, Woken};
pub use doorbell::Doorbell;
pub use listener::{ListenAddress, Listener, bind};

use epoll::Epoll;
use uring::Uring;

/// One shard's driver.
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
        let inner = match kind {
            Kind::IoUring => Inner::IoUring(Uring::open(config)?),
            Kind::Epoll => Inner::Epoll(Epoll::open(config)?),
        };
        Ok(Self { inner })
    }

    /// Accepts on a socket.
    pub fn listen(&mut self, listener: ListenerId, socket: Listener) -> io::Result<()> {
        match &mut self.inner {
            Inner::IoUring(uring) => uring.listen(listener, socket),
            Inner::Epoll(epoll) => epoll.listen(listener, socket),
        }
    }

    /// Takes an operation in.
    pub fn submit(&mut self, operation: Operation) {
        match &mut self.inner {
            Inner::IoUring(uring) => uring.submit(operation),
            Inner::Epoll(epoll) => epoll.submit(operation),
        }
    }

    /// One pass.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        handle: &mut dyn FnMut(Event<'_>),
    ) -> io::Result<Woken> {
        match &mut self.inner {
            Inner::IoUring(uring) => uring.wait(timeout, handle),
            Inner::Epoll(epoll) => epoll.wait(timeout, handle),
        }
    }

    /// Ends all connections.
    pub fn close_all(&mut self) {
        match &mut self.inner {
            Inner::IoUring(uring) => uring.close_all(),
            Inner::Epoll(epoll) => epoll.close_all(),
        }
    }

    /// The bell.
    pub fn doorbell(&self) -> Doorbell {
        match &self.inner {
            Inner::IoUring(uring) => uring.doorbell(),
            Inner::Epoll(epoll) => epoll.doorbell(),
        }
    }

    /// What it has done.
    pub fn counters(&self) -> &Counters {
        match &self.inner {
            Inner::IoUring(uring) => &uring.counters,
            Inner::Epoll(epoll) => &epoll.counters,
        }
    }

    /// Now.
    pub fn now() -> Instant {
        clock::now()
    }
}

//! Accepting with epoll: a loop for each listener that is ready.
//!
//! Knows nothing of connections. Invariant: failing to accept never becomes a loop.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use manifold_core::event::Event;
use manifold_core::ids::ListenerId;

use super::{Epoll, poller};
use crate::accept;
use crate::clock;
use crate::listener::Listener;
use crate::sink::Sink;
use crate::token::{Kind, Place, encode_token};

/// Clients that one listener may bring in a pass. The rest is reported again.
const ACCEPTS_MAX: usize = 64;

/// A listener and whether it is watched.
pub(super) struct Listening {
    id: ListenerId,
    /// None once accepting has stopped.
    socket: Option<Listener>,
    is_watched: bool,
    /// Somebody waits to be accepted.
    is_ready: bool,
}

impl Listening {
    /// A listener that is not watched yet.
    pub(super) fn new(id: ListenerId, socket: Listener) -> Self {
        Self {
            id,
            socket: Some(socket),
            is_watched: false,
            is_ready: false,
        }
    }

    fn raw(&self) -> Option<RawFd> {
        self.socket
            .as_ref()
            .map(|socket| socket.as_fd().as_raw_fd())
    }
}

impl Epoll {
    /// Closes every listener, so that nobody waits there in vain.
    pub(super) fn stop_accepting(&mut self) {
        self.accept_retry = None;
        self.unwatch_listeners();
        for listening in &mut self.listeners {
            listening.socket = None;
            listening.is_ready = false;
        }
    }

    /// Watches every listener, if accepting does not rest.
    pub(super) fn watch_listeners(&mut self) {
        if self.accept_retry.is_some() {
            return;
        }
        for (index, listening) in self.listeners.iter_mut().enumerate() {
            let Some(fd) = listening.raw().filter(|_| !listening.is_watched) else {
                continue;
            };
            let token = encode_token(
                Kind::Accept,
                Place {
                    index: index as u32,
                    generation: 0,
                },
            );
            // Exclusive, so that one client wakes one of the shards that share a unix socket.
            let interest = libc::EPOLLIN | libc::EPOLLEXCLUSIVE;
            match self.poller.add(fd, interest, token) {
                Ok(()) => listening.is_watched = true,
                Err(_) => self.accept_retry = Some(clock::now() + accept::RETRY_TIME),
            }
        }
    }

    fn unwatch_listeners(&mut self) {
        for listening in &mut self.listeners {
            if std::mem::take(&mut listening.is_watched)
                && let Some(fd) = listening.raw()
            {
                let removed = self.poller.remove(fd);
                removed.expect("a watched descriptor can be watched no more");
            }
        }
    }

    /// The wait may not be longer than until accepting is tried again.
    pub(super) fn accept_timeout(&self, timeout: Option<Duration>) -> Option<Duration> {
        accept::shorten(timeout, self.accept_retry)
    }

    /// Tries again to accept, now that a descriptor has become free.
    pub(super) fn retry_accept(&mut self) {
        if self.accept_retry.take().is_some() {
            self.watch_listeners();
        }
    }

    /// Tries again to accept, if it is time.
    pub(super) fn retry_accept_if_due(&mut self) {
        if self.accept_retry.is_some_and(|at| at <= clock::now()) {
            self.retry_accept();
        }
    }

    /// Notes that somebody waits at a listener.
    pub(super) fn mark_listener(&mut self, place: Place) {
        self.listeners[place.index as usize].is_ready = true;
    }

    /// Accepts on every listener at which somebody waits.
    pub(super) fn accept_all(&mut self, sink: &mut Sink<'_>) {
        for index in 0..self.listeners.len() {
            if std::mem::take(&mut self.listeners[index].is_ready) {
                self.accept_some(index, sink);
            }
        }
    }

    fn accept_some(&mut self, index: usize, sink: &mut Sink<'_>) {
        let listener = self.listeners[index].id;
        let Some(fd) = self.listeners[index].raw() else {
            return;
        };
        for _ in 0..ACCEPTS_MAX {
            match poller::accept(fd) {
                Ok((socket, peer)) => {
                    self.counters.accepts += 1;
                    let Some(peer) = peer else { continue };
                    let socket = self.waiting.insert(socket);
                    sink.deliver(Event::Accepted {
                        listener,
                        socket,
                        peer,
                    });
                }
                Err(libc::EAGAIN) => return,
                Err(errno) if accept::is_lasting(errno) => return self.rest_from_accept(errno),
                Err(_) => {}
            }
        }
    }

    /// Listeners stay ready while somebody waits, so they may not be watched meanwhile.
    fn rest_from_accept(&mut self, errno: i32) {
        self.counters.accept_errors += 1;
        accept::log_error(errno);
        self.unwatch_listeners();
        self.accept_retry = Some(clock::now() + accept::RETRY_TIME);
    }
}

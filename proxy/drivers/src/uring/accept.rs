//! Accepting with io_uring: one multishot operation for each listener.
//!
//! Knows nothing of connections. Invariant: a listener has at most one accept in the kernel, and
//! failing to accept never becomes a loop.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode, squeue};
use manifold_core::event::Event;
use manifold_core::ids::ListenerId;

use super::Uring;
use super::ring::Completion;
use crate::accept;
use crate::clock;
use crate::listener::Listener;
use crate::sink::Sink;
use crate::socket;
use crate::token::{Kind, Place, encode_token};

/// A listener and what the kernel does for it.
pub(super) struct Listening {
    id: ListenerId,
    /// None once accepting has stopped and the kernel has let go of it.
    socket: Option<Listener>,
    /// A multishot accept is in the kernel.
    pub(super) is_armed: bool,
    /// A cancel is in the kernel.
    is_cancelling: bool,
    /// The cancel has been tried in the other way too.
    is_cancel_retried: bool,
}

impl Listening {
    /// A listener for which nothing is done yet.
    pub(super) fn new(id: ListenerId, socket: Listener) -> Self {
        Self {
            id,
            socket: Some(socket),
            is_armed: false,
            is_cancelling: false,
            is_cancel_retried: false,
        }
    }

    fn fd(&self) -> Option<Fd> {
        let socket = self.socket.as_ref()?;
        Some(Fd(socket.as_fd().as_raw_fd()))
    }
}

impl Uring {
    /// Closes every listener, so that nobody waits there in vain; an accept that is in the kernel
    /// has to end first.
    pub(super) fn stop_accepting(&mut self) {
        self.is_accepting = false;
        self.accept_retry = None;
        for index in 0..self.listeners.len() {
            self.cancel_accept(index);
            self.close_listener(index);
        }
    }

    /// Closes a listener that the kernel does nothing with any more, if accepting is off.
    fn close_listener(&mut self, index: usize) {
        let listening = &mut self.listeners[index];
        if !self.is_accepting && !listening.is_armed {
            listening.socket = None;
        }
    }

    /// Starts an accept on every listener that wants one.
    pub(super) fn arm_listeners(&mut self) {
        if !self.is_accepting || self.accept_retry.is_some() {
            return;
        }
        for index in 0..self.listeners.len() {
            let listening = &mut self.listeners[index];
            let Some(fd) = listening.fd().filter(|_| !listening.is_armed) else {
                continue;
            };
            listening.is_armed = true;
            let accept = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC);
            self.push_accept(Kind::Accept, index, accept.build());
        }
    }

    /// The wait may not be longer than until accepting is tried again.
    pub(super) fn accept_timeout(&self, timeout: Option<Duration>) -> Option<Duration> {
        accept::shorten(timeout, self.accept_retry)
    }

    /// Tries again to accept, now that a descriptor has become free.
    pub(super) fn retry_accept(&mut self) {
        if self.accept_retry.take().is_some() {
            self.arm_listeners();
        }
    }

    /// Tries again to accept, if it is time.
    pub(super) fn retry_accept_if_due(&mut self) {
        if self.accept_retry.is_some_and(|at| at <= clock::now()) {
            self.retry_accept();
        }
    }

    /// Takes in a client, or the end of the accept.
    pub(super) fn handle_accept(
        &mut self,
        place: Place,
        completion: Completion,
        sink: &mut Sink<'_>,
    ) {
        let index = place.index as usize;
        let listening = &mut self.listeners[index];
        let listener = listening.id;
        if !cqueue::more(completion.flags) {
            listening.is_armed = false;
        }
        match completion.result {
            ..0 => self.handle_accept_error(-completion.result),
            fd => {
                // SAFETY: the kernel made this descriptor for us, and names it only once.
                let socket = unsafe { OwnedFd::from_raw_fd(fd) };
                self.arm_listeners();
                self.cancel_accept(index);
                self.accept(listener, socket, sink);
            }
        }
        self.close_listener(index);
    }

    /// Takes in the answer to a cancel.
    pub(super) fn handle_accept_cancel(&mut self, place: Place, completion: Completion) {
        let index = place.index as usize;
        let listening = &mut self.listeners[index];
        listening.is_cancelling = false;
        let is_missed = matches!(-completion.result, libc::ENOENT | libc::EALREADY);
        if is_missed
            && !listening.is_cancel_retried
            && listening.is_armed
            && !self.is_accepting
            && let Some(fd) = listening.fd()
        {
            listening.is_cancel_retried = true;
            listening.is_cancelling = true;
            let target = CancelBuilder::fd(fd).all();
            let cancel = opcode::AsyncCancel2::new(target).build();
            self.push_accept(Kind::AcceptCancel, index, cancel);
        }
    }

    /// Announces a client, unless it has left already.
    fn accept(&mut self, listener: ListenerId, socket: OwnedFd, sink: &mut Sink<'_>) {
        self.counters.accepts += 1;
        if let Some(peer) = socket::peer_of(&socket) {
            let socket = self.waiting.insert(socket);
            sink.deliver(Event::Accepted {
                listener,
                socket,
                peer,
            });
        }
    }

    /// Goes on at once if only that client is lost, and later if the fault is with us.
    fn handle_accept_error(&mut self, errno: i32) {
        if self.is_accepting && errno != libc::ECANCELED && accept::is_lasting(errno) {
            self.counters.accept_errors += 1;
            accept::log_error(errno);
            self.accept_retry = Some(clock::now() + accept::RETRY_TIME);
        }
        self.arm_listeners();
    }

    /// Ends the accept of a listener, if accepting is off.
    fn cancel_accept(&mut self, index: usize) {
        let listening = &mut self.listeners[index];
        if self.is_accepting || !listening.is_armed || listening.is_cancelling {
            return;
        }
        listening.is_cancelling = true;
        listening.is_cancel_retried = false;
        let token = encode_token(Kind::Accept, place_of(index));
        self.push_accept(
            Kind::AcceptCancel,
            index,
            opcode::AsyncCancel::new(token).build(),
        );
    }

    fn push_accept(&mut self, kind: Kind, index: usize, entry: squeue::Entry) {
        let entry = entry.user_data(encode_token(kind, place_of(index)));
        // SAFETY: neither an accept without an address nor a cancel points to memory.
        unsafe { self.ring.push(&entry) };
    }
}

/// Listeners stay as long as the driver, so their indexes need no generation.
fn place_of(index: usize) -> Place {
    Place {
        index: index as u32,
        generation: 0,
    }
}

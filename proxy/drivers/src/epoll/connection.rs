//! One connection as the epoll driver sees it: what its socket is ready for, and what is wanted.
//!
//! Does no I/O itself. Invariant: readiness that was reported is remembered until a call has
//! answered EAGAIN, because an edge is reported once.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::sending::Sending;

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The socket; `None` if the kernel would not even make or connect one.
    pub(super) socket: Option<OwnedFd>,
    /// What is being sent.
    pub(super) sending: Option<Sending>,
    /// The connect is under way.
    pub(super) is_connecting: bool,
    /// There may be bytes, an end or an error to receive.
    pub(super) is_readable: bool,
    /// The end or an error is among what is to be received, so a short receive is not the last.
    pub(super) is_hung_up: bool,
    /// The send may go on.
    pub(super) is_writable: bool,
    /// The kernel reports when a send may go on.
    pub(super) has_write_interest: bool,
    /// It is on the list of those to be served by the next pass.
    pub(super) is_queued: bool,
    /// The core wants no bytes.
    pub(super) is_paused: bool,
    /// There is nothing to receive any more.
    pub(super) has_ended: bool,
    /// The core has been told that it is broken.
    pub(super) has_failed: bool,
}

impl Connection {
    /// A connection over an established socket.
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self {
            socket: Some(socket),
            ..Self::default()
        }
    }

    /// The descriptor; without one -1, to which the kernel answers EBADF.
    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Whether there is something to receive, and somebody who wants it.
    pub(super) fn wants_receive(&self) -> bool {
        self.is_readable && !self.is_paused && !self.has_ended && !self.is_connecting
    }
}

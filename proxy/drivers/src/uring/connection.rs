//! One connection as the io_uring driver sees it: which operations are under way, and which are
//! wanted.
//!
//! Does no I/O itself. Invariant: `in_flight` counts exactly the operations whose last completion
//! has not been seen, and the socket is closed only at zero.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use socket2::SockAddr;

use crate::sending::Sending;

/// The state of one connection.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The socket; `None` if the kernel would not even make one.
    pub(super) socket: Option<OwnedFd>,
    /// Where it is being connected. The kernel reads it, so it stays until the completion.
    pub(super) target: Option<Box<SockAddr>>,
    /// What is being sent. The kernel reads it, so it stays until the last completion.
    pub(super) sending: Option<Sending>,
    /// Operations in the kernel: connect, receive, send, cancel.
    pub(super) in_flight: u8,
    /// A connect is in the kernel.
    pub(super) is_connecting: bool,
    /// A multishot receive is in the kernel.
    pub(super) is_armed: bool,
    /// A cancel is in the kernel.
    pub(super) is_cancelling: bool,
    /// The cancel has been tried in the other way too.
    pub(super) is_cancel_retried: bool,
    /// The core wants no bytes.
    pub(super) is_paused: bool,
    /// It waits for receive buffers.
    pub(super) is_starved: bool,
    /// There is nothing to receive any more: the peer ended, or the connection is broken.
    pub(super) has_ended: bool,
    /// The core has been told that it is broken.
    pub(super) has_failed: bool,
    /// Bytes came after the core had asked for the end, and were thrown away.
    pub(super) has_discarded: bool,
    /// The core has asked for its end.
    pub(super) is_closing: bool,
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

    /// Whether a receive has to be armed now.
    pub(super) fn wants_receive(&self) -> bool {
        !(self.is_armed
            || self.is_connecting
            || self.is_paused
            || self.is_starved
            || self.has_ended
            || self.is_closing)
    }

    /// Whether an operation in the kernel is one that should end before its time.
    pub(super) fn wants_cancel(&self) -> bool {
        let is_unwanted = self.is_armed && self.is_paused || self.is_connecting && self.is_closing;
        is_unwanted && !self.is_cancelling
    }

    /// Whether it can be closed now.
    pub(super) fn is_done(&self) -> bool {
        self.is_closing && self.in_flight == 0
    }
}

//! Accepted sockets that the core has not answered for yet.
//!
//! Knows nothing of connections. Invariant: every socket in it is taken out by exactly one answer,
//! or closed.

use std::os::fd::OwnedFd;

use manifold_core::event::Socket;
use manifold_core::slab::Slab;

/// The sockets between `Accepted` and `Adopt` or `Reject`.
#[derive(Debug)]
pub(crate) struct Waiting {
    sockets: Slab<Number, OwnedFd>,
}

/// What a [`Socket`] is made of.
#[derive(Clone, Copy, Debug)]
struct Number(u64);

impl Waiting {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            sockets: Slab::new(),
        }
    }

    /// Keeps a socket until the core answers.
    pub(crate) fn insert(&mut self, socket: OwnedFd) -> Socket {
        Socket(self.sockets.insert(socket).0)
    }

    /// The socket that the core answers for.
    pub(crate) fn remove(&mut self, socket: Socket) -> OwnedFd {
        let found = self.sockets.remove(Number(socket.0));
        found.expect("the core answers once for each socket that was accepted")
    }

    /// Whether the core has answered for all.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Closes all that have had no answer.
    pub(crate) fn clear(&mut self) {
        self.sockets = Slab::new();
    }
}

impl From<(u32, u32)> for Number {
    fn from((index, generation): (u32, u32)) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }
}

impl From<Number> for (u32, u32) {
    fn from(number: Number) -> Self {
        (number.0 as u32, (number.0 >> 32) as u32)
    }
}

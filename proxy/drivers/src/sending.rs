//! A buffer on its way out.
//!
//! Knows no socket. Invariant: `sent` never exceeds the buffer, and the buffer comes back whole.

/// What is being sent on one connection.
#[derive(Debug)]
pub(crate) struct Sending {
    /// All of it.
    pub(crate) buffer: Vec<u8>,
    /// How much of it the kernel has taken.
    pub(crate) sent: usize,
}

impl Sending {
    /// Nothing of it is sent yet.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self { buffer, sent: 0 }
    }

    /// What the kernel has not taken yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.sent..]
    }
}

//! What a client has sent: bytes of requests that are not answered yet, then bytes that nobody has
//! looked at.
//!
//! The former are kept so that a request can be sent again when its upstream is lost. Knows nothing
//! of messages. Invariant: without either kind it has no buffer.

use crate::output::Pool;

/// A client's bytes.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// Where unanswered requests begin; what lies before is done with.
    start: usize,
    /// Where the bytes begin that no request has been made of.
    parsed: usize,
    /// Bytes that were here before the first of `bytes`.
    gone: u64,
}

/// Done bytes at the front are moved out only when there are more than this, so that a client that
/// sends thousands of requests at once does not cost a move for each.
const DONE_BYTES_MAX: usize = 16 << 10;

impl Input {
    /// Adds what came in.
    pub fn append(&mut self, bytes: &[u8], pool: &mut Pool) {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        if self.start > DONE_BYTES_MAX {
            self.bytes.drain(..self.start);
            self.parsed -= self.start;
            self.gone += self.start as u64;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that no request has been made of.
    pub fn unparsed(&self) -> &[u8] {
        &self.bytes[self.parsed..]
    }

    /// Bytes of unanswered requests.
    pub fn unanswered(&self) -> &[u8] {
        &self.bytes[self.start..self.parsed]
    }

    /// Where the unparsed bytes begin, counted from the first byte that ever came.
    pub fn position(&self) -> u64 {
        self.gone + self.parsed as u64
    }

    /// The bytes of an unanswered request, by the position it was made at.
    pub fn kept(&self, position: u64, len: usize) -> &[u8] {
        let at = usize::try_from(position - self.gone).expect("it is still in the buffer");
        assert!(
            at >= self.start && at + len <= self.parsed,
            "a request is kept until it is answered"
        );
        &self.bytes[at..at + len]
    }

    /// Puts other bytes in the place of the next `len`.
    pub fn rewrite(&mut self, len: usize, bytes: &[u8]) {
        assert!(
            len <= self.bytes.len() - self.parsed,
            "what is rewritten is there"
        );
        self.bytes
            .splice(self.parsed..self.parsed + len, bytes.iter().copied());
    }

    /// A request has been made of the next `len` bytes, which it gives; they are kept until it is
    /// answered.
    pub fn advance(&mut self, len: usize) -> &[u8] {
        assert!(
            len <= self.bytes.len() - self.parsed,
            "a request is made of bytes that are there"
        );
        self.parsed += len;
        &self.bytes[self.parsed - len..self.parsed]
    }

    /// The next `len` bytes go upstream; they are kept only if they may have to go again.
    pub fn pass(&mut self, len: usize, is_kept: bool) {
        if is_kept {
            self.advance(len);
        } else {
            self.consume(len);
        }
    }

    /// The next `len` bytes are done with.
    pub fn consume(&mut self, len: usize) {
        assert!(
            len <= self.bytes.len() - self.parsed,
            "what is consumed is there"
        );
        if self.parsed == self.start {
            self.parsed += len;
            self.start = self.parsed;
        } else {
            self.bytes.drain(self.parsed..self.parsed + len);
        }
    }

    /// The oldest request, of `len` bytes, is answered.
    pub fn drop_answered(&mut self, len: usize) {
        self.start += len;
        assert!(
            self.start <= self.parsed,
            "only what was sent can be answered"
        );
    }

    /// All unanswered requests are to be made anew.
    pub fn rewind(&mut self) {
        self.parsed = self.start;
    }

    /// Gives the buffer back if nothing is in it.
    pub fn release(&mut self, pool: &mut Pool) {
        if self.start == self.bytes.len() {
            self.gone += self.start as u64;
            self.start = 0;
            self.parsed = 0;
            if self.bytes.capacity() > 0 {
                pool.give(core::mem::take(&mut self.bytes));
            }
        }
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

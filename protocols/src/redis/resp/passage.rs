//! A request that is passed on while it comes: how much of what is there belongs to it.
//!
//! Begins where a [`Finder`] has stopped and keeps nothing of the request. Invariant: no byte is
//! let through before it is known that a node would not refuse the request for it.

use super::request::{Finder, Malformed};

/// What is still to come of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passage {
    /// Bytes before the next line: the end of what was found in order, or of an argument.
    bytes: usize,
    /// Arguments that begin behind them.
    arguments: u32,
    /// The longest argument.
    bulk_bytes_max: usize,
}

/// How far a passage goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passed {
    /// So many bytes belong to the request.
    pub len: usize,
    /// They are its last.
    pub is_end: bool,
}

impl Passage {
    /// Of a request that this finder has found a part of, from its first byte on.
    pub fn of(finder: &Finder, bulk_bytes_max: usize) -> Self {
        let (bytes, arguments) = finder.place();
        Self {
            bytes,
            arguments,
            bulk_bytes_max,
        }
    }

    /// Goes as far as it can through the bytes that come next; those behind have to be shown again.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Passed, Malformed> {
        let mut len = 0;
        loop {
            let there = self.bytes.min(bytes.len() - len);
            len += there;
            self.bytes -= there;
            if self.bytes > 0 || self.arguments == 0 {
                let is_end = self.bytes == 0;
                return Ok(Passed { len, is_end });
            }
            let Some((end, length)) = Finder::length_at(bytes, len, self.bulk_bytes_max)? else {
                return Ok(Passed { len, is_end: false });
            };
            self.arguments -= 1;
            self.bytes = end - len + length + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inline;
    use super::super::request::Found;
    use super::*;

    const MAX: usize = 512 << 20;

    /// The passage of what begins like this.
    fn begin(bytes: &[u8]) -> Passage {
        let mut finder = Finder::default();
        let found = finder.find(bytes, MAX);
        assert!(matches!(found, Ok(Found::Part { .. })), "{found:?}");
        Passage::of(&finder, MAX)
    }

    #[test]
    fn lets_through_what_is_there_of_an_argument() {
        let mut passage = begin(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\nabc");
        let first = passage.advance(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\nabc");
        assert_eq!(first.map(|it| (it.len, it.is_end)), Ok((27, false)));
        let rest = passage.advance(b"defghi\r\n*1\r\n");
        assert_eq!(rest.map(|it| (it.len, it.is_end)), Ok((8, true)));
    }

    #[test]
    fn lets_nothing_through_that_a_node_would_refuse() {
        let mut passage = begin(b"*3\r\n$3\r\nSET\r\n");
        let passed = passage.advance(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:9\r\n");
        assert_eq!(passed, Err(Malformed::NoBulk(b':')));
        let mut passage = begin(b"*2\r\n$3\r\nGET\r\n");
        let passed = passage.advance(b"*2\r\n$3\r\nGET\r\n$999999999999\r\n");
        assert_eq!(passed, Err(Malformed::Length));
    }

    proptest! {
        #[test]
        fn ends_where_the_request_ends_in_whatever_pieces_it_comes(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            begin_at in any::<prop::sample::Index>(),
            step in 1_usize..30,
        ) {
            let mut bytes = Vec::new();
            inline::write_request(&mut bytes, arguments.iter().map(Vec::as_slice));
            let len = bytes.len();
            bytes.extend_from_slice(b"*1\r\n$4\r\nnext\r\n");
            // At least its first line is there.
            let mut there = 4 + begin_at.index(len - 4);
            let mut passage = begin(&bytes[..there]);
            let mut passed = 0;
            loop {
                let it = passage.advance(&bytes[passed..there]).expect("it is in order");
                passed += it.len;
                prop_assert!(passed <= len);
                if it.is_end {
                    break;
                }
                prop_assert!(there < bytes.len());
                there = (there + step).min(bytes.len());
            }
            prop_assert_eq!(passed, len);
        }
    }
}

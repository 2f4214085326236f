//! Finds the ends of messages in what a client receives, whatever pieces it comes in.
//!
//! Looks at types and lengths only, and at the text of the first error.

/// The longest error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 400;

/// What the bytes of one receive held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// ReadyForQuery messages that began.
    pub ready: u32,
    /// ErrorResponse messages that began.
    pub errors: u32,
}

/// Where in a message the stream stands.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Bytes of the message's body that are still to come.
    body_left: usize,
    /// The first bytes of a header that came in pieces.
    header: [u8; 5],
    /// How many of them are there.
    header_len: usize,
    /// The type of the message that the body belongs to.
    tag: u8,
    /// The body of the first error, as far as it is kept.
    error: Vec<u8>,
    /// Whether that body is complete.
    error_done: bool,
}

impl Scanner {
    /// Takes bytes in.
    pub fn take(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            if self.body_left > 0 {
                bytes = self.take_body(bytes);
                continue;
            }
            let wanted = (5 - self.header_len).min(bytes.len());
            self.header[self.header_len..self.header_len + wanted]
                .copy_from_slice(&bytes[..wanted]);
            self.header_len += wanted;
            bytes = &bytes[wanted..];
            if self.header_len == 5 {
                self.begin(&mut seen);
            }
        }
        seen
    }

    /// The fields of the first error, as far as they came, separated by blanks.
    pub fn error_text(&self) -> String {
        let fields = self.error.split(|byte| *byte == 0);
        let texts: Vec<_> = fields
            .filter(|field| matches!(field.first(), Some(b'S' | b'C' | b'M')))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
            .collect();
        texts.join(" ")
    }

    /// A whole header is there.
    fn begin(&mut self, seen: &mut Seen) {
        let [tag, length @ ..] = self.header;
        self.tag = tag;
        self.header_len = 0;
        // The length counts itself. ReadyForQuery counts when its last byte is due with it: no
        // peer splits six bytes, and if one did the next request would only be early.
        self.body_left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
        seen.ready += u32::from(tag == b'Z');
        seen.errors += u32::from(tag == b'E');
    }

    /// Skips what belongs to the message under way, keeping the first error.
    fn take_body<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (body, rest) = bytes.split_at(self.body_left.min(bytes.len()));
        self.body_left -= body.len();
        if self.tag == b'E' && !self.error_done {
            let room = ERROR_BYTES_MAX.saturating_sub(self.error.len());
            self.error.extend(&body[..body.len().min(room)]);
            self.error_done = self.body_left == 0;
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::frames::frame;

    #[test]
    fn counts_the_same_whatever_the_pieces() {
        let error = b"SERROR\0C57014\0Mcanceling\0\0";
        let stream = [frame(b'E', error), frame(b'Z', b"I"), frame(b'C', b"x\0")].concat();
        let stream = [stream.clone(), stream].concat();
        for size in 1..stream.len() {
            let mut scanner = Scanner::default();
            let mut total = Seen::default();
            for piece in stream.chunks(size) {
                let seen = scanner.take(piece);
                total.ready += seen.ready;
                total.errors += seen.errors;
            }
            assert_eq!((total.ready, total.errors), (2, 2), "pieces of {size}");
            assert_eq!(scanner.error_text(), "ERROR 57014 canceling");
        }
    }
}

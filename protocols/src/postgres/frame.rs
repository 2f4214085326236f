//! Where one message ends and the next begins.
//!
//! Holds the five-byte header of every message after startup, for both directions. It must not know
//! what a body means. Its invariant: a header is answered only if the receiving PostgreSQL process
//! would not lose the protocol over it, so a forwarded frame never poisons a shared connection.

use thiserror::Error;

/// Bytes of a tag and a length word.
pub const HEADER_LEN: usize = 5;

/// PostgreSQL drops the connection of a client whose control message has a longer length word.
const CONTROL_LEN_MAX: u32 = 10_000;

/// PostgreSQL's own bound on a length word: the largest block that it allocates, less one.
const DATA_LEN_MAX: u32 = 0x3fff_fffe;

/// The start of a message, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message's type.
    pub tag: u8,
    /// Bytes of the whole message, tag and length word included.
    pub len: usize,
}

/// The peer sent something that cannot be the start of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length is impossible for this tag.
    #[error("invalid length {len} of a message of type {}", tag.escape_ascii())]
    Length {
        /// The message's type.
        tag: u8,
        /// Bytes of the whole message as announced.
        len: usize,
    },
    /// The message is longer than allowed here.
    #[error("message of type {} has {len} bytes, limit {len_max}", tag.escape_ascii())]
    TooLong {
        /// The message's type.
        tag: u8,
        /// Bytes of the whole message as announced.
        len: usize,
        /// Bytes allowed.
        len_max: usize,
    },
    /// No such message type in this direction.
    #[error("invalid message type {}", .0.escape_ascii())]
    UnknownTag(u8),
}

/// The header of a message from a client, or `None` until five bytes are there.
///
/// `len_max` bounds the whole message; control messages have PostgreSQL's own, tighter bound too.
#[inline]
pub fn decode_frontend_header(bytes: &[u8], len_max: usize) -> Result<Option<Header>, FrameError> {
    decode_header(&FRONTEND, bytes, len_max)
}

/// The header of a message from a node, or `None` until five bytes are there.
#[inline]
pub fn decode_backend_header(bytes: &[u8], len_max: usize) -> Result<Option<Header>, FrameError> {
    decode_header(&BACKEND, bytes, len_max)
}

/// Bounds on the length word of one tag; `max` is zero for a tag that does not exist.
#[derive(Clone, Copy)]
struct Range {
    min: u32,
    max: u32,
}

type Table = [Range; 256];

/// A message that is too short for its content is the node's to refuse, in its own words.
static FRONTEND: Table = table(&[
    (b'B', 4, DATA_LEN_MAX),
    (b'C', 4, CONTROL_LEN_MAX),
    (b'D', 4, CONTROL_LEN_MAX),
    (b'E', 4, CONTROL_LEN_MAX),
    (b'F', 4, DATA_LEN_MAX),
    (b'H', 4, CONTROL_LEN_MAX),
    (b'P', 4, DATA_LEN_MAX),
    (b'Q', 4, DATA_LEN_MAX),
    (b'S', 4, CONTROL_LEN_MAX),
    (b'X', 4, CONTROL_LEN_MAX),
    (b'c', 4, CONTROL_LEN_MAX),
    (b'd', 4, DATA_LEN_MAX),
    (b'f', 4, CONTROL_LEN_MAX),
    (b'p', 4, 65_535),
]);

static BACKEND: Table = table(&[
    (b'1', 4, 4),
    (b'2', 4, 4),
    (b'3', 4, 4),
    (b'A', 10, DATA_LEN_MAX),
    (b'C', 5, DATA_LEN_MAX),
    (b'D', 6, DATA_LEN_MAX),
    (b'E', 5, DATA_LEN_MAX),
    (b'G', 7, DATA_LEN_MAX),
    (b'H', 7, DATA_LEN_MAX),
    (b'I', 4, 4),
    (b'K', 12, 264),
    (b'N', 5, DATA_LEN_MAX),
    (b'R', 8, DATA_LEN_MAX),
    (b'S', 6, DATA_LEN_MAX),
    (b'T', 6, DATA_LEN_MAX),
    (b'V', 8, DATA_LEN_MAX),
    (b'W', 7, DATA_LEN_MAX),
    (b'Z', 5, 5),
    (b'c', 4, 4),
    (b'd', 4, DATA_LEN_MAX),
    (b'n', 4, 4),
    (b's', 4, 4),
    (b't', 6, DATA_LEN_MAX),
    (b'v', 12, DATA_LEN_MAX),
]);

const fn table(rules: &[(u8, u32, u32)]) -> Table {
    let mut table = [Range { min: 0, max: 0 }; 256];
    let mut index = 0;
    while index < rules.len() {
        let (tag, min, max) = rules[index];
        assert!(4 <= min && min <= max);
        table[tag as usize] = Range { min, max };
        index += 1;
    }
    table
}

#[inline(always)]
fn decode_header(
    table: &Table,
    bytes: &[u8],
    len_max: usize,
) -> Result<Option<Header>, FrameError> {
    // A wrong tag is known from one byte; waiting for five could wait for ever.
    let Some(&tag) = bytes.first() else {
        return Ok(None);
    };
    let range = table[usize::from(tag)];
    if range.max == 0 {
        return Err(FrameError::UnknownTag(tag));
    }
    let Some(&[_, a, b, c, d]) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let word = u32::from_be_bytes([a, b, c, d]);
    let len = word as usize + 1;
    if word < range.min || word > range.max || len > len_max {
        return Err(length_error(range, tag, word, len_max));
    }
    Ok(Some(Header { tag, len }))
}

#[cold]
fn length_error(range: Range, tag: u8, word: u32, len_max: usize) -> FrameError {
    let len = word as usize + 1;
    // A negative length word is no length at all, and neither is a long one where all are equal.
    if word < range.min || range.min == range.max || word > i32::MAX as u32 {
        return FrameError::Length { tag, len };
    }
    FrameError::TooLong {
        tag,
        len,
        len_max: len_max.min(range.max as usize + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(tag: u8, word: u32) -> [u8; 5] {
        let [a, b, c, d] = word.to_be_bytes();
        [tag, a, b, c, d]
    }

    #[test]
    fn waits_until_header_is_complete() {
        let bytes = header(b'Q', 5);
        for end in 0..HEADER_LEN {
            assert_eq!(decode_frontend_header(&bytes[..end], 100), Ok(None));
        }
        let expected = Header { tag: b'Q', len: 6 };
        assert_eq!(decode_frontend_header(&bytes, 100), Ok(Some(expected)));
    }

    #[test]
    fn rejects_tag_when_unknown_from_first_byte() {
        let valid = b"BCDEFHPQSXcdfp";
        for tag in 0..=255_u8 {
            let result = decode_frontend_header(&[tag], 100);
            let expected = if valid.contains(&tag) {
                Ok(None)
            } else {
                Err(FrameError::UnknownTag(tag))
            };
            assert_eq!(result, expected, "tag {tag}");
        }
        let valid = b"123ACDEGHIKNRSTVWZcdnstv";
        for tag in 0..=255_u8 {
            let known = decode_backend_header(&[tag], 100).is_ok();
            assert_eq!(known, valid.contains(&tag), "tag {tag}");
        }
    }

    #[test]
    fn rejects_length_when_outside_of_range() {
        for word in [0, 3] {
            let error = decode_frontend_header(&header(b'S', word), usize::MAX).unwrap_err();
            assert_eq!(
                error,
                FrameError::Length {
                    tag: b'S',
                    len: word as usize + 1
                }
            );
        }
        let error = decode_frontend_header(&header(b'D', 10_001), usize::MAX).unwrap_err();
        assert_eq!(
            error,
            FrameError::TooLong {
                tag: b'D',
                len: 10_002,
                len_max: 10_001
            }
        );
        assert!(decode_frontend_header(&header(b'D', 10_000), usize::MAX).is_ok());
    }

    #[test]
    fn rejects_message_when_longer_than_limit() {
        assert!(decode_backend_header(&header(b'D', 99), 100).is_ok());
        let error = decode_backend_header(&header(b'D', 100), 100).unwrap_err();
        assert_eq!(
            error,
            FrameError::TooLong {
                tag: b'D',
                len: 101,
                len_max: 100
            }
        );
    }
}

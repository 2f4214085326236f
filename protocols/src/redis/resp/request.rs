//! Requests as clients send them: where one ends, and what its arguments are.
//!
//! The finder remembers where it stands, so that no byte of a request that comes in pieces is
//! looked at twice. Source of bounds and texts: `networking.c` of redis-server 7.0.15. Invariant: a
//! request found `Whole` is an array of bulk strings, byte for byte as [`Arguments`] expects it.

use super::{inline, number};

/// The longest line: an inline command, or a length of either kind.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The largest count of arguments in a request.
const COUNT_MAX: i64 = i32::MAX as i64;

/// The same where nobody has said who it is, and has to.
const STRANGER_COUNT_MAX: i64 = 10;

/// The longest argument there.
pub const STRANGER_BULK_BYTES_MAX: usize = 16 << 10;

/// What a node takes from a client.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest argument.
    pub bulk_bytes_max: usize,
    /// The client has to say who it is, and has not.
    pub is_stranger: bool,
}

/// What a client sent is no request. The node would answer this text and close the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// A line that never ends.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// An inline command whose quotes do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    Unbalanced,
    /// A line with the count of arguments that never ends.
    #[error("Protocol error: too big mbulk count string")]
    CountTooLong,
    /// A count of arguments that is none.
    #[error("Protocol error: invalid multibulk length")]
    Count,
    /// A line with the length of an argument that never ends.
    #[error("Protocol error: too big bulk count string")]
    LengthTooLong,
    /// Something else where an argument has to begin.
    #[error("Protocol error: expected '$', got '{}'", printed(*.0))]
    NoBulk(u8),
    /// A length of an argument that is none, or above what the node takes.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// More arguments than the node takes from somebody who has not said who it is.
    #[error("Protocol error: unauthenticated multibulk length")]
    CountOfStranger,
    /// A longer argument than that.
    #[error("Protocol error: unauthenticated bulk length")]
    LengthOfStranger,
}

/// An error is one line, whatever it is about.
fn printed(byte: u8) -> char {
    match byte {
        b'\r' | b'\n' => ' ',
        byte => char::from(byte),
    }
}

/// What the bytes at hand begin with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// The beginning of a request; the number of bytes that it is known to need in all.
    Part {
        /// At least so many bytes are needed, from the request's first on.
        needed: usize,
    },
    /// Nothing that a node would answer: an empty line, an empty array.
    Nothing {
        /// How many bytes it is.
        len: usize,
    },
    /// A request that has to be rewritten by [`rewrite`] before anything is made of it.
    Odd {
        /// How many bytes it is.
        len: usize,
    },
    /// A whole request.
    Whole {
        /// How many bytes it is.
        len: usize,
        /// How many arguments it has, its name included; at least one.
        count: usize,
    },
}

/// Finds the end of one request after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finder {
    /// Bytes of the request that have been looked at: everything before an argument that is not
    /// whole, or that is not there.
    at: usize,
    /// Its arguments, once they are known; zero before that.
    count: u32,
    /// Those that are not found yet.
    left: u32,
    /// Some line or argument does not end as it should, which a node does not mind.
    is_odd: bool,
}

impl Finder {
    /// Looks at everything that is there, from the request's first byte on. An argument may have up
    /// to `bulk_bytes_max` bytes.
    pub fn find(&mut self, bytes: &[u8], bulk_bytes_max: usize) -> Result<Found, Malformed> {
        let bounds = Bounds {
            bulk_bytes_max,
            is_stranger: false,
        };
        self.find_within(bytes, bounds)
    }

    /// The same within these bounds.
    pub fn find_within(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Found, Malformed> {
        let found = self.look(bytes, bounds);
        if !matches!(found, Ok(Found::Part { .. })) {
            *self = Self::default();
        }
        found
    }

    /// How many bytes of the request have been found in order so far.
    pub fn looked_at(&self) -> usize {
        self.at
    }

    fn look(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Found, Malformed> {
        if self.count == 0 {
            match bytes.first() {
                None => return Ok(Found::Part { needed: 1 }),
                Some(b'*') => {}
                Some(_) => return find_inline(bytes),
            }
            let Some(line) = self.line(bytes, Malformed::CountTooLong)? else {
                return Ok(Found::Part {
                    needed: bytes.len() + 1,
                });
            };
            let count = number::parse(line).filter(|count| *count <= COUNT_MAX);
            let count = count.ok_or(Malformed::Count)?;
            if bounds.is_stranger && count > STRANGER_COUNT_MAX {
                return Err(Malformed::CountOfStranger);
            }
            if count <= 0 {
                return Ok(Found::Nothing { len: self.at });
            }
            self.count = count as u32;
            self.left = self.count;
        }
        while self.left > 0 {
            if let Some(needed) = self.look_at_bulk(bytes, bounds)? {
                return Ok(Found::Part { needed });
            }
            self.left -= 1;
        }
        let len = self.at;
        let count = self.count as usize;
        Ok(if self.is_odd {
            Found::Odd { len }
        } else {
            Found::Whole { len, count }
        })
    }

    /// Goes past one argument, or says how many bytes it would take.
    fn look_at_bulk(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Option<usize>, Malformed> {
        let start = self.at;
        let was_odd = self.is_odd;
        let Some(line) = self.line(bytes, Malformed::LengthTooLong)? else {
            return Ok(Some(bytes.len() + 1));
        };
        let length = bulk_length(bytes[start], line, bounds.bulk_bytes_max)?;
        if bounds.is_stranger && length > STRANGER_BULK_BYTES_MAX {
            return Err(Malformed::LengthOfStranger);
        }
        let end = self.at + length + 2;
        if end > bytes.len() {
            self.at = start;
            self.is_odd = was_odd;
            return Ok(Some(end));
        }
        self.is_odd |= bytes[end - 2..end] != *b"\r\n";
        self.at = end;
        Ok(None)
    }

    /// Behind everything that was found in order, and how many arguments are still to come from
    /// there on.
    pub(super) fn place(&self) -> (usize, u32) {
        (self.at, self.left)
    }

    /// Goes past one line with the length of an argument. Says where it ends and the length, or
    /// nothing if it is not whole.
    pub(super) fn length_at(
        bytes: &[u8],
        at: usize,
        bulk_bytes_max: usize,
    ) -> Result<Option<(usize, usize)>, Malformed> {
        let mut finder = Self {
            at,
            ..Self::default()
        };
        let Some(line) = finder.line(bytes, Malformed::LengthTooLong)? else {
            return Ok(None);
        };
        let length = bulk_length(bytes[at], line, bulk_bytes_max)?;
        Ok(Some((finder.at, length)))
    }

    /// Goes past a line whose first byte says what it is, and gives the rest of it.
    fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        too_long: Malformed,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = &bytes[self.at..];
        // A node looks for the end of a C string: a zero hides whatever follows.
        let end = rest
            .iter()
            .take(LINE_BYTES_MAX + 1)
            .position(|&byte| byte == b'\r' || byte == 0);
        let Some(end) = end.filter(|&end| rest[end] == b'\r') else {
            return if rest.len() > LINE_BYTES_MAX {
                Err(too_long)
            } else {
                Ok(None)
            };
        };
        // The byte behind a carriage return is passed over, whatever it is.
        let Some(&last) = rest.get(end + 1) else {
            return Ok(None);
        };
        self.is_odd |= last != b'\n';
        self.at += end + 2;
        Ok(Some(&rest[1.min(end)..end]))
    }
}

/// The length of an argument, from the first byte of its line and the rest of it.
fn bulk_length(first: u8, line: &[u8], bulk_bytes_max: usize) -> Result<usize, Malformed> {
    if first != b'$' {
        return Err(Malformed::NoBulk(first));
    }
    let length = number::parse(line).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| *length <= bulk_bytes_max);
    length.ok_or(Malformed::Length)
}

fn find_inline(bytes: &[u8]) -> Result<Found, Malformed> {
    // As above.
    let end = bytes.iter().position(|&byte| byte == b'\n' || byte == 0);
    match end.filter(|&end| bytes[end] == b'\n') {
        Some(end) => Ok(Found::Odd { len: end + 1 }),
        None if bytes.len() > LINE_BYTES_MAX => Err(Malformed::InlineTooLong),
        None => Ok(Found::Part {
            needed: bytes.len() + 1,
        }),
    }
}

/// Writes an `Odd` request as it should have been sent. An inline command may turn out to be empty:
/// then nothing is written.
pub fn rewrite(request: &[u8], output: &mut Vec<u8>) -> Result<(), Malformed> {
    if request.first() != Some(&b'*') {
        let line = request.strip_suffix(b"\n").unwrap_or(request);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::rewrite(line, output).map_err(|_| Malformed::Unbalanced)?;
        return Ok(());
    }
    // Lines and arguments may end in anything; where they end is as in an ordinary request.
    let arguments: Vec<_> = Arguments::of(request).collect();
    inline::write_request(output, arguments.into_iter());
    Ok(())
}

/// The arguments of a whole request, its name first.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Arguments<'a> {
    /// The arguments of a request that [`Finder`] found whole. Of anything else, it finds
    /// something or nothing, without a panic.
    pub fn of(request: &'a [u8]) -> Self {
        let mut arguments = Self {
            rest: request,
            left: 0,
        };
        arguments.left = arguments.number().unwrap_or(0);
        arguments
    }

    fn number(&mut self) -> Option<usize> {
        let end = self.rest.iter().position(|&byte| byte == b'\r')?;
        let number = number::parse(self.rest.get(1..end)?)?;
        self.rest = self.rest.get(end + 2..)?;
        usize::try_from(number).ok()
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let length = self.number()?;
        let argument = self.rest.get(..length)?;
        self.rest = self.rest.get(length + 2..)?;
        Some(argument)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 512 << 20;

    fn find(bytes: &[u8]) -> Result<Found, Malformed> {
        Finder::default().find(bytes, MAX)
    }

    #[test]
    fn says_what_a_node_says_of_what_is_no_request() {
        let long = |first: u8| [&[first][..], &[b'1'; LINE_BYTES_MAX + 1]].concat();
        let cases: [(&[u8], &str); 11] = [
            (b"*a\r\n", "Protocol error: invalid multibulk length"),
            (
                b"*2147483648\r\n",
                "Protocol error: invalid multibulk length",
            ),
            (b"*01\r\n", "Protocol error: invalid multibulk length"),
            (b"*1\r\nfoo\r\n", "Protocol error: expected '$', got 'f'"),
            (b"*1\r\n\r\n", "Protocol error: expected '$', got ' '"),
            (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            (
                b"*1\r\n$536870913\r\n",
                "Protocol error: invalid bulk length",
            ),
            (b"*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
            (&long(b'*'), "Protocol error: too big mbulk count string"),
            (&long(b'a'), "Protocol error: too big inline request"),
            (
                &[b"*1\r\n", &long(b'$')[..]].concat(),
                "Protocol error: too big bulk count string",
            ),
        ];
        for (bytes, text) in cases {
            assert_eq!(
                find(bytes).map_err(|error| error.to_string()),
                Err(text.to_owned())
            );
        }
    }

    #[test]
    fn takes_little_from_strangers() {
        let bounds = Bounds {
            bulk_bytes_max: MAX,
            is_stranger: true,
        };
        let find = |bytes: &[u8]| Finder::default().find_within(bytes, bounds);
        assert_eq!(find(b"*11\r\n"), Err(Malformed::CountOfStranger));
        assert_eq!(find(b"*1\r\n$16385\r\n"), Err(Malformed::LengthOfStranger));
        assert!(matches!(find(b"*10\r\n$16384\r\n"), Ok(Found::Part { .. })));
        assert_eq!(find(b"*1\r\n$-1\r\n"), Err(Malformed::Length));
    }

    #[test]
    fn begins_anew_after_what_is_no_request() {
        let mut finder = Finder::default();
        assert_eq!(
            finder.find(b"*2\r\n$4\r\nECHO\r\nx", MAX),
            Ok(Found::Part { needed: 16 })
        );
        assert_eq!(
            finder.find(b"*2\r\n$4\r\nECHO\r\nx\r\n", MAX),
            Err(Malformed::NoBulk(b'x'))
        );
        assert_eq!(finder.find(b"", MAX), Ok(Found::Part { needed: 1 }));
    }

    #[test]
    fn finds_no_end_of_a_line_behind_a_zero() {
        assert_eq!(find(b"PING\0\r\n"), Ok(Found::Part { needed: 8 }));
        assert_eq!(find(b"*\x001\r\n"), Ok(Found::Part { needed: 6 }));
        let long = [&b"\0\n"[..], &[b'1'; LINE_BYTES_MAX]].concat();
        assert_eq!(find(&long), Err(Malformed::InlineTooLong));
    }

    #[test]
    fn passes_over_what_a_node_does_not_answer() {
        assert_eq!(find(b"*0\r\nrest"), Ok(Found::Nothing { len: 4 }));
        assert_eq!(find(b"*-1\r\n"), Ok(Found::Nothing { len: 5 }));
        let mut output = Vec::new();
        assert_eq!(rewrite(b"\r\n", &mut output), Ok(()));
        assert!(output.is_empty());
    }

    #[test]
    fn rewrites_what_a_node_takes_though_it_is_odd() {
        for odd in [
            &b"*1\r\n$4\r\npingXY"[..],
            b"*1\rX$4\r\nping\r\n",
            b"ping\n",
            b"'ping'\r\n",
        ] {
            assert_eq!(
                find(odd),
                Ok(Found::Odd { len: odd.len() }),
                "{}",
                odd.escape_ascii()
            );
            let mut output = Vec::new();
            assert_eq!(rewrite(odd, &mut output), Ok(()));
            assert_eq!(output, b"*1\r\n$4\r\nping\r\n");
        }
    }

    proptest! {
        #[test]
        fn finds_the_same_in_whatever_pieces_it_comes(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut bytes = Vec::new();
            inline::write_request(&mut bytes, arguments.iter().map(Vec::as_slice));
            let len = bytes.len();
            bytes.extend_from_slice(b"*1\r\n$4\r\nnext\r\n");
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(len)).collect();
            ends.sort_unstable();
            let mut finder = Finder::default();
            for end in ends {
                let part = finder.find(&bytes[..end], MAX);
                let is_part = matches!(part, Ok(Found::Part { needed }) if needed > end);
                prop_assert!(is_part, "{part:?} of {end}");
            }
            let whole = Ok(Found::Whole { len, count: arguments.len() });
            prop_assert_eq!(finder.find(&bytes, MAX), whole);
            let found: Vec<_> = Arguments::of(&bytes[..len]).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(found, arguments);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), b'0'..=b'3', any::<u8>()],
            0..60,
        )) {
            match find(&bytes) {
                Ok(Found::Odd { len }) => {
                    let _ = rewrite(&bytes[..len], &mut Vec::new());
                }
                Ok(Found::Whole { len, count }) => {
                    prop_assert_eq!(Arguments::of(&bytes[..len]).count(), count);
                }
                _ => {}
            }
            let _ = Arguments::of(&bytes).count();
        }
    }
}

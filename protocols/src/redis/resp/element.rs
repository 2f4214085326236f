//! The parts of a whole reply: for who has to make one reply of several, or read what one says.
//!
//! Knows no command. Invariant: what is not as expected is answered with none, and never a panic.

use super::number;
use super::reply::Finder;

/// The elements of a list, set, map or push, each as it came. Those of a map come in pairs.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: u64,
}

impl<'a> Elements<'a> {
    /// Of a reply that is an aggregate.
    pub fn of(reply: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = reply.split_first()?;
        let (line, rest) = split_line(rest)?;
        let count = u64::try_from(number::parse(line)?).ok()?;
        let left = match kind {
            b'*' | b'~' | b'>' => count,
            b'%' => count.checked_mul(2)?,
            _ => return None,
        };
        Some(Self { rest, left })
    }

    /// How many are to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The bytes of all that are to come.
    pub fn bytes(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let found = Finder::default().find(self.rest).ok()?;
        let (element, rest) = self.rest.split_at(found.len);
        self.rest = rest;
        found.is_end.then_some(element)
    }
}

/// The text of a reply that is one; none of null.
pub fn text(reply: &[u8]) -> Option<&[u8]> {
    let (&kind, rest) = reply.split_first()?;
    let (line, rest) = split_line(rest)?;
    match kind {
        b'+' => Some(line),
        b'$' => rest.get(..usize::try_from(number::parse(line)?).ok()?),
        _ => None,
    }
}

/// The number that a reply is.
pub fn integer(reply: &[u8]) -> Option<i64> {
    let (line, _) = split_line(reply.strip_prefix(b":")?)?;
    number::parse(line)
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_replies_apart() {
        let reply = b"*4\r\n:-3\r\n$2\r\nab\r\n*1\r\n+x\r\n$-1\r\n";
        let elements: Vec<_> = Elements::of(reply).unwrap().collect();
        assert_eq!(elements.len(), 4);
        assert_eq!(integer(elements[0]), Some(-3));
        assert_eq!(text(elements[1]), Some(&b"ab"[..]));
        assert_eq!(elements[2], b"*1\r\n+x\r\n");
        assert_eq!(text(elements[3]), None);
        assert_eq!(Elements::of(b"%1\r\n+a\r\n:1\r\n").unwrap().left(), 2);
    }

    #[test]
    fn finds_nothing_in_what_is_something_else() {
        for reply in [&b""[..], b"*", b"*x\r\n", b"*-1\r\n", b"+OK\r\n", b":1\r\n"] {
            assert!(Elements::of(reply).is_none(), "{}", reply.escape_ascii());
        }
        assert_eq!(Elements::of(b"*2\r\n:1\r\n").unwrap().count(), 1);
        assert_eq!(text(b"$5\r\nab\r\n"), None);
        assert_eq!(integer(b"$1\r\n1\r\n"), None);
    }
}

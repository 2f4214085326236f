//! What must differ between a private connection and a session of the proxy, and nothing else.
//!
//! Each rule says why. Invariant: what no rule names is compared byte by byte.

use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::reply::Finder;

/// How a reply is compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Compare {
    /// Byte by byte, but for the number of the client in the answer to HELLO.
    #[default]
    Exact,
    /// The order of its parts, in groups of so many, is that of a hash table, which each node seeds
    /// by itself.
    Sorted(usize),
    /// A number that depends on the clock, which goes on between the two.
    Near(i64),
    /// What a node tells of the clock or of its own memory: only what kind of reply it is.
    Kind,
}

impl Compare {
    /// Whether two replies to the same request are the same.
    pub fn is_same(self, direct: &[u8], proxied: &[u8]) -> bool {
        if direct == proxied {
            return true;
        }
        match self {
            Self::Exact => {
                without_number(direct) == without_number(proxied) || is_refused(direct, proxied)
            }
            Self::Sorted(group) => sorted(direct, group) == sorted(proxied, group),
            Self::Near(distance) => match (integer(direct), integer(proxied)) {
                (Some(one), Some(other)) => (one - other).abs() <= distance,
                _ => false,
            },
            Self::Kind => direct.first() == proxied.first() && direct.first() != Some(&b'-'),
        }
    }
}

/// The number of a client belongs to whoever it is connected to: the node, or the proxy. HELLO tells
/// it, alone or in the answer to EXEC.
fn without_number(reply: &[u8]) -> Vec<u8> {
    const FIELD: &[u8] = b"$2\r\nid\r\n:";
    let is_hello = reply.windows(12).any(|part| part == b"$6\r\nserver\r\n");
    if !is_hello {
        return reply.to_vec();
    }
    let mut masked = Vec::new();
    let mut rest = reply;
    while let Some(at) = rest.windows(FIELD.len()).position(|part| part == FIELD) {
        let (before, after) = rest.split_at(at + FIELD.len());
        masked.extend_from_slice(before);
        masked.push(b'0');
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit());
        rest = &after[digits.count()..];
    }
    masked.extend_from_slice(rest);
    masked
}

/// With RESP2, who listens may neither do what is not allowed while listening, nor what its user may
/// not do. A node says the second first; the proxy says the first and does not ask.
fn is_refused(direct: &[u8], proxied: &[u8]) -> bool {
    direct.starts_with(b"-NOPERM") && proxied.starts_with(b"-ERR Can't execute '")
}

/// The parts of an array, a set or a map, in an order of ours.
fn sorted(reply: &[u8], group: usize) -> Vec<Vec<u8>> {
    let Some(end) = reply.windows(2).position(|pair| pair == b"\r\n") else {
        return vec![reply.to_vec()];
    };
    let (head, rest) = reply.split_at(end + 2);
    let parts = split(rest);
    if !matches!(head.first(), Some(b'*' | b'~' | b'%')) {
        return vec![reply.to_vec()];
    }
    let mut groups: Vec<Vec<u8>> = parts.chunks(group).map(<[_]>::concat).collect();
    groups.sort();
    groups.insert(0, head.to_vec());
    groups
}

/// Values one behind the other.
pub(super) fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok(progress) = Finder::default().find(rest) else {
            break;
        };
        let (part, after) = rest.split_at(progress.len);
        parts.push(part.to_vec());
        rest = after;
    }
    parts
}

/// The values in an array.
pub(super) fn values(array: &[u8]) -> Vec<Vec<u8>> {
    match array.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) if array.starts_with(b"*") => split(&array[end + 2..]),
        _ => Vec::new(),
    }
}

/// The bytes in a bulk string; nothing for a null.
pub(super) fn text(bulk: &[u8]) -> Option<&[u8]> {
    let end = bulk.windows(2).position(|pair| pair == b"\r\n")?;
    let length = number::parse(bulk.get(1..end)?)?;
    let length = usize::try_from(length).ok()?;
    bulk.get(end + 2..end + 2 + length)
}

/// The number that a reply is.
pub(super) fn integer(reply: &[u8]) -> Option<i64> {
    number::parse(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_what_has_no_order_without_it() {
        let one = b"*2\r\n$1\r\na\r\n$1\r\nb\r\n";
        let other = b"*2\r\n$1\r\nb\r\n$1\r\na\r\n";
        assert!(!Compare::Exact.is_same(one, other));
        assert!(Compare::Sorted(1).is_same(one, other));
        assert!(!Compare::Sorted(2).is_same(one, other));
    }

    #[test]
    fn leaves_the_number_of_the_client_in_hello_and_nothing_else_aside() {
        let hello = |id: u32, mode: &str| {
            format!("*6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$2\r\nid\r\n:{id}\r\n$4\r\nmode\r\n${mode}\r\n")
                .into_bytes()
        };
        assert!(Compare::Exact.is_same(&hello(7, "1\r\na"), &hello(1025, "1\r\na")));
        assert!(!Compare::Exact.is_same(&hello(7, "1\r\na"), &hello(7, "1\r\nb")));
        assert!(!Compare::Exact.is_same(b":7\r\n", b":8\r\n"));
        assert!(Compare::Near(1).is_same(b":7\r\n", b":8\r\n"));
    }
}

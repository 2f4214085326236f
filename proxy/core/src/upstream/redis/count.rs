//! Replies that say how many listen: what the node does not know of is added.
//!
//! The node counts the proxy's one subscription where there are many subscribers. Invariant: a
//! reply that is not of the expected form is passed on as it is.

use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::request::Arguments;

use crate::audience::{Audience, Kind};
use crate::client::redis::Client;
use crate::reach::Reach;

/// Makes a reply as if each subscriber of this process had its own connection. The request begins
/// at `at` in the client's input, unless it was passed on while it came and has no length.
pub(super) fn recount(reach: &Reach<'_>, client: &Client, at: u64, len: u32, reply: &mut Vec<u8>) {
    let audience = &reach.service(client.service).audience;
    if audience.is_empty() {
        return;
    }
    let session = client.session.as_ref();
    let request = match len {
        0 => session.and_then(|session| session.publishing.as_deref()),
        len => Some(client.input.kept(at, len as usize)),
    };
    let request = request.unwrap_or_default();
    if let Some(counted) = counted(audience, request, reply) {
        *reply = counted;
    }
}

fn counted(audience: &Audience, request: &[u8], reply: &[u8]) -> Option<Vec<u8>> {
    let mut words = Arguments::of(request);
    let (name, second) = (words.next()?, words.next()?);
    let is = |name: &[u8], text: &str| name.eq_ignore_ascii_case(text.as_bytes());
    if is(name, "publish") {
        return add(reply, audience.missing_receivers(Kind::Channel, second));
    }
    if is(name, "spublish") {
        return add(reply, audience.missing_receivers(Kind::Shard, second));
    }
    let kind = match second {
        _ if is(second, "numsub") => Kind::Channel,
        _ if is(second, "shardnumsub") => Kind::Shard,
        _ => return None,
    };
    // Channels and numbers by turns.
    let mut counted = Vec::with_capacity(reply.len() + 16);
    let mut rest = reply.strip_prefix(b"*")?;
    let end = rest.iter().position(|&byte| byte == b'\n')? + 1;
    counted.extend_from_slice(&reply[..=end]);
    rest = &rest[end..];
    for channel in words {
        let at = rest.iter().position(|&byte| byte == b'\n')? + 1 + channel.len() + 2;
        counted.extend_from_slice(rest.get(..at)?);
        let end = at + rest[at..].iter().position(|&byte| byte == b'\n')? + 1;
        counted.extend(add(&rest[at..end], audience.missing(kind, channel))?);
        rest = &rest[end..];
    }
    rest.is_empty().then_some(counted)
}

/// A number, and what is added to it.
fn add(reply: &[u8], more: u32) -> Option<Vec<u8>> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    let number = u64::try_from(number::parse(digits)?).ok()?;
    let mut sum = vec![b':'];
    number::write(&mut sum, number + u64::from(more));
    sum.extend_from_slice(b"\r\n");
    Some(sum)
}

#[cfg(test)]
mod tests {
    use manifold_protocols::redis::resp::inline::write_request;

    use super::*;

    fn counted_of(request: &str, reply: &str) -> Option<String> {
        let audience = Audience::default();
        audience.set(Kind::Channel, b"a", 2);
        audience.set(Kind::Pattern, b"?", 5);
        audience.set(Kind::Shard, b"a", 9);
        let words: Vec<_> = request.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        write_request(&mut bytes, words.into_iter());
        let counted = counted(&audience, &bytes, reply.as_bytes())?;
        Some(String::from_utf8(counted).unwrap())
    }

    #[test]
    fn adds_who_is_missing_to_what_the_node_counts() {
        let cases = [
            ("publish a m", ":1\r\n", ":8\r\n"),
            ("PUBLISH b m", ":1\r\n", ":6\r\n"),
            ("PUBLISH bb m", ":3\r\n", ":3\r\n"),
            ("spublish a m", ":1\r\n", ":10\r\n"),
            (
                "PUBSUB NUMSUB a bb a",
                "*6\r\n$1\r\na\r\n:1\r\n$2\r\nbb\r\n:0\r\n$1\r\na\r\n:1\r\n",
                "*6\r\n$1\r\na\r\n:3\r\n$2\r\nbb\r\n:0\r\n$1\r\na\r\n:3\r\n",
            ),
            ("pubsub numsub", "*0\r\n", "*0\r\n"),
            (
                "pubsub shardnumsub a",
                "*2\r\n$1\r\na\r\n:1\r\n",
                "*2\r\n$1\r\na\r\n:10\r\n",
            ),
        ];
        for (request, reply, expected) in cases {
            let counted = counted_of(request, reply);
            assert_eq!(counted.as_deref(), Some(expected), "{request}");
        }
    }

    #[test]
    fn leaves_alone_what_is_no_count() {
        for reply in ["+QUEUED\r\n", "-ERR no\r\n", "*1\r\n:1\r\n"] {
            assert_eq!(counted_of("publish a m", reply), None, "{reply}");
            assert_eq!(counted_of("pubsub numsub a", reply), None, "{reply}");
        }
    }
}

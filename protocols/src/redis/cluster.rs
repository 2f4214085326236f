//! Slots of a cluster.
//!
//! Holds how a key is turned into its slot, and what nodes say of who has which. It must not know
//! which node has a slot. Its invariant: every node of every version answers `CLUSTER KEYSLOT` with
//! the same number.

use super::resp::element::{Elements, integer, text};
use super::resp::number;

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// Remainders of all bytes by CRC-16/XMODEM (polynomial 0x1021, nothing reflected).
const REMAINDERS: [u16; 256] = remainders();

const fn remainders() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut rest = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let is_set = rest & 0x8000 != 0;
            rest <<= 1;
            if is_set {
                rest ^= 0x1021;
            }
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// Slot of a key: the remainder of its tag, or of all of it if it has none.
pub fn slot(key: &[u8]) -> u16 {
    let mut rest = 0_u16;
    for byte in tag(key).unwrap_or(key) {
        rest = (rest << 8) ^ REMAINDERS[usize::from((rest >> 8) as u8 ^ byte)];
    }
    rest % SLOTS
}

/// What lies between the first `{` and the first `}` behind it, unless that is nothing.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = &key[open + 1..];
    let len = rest.iter().position(|byte| *byte == b'}')?;
    (len > 0).then(|| &rest[..len])
}

/// Slots that one primary has, as `CLUSTER SLOTS` tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range<'a> {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// Where their primary is: an address where one is told, or a name. Empty if it is where the
    /// answer came from.
    pub host: &'a [u8],
    /// Its port.
    pub port: u16,
}

/// What a node answered to `CLUSTER SLOTS`. None if that is no such answer.
pub fn ranges(reply: &[u8]) -> Option<Vec<Range<'_>>> {
    let mut ranges = Vec::new();
    let mut all = Elements::of(reply)?;
    for element in all.by_ref() {
        let mut fields = Elements::of(element)?;
        let first = slot_number(fields.next()?)?;
        let last = slot_number(fields.next()?)?;
        let mut primary = Elements::of(fields.next()?)?;
        let host = text(primary.next()?).unwrap_or_default();
        let port = u16::try_from(integer(primary.next()?)?).ok()?;
        let known = primary.nth(1).and_then(address_of);
        let is_address = host.contains(&b':') || host.iter().all(|it| b"0123456789.".contains(it));
        let host = known.filter(|_| !is_address).unwrap_or(host);
        ranges.push(Range {
            first,
            last,
            host: if host == b"?" { b"" } else { host },
            port,
        });
    }
    (all.left() == 0).then_some(ranges)
}

/// The address in what is told of a node beside its preferred name.
fn address_of(metadata: &[u8]) -> Option<&[u8]> {
    let mut fields = Elements::of(metadata)?;
    while let Some(name) = fields.next() {
        let value = fields.next()?;
        if text(name) == Some(b"ip") {
            return text(value);
        }
    }
    None
}

fn slot_number(reply: &[u8]) -> Option<u16> {
    u16::try_from(integer(reply)?)
        .ok()
        .filter(|slot| *slot < SLOTS)
}

/// What a node says that has not run a command, as far as somebody else might, or it later.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal<'a> {
    /// Another node has the slot.
    Moved {
        /// Which slot.
        slot: u16,
        /// Where that node is; an empty host means the host of the node that said it.
        place: (&'a [u8], u16),
    },
    /// The slot is on its way to another node, and the key may be there already.
    Ask {
        /// Which slot.
        slot: u16,
        /// Where that node is.
        place: (&'a [u8], u16),
    },
    /// Some of the keys are on their way.
    TryAgain,
    /// The cluster is not complete.
    Down,
    /// It is no primary any more.
    ReadOnly,
    /// It is not ready yet, or has lost its primary.
    NotReady,
}

impl<'a> Refusal<'a> {
    /// Reads the error that a reply is. None for every error that is the client's own business.
    pub fn read(reply: &'a [u8]) -> Option<Self> {
        let line = reply.strip_prefix(b"-")?;
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let mut words = line.splitn(2, |byte| *byte == b' ');
        let (code, rest) = (words.next()?, words.next().unwrap_or_default());
        match code {
            b"MOVED" => {
                let (slot, place) = slot_and_place(rest)?;
                Some(Self::Moved { slot, place })
            }
            b"ASK" => {
                let (slot, place) = slot_and_place(rest)?;
                Some(Self::Ask { slot, place })
            }
            b"TRYAGAIN" => Some(Self::TryAgain),
            b"CLUSTERDOWN" => Some(Self::Down),
            b"READONLY" => Some(Self::ReadOnly),
            b"LOADING" | b"MASTERDOWN" => Some(Self::NotReady),
            _ => None,
        }
    }
}

/// `slot host:port`, in which the host may be empty and may have colons of its own.
fn slot_and_place(text: &[u8]) -> Option<(u16, (&[u8], u16))> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    let slot = u16::try_from(number::parse(&text[..space])?).ok()?;
    let place = &text[space + 1..];
    let colon = place.iter().rposition(|byte| *byte == b':')?;
    let port = u16::try_from(number::parse(&place[colon + 1..])?).ok()?;
    (slot < SLOTS).then_some((slot, (&place[..colon], port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_who_has_which_slots() {
        let reply = b"*3\r\n\
            *4\r\n:0\r\n:99\r\n\
            *4\r\n$8\r\n10.0.0.1\r\n:7000\r\n$2\r\nid\r\n*0\r\n\
            *3\r\n$8\r\n10.0.0.9\r\n:7009\r\n$2\r\nid\r\n\
            *3\r\n:100\r\n:100\r\n\
            *4\r\n$1\r\na\r\n:7001\r\n$2\r\nid\r\n*2\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n\
            *3\r\n:101\r\n:16383\r\n*3\r\n$-1\r\n:7002\r\n$2\r\nid\r\n";
        let range = |first, last, host, port| Range {
            first,
            last,
            host,
            port,
        };
        let expected = vec![
            range(0, 99, &b"10.0.0.1"[..], 7000),
            range(100, 100, b"10.0.0.2", 7001),
            range(101, 16_383, b"", 7002),
        ];
        assert_eq!(ranges(reply), Some(expected));
        assert_eq!(ranges(b"-ERR no cluster\r\n"), None);
        assert_eq!(ranges(b"*1\r\n*2\r\n:0\r\n:16384\r\n"), None);
        assert_eq!(ranges(b"*2\r\n"), None);
    }

    #[test]
    fn reads_what_nodes_refuse() {
        let moved = Refusal::read(b"-MOVED 3999 127.0.0.1:6381\r\n");
        let place = (&b"127.0.0.1"[..], 6381);
        assert_eq!(moved, Some(Refusal::Moved { slot: 3999, place }));
        let ask = Refusal::read(b"-ASK 1 ::1:6381\r\n");
        let place = (&b"::1"[..], 6381);
        assert_eq!(ask, Some(Refusal::Ask { slot: 1, place }));
        let here = Refusal::read(b"-MOVED 1 :6381\r\n");
        let place = (&b""[..], 6381);
        assert_eq!(here, Some(Refusal::Moved { slot: 1, place }));
        assert_eq!(
            Refusal::read(b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"),
            Some(Refusal::TryAgain)
        );
        for other in [
            &b"-MOVED 16384 a:1\r\n"[..],
            b"-MOVED\r\n",
            b"-ASK 1 a\r\n",
            b"-ERR MOVED 1 a:1\r\n",
            b"+OK\r\n",
            b"-CROSSSLOT Keys in request don't hash to the same slot\r\n",
        ] {
            assert_eq!(Refusal::read(other), None, "{}", other.escape_ascii());
        }
    }
}

//! One reply made of several: as the node's tips say, or as a command needs it.
//!
//! Pure. Invariant: an error of one node is never hidden, unless the tips say that one success is
//! enough.

use manifold_protocols::redis::command::ResponsePolicy;
use manifold_protocols::redis::resp::element::{Elements, integer, text};
use manifold_protocols::redis::resp::inline::write_bulk;
use manifold_protocols::redis::resp::number;

/// Replies on their way to becoming one.
#[derive(Debug)]
pub struct Gather {
    merge: Merge,
    replies: Vec<Option<Vec<u8>>>,
    /// How many have not come.
    left: usize,
    /// How long the request is in the session's input.
    pub len: u32,
    /// The client does not want the reply.
    pub is_mute: bool,
}

/// How replies become one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Merge {
    /// As the node's tips say.
    By(ResponsePolicy),
    /// As lists whose elements have these places in the whole.
    ByPlaces(Vec<Vec<u32>>),
    /// One of those that are not null, chosen by this number.
    Any(u64),
    /// As SCAN's answer of the node that has this slot, after which comes the node of the next.
    Scan {
        /// The first slot of the node.
        slot: u16,
        /// The first one of the next.
        next: Option<u16>,
    },
}

impl Gather {
    pub(crate) fn new(merge: Merge, parts: usize, len: u32, is_mute: bool) -> Self {
        Self {
            merge,
            replies: vec![None; parts],
            left: parts,
            len,
            is_mute,
        }
    }

    /// Takes a reply in. Says whether it was the last.
    pub(crate) fn take(&mut self, place: usize, reply: Vec<u8>) -> bool {
        self.left -= usize::from(self.replies[place].replace(reply).is_none());
        self.left == 0
    }

    /// The one reply.
    pub(crate) fn merged(self) -> Vec<u8> {
        let replies: Vec<_> = self.replies.into_iter().flatten().collect();
        merge(&self.merge, &replies)
    }
}

fn merge(how: &Merge, replies: &[Vec<u8>]) -> Vec<u8> {
    let is_error = |reply: &&Vec<u8>| matches!(reply.first(), Some(b'-' | b'!'));
    let first = || replies.first().cloned().unwrap_or_default();
    if *how == Merge::By(ResponsePolicy::OneSucceeded) {
        let good = replies.iter().find(|reply| !is_error(reply));
        return good.cloned().unwrap_or_else(first);
    }
    if let Some(error) = replies.iter().find(is_error) {
        return error.clone();
    }
    let merged = match how {
        Merge::By(policy) => by_policy(*policy, replies),
        Merge::ByPlaces(places) => by_places(places, replies),
        Merge::Any(seed) => any(*seed, replies),
        Merge::Scan { slot, next } => scanned(*slot, *next, replies),
    };
    merged.unwrap_or_else(first)
}

fn by_policy(policy: ResponsePolicy, replies: &[Vec<u8>]) -> Option<Vec<u8>> {
    let fold: fn(i64, i64) -> i64 = match policy {
        ResponsePolicy::AggSum => i64::saturating_add,
        ResponsePolicy::AggMax | ResponsePolicy::AggLogicalOr => i64::max,
        ResponsePolicy::AggMin | ResponsePolicy::AggLogicalAnd => i64::min,
        ResponsePolicy::Join => return join(replies),
        ResponsePolicy::AllSucceeded | ResponsePolicy::OneSucceeded | ResponsePolicy::Special => {
            return None;
        }
    };
    let (first, others) = replies.split_first()?;
    others.iter().try_fold(first.clone(), |sum, reply| {
        if let (Some(one), Some(other)) = (integer(&sum), integer(reply)) {
            return Some(format!(":{}\r\n", fold(one, other)).into_bytes());
        }
        let (ones, twos) = (Elements::of(&sum)?, Elements::of(reply)?);
        let mut list = header(sum[0], ones.left());
        for (one, other) in ones.zip(twos) {
            match (integer(one), integer(other)) {
                (Some(one), Some(other)) => {
                    list.extend_from_slice(format!(":{}\r\n", fold(one, other)).as_bytes());
                }
                _ => list.extend_from_slice(one),
            }
        }
        Some(list)
    })
}

/// Lists one after the other.
fn join(replies: &[Vec<u8>]) -> Option<Vec<u8>> {
    let lists: Option<Vec<_>> = replies.iter().map(|reply| Elements::of(reply)).collect();
    let lists = lists?;
    let kind = *replies.first()?.first()?;
    let mut joined = header(kind, lists.iter().map(Elements::left).sum());
    for list in &lists {
        joined.extend_from_slice(list.bytes());
    }
    Some(joined)
}

/// Puts elements where the keys that they are of were asked for.
fn by_places(places: &[Vec<u32>], replies: &[Vec<u8>]) -> Option<Vec<u8>> {
    let total = places.iter().map(Vec::len).sum();
    let mut whole: Vec<&[u8]> = vec![b"$-1\r\n"; total];
    for (places, reply) in places.iter().zip(replies) {
        for (place, element) in places.iter().zip(Elements::of(reply)?) {
            whole[*place as usize] = element;
        }
    }
    let mut list = header(b'*', total as u64);
    whole.into_iter().for_each(|it| list.extend_from_slice(it));
    Some(list)
}

fn any(seed: u64, replies: &[Vec<u8>]) -> Option<Vec<u8>> {
    let found = replies.iter().filter(|reply| text(reply).is_some());
    let found: Vec<_> = found.collect();
    let place = (seed / 1_000) as usize % found.len().max(1);
    found.get(place).map(|reply| (*reply).clone())
}

/// Bits of a cursor that say at which node it is, by that node's first slot.
const SLOT_BITS: u32 = 14;

/// Reads a cursor: the node's own, and the slot of the node.
pub(crate) fn cursor_at(cursor: &[u8]) -> Option<(u64, u16)> {
    let cursor: u64 = core::str::from_utf8(cursor).ok()?.parse().ok()?;
    let slot = cursor & ((1 << SLOT_BITS) - 1);
    Some((cursor >> SLOT_BITS, slot as u16))
}

fn scanned(slot: u16, next: Option<u16>, replies: &[Vec<u8>]) -> Option<Vec<u8>> {
    let reply = replies.first()?;
    let mut fields = Elements::of(reply)?;
    let inner = core::str::from_utf8(text(fields.next()?)?).ok()?;
    let inner: u64 = inner.parse().ok()?;
    let cursor = match (inner, next) {
        (0, None) => 0,
        (0, Some(next)) => u64::from(next),
        (inner, _) if inner >> (u64::BITS - SLOT_BITS) != 0 => {
            return Some(crate::client::redis::errors::CURSOR_TOO_LARGE.to_vec());
        }
        (inner, _) => inner << SLOT_BITS | u64::from(slot),
    };
    let mut whole = header(b'*', 2);
    write_bulk(&mut whole, cursor.to_string().as_bytes());
    whole.extend_from_slice(fields.bytes());
    Some(whole)
}

fn header(kind: u8, elements: u64) -> Vec<u8> {
    let mut bytes = vec![kind];
    let count = if kind == b'%' { elements / 2 } else { elements };
    number::write(&mut bytes, count);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(how: &Merge, replies: &[&str]) -> String {
        let bytes = |text: &&str| text.replace(' ', "\r\n").into_bytes();
        let replies: Vec<_> = replies.iter().map(bytes).collect();
        let merged = merge(how, &replies);
        String::from_utf8(merged).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn merges_as_the_tips_say() {
        let by = |policy| Merge::By(policy);
        let numbers = [":1 ", ":5 ", ":3 "];
        assert_eq!(merged(&by(ResponsePolicy::AggSum), &numbers), ":9 ");
        assert_eq!(merged(&by(ResponsePolicy::AggMin), &numbers), ":1 ");
        assert_eq!(merged(&by(ResponsePolicy::AggMax), &numbers), ":5 ");
        let lists = ["*2 :1 :0 ", "*2 :1 :1 "];
        let and = by(ResponsePolicy::AggLogicalAnd);
        assert_eq!(merged(&and, &lists), "*2 :1 :0 ");
        let join = by(ResponsePolicy::Join);
        assert_eq!(
            merged(&join, &["*1 $1 a ", "*0 ", "*1 $1 b "]),
            "*2 $1 a $1 b "
        );
        assert_eq!(
            merged(&join, &["%1 $1 a :1 ", "%1 $1 b :2 "]),
            "%2 $1 a :1 $1 b :2 "
        );
        let all = by(ResponsePolicy::AllSucceeded);
        assert_eq!(merged(&all, &["+OK ", "-ERR ", "+OK "]), "-ERR ");
        let one = by(ResponsePolicy::OneSucceeded);
        assert_eq!(merged(&one, &["-NOTBUSY ", "+OK "]), "+OK ");
    }

    #[test]
    fn puts_values_where_their_keys_were() {
        let places = Merge::ByPlaces(vec![vec![0, 2], vec![1]]);
        let replies = ["*2 $1 a $1 c ", "*1 $-1 "];
        assert_eq!(merged(&places, &replies), "*3 $1 a $-1 $1 c ");
        assert_eq!(merged(&places, &["*2 $1 a $1 c ", "-ERR "]), "-ERR ");
    }

    #[test]
    fn chooses_a_key_where_there_is_one() {
        for seed in [0, 1_000, 2_000] {
            assert_eq!(merged(&Merge::Any(seed), &["$-1 ", "$1 k ", "_ "]), "$1 k ");
        }
        assert_eq!(merged(&Merge::Any(7), &["$-1 ", "$-1 "]), "$-1 ");
    }

    #[test]
    fn leads_a_cursor_through_all_nodes() {
        let scan = |slot, next| Merge::Scan { slot, next };
        let here = merged(&scan(100, Some(900)), &["*2 $1 5 *0 "]);
        let cursor = (5 << 14) + 100;
        assert_eq!(here, format!("*2 $5 {cursor} *0 "));
        assert_eq!(cursor_at(cursor.to_string().as_bytes()), Some((5, 100)));
        let over = merged(&scan(100, Some(900)), &["*2 $1 0 *1 $1 k "]);
        assert_eq!(over, "*2 $3 900 *1 $1 k ");
        assert_eq!(cursor_at(b"900"), Some((0, 900)));
        assert_eq!(merged(&scan(900, None), &["*2 $1 0 *0 "]), "*2 $1 0 *0 ");
        assert_eq!(cursor_at(b"x"), None);
    }
}

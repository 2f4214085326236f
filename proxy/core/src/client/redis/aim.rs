//! Where in a cluster a request belongs: by its keys, or by what the node says of the command.
//!
//! Pure: looks at the request and at the table of commands. Invariant: a request is taken apart
//! only where the node says that this may be done.

use manifold_protocols::redis::cluster::slot;
use manifold_protocols::redis::command::{Command, RequestPolicy, ResponsePolicy};
use manifold_protocols::redis::resp::request::Arguments;

/// Where a request belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Aim {
    /// To the node that has this slot.
    Slot(u16),
    /// To any node.
    Any,
    /// To all that have slots.
    All(ResponsePolicy),
    /// In parts, to the nodes that have its keys, which lie in several slots.
    Split(ResponsePolicy),
}

/// Where the request that is made of these words belongs.
pub(crate) fn aim(command: &Command, words: Arguments<'_>) -> Aim {
    let mut is_split = false;
    let mut first = None;
    let mut look = |key: &[u8]| {
        let slot = slot(key);
        is_split |= *first.get_or_insert(slot) != slot;
    };
    if let Ok(keys) = command.keys(words) {
        keys.for_each(&mut look);
    }
    command.channels(words).for_each(&mut look);
    match (first, command.request_policy) {
        (Some(_), RequestPolicy::MultiShard) if is_split && is_divisible(command) => {
            Aim::Split(command.response_policy)
        }
        // Where keys of several slots meet, that one's node says that they must not.
        (Some(slot), _) => Aim::Slot(slot),
        (None, RequestPolicy::AllNodes | RequestPolicy::AllShards) if goes_to_all(command) => {
            Aim::All(command.response_policy)
        }
        (None, _) => by_number(command, words).map_or(Aim::Any, Aim::Slot),
    }
}

/// Whether a request has several keys, which may be at two nodes while their slot is on its way.
pub(crate) fn is_wide<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
    let first = keys.next();
    keys.any(|key| Some(key) != first)
}

/// MSETNX may be divided by what nodes say, but sets all keys or none, which parts of it do not.
fn is_divisible(command: &Command) -> bool {
    &*command.name != "msetnx"
}

/// PING is for all by what nodes say, and is sent to measure one.
fn goes_to_all(command: &Command) -> bool {
    !matches!(&*command.name, "ping" | "info")
}

/// The slot that is named by its number.
fn by_number(command: &Command, mut words: Arguments<'_>) -> Option<u16> {
    use manifold_protocols::redis::{cluster::SLOTS, resp::number};
    match &*command.name {
        "cluster|countkeysinslot" | "cluster|getkeysinslot" => {
            let slot = u16::try_from(number::parse(words.nth(2)?)?).ok()?;
            (slot < SLOTS).then_some(slot)
        }
        _ => None,
    }
}

/// How a request over several slots is taken apart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Pieces<'a> {
    /// For each slot: the words behind the name of the command, and the places that its keys had
    /// among all keys.
    pub slots: Vec<Piece<'a>>,
}

/// What goes to one slot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Piece<'a> {
    /// Which.
    pub slot: u16,
    /// What follows the name of the command.
    pub words: Vec<&'a [u8]>,
    /// Which of all keys these are.
    pub places: Vec<u32>,
}

/// Takes a request apart by slots: keys, and with each of them what lies between it and the next.
/// None if that is not how its words are laid out.
pub(crate) fn split<'a>(command: &Command, words: Arguments<'a>) -> Option<Pieces<'a>> {
    let count = command.keys(words).ok()?.count();
    let behind: Vec<_> = words.skip(1).collect();
    let step = behind.len() / count.max(1);
    if count == 0 || step == 0 || behind.len() != count * step {
        return None;
    }
    let mut pieces = Pieces::default();
    for (place, chunk) in (0..).zip(behind.chunks(step)) {
        let slot = slot(chunk[0]);
        let known = pieces.slots.iter().position(|piece| piece.slot == slot);
        let index = known.unwrap_or_else(|| {
            pieces.slots.push(Piece {
                slot,
                words: Vec::new(),
                places: Vec::new(),
            });
            pieces.slots.len() - 1
        });
        let piece = &mut pieces.slots[index];
        piece.words.extend_from_slice(chunk);
        piece.places.push(place);
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use manifold_protocols::redis::command::Table;
    use manifold_protocols::redis::resp::inline::write_request;

    use super::*;

    fn aimed(words: &str) -> Aim {
        let mut request = Vec::new();
        let words: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        write_request(&mut request, words.iter().copied());
        let table = Table::builtin();
        let command = table.find(words[0], words.get(1).copied()).unwrap();
        aim(command, Arguments::of(&request))
    }

    #[test]
    fn aims_by_keys_where_there_are_any() {
        assert_eq!(aimed("GET foo"), Aim::Slot(12_182));
        assert_eq!(aimed("GET x{foo}"), Aim::Slot(12_182));
        assert_eq!(aimed("EVAL x 1 foo bar"), Aim::Slot(12_182));
        assert_eq!(aimed("EVAL x 0 foo"), Aim::Any);
        assert_eq!(aimed("XREAD COUNT 1 STREAMS foo 0"), Aim::Slot(12_182));
        assert_eq!(aimed("SPUBLISH foo hello"), Aim::Slot(12_182));
        assert_eq!(aimed("RENAME foo bar"), Aim::Slot(12_182));
        assert_eq!(aimed("MGET foo x{foo}"), Aim::Slot(12_182));
    }

    #[test]
    fn aims_at_several_nodes_where_the_command_may_be_taken_apart() {
        assert_eq!(aimed("DEL foo bar"), Aim::Split(ResponsePolicy::AggSum));
        assert_eq!(aimed("MGET foo bar"), Aim::Split(ResponsePolicy::Join));
        let all = Aim::Split(ResponsePolicy::AllSucceeded);
        assert_eq!(aimed("MSET foo 1 bar 2"), all);
        assert_eq!(aimed("MSETNX foo 1 bar 2"), Aim::Slot(12_182));
    }

    #[test]
    fn aims_at_all_or_any_where_there_are_no_keys() {
        assert_eq!(aimed("DBSIZE"), Aim::All(ResponsePolicy::AggSum));
        assert_eq!(aimed("FLUSHALL"), Aim::All(ResponsePolicy::AllSucceeded));
        assert_eq!(aimed("PING"), Aim::Any);
        assert_eq!(aimed("PUBLISH a b"), Aim::Any);
        assert_eq!(aimed("CLUSTER COUNTKEYSINSLOT 7"), Aim::Slot(7));
    }

    #[test]
    fn splits_keys_with_what_belongs_to_them() {
        let mut request = Vec::new();
        let words: [&[u8]; 7] = [b"MSET", b"foo", b"1", b"bar", b"2", b"x{foo}", b"3"];
        write_request(&mut request, words.into_iter());
        let table = Table::builtin();
        let command = table.find(b"mset", None).unwrap();
        let pieces = split(command, Arguments::of(&request)).unwrap().slots;
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0].words, [&b"foo"[..], b"1", b"x{foo}", b"3"]);
        assert_eq!(pieces[0].places, [0, 2]);
        assert_eq!(pieces[1].words, [&b"bar"[..], b"2"]);
    }
}

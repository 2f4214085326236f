//! What names an operation to the kernel and back: its kind, and the place it is for.
//!
//! Knows no socket. Invariant: a place is one use of one index of a table; an index used again is
//! another place, so a late completion is recognised.

use manifold_core::slab::GENERATION_MASK;

/// One use of one index of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Where in the table.
    pub(crate) index: u32,
    /// How often that index had been used before; 24 bits, it wraps.
    pub(crate) generation: u32,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Accepts on the listener at an index.
    Accept = 1,
    /// Cancels the accepting of the listener at an index.
    AcceptCancel,
    /// Reads the doorbell.
    Bell,
    /// Cancels the receive or the connect of a place.
    Cancel,
    /// Connects a place.
    Connect,
    /// What another ring has posted to wake this one.
    Knock,
    /// Was to wake another ring. Completes only if it could not.
    LostKnock,
    /// Receives for a place.
    Receive,
    /// Sends for a place.
    Send,
}

const KINDS: [Kind; 9] = [
    Kind::Accept,
    Kind::AcceptCancel,
    Kind::Bell,
    Kind::Cancel,
    Kind::Connect,
    Kind::Knock,
    Kind::LostKnock,
    Kind::Receive,
    Kind::Send,
];

/// `[kind: 8][generation: 24][index: 32]`
pub(crate) fn encode_token(kind: Kind, place: Place) -> u64 {
    debug_assert_eq!(place.generation & !GENERATION_MASK, 0);
    u64::from(kind as u8) << 56 | u64::from(place.generation) << 32 | u64::from(place.index)
}

/// The reverse of [`encode_token`]; `None` for what it never makes.
pub(crate) fn decode_token(token: u64) -> Option<(Kind, Place)> {
    let kind = *KINDS.get(usize::from((token >> 56) as u8).wrapping_sub(1))?;
    let generation = (token >> 32) as u32 & GENERATION_MASK;
    Some((
        kind,
        Place {
            index: token as u32,
            generation,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_every_kind_that_was_encoded() {
        for kind in KINDS {
            for (index, generation) in [(0, 0), (u32::MAX, GENERATION_MASK), (7, 1 << 23)] {
                let place = Place { index, generation };
                assert_eq!(decode_token(encode_token(kind, place)), Some((kind, place)));
            }
        }
    }

    #[test]
    fn decodes_nothing_from_an_unknown_kind() {
        assert_eq!(decode_token(0), None);
        assert_eq!(decode_token(10 << 56), None);
        assert_eq!(decode_token(u64::MAX), None);
    }
}

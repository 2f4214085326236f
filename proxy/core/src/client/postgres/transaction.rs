//! A transaction that lies whole in the client's buffer goes upstream as one write, not on a lease.
//!
//! Knows what was examined and the pipe it goes into; reads no bytes but to find out where the next
//! request begins. Invariant: its parts are put into one pipe at once, in order, with nothing of
//! anybody else's between them; what is not proven or not complete is taken apart, and its first
//! request goes on a lease as ever.

use crate::client::postgres::examine::{Examined, Examiner, Found, Named, Piece, Scope};
use crate::client::postgres::framing::{frame_behind, frame_request};
use crate::client::postgres::{Until, Waiting};
use crate::ids::{ClientId, UpstreamId};
use crate::limits::Limits;
use crate::profile::Class;
use crate::proof::Statement;
use crate::shard::Shard;
use crate::upstream::postgres::pipe::Part;

/// Where the statements so far stand among BEGIN and COMMIT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// None has begun a transaction.
    Outside,
    /// A transaction has been begun and not been ended.
    Open,
    /// Every transaction that was begun has been ended.
    Over,
    /// Something that belongs inside a transaction came outside.
    Astray,
}

impl Standing {
    /// Where they stand after one more.
    pub(super) fn after(self, statement: &Statement) -> Self {
        match (self, statement) {
            (Self::Astray, _) => Self::Astray,
            (_, Statement::Begin) => Self::Open,
            (Self::Open, Statement::End) => Self::Over,
            (Self::Open, Statement::Inside) => Self::Open,
            (_, Statement::End | Statement::Inside) => Self::Astray,
            (standing, _) => standing,
        }
    }

    /// Whether a transaction was begun, and nothing was out of place.
    pub(super) fn has_begun(self) -> bool {
        matches!(self, Self::Open | Self::Over)
    }
}

impl Examined {
    /// Whether it may be a part of a transaction that is sent as a whole.
    fn is_proven(&self) -> bool {
        self.is_closed
            && self.standing.has_begun()
            && self.class_inside < Class::Exclusive
            && self.keeps.is_none()
            && self.touched.is_empty()
            && !self.defines
            && !self.clears
    }

    /// Makes it a part of such a transaction.
    fn become_part(&mut self, part: Part) {
        self.part = Some(part);
        self.demand.class = Class::Tail;
        self.demand.writes = true;
        // Whatever of it fails, a COMMIT may have come before.
        self.commits_early = true;
    }
}

impl Examiner<'_> {
    /// The request just looked at begins a transaction: goes on through the requests behind it, up
    /// to the one that ends it. If that is not there, or something is not proven, all is left as if
    /// nobody had looked.
    pub(super) fn examine_transaction(&mut self, limits: &Limits) {
        let first = self.pieces.len();
        if self.collect_parts(limits) && self.pieces.iter().all(is_plain) {
            let last = self.parts.len();
            let whole = core::iter::once(&mut self.found).chain(&mut *self.parts);
            for (place, part) in whole.enumerate() {
                part.become_part(if place == last {
                    Part::Last
                } else {
                    Part::Inner
                });
            }
        } else {
            self.pieces.truncate(first);
            self.parts.clear();
        }
    }

    /// Collects the parts of a transaction behind the first. Says whether its end is among them.
    fn collect_parts(&mut self, limits: &Limits) -> bool {
        let mut end = self.found.len;
        let mut standing = self.found.standing;
        let mut is_proven = self.found.is_proven();
        while is_proven && standing == Standing::Open {
            let unparsed = self.client.input.unparsed();
            let Some(len) = frame_behind(unparsed, end, limits) else {
                return false;
            };
            if end + len > limits.request_bytes_max || self.parts.len() + 1 >= limits.pipe_depth_max
            {
                return false;
            }
            let mut part = Examined::new(len);
            part.standing = standing;
            let before = core::mem::replace(&mut self.found, part);
            let examined = self.examine_all(end);
            let part = core::mem::replace(&mut self.found, before);
            standing = part.standing;
            is_proven = examined.is_ok() && part.is_proven();
            end += len;
            self.parts.push(part);
        }
        is_proven
    }
}

/// Whether a piece names nothing that the node would have to refuse.
fn is_plain(piece: &Piece) -> bool {
    matches!(piece.statement, Named::None | Named::Known(_))
}

impl Shard {
    /// Sends a request, and if it begins a transaction that is sent as a whole, the rest of that.
    pub(super) fn emit_whole(&mut self, id: ClientId, target: UpstreamId, found: Examined) {
        if self.parts.is_empty() {
            return self.emit(id, target, found);
        }
        let mut parts = core::mem::take(&mut self.parts);
        let mut pieces = self.pieces.split_off(found.pieces).into_iter();
        let mut done = found.len;
        self.emit(id, target, found);
        for part in parts.drain(..) {
            // Where a piece lies is counted from the first of the bytes that are not sent yet.
            let own = pieces.by_ref().take(part.pieces).map(|mut piece| {
                piece.range = piece.range.start - done..piece.range.end - done;
                piece
            });
            self.pieces.extend(own);
            done += part.len;
            self.emit(id, target, part);
        }
        self.parts = parts;
    }

    /// The first request of a transaction goes without the rest, on a lease.
    pub(super) fn take_apart(&mut self, found: &mut Examined) {
        self.parts.clear();
        found.part = None;
        found.demand.class = Class::Exclusive;
        self.pieces.truncate(found.pieces);
    }

    /// What sets something holds as soon as it is answered only if no transaction is left open.
    pub(super) fn wait_to_set(&mut self, id: ClientId, found: &Examined) {
        let client = &mut self.clients[id];
        if !found.touched.is_empty() && client.is_inside {
            client.waiting = Waiting::Itself;
        }
    }

    /// Whether a transaction can be put into this pipe as a whole: there is room, and no part
    /// rests on a statement that another part has yet to prepare. Had that failed before it came to
    /// it, the node would complain of a name that the client never used.
    pub(super) fn goes_whole(&self, target: UpstreamId, found: &Examined) -> bool {
        let upstream = &self.upstreams[target];
        if upstream.pipe.len() + self.parts.len() >= self.limits.pipe_depth_max {
            return false;
        }
        let mut missing: Vec<(u64, usize)> = Vec::new();
        let mut ends = found.pieces;
        let (mut place, mut rest) = (0, self.parts.iter());
        for (index, piece) in self.pieces.iter().enumerate() {
            if index == ends {
                place += 1;
                ends += rest.next().map_or(0, |part| part.pieces);
            }
            let Named::Known(statement) = &piece.statement else {
                continue;
            };
            let number = statement.number;
            if piece.tag == b'C' || upstream.prepared.contains_key(&number) {
                continue;
            }
            if missing.iter().any(|&(it, at)| it == number && at != place) {
                return false;
            }
            missing.push((number, place));
        }
        true
    }

    /// A transaction that was sent as a whole is still open after its last part, because that
    /// failed or was not what ends it: the client goes on in it, as on a connection of its own.
    pub(crate) fn keep_transaction(&mut self, target: UpstreamId, id: ClientId) {
        let upstream = &mut self.upstreams[target];
        upstream.tail = None;
        if self.clients.get(id).is_none() {
            upstream.is_soiled = true;
        } else if self.clients[id].lease.is_none() {
            self.begin_lease(id, target, Until::Idle);
            let lease = self.clients[id].lease.as_mut();
            lease.expect("it has just begun").is_begun = true;
        }
    }

    /// The lengths of the requests that are answered together if what a client without a lease asks
    /// next is not sent: all parts of a transaction, or one request.
    pub(crate) fn unsent_lens(&mut self, id: ClientId) -> Vec<usize> {
        match self.examine(id, Scope::Request) {
            Found::Request(found) => core::iter::once(found.len)
                .chain(self.parts.iter().map(|part| part.len))
                .collect(),
            Found::Unclassified | Found::NoCatalog => {
                let len = frame_request(&mut self.clients[id], &self.limits);
                len.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::profile::Profile;
    use crate::proof::{Reason, Setting, Verdict};
    use crate::texts::Text;

    fn end_of(statements: &[Statement]) -> Standing {
        statements.iter().fold(Standing::Outside, Standing::after)
    }

    #[test]
    fn follows_statements_from_begin_to_end() {
        use Statement::{Begin, End, Inside, Read, Write};
        assert_eq!(end_of(&[Read, Write]), Standing::Outside);
        assert_eq!(end_of(&[Begin, Write]), Standing::Open);
        assert_eq!(end_of(&[Begin, Inside, Begin, Read]), Standing::Open);
        assert_eq!(end_of(&[Write, Begin, Write, End, Read]), Standing::Over);
        assert_eq!(end_of(&[Begin, End, Begin]), Standing::Open);
    }

    #[test]
    fn trusts_nothing_that_belongs_inside_and_comes_outside() {
        use Statement::{Begin, End, Inside};
        for stray in [
            &[End][..],
            &[Inside],
            &[Begin, End, End],
            &[Begin, End, Inside],
        ] {
            let standing = end_of(stray);
            assert_eq!(standing, Standing::Astray, "{stray:?}");
            assert!(!standing.after(&Begin).has_begun(), "{stray:?}");
        }
    }

    #[test]
    fn asks_for_lease_for_what_is_not_proven_inside() {
        let proven = |statement: &Statement| {
            let mut found = Examined::new(0);
            found.is_closed = true;
            let verdict = Verdict {
                statements: [Statement::Begin, statement.clone(), Statement::End].into(),
                scope: crate::proof::Scope::Text,
                freezes: false,
            };
            let profile = Profile::new(&Arc::new(verdict));
            let (text, _) = Text::opaque(Reason::Syntax, 0);
            found.add(&profile, text);
            found.is_proven()
        };
        for statement in [Statement::Read, Statement::Write, Statement::Inside] {
            assert!(proven(&statement), "{statement:?}");
        }
        let setting = Setting {
            name: "work_mem".into(),
            value: b"8MB"[..].into(),
        };
        for statement in [
            Statement::Set(setting),
            Statement::ResetAll,
            Statement::Define,
            Statement::Copy,
            Statement::Call,
            Statement::DiscardAll,
            Statement::Opaque(Reason::Temporary),
        ] {
            assert!(!proven(&statement), "{statement:?}");
        }
    }
}

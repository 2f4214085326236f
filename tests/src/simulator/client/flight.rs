//! The requests that a client has sent and that are not answered yet.
//!
//! Knows when the next request may go out. Invariant: the private connection has seen exactly the
//! parts that were sent of the first request in flight, and nothing of the others.

use std::collections::VecDeque;

use manifold_core::time::Instant;

use super::{Client, Phase};
use crate::simulator::private::Private;
use crate::simulator::request::Unit;
use crate::simulator::wire::{Frame, append, take_frame};

/// A request in flight.
#[derive(Clone, Debug)]
pub struct Flight {
    /// What was sent.
    pub unit: Unit,
    /// Which request of the client it is, from 1.
    pub number: u64,
    /// Parts that were sent.
    pub(super) parts_sent: usize,
    /// Parts that the private connection has answered.
    pub(super) parts_answered: usize,
    /// What the private connection would send next.
    pub(super) expected: VecDeque<Frame>,
    /// Frames of the reply that were as expected.
    pub(super) matched: usize,
    /// The private connection before this request, once it is the first in flight.
    pub(super) before: Option<Box<Private>>,
    /// The reply took another turn, which this run excuses.
    pub(super) is_excused: bool,
}

impl Client {
    pub(super) fn begin_login_flight(&mut self, bytes: &[u8]) {
        let unit = Unit {
            name: "login",
            parts: vec![bytes.to_vec()],
            ..Unit::default()
        };
        self.push_flight(unit);
    }

    fn push_flight(&mut self, unit: Unit) {
        self.units_sent += 1;
        self.flights.push(Flight {
            unit,
            number: self.units_sent,
            parts_sent: 1,
            parts_answered: 0,
            expected: VecDeque::new(),
            matched: 0,
            before: None,
            is_excused: false,
        });
        self.advance_private();
    }

    /// Lets the private connection answer what was sent of the first request in flight.
    pub(super) fn advance_private(&mut self) {
        let Some(first) = self.flights.first_mut() else {
            return;
        };
        if first.before.is_none() {
            first.before = Some(Box::new(self.private.clone()));
        }
        while first.parts_answered < first.parts_sent && !first.is_excused {
            let answer = self.private.answer(&first.unit.parts[first.parts_answered]);
            first.expected.extend(answer);
            first.parts_answered += 1;
        }
    }

    /// A statement that was prepared before its table changed may be prepared anew by the proxy,
    /// on another upstream, and then gives rows with the new columns where a private connection is
    /// told that its plan is stale. Expects the rest of the reply with new plans, this once: the
    /// proxy promises neither that nor the error. Whoever prepares after the change never comes
    /// here, because the private connection does not refuse him.
    pub(super) fn renew_plans(&mut self) {
        let flight = &mut self.flights[0];
        let Some(before) = &flight.before else { return };
        self.private = (**before).clone();
        let sent = flight.unit.parts[..flight.parts_answered].concat();
        flight.expected = self.private.answer_with_new_plans(&sent);
        flight.expected.drain(..flight.matched);
    }

    /// Takes the private connection back to where the reply left the private path: the messages
    /// whose replies came are done, the one that failed and all after it are not.
    pub(super) fn rewind_private(&mut self) {
        let flight = &mut self.flights[0];
        flight.is_excused = true;
        let Some(before) = flight.before.take() else {
            return;
        };
        self.private = *before;
        if self.phase == Phase::LoggingIn {
            return;
        }
        let mut sent = flight.unit.parts[..flight.parts_answered].concat();
        let mut left = flight.matched;
        while let Ok(Some(message)) = take_frame(&mut sent) {
            let mut bytes = Vec::new();
            append(&mut bytes, message.tag, &message.body);
            let here = self.private.clone();
            match left.checked_sub(self.private.answer(&bytes).len()) {
                Some(rest) => left = rest,
                None => {
                    self.private = here;
                    if message.tag == b'Q' {
                        // Any Query forgets the unnamed statement, however it ends.
                        self.private.fail_query();
                    }
                    return;
                }
            }
        }
    }

    /// Whether the next part of a request may follow: the reply so far has come.
    pub(super) fn can_send_part(&self) -> bool {
        let [flight] = &self.flights[..] else {
            return false;
        };
        flight.parts_sent < flight.unit.parts.len()
            && (flight.expected.is_empty() || flight.is_excused)
            && self.outgoing.is_empty()
    }

    pub(super) fn can_send_unit(&self) -> bool {
        let is_whole = self
            .flights
            .last()
            .is_none_or(|last| last.parts_sent == last.unit.parts.len());
        self.phase == Phase::Working
            && is_whole
            && self.flights.len() < self.habits.depth
            && self.outgoing.len() < 4096
    }

    /// Sends the next part or the next request.
    pub(super) fn compose(&mut self, now: Instant) {
        self.act_at = self.pause(now, self.habits.pause_max);
        if self.can_send_part() {
            let flight = &mut self.flights[0];
            self.outgoing.extend(&flight.unit.parts[flight.parts_sent]);
            flight.parts_sent += 1;
            self.advance_private();
            return;
        }
        let garbles = self.prng.chance(self.habits.garbles);
        let unit = if garbles {
            self.garbled()
        } else {
            self.script.next_unit()
        };
        let mut next = unit;
        while let Some(unit) = next {
            let is_followed = unit.is_followed;
            self.send_unit(now, unit);
            next = is_followed.then(|| self.script.next_unit()).flatten();
        }
    }

    fn send_unit(&mut self, now: Instant, unit: Unit) {
        if unit.is_last {
            self.phase = Phase::Leaving;
        }
        self.waiting_since.get_or_insert(now);
        self.outgoing.extend(&unit.parts[0]);
        self.push_flight(unit);
        if self.prng.chance(self.habits.cancels) && self.key.is_some() {
            self.wants_cancel = true;
        }
    }

    /// Bytes that are no message of the protocol: the end of any connection.
    fn garbled(&mut self) -> Option<Unit> {
        let bytes = match self.prng.below(3) {
            0 => vec![b'Q', 0, 0, 0, 1, 0],
            1 => vec![b'~', 0, 0, 0, 4],
            _ => vec![b'S', 0xff, 0xff, 0xff, 0xff],
        };
        Some(Unit {
            name: "garbled",
            parts: vec![bytes],
            is_last: true,
            ..Unit::default()
        })
    }
}

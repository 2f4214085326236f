//! How a client takes the frames of its replies.
//!
//! Knows which request is answered next. Invariant: a request is over with its ReadyForQuery, and
//! only then does the private connection see the next one.

use manifold_core::time::Instant;

use super::compare::{are_counts, describe, error_code, is_stale_plan, normalise};
use super::{Client, Flight, Phase};
use crate::simulator::wire::{Fields, Frame, take_frame};

/// Names and codes of what a node says of its own accord.
pub const ASYNC_NOTICE: &str = "note from the operator";

impl Client {
    pub(super) fn take_replies(&mut self, now: Instant) {
        if self.phase == Phase::AskingTls {
            let answer = self.incoming.remove(0);
            if answer != b'N' {
                let text = format!(
                    "I1: {} was answered {answer} to its request for TLS",
                    self.name
                );
                self.violations.push(text);
            }
            self.private
                .answer_tls_request(&crate::simulator::request::tls_request());
            self.log_in();
        }
        loop {
            match take_frame(&mut self.incoming) {
                Ok(Some(frame)) => self.take_frame(now, &frame),
                Ok(None) => return,
                Err(_) => {
                    self.violations
                        .push(format!("I2: {} received no valid length", self.name));
                    return;
                }
            }
        }
    }

    fn take_frame(&mut self, now: Instant, frame: &Frame) {
        if self.is_spontaneous(frame) {
            return;
        }
        let idle_fatal = error_code(frame)
            .filter(|(code, is_fatal)| *is_fatal && self.excuses.codes.contains(code.as_str()));
        if self.flights.is_empty() && idle_fatal.is_some() {
            self.excused += 1;
            self.phase = Phase::Leaving;
            return;
        }
        if self.flights.is_empty() {
            let text = format!(
                "I1: {} asked nothing and received {}",
                self.name,
                describe(frame)
            );
            self.violations.push(text);
            return;
        }
        if frame.tag == b'K' {
            let mut fields = Fields(&frame.body);
            self.key = fields.int32().zip(fields.int32());
        }
        if self.flights[0].is_excused {
            self.take_after_fault(now, frame);
        } else {
            self.match_frame(now, frame);
        }
    }

    /// Takes what a node may say at any time.
    fn is_spontaneous(&mut self, frame: &Frame) -> bool {
        match frame.tag {
            b'A' => {
                self.notified += 1;
                let mut fields = Fields(&frame.body);
                fields.int32();
                let channel = fields.text().unwrap_or_default();
                // A request in flight may have ended the subscription already.
                let listened = self
                    .flights
                    .first()
                    .and_then(|flight| flight.before.as_ref());
                if !self.private.is_listening(channel)
                    && !listened.is_some_and(|before| before.is_listening(channel))
                {
                    self.violations
                        .push(format!("I6: {} does not listen to {channel}", self.name));
                }
                true
            }
            b'N' => String::from_utf8_lossy(&frame.body).contains(ASYNC_NOTICE),
            _ => false,
        }
    }

    fn match_frame(&mut self, now: Instant, frame: &Frame) {
        let has_unknown = !self.unknown.is_empty();
        let flight = &mut self.flights[0];
        let Some(expected) = flight.expected.front() else {
            self.excuse(frame, "nothing more");
            return;
        };
        let is_equal =
            normalise(expected) == normalise(frame) || has_unknown && are_counts(expected, frame);
        if !is_equal && frame.tag == b'S' {
            // The order of several settings before one ReadyForQuery is nobody's promise.
            let run = flight.expected.iter().take_while(|other| other.tag == b'S');
            if let Some(place) = run
                .map(normalise)
                .position(|other| other == normalise(frame))
            {
                flight.expected.swap(0, place);
                flight.expected.pop_front();
                flight.matched += 1;
                return;
            }
        }
        if !is_equal {
            let wanted = describe(expected);
            if is_stale_plan(expected) && error_code(frame).is_none() {
                self.renew_plans();
                self.match_frame(now, frame);
                return;
            }
            self.excuse(frame, &wanted);
            return;
        }
        let expected = flight.expected.pop_front();
        flight.matched += 1;
        if let Some(expected) = expected.filter(|_| frame.tag == b'R') {
            self.answer_challenge(frame, &expected);
        } else if frame.tag == b'Z' {
            self.end_flight(now);
        }
    }

    /// Answers a challenge, and lets the private connection's own be answered, too: no two have
    /// the same salt or nonce.
    fn answer_challenge(&mut self, frame: &Frame, expected: &Frame) {
        let answer = self.proof.answer(&frame.body);
        let private_answer = self.private_proof.answer(&expected.body);
        if let (Some(answer), Some(private_answer)) = (answer, private_answer) {
            self.outgoing.extend(answer);
            let follows = self.private.answer(&private_answer);
            self.flights[0].expected.extend(follows);
        }
    }

    fn end_flight(&mut self, now: Instant) {
        let flight = self.flights.remove(0);
        self.answered += 1;
        if self.phase == Phase::LoggingIn {
            self.phase = Phase::Working;
        }
        self.settle(&flight);
        self.waiting_since = if self.flights.is_empty() {
            None
        } else {
            Some(now)
        };
        self.advance_private();
    }

    /// Sorts the tokens of an answered request: committed, still open, or rolled back.
    fn settle(&mut self, flight: &Flight) {
        self.pending.extend(flight.unit.tokens.iter().cloned());
        let ledger = self.private.ledger();
        let is_committed = |token: &String| ledger.contains_key(token);
        self.acknowledged.extend(
            self.pending
                .iter()
                .filter(|token| is_committed(token))
                .cloned(),
        );
        if self.private.status() == b'I' {
            self.pending.clear();
        } else {
            self.pending.retain(|token| !is_committed(token));
        }
    }

    /// A frame that the private connection would not have sent.
    fn excuse(&mut self, frame: &Frame, wanted: &str) {
        let number = self.flights[0].number;
        let is_cancelled = self.cancelled_until.is_some_and(|last| number <= last);
        let excused = error_code(frame).filter(|(code, _)| {
            self.excuses.codes.contains(code.as_str()) || is_cancelled && code == "57014"
        });
        let Some((_, is_fatal)) = excused else {
            let unit = &self.flights[0].unit;
            let text = format!(
                "I1: {} expected {wanted} and received {} in reply {number} ({}: {})",
                self.name,
                describe(frame),
                unit.name,
                readable(&unit.parts),
            );
            self.violations.push(text);
            return;
        };
        self.excused += 1;
        self.rewind_private();
        if is_fatal || self.phase == Phase::LoggingIn {
            self.excuses.closes = true;
            self.phase = Phase::Leaving;
        }
        let tokens = self.flights[0].unit.tokens.clone();
        self.unknown.extend(tokens);
    }

    /// What follows an excused error: notices, settings and the end of the reply.
    fn take_after_fault(&mut self, now: Instant, frame: &Frame) {
        match frame.tag {
            b'E' | b'N' | b'S' => {}
            b'Z' => {
                let status = frame.body.first().copied().unwrap_or(b'?');
                if status == b'I' && self.private.status() != b'I' {
                    let pending = core::mem::take(&mut self.pending);
                    self.unknown.extend(pending);
                    self.private.lose_transaction();
                } else if status == b'E' && self.private.status() != b'E' {
                    self.private.fail_transaction();
                } else if status != self.private.status() {
                    let text = format!(
                        "I6: {} is told status {} after an error, not {}",
                        self.name,
                        char::from(status),
                        char::from(self.private.status())
                    );
                    self.violations.push(text);
                }
                self.end_flight(now);
            }
            _ => {
                let text = format!(
                    "I1: {} received {} after an error",
                    self.name,
                    describe(frame)
                );
                self.violations.push(text);
            }
        }
    }
}

/// The bytes of a request, for people.
fn readable(parts: &[Vec<u8>]) -> String {
    let text = String::from_utf8_lossy(&parts.concat()).into_owned();
    text.chars()
        .map(|sign| if sign.is_control() { '.' } else { sign })
        .take(200)
        .collect()
}

//! How a client takes replies and messages.
//!
//! Knows which request is answered next. Invariant: replies are taken in the order of requests, and
//! messages are none.

use super::{Client, Phase, Shared};
use crate::simulator::redis::judge::{Bench, Reply, Text};
use crate::simulator::redis::log::{Log, token_of};
use crate::simulator::redis::model::is_fitting;
use crate::simulator::redis::publish::change_of;
use crate::simulator::redis::resp::{Value, Version};

/// What an operator says begins with this.
pub const FINAL: &[u8] = b"operator";

/// What an error of the proxy's own means.
enum Told {
    /// It may have run.
    Unknown,
    /// It has not.
    Refused,
}

impl Client {
    pub(super) fn take_replies(&mut self, log: &Log, shared: &mut Shared) {
        loop {
            self.skip_silent();
            match Value::take(&self.incoming) {
                Ok(Some((value, len))) => {
                    let bytes: Vec<u8> = self.incoming.drain(..len).collect();
                    self.take_value(log, shared, &value, &bytes);
                }
                Ok(None) => return,
                Err(_) => {
                    let came = Text(&self.incoming);
                    let text = format!("I2: {} received no reply: {came:?}", self.name);
                    self.violations.push(text);
                    return;
                }
            }
            if !self.violations.is_empty() {
                return;
            }
        }
    }

    /// Requests that have no reply are over when they are the next.
    pub(super) fn skip_silent(&mut self) {
        while let Some(first) = self.flights.front_mut().filter(|it| !it.has_reply) {
            if first.is_garbage || !self.model.is_silent(&first.words) {
                first.has_reply = true;
                return;
            }
            self.flights.pop_front();
        }
    }

    fn take_value(&mut self, log: &Log, shared: &mut Shared, value: &Value, bytes: &[u8]) {
        let reply = Reply { value, bytes };
        if let Some(parts) = self.message(value) {
            if let Err(why) = self.hear(log, parts, reply) {
                self.violations.push(format!("{why} ({})", self.name));
            }
            return;
        }
        let is_turned_away = *value == Value::error("ERR max number of clients reached");
        if is_turned_away && self.excuses.is_starved && self.answered == 0 {
            // There is no room for somebody new: whatever it has sent is not even read.
            self.excused += 1;
            self.refused
                .extend(self.flights.iter().filter_map(|it| token_of(&it.words)));
            self.flights.clear();
            self.phase = Phase::Leaving;
            return;
        }
        if self.flights.is_empty() {
            let came = Text(bytes);
            let text = format!("I1: {} asked nothing and received {came:?}", self.name);
            self.violations.push(text);
            return;
        }
        if let Err(why) = self.take_reply(log, shared, reply) {
            let text = format!("{why} ({} with {})", self.name, self.in_flight());
            self.violations.push(text);
        }
    }

    /// The parts of a message.
    fn message<'a>(&self, value: &'a Value) -> Option<&'a [Value]> {
        let parts = match (value, self.model.version) {
            (Value::Push(parts), Version::Three) | (Value::List(parts), Version::Two) => parts,
            _ => return None,
        };
        let first = parts.first().and_then(Value::as_bulk)?;
        let words = [&b"message"[..], b"pmessage", b"smessage"];
        words.contains(&first).then_some(&parts[..])
    }

    /// A message has come: it is of a channel that the client listens to, and the next of it.
    fn hear(&mut self, log: &Log, parts: &[Value], reply: Reply<'_>) -> Result<(), String> {
        let words: Vec<&[u8]> = parts.iter().filter_map(Value::as_bulk).collect();
        let (kind, name, channel, payload) = match words[..] {
            [b"message", channel, payload] => (0, channel, channel, payload),
            [b"pmessage", name, channel, payload] => (1, name, channel, payload),
            [b"smessage", channel, payload] => (2, channel, channel, payload),
            _ => return Err(format!("I2: {:?} is no message", Text(reply.bytes))),
        };
        let came = Text(reply.bytes);
        let Some(it) = log.publication(payload) else {
            return Err(format!("I14: nobody published {came:?}"));
        };
        if it.channel != channel || !is_fitting(kind, name, it) {
            return Err(format!("I14: {came:?} was published elsewhere"));
        }
        let Some(heard) = self.model.topics[kind].get_mut(name) else {
            return Err(format!("I14: {came:?} came and nobody listens"));
        };
        if !heard.payloads.insert(payload.to_vec()) {
            return Err(format!("I14: {came:?} came twice"));
        }
        if it.seq < heard.last {
            return Err(format!("I14: {came:?} came late"));
        }
        heard.last = it.seq;
        heard.has_final |= payload.starts_with(FINAL);
        self.heard += 1;
        Ok(())
    }

    fn take_reply(
        &mut self,
        log: &Log,
        shared: &mut Shared,
        reply: Reply<'_>,
    ) -> Result<(), String> {
        if self.flights[0].is_garbage {
            return self.take_good_bye(reply);
        }
        let words = self.flights[0].words.clone();
        if let Some(told) = self.told(reply.value) {
            self.excused += 1;
            self.note_told(log, &words, &told)?;
            self.flights.pop_front();
            return Ok(());
        }
        let is_error = matches!(reply.value, Value::Error(_));
        let name = String::from_utf8_lossy(&words[0]).to_ascii_lowercase();
        if change_of(&name).is_some() && !is_error {
            return self.take_confirmation(log, &words, reply);
        }
        if name == "quit" || name == "reset" {
            self.check_all_heard(log)?;
        }
        let number = self.model.number;
        let bench = Bench {
            log,
            is_moody: self.excuses.is_moody,
            is_locked: self.excuses.is_locked,
            is_final: self.excuses.is_spread
                && (self.flights.len() > 1 || self.excuses.forgets || self.excuses.is_starved),
            unblocked: &shared.unblocked,
        };
        let refused = self.model.judge(&bench, &words, reply)?;
        self.refused.extend(refused);
        if number.is_none()
            && let Some(number) = self.model.number
        {
            if shared.numbers.contains(&number) {
                return Err(format!("I6: two sessions have the number {number}"));
            }
            shared.numbers.push(number);
        }
        self.answered += 1;
        self.flights.pop_front();
        Ok(())
    }

    fn take_good_bye(&mut self, reply: Reply<'_>) -> Result<(), String> {
        self.phase = Phase::Leaving;
        match reply.value {
            Value::Error(text) if text.starts_with("ERR Protocol error: ") => Ok(()),
            other => Err(format!("I1: garbage was answered {other:?}")),
        }
    }

    fn take_confirmation(
        &mut self,
        log: &Log,
        words: &[Vec<u8>],
        reply: Reply<'_>,
    ) -> Result<(), String> {
        let name = String::from_utf8_lossy(&words[0]).to_ascii_lowercase();
        let (kind, _) = change_of(&name).expect("it is about subscriptions");
        let all = self.model.topics[kind].len().max(1);
        let flight = &mut self.flights[0];
        let pieces = match words.len() {
            1 => all,
            count => count - 1,
        };
        let left = flight.pieces_left.get_or_insert(pieces);
        *left -= 1;
        let (is_over, sent_at) = (*left == 0, flight.sent_at);
        self.model.judge_confirmation(log, words, sent_at, reply)?;
        if is_over {
            self.answered += 1;
            self.flights.pop_front();
        }
        Ok(())
    }

    /// I14: whoever stops listening has had everything until then.
    fn check_all_heard(&self, log: &Log) -> Result<(), String> {
        let sent_at = self.flights[0].sent_at;
        for (kind, topics) in self.model.topics.iter().enumerate() {
            for name in topics.keys() {
                if let Some(missing) = self.model.missing(log, (kind, name), sent_at) {
                    return Err(format!("I14: {missing}"));
                }
            }
        }
        Ok(())
    }

    /// What an error of the proxy's own says, if this run allows for it.
    fn told(&self, value: &Value) -> Option<Told> {
        let Value::Error(text) = value else {
            return None;
        };
        let text = text.strip_prefix("ERR service \"main\": ")?;
        let excuses = &self.excuses;
        if text.contains("the command may have been executed") && excuses.is_lossy {
            return Some(Told::Unknown);
        }
        let verb = self.flights[0].words[0].to_ascii_lowercase();
        let is_narrow = excuses.is_narrow && verb.ends_with(b"subscribe");
        let is_starved = excuses.is_lossy || excuses.is_starved || is_narrow;
        if text.contains("the command was whole; it has not been executed") && excuses.is_lossy
            || text.contains("it has not been executed, and is too big") && excuses.is_spread
            || text.starts_with("no connection to the node was to be had") && is_starved
            || text.starts_with("connections_max is ") && excuses.has_no_hub
        {
            return Some(Told::Refused);
        }
        None
    }

    /// What follows for the session from an error of the proxy's own.
    fn note_told(&mut self, log: &Log, words: &[Vec<u8>], told: &Told) -> Result<(), String> {
        // Of what is divided, another part may have run.
        let token = token_of(words).filter(|_| !self.model.is_divided(words));
        if let (Told::Refused, Some(token)) = (told, token) {
            if log.ledger.contains_key(&token) {
                return Err(format!(
                    "I4: {token} was run, and its client told that it was not"
                ));
            }
            self.refused.push(token);
        }
        if let (true, Some(queue)) = (self.excuses.is_spread, &mut self.model.multi) {
            // The node knows that the transaction is not what it should be.
            queue.push(words.to_vec());
        }
        let name = words[0].to_ascii_lowercase();
        if name == b"exec" || name == b"discard" {
            self.model.multi = None;
            self.model.watched.clear();
        }
        Ok(())
    }
}

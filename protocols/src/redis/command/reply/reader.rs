//! Values of RESP2 and RESP3, one after the other.
//!
//! Holds what is needed to walk over a reply that is complete. It must not know what the reply
//! means. Its invariant: it never calls itself and never allocates, so that nesting costs nothing.

use super::{Fault, Malformed};

/// A place in a reply.
pub struct Reader<'a> {
    reply: &'a [u8],
    at: usize,
}

/// A value, or the head of one that holds others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Integer(i64),
    /// So many values follow.
    List(usize),
    /// So many pairs of values follow.
    Map(usize),
    Null,
    /// A double, boolean or big number.
    Other,
    Text(&'a [u8]),
}

impl<'a> Reader<'a> {
    pub const fn new(reply: &'a [u8]) -> Self {
        Self { reply, at: 0 }
    }

    /// The next value. Attributes before it are left out.
    pub fn value(&mut self) -> Result<Value<'a>, Malformed> {
        loop {
            let start = self.at;
            let (kind, line) = self.line()?;
            return Ok(match kind {
                b'|' => {
                    let pairs = self.count(line)?;
                    self.skip_values(pairs.saturating_mul(2))?;
                    continue;
                }
                b'-' | b'!' => return Err(fault_at(start, Fault::Refused)),
                b'+' => Value::Text(line),
                b':' => Value::Integer(self.number(line)?),
                b'$' | b'*' if line == b"-1" => Value::Null,
                b'$' | b'=' => Value::Text(self.bulk(line)?),
                b'*' | b'~' => Value::List(self.count(line)?),
                b'%' => Value::Map(self.count(line)?),
                b'_' => Value::Null,
                b',' | b'#' | b'(' => Value::Other,
                _ => return Err(fault_at(start, Fault::Kind)),
            });
        }
    }

    pub fn text(&mut self) -> Result<&'a [u8], Malformed> {
        match self.value()? {
            Value::Text(text) => Ok(text),
            _ => Err(self.fault(Fault::Kind)),
        }
    }

    pub fn integer(&mut self) -> Result<i64, Malformed> {
        match self.value()? {
            Value::Integer(integer) => Ok(integer),
            _ => Err(self.fault(Fault::Kind)),
        }
    }

    /// How many values follow in a list.
    pub fn list(&mut self) -> Result<usize, Malformed> {
        match self.value()? {
            Value::List(count) => Ok(count),
            Value::Null => Ok(0),
            _ => Err(self.fault(Fault::Kind)),
        }
    }

    /// How many pairs follow in a map, which RESP2 writes as a list.
    pub fn pairs(&mut self) -> Result<usize, Malformed> {
        match self.value()? {
            Value::List(count) if count.is_multiple_of(2) => Ok(count / 2),
            Value::Map(count) => Ok(count),
            _ => Err(self.fault(Fault::Kind)),
        }
    }

    /// Passes over one value and all that it holds.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        self.skip_values(1)
    }

    /// Nothing may follow.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.at == self.reply.len() {
            Ok(())
        } else {
            Err(self.fault(Fault::Excess))
        }
    }

    pub const fn fault(&self, fault: Fault) -> Malformed {
        fault_at(self.at, fault)
    }

    fn skip_values(&mut self, count: usize) -> Result<(), Malformed> {
        // Each of them takes bytes, so that the count cannot outlast the reply.
        let mut left = count;
        while left > 0 {
            left -= 1;
            let (kind, line) = self.line()?;
            let held = match kind {
                b'$' | b'*' if line == b"-1" => 0,
                b'$' | b'=' | b'!' => {
                    self.bulk(line)?;
                    0
                }
                b'*' | b'~' | b'>' => self.count(line)?,
                b'%' => self.count(line)?.saturating_mul(2),
                b'|' => self.count(line)?.saturating_mul(2).saturating_add(1),
                _ => 0,
            };
            left = left.saturating_add(held);
        }
        Ok(())
    }

    /// First byte and rest of the next line.
    fn line(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let rest = &self.reply[self.at..];
        // A line holds no CR but the one that ends it.
        let end = rest.iter().position(|byte| *byte == b'\r');
        let end = end.ok_or(self.fault(Fault::End))?;
        if rest.get(end + 1) != Some(&b'\n') {
            return Err(self.fault(Fault::End));
        }
        let (kind, line) = rest[..end].split_first().ok_or(self.fault(Fault::Kind))?;
        self.at += end + 2;
        Ok((*kind, line))
    }

    fn bulk(&mut self, line: &[u8]) -> Result<&'a [u8], Malformed> {
        let len = self.count(line)?;
        let rest = &self.reply[self.at..];
        let (text, rest) = rest.split_at_checked(len).ok_or(self.fault(Fault::End))?;
        if !rest.starts_with(b"\r\n") {
            return Err(self.fault(Fault::End));
        }
        self.at += len + 2;
        Ok(text)
    }

    /// A count of things that take a byte each at least, so that it cannot exceed what is left.
    fn count(&self, line: &[u8]) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number(line)?).ok();
        let is_possible = |count: &usize| *count <= self.reply.len() - self.at;
        count.filter(is_possible).ok_or(self.fault(Fault::Number))
    }

    fn number(&self, line: &[u8]) -> Result<i64, Malformed> {
        let text = str::from_utf8(line).ok();
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or(self.fault(Fault::Number))
    }
}

const fn fault_at(at: usize, fault: Fault) -> Malformed {
    Malformed { at, fault }
}

//! The attributes of a SCRAM message.
//!
//! Holds the reading of `a=value,b=value`. It must not know what they mean. Its invariant: the
//! whole message is accounted for.

use super::exchange::ScramError;

/// What is left to read of a message.
pub(super) struct Attributes<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Attributes<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self {
            rest: Some(message),
        }
    }

    /// The next attribute, whatever it is, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, ScramError> {
        let Some(rest) = self.rest else {
            return Ok(None);
        };
        let end = rest.iter().position(|byte| *byte == b',');
        let (attribute, rest) = match end {
            None => (rest, None),
            Some(end) => (&rest[..end], Some(&rest[end + 1..])),
        };
        self.rest = rest;
        match attribute {
            [name, b'=', value @ ..] if name.is_ascii_alphabetic() => Ok(Some((*name, value))),
            _ => Err(ScramError::Malformed("Attribute expected.")),
        }
    }

    /// The value of the next attribute, which has to be this one.
    pub(super) fn expect(&mut self, name: u8) -> Result<&'a [u8], ScramError> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(ScramError::Malformed("Another attribute expected.")),
        }
    }

    /// Whether nothing is left.
    pub(super) const fn is_finished(&self) -> bool {
        self.rest.is_none()
    }
}

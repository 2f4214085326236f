//! The fields of an error or notice.
//!
//! Holds the walk over them. It must not know what an error means for a session. Its invariant: the
//! list was checked to its end before the first field is read.

use crate::postgres::reader::{MessageError, Reader};

/// The fields of an ErrorResponse or NoticeResponse, in the order they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Checks a whole body.
    pub fn decode(body: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(body);
        while reader.u8()? != 0 {
            reader.string()?;
        }
        reader.finish()?;
        Ok(Self { bytes: body })
    }

    /// The first field with this code.
    pub fn field(self, code: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| *found == code)
            .map(|(_, text)| text)
    }

    /// All fields: code and text.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let code = reader.u8().ok().filter(|code| *code != 0)?;
            Some((code, reader.string().ok()?))
        })
    }

    /// The severity, in English where the node gives that too.
    pub fn severity(self) -> &'a [u8] {
        self.field(b'V')
            .or_else(|| self.field(b'S'))
            .unwrap_or_default()
    }

    /// The five characters that say what went wrong; empty if the node gave none.
    pub fn sqlstate(self) -> &'a [u8] {
        self.field(b'C').unwrap_or_default()
    }

    /// The text for people.
    pub fn message(self) -> &'a [u8] {
        self.field(b'M').unwrap_or_default()
    }

    /// Whether the node ends the connection behind this message.
    pub fn is_fatal(self) -> bool {
        matches!(self.severity(), b"FATAL" | b"PANIC")
    }
}

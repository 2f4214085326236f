//! Reading the fields of one message's body.
//!
//! Holds the cursor that all decoders share and the error that they answer. It must not know which
//! message it reads. Its invariant: every read is checked against what is left of the body.

use std::ffi::CStr;

use thiserror::Error;

/// The sender of a message broke the format. The texts are what PostgreSQL says of the same fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// A function call with several format codes, but not one for each argument.
    #[error("function call message contains {formats} argument formats but {arguments} arguments")]
    ArgumentFormats {
        /// How many format codes came.
        formats: u16,
        /// How many arguments came.
        arguments: u16,
    },
    /// An authentication packet that is not one text with its terminator.
    #[error("invalid password packet size")]
    Password,
    /// A value's format is neither text nor binary.
    #[error("unsupported format code: {0}")]
    Format(u16),
    /// Bytes are left over behind the last field.
    #[error("invalid message format")]
    Overlong,
    /// A ReadyForQuery with a transaction status that does not exist.
    #[error("invalid transaction status {}", .0.escape_ascii())]
    Status(u8),
    /// A Close or Describe of something that is neither statement nor portal.
    #[error("invalid message subtype {0}")]
    Target(u8),
    /// The body ends within a field.
    #[error("insufficient data left in message")]
    Truncated,
    /// No such message type in this direction.
    #[error("invalid message type {}", .0.escape_ascii())]
    UnknownTag(u8),
    /// A text lacks its terminator.
    #[error("invalid string in message")]
    Unterminated,
}

impl MessageError {
    /// The SQLSTATE under which PostgreSQL reports this.
    pub const fn sqlstate(self) -> [u8; 5] {
        match self {
            Self::Format(_) => *b"22023",
            _ => *b"08P01",
        }
    }
}

/// What is left to read of a body.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(super) const fn rest(self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(MessageError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, MessageError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn i32(&mut self) -> Result<i32, MessageError> {
        self.array().map(i32::from_be_bytes)
    }

    /// A text up to its terminator, which is consumed and not part of the answer.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a [u8], MessageError> {
        let text =
            CStr::from_bytes_until_nul(self.bytes).map_err(|_| MessageError::Unterminated)?;
        let text = text.to_bytes();
        self.bytes = &self.bytes[text.len() + 1..];
        Ok(text)
    }

    /// A length word and that many bytes, or `None` for the length -1 that stands for NULL.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Option<&'a [u8]>, MessageError> {
        let len = self.i32()?;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| MessageError::Truncated)?;
        self.take(len).map(Some)
    }

    /// A count and that many format codes, each text or binary. Answers the count.
    #[inline]
    pub(super) fn formats(&mut self) -> Result<u16, MessageError> {
        let count = self.u16()?;
        let (codes, _) = self.take(usize::from(count) * 2)?.as_chunks::<2>();
        for &code in codes {
            let code = u16::from_be_bytes(code);
            if code > 1 {
                return Err(MessageError::Format(code));
            }
        }
        Ok(count)
    }

    #[inline]
    pub(super) const fn finish(self) -> Result<(), MessageError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(MessageError::Overlong)
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(MessageError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }
}

/// A run of texts, each with its terminator, checked beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strings<'a> {
    bytes: &'a [u8],
}

impl<'a> Strings<'a> {
    /// Checks that `bytes` holds `count` texts and nothing else.
    pub(super) fn decode_counted(bytes: &'a [u8], count: u32) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        for _ in 0..count {
            reader.string()?;
        }
        reader.finish()?;
        Ok(Self { bytes })
    }

    /// Checks that `bytes` holds texts, an empty one as the last, and nothing else.
    pub(super) fn decode_terminated(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        while !reader.string()?.is_empty() {}
        reader.finish()?;
        Ok(Self {
            bytes: &bytes[..bytes.len() - 1],
        })
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut reader = Reader::new(self.bytes);
        let text = reader.string().ok()?;
        self.bytes = reader.rest();
        Some(text)
    }
}

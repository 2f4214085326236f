//! The first packet of a connection.
//!
//! Holds the four things that it can be. It must not know who may log in. Its invariant: a peer
//! that does not speak PostgreSQL is told from four bytes wherever they tell it.

use thiserror::Error;

use super::reader::Reader;

/// The packet's code that stands for a cancel request.
pub(super) const CANCEL_CODE: u32 = request_code(5678);
/// The packet's code that asks for TLS.
pub(super) const SSL_CODE: u32 = request_code(5679);
/// The packet's code that asks for encryption by GSSAPI.
const GSS_ENC_CODE: u32 = request_code(5680);

/// Bytes of the length word and the code.
const PREFIX_LEN: usize = 8;

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup<'a> {
    /// Cancel what another connection does; this one is closed without an answer.
    Cancel {
        /// The process that the other connection was told.
        pid: u32,
        /// The secret that it was told, 4 to 256 bytes.
        secret: &'a [u8],
    },
    /// May the rest be encrypted by GSSAPI? One byte answers, then another packet comes.
    GssEncRequest,
    /// May the rest be encrypted by TLS? One byte answers, then another packet comes.
    SslRequest,
    /// A session begins.
    Start(Start<'a>),
}

/// A session's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// Always 3.
    pub major: u16,
    /// 0 or 2 so far; any is accepted here, to be negotiated.
    pub minor: u16,
    list: &'a [u8],
}

impl<'a> Start<'a> {
    /// Names and values, in the order they came; a name may come twice, and the last one counts.
    pub fn parameters(&self) -> Parameters<'a> {
        Parameters {
            reader: Reader::new(self.list),
        }
    }
}

/// Walks over a session's parameters.
#[derive(Clone)]
pub struct Parameters<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.reader.string().ok()?;
        Some((name, self.reader.string().ok()?))
    }
}

/// The peer's first packet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StartupError {
    /// The packet breaks its own format.
    #[error("invalid startup packet layout")]
    Malformed,
    /// The packet is longer than any should be; probably another protocol.
    #[error("invalid length of startup packet: {len} bytes, limit {len_max}")]
    TooLong {
        /// Bytes announced.
        len: usize,
        /// Bytes allowed.
        len_max: usize,
    },
    /// The packet is too short to say anything.
    #[error("invalid length of startup packet: {len} bytes")]
    TooShort {
        /// Bytes announced.
        len: usize,
    },
    /// The peer speaks another major version.
    #[error("unsupported frontend protocol {major}.{minor}: only 3.x is supported")]
    Version {
        /// The major version asked for.
        major: u16,
        /// The minor version asked for.
        minor: u16,
    },
}

/// The first packet and its length, or `None` until it is complete. PostgreSQL allows 10 000 bytes.
pub fn decode(bytes: &[u8], len_max: usize) -> Result<Option<(Startup<'_>, usize)>, StartupError> {
    let Some(word) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*word) as usize;
    if len > len_max {
        return Err(StartupError::TooLong { len, len_max });
    }
    if len < PREFIX_LEN {
        return Err(StartupError::TooShort { len });
    }
    let Some(&[_, _, _, _, a, b, c, d]) = bytes.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let code = u32::from_be_bytes([a, b, c, d]);
    check_code(code)?;
    let Some(packet) = bytes.get(..len) else {
        return Ok(None);
    };
    Ok(Some((decode_packet(code, &packet[PREFIX_LEN..])?, len)))
}

fn check_code(code: u32) -> Result<(), StartupError> {
    let (major, minor) = version(code);
    if major == 3 || matches!(code, CANCEL_CODE | SSL_CODE | GSS_ENC_CODE) {
        return Ok(());
    }
    Err(StartupError::Version { major, minor })
}

fn decode_packet(code: u32, body: &[u8]) -> Result<Startup<'_>, StartupError> {
    match code {
        CANCEL_CODE => decode_cancel(body),
        SSL_CODE if body.is_empty() => Ok(Startup::SslRequest),
        GSS_ENC_CODE if body.is_empty() => Ok(Startup::GssEncRequest),
        SSL_CODE | GSS_ENC_CODE => Err(StartupError::Malformed),
        _ => decode_start(code, body),
    }
}

fn decode_cancel(body: &[u8]) -> Result<Startup<'_>, StartupError> {
    match body.split_first_chunk::<4>() {
        Some((pid, secret)) if (4..=256).contains(&secret.len()) => Ok(Startup::Cancel {
            pid: u32::from_be_bytes(*pid),
            secret,
        }),
        _ => Err(StartupError::Malformed),
    }
}

fn decode_start(code: u32, body: &[u8]) -> Result<Startup<'_>, StartupError> {
    let mut reader = Reader::new(body);
    loop {
        let name = reader.string().map_err(|_| StartupError::Malformed)?;
        if name.is_empty() {
            break;
        }
        reader.string().map_err(|_| StartupError::Malformed)?;
    }
    reader.finish().map_err(|_| StartupError::Malformed)?;
    let (major, minor) = version(code);
    Ok(Startup::Start(Start {
        major,
        minor,
        list: &body[..body.len() - 1],
    }))
}

const fn version(code: u32) -> (u16, u16) {
    ((code >> 16) as u16, code as u16)
}

/// Requests that are no session carry a major version that will never exist.
const fn request_code(minor: u32) -> u32 {
    1234 << 16 | minor
}

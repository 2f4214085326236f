//! The encoders of what nodes send, for the replies that the proxy makes itself.
//!
//! Holds one function per message, each appending to the caller's buffer. It must not know why a
//! reply is made. Its invariant: what is appended is what PostgreSQL would have sent.

use super::Status;
use crate::postgres::writer::{count, foreign_string, message, string, value};

/// The object id of type `text`.
const TEXT_OID: u32 = 25;

/// A column of a result that the proxy makes, in text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name.
    pub name: &'a str,
    /// The object id of its type.
    pub type_oid: u32,
    /// Bytes of the type's values, or -1 where they differ.
    pub type_len: i16,
}

/// What an error or notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// Five characters that programs read.
    pub sqlstate: [u8; 5],
    /// One line for people.
    pub message: &'a str,
    /// More of it.
    pub detail: Option<&'a str>,
    /// What to do about it.
    pub hint: Option<&'a str>,
}

impl<'a> ErrorFields<'a> {
    /// An error without detail and hint.
    pub const fn new(severity: Severity, sqlstate: [u8; 5], message: &'a str) -> Self {
        Self {
            severity,
            sqlstate,
            message,
            detail: None,
            hint: None,
        }
    }
}

/// How bad an error or notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// An answer that is no complaint.
    Info,
    /// A remark.
    Notice,
    /// A remark to heed.
    Warning,
}

impl Severity {
    /// As it goes over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// Appends an ErrorResponse.
pub fn encode_error(out: &mut Vec<u8>, fields: &ErrorFields<'_>) {
    encode_fields(out, b'E', fields);
}

/// Appends a NoticeResponse.
pub fn encode_notice(out: &mut Vec<u8>, fields: &ErrorFields<'_>) {
    encode_fields(out, b'N', fields);
}

/// Appends a ParameterStatus.
pub fn encode_parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, b'S', |out| {
        string(out, name);
        string(out, value);
    });
}

/// Appends a BackendKeyData. Clients of protocol 3.0 expect a secret of four bytes.
pub fn encode_backend_key_data(out: &mut Vec<u8>, pid: u32, secret: &[u8]) {
    debug_assert!((4..=256).contains(&secret.len()));
    message(out, b'K', |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Appends a ReadyForQuery.
#[inline]
pub fn encode_ready_for_query(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, status.byte()]);
}

/// Appends a ParseComplete.
#[inline]
pub fn encode_parse_complete(out: &mut Vec<u8>) {
    out.extend_from_slice(b"1\0\0\0\x04");
}

/// Appends a BindComplete.
#[inline]
pub fn encode_bind_complete(out: &mut Vec<u8>) {
    out.extend_from_slice(b"2\0\0\0\x04");
}

/// Appends a CloseComplete.
#[inline]
pub fn encode_close_complete(out: &mut Vec<u8>) {
    out.extend_from_slice(b"3\0\0\0\x04");
}

/// Appends a NoData.
#[inline]
pub fn encode_no_data(out: &mut Vec<u8>) {
    out.extend_from_slice(b"n\0\0\0\x04");
}

/// Appends a CommandComplete with this tag.
pub fn encode_command_complete(out: &mut Vec<u8>, tag: &[u8]) {
    message(out, b'C', |out| string(out, tag));
}

/// Appends an EmptyQueryResponse.
pub fn encode_empty_query(out: &mut Vec<u8>) {
    out.extend_from_slice(b"I\0\0\0\x04");
}

/// Appends a RowDescription with columns of type `text`.
pub fn encode_row_description_text(out: &mut Vec<u8>, names: &[&str]) {
    let columns = names.iter().map(|name| Column {
        name,
        type_oid: TEXT_OID,
        type_len: -1,
    });
    encode_columns(out, columns);
}

/// Appends a RowDescription with columns of any type, all in text format.
pub fn encode_row_description(out: &mut Vec<u8>, columns: &[Column<'_>]) {
    encode_columns(out, columns.iter().copied());
}

/// Appends a DataRow; `None` stands for NULL.
pub fn encode_data_row_text(out: &mut Vec<u8>, values: &[Option<&[u8]>]) {
    message(out, b'D', |out| {
        out.extend_from_slice(&count(values.len()));
        for bytes in values {
            value(out, *bytes);
        }
    });
}

/// Appends a NegotiateProtocolVersion that offers version 3.`minor` and lists unknown `options`.
pub fn encode_negotiate_protocol_version(out: &mut Vec<u8>, minor: u16, options: &[&[u8]]) {
    message(out, b'v', |out| {
        out.extend_from_slice(&(3 << 16 | u32::from(minor)).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&count(options.len()));
        for option in options {
            string(out, option);
        }
    });
}

/// Appends an AuthenticationOk.
pub fn encode_authentication_ok(out: &mut Vec<u8>) {
    encode_authentication(out, 0, &[]);
}

/// Appends the request for a clear password.
pub fn encode_authentication_cleartext(out: &mut Vec<u8>) {
    encode_authentication(out, 3, &[]);
}

/// Appends the request for a password hashed with this salt.
pub fn encode_authentication_md5(out: &mut Vec<u8>, salt: [u8; 4]) {
    encode_authentication(out, 5, &salt);
}

/// Appends the offer of these SASL mechanisms.
pub fn encode_authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&[u8]]) {
    message(out, b'R', |out| {
        out.extend_from_slice(&10_u32.to_be_bytes());
        for mechanism in mechanisms {
            string(out, mechanism);
        }
        out.push(0);
    });
}

/// Appends a SASL mechanism's next message.
pub fn encode_authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    encode_authentication(out, 11, data);
}

/// Appends a SASL mechanism's last message.
pub fn encode_authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    encode_authentication(out, 12, data);
}

fn encode_authentication(out: &mut Vec<u8>, method: u32, data: &[u8]) {
    message(out, b'R', |out| {
        out.extend_from_slice(&method.to_be_bytes());
        out.extend_from_slice(data);
    });
}

fn encode_fields(out: &mut Vec<u8>, tag: u8, fields: &ErrorFields<'_>) {
    let severity = fields.severity.as_str();
    let texts = [
        (b'S', Some(severity.as_bytes())),
        (b'V', Some(severity.as_bytes())),
        (b'C', Some(fields.sqlstate.as_slice())),
        (b'M', Some(fields.message.as_bytes())),
        (b'D', fields.detail.map(str::as_bytes)),
        (b'H', fields.hint.map(str::as_bytes)),
    ];
    message(out, tag, |out| {
        for (code, text) in texts {
            let Some(text) = text else { continue };
            out.push(code);
            // Texts may quote what a peer sent, terminators and all.
            foreign_string(out, text);
        }
        out.push(0);
    });
}

fn encode_columns<'a>(out: &mut Vec<u8>, columns: impl ExactSizeIterator<Item = Column<'a>>) {
    message(out, b'T', |out| {
        out.extend_from_slice(&count(columns.len()));
        for column in columns {
            string(out, column.name.as_bytes());
            // From no table.
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&column.type_oid.to_be_bytes());
            out.extend_from_slice(&column.type_len.to_be_bytes());
            // No modifier.
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            // In text format.
            out.extend_from_slice(&[0; 2]);
        }
    });
}

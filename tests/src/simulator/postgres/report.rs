//! Errors and notices of a simulated session, and the other messages it writes.
//!
//! Knows how replies are spelled, not when they are due.

use crate::simulator::wire::{Body, append};

/// An ErrorResponse or NoticeResponse.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// ERROR, FATAL, WARNING or NOTICE.
    pub severity: &'static str,
    /// SQLSTATE.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Report {
    /// An ERROR.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: "ERROR",
            code,
            message: message.into(),
        }
    }

    /// A FATAL.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: "FATAL",
            code,
            message: message.into(),
        }
    }

    /// A WARNING.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: "WARNING",
            code,
            message: message.into(),
        }
    }

    /// Writes it, as an error or as a notice by its severity.
    pub fn send(&self, out: &mut Vec<u8>) {
        let tag = if matches!(self.severity, "ERROR" | "FATAL") {
            b'E'
        } else {
            b'N'
        };
        let body = Body::default()
            .raw(b"S")
            .text(self.severity)
            .raw(b"V")
            .text(self.severity);
        let body = body.raw(b"C").text(self.code).raw(b"M").text(&self.message);
        body.raw(&[0]).send(out, tag);
    }
}

/// RowDescription of text columns, or of a function's that returns nothing.
pub fn send_columns(out: &mut Vec<u8>, columns: &[String]) {
    let count = i16::try_from(columns.len()).expect("few columns");
    let mut body = Body::default().int16(count);
    for column in columns {
        // What returns void tells so.
        let (oid, length) = match column.as_str() {
            "pg_advisory_unlock_all" => (2278, 4),
            _ => (25, -1),
        };
        body = body
            .text(column)
            .int32(0)
            .int16(0)
            .int32(oid)
            .int16(length)
            .int32(-1)
            .int16(0);
    }
    body.send(out, b'T');
}

/// The values of a row; `None` is NULL.
pub type Row = Vec<Option<Vec<u8>>>;

/// DataRow.
pub fn send_row(out: &mut Vec<u8>, values: &Row) {
    let count = i16::try_from(values.len()).expect("few columns");
    let body = values
        .iter()
        .fold(Body::default().int16(count), |body, value| match value {
            Some(value) => body.sized(value),
            None => body.int32(-1),
        });
    body.send(out, b'D');
}

/// CommandComplete.
pub fn send_complete(out: &mut Vec<u8>, tag: &str) {
    Body::default().text(tag).send(out, b'C');
}

/// ParameterStatus.
pub fn send_setting(out: &mut Vec<u8>, name: &str, value: &str) {
    Body::default().text(name).text(value).send(out, b'S');
}

/// NotificationResponse.
pub fn send_notification(out: &mut Vec<u8>, pid: i32, channel: &str, payload: &str) {
    Body::default()
        .int32(pid)
        .text(channel)
        .text(payload)
        .send(out, b'A');
}

/// A message without a body: ParseComplete, NoData …
pub fn send_bare(out: &mut Vec<u8>, tag: u8) {
    append(out, tag, &[]);
}

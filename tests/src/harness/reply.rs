//! What came back, with the questions that tests ask of it.
//!
//! Only looks at frames; holds no connection.

use std::collections::BTreeMap;

use super::frames::Frame;

/// The fields of an error or a notice by their type letters.
pub type Fields = BTreeMap<char, String>;

/// The frames that answered something.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// All of them, in order.
    pub frames: Vec<Frame>,
}

impl Reply {
    /// The type bytes as a word, such as `TDDCZ`.
    pub fn tags(&self) -> String {
        self.frames
            .iter()
            .map(|frame| char::from(frame.tag))
            .collect()
    }

    /// The rows as text; binary values are shown as they are.
    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        self.frames
            .iter()
            .filter(|frame| frame.tag == b'D')
            .map(decode_row)
            .collect()
    }

    /// The value in the first column of the first row.
    pub fn value(&self) -> String {
        match self.rows().first().and_then(|row| row.first().cloned()) {
            Some(Some(value)) => value,
            other => panic!(
                "no value ({other:?}) in {}: {:?}",
                self.tags(),
                self.error()
            ),
        }
    }

    /// The values in the first column of all rows.
    pub fn column(&self) -> Vec<String> {
        let first = |row: Vec<Option<String>>| row.into_iter().next().flatten();
        self.rows()
            .into_iter()
            .map(|row| first(row).unwrap_or_default())
            .collect()
    }

    /// The first error.
    pub fn error(&self) -> Option<Fields> {
        self.frames
            .iter()
            .find(|frame| frame.tag == b'E')
            .map(decode_fields)
    }

    /// The SQLSTATE of the first error, or nothing.
    pub fn sqlstate(&self) -> String {
        self.error()
            .and_then(|fields| fields.get(&'C').cloned())
            .unwrap_or_default()
    }

    /// The SQLSTATEs of all errors.
    pub fn sqlstates(&self) -> Vec<String> {
        let errors = self
            .frames
            .iter()
            .filter(|frame| frame.tag == b'E')
            .map(decode_fields);
        errors
            .map(|fields| fields.get(&'C').cloned().unwrap_or_default())
            .collect()
    }

    /// The command tags, such as `SELECT 1`.
    pub fn commands(&self) -> Vec<String> {
        let complete = self.frames.iter().filter(|frame| frame.tag == b'C');
        complete.map(|frame| decode_text(&frame.body).0).collect()
    }

    /// The transaction status of the last ReadyForQuery: `I`, `T` or `E`.
    pub fn status(&self) -> Option<char> {
        let ready = self.frames.iter().rev().find(|frame| frame.tag == b'Z')?;
        ready.body.first().copied().map(char::from)
    }

    /// The messages of all notices.
    pub fn notices(&self) -> Vec<String> {
        let notices = self
            .frames
            .iter()
            .filter(|frame| frame.tag == b'N')
            .map(decode_fields);
        notices
            .map(|fields| fields.get(&'M').cloned().unwrap_or_default())
            .collect()
    }

    /// The settings that were reported.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.frames
            .iter()
            .filter(|frame| frame.tag == b'S')
            .map(decode_setting)
            .collect()
    }

    /// The notifications: sender, channel and payload.
    pub fn notifications(&self) -> Vec<(u32, String, String)> {
        let frames = self.frames.iter().filter(|frame| frame.tag == b'A');
        frames
            .map(|frame| decode_notification(&frame.body))
            .collect()
    }

    /// The COPY data, joined.
    pub fn copied(&self) -> Vec<u8> {
        let pieces = self.frames.iter().filter(|frame| frame.tag == b'd');
        pieces
            .flat_map(|frame| frame.body.iter().copied())
            .collect()
    }
}

/// The text in front of the first terminator, and what follows it.
pub(super) fn decode_text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .expect("a terminator");
    (
        String::from_utf8_lossy(&bytes[..end]).into_owned(),
        &bytes[end + 1..],
    )
}

/// A number of two bytes and what follows it.
pub(super) fn decode_u16(bytes: &[u8]) -> (u16, &[u8]) {
    (
        u16::from_be_bytes(bytes[..2].try_into().expect("two bytes")),
        &bytes[2..],
    )
}

/// A number of four bytes and what follows it.
pub(super) fn decode_u32(bytes: &[u8]) -> (u32, &[u8]) {
    (
        u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")),
        &bytes[4..],
    )
}

/// The raw values of a row.
pub(super) fn decode_values(row: &Frame) -> Vec<Option<Vec<u8>>> {
    let (count, mut rest) = decode_u16(&row.body);
    let mut values = Vec::new();
    for _ in 0..count {
        let (length, after) = decode_u32(rest);
        rest = after;
        values.push(if length == u32::MAX {
            None
        } else {
            let (value, after) = rest.split_at(length as usize);
            rest = after;
            Some(value.to_vec())
        });
    }
    assert!(rest.is_empty(), "bytes behind the last value");
    values
}

/// The values of a row as text.
fn decode_row(row: &Frame) -> Vec<Option<String>> {
    let values = decode_values(row).into_iter();
    values
        .map(|value| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        .collect()
}

/// The fields of an error or a notice.
pub(super) fn decode_fields(frame: &Frame) -> Fields {
    let mut fields = Fields::new();
    let mut rest = &frame.body[..];
    while rest[0] != 0 {
        let (value, after) = decode_text(&rest[1..]);
        fields.insert(char::from(rest[0]), value);
        rest = after;
    }
    assert_eq!(rest, [0], "bytes behind the last field");
    fields
}

/// A reported setting.
pub(super) fn decode_setting(frame: &Frame) -> (String, String) {
    let (name, rest) = decode_text(&frame.body);
    (name, decode_text(rest).0)
}

/// The sender, the channel and the payload of a notification.
pub(super) fn decode_notification(body: &[u8]) -> (u32, String, String) {
    let (pid, rest) = decode_u32(body);
    let (channel, rest) = decode_text(rest);
    (pid, channel, decode_text(rest).0)
}

//! What clients saw, written down so that two runs can be compared.
//!
//! Lossless except for what must differ between two runs: cancel keys, numbers of objects made by
//! the run, and the pids of notifications. The order of settings reported together is not defined
//! by the protocol and is sorted.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::frames::Frame;
use super::reply::{
    decode_fields, decode_notification, decode_setting, decode_text, decode_u16, decode_u32,
    decode_values,
};

/// The first number that PostgreSQL gives to an object of a user's.
const USER_OID_MIN: u32 = 16_384;

/// Values above this many bytes are written as their length and a checksum.
const VALUE_SHOWN_MAX: usize = 200;

/// Lines about what was done and what came.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The lines so far.
    lines: Vec<String>,
    /// The numbers of the run's own objects, in the order of appearance.
    objects: BTreeMap<u32, usize>,
    /// Texts to replace, with what stands for them.
    masks: Vec<(String, String)>,
}

impl Transcript {
    /// Replaces a text wherever it comes from now on.
    pub fn mask(&mut self, text: &str, shown: &str) {
        self.masks.push((text.to_owned(), shown.to_owned()));
    }

    /// Writes down what a client does.
    pub fn note(&mut self, who: &str, what: &str) {
        self.push(format!("{who} > {what}"));
    }

    /// Writes down what a client got.
    pub fn frames(&mut self, who: &str, frames: &[Frame]) {
        let mut settings = Vec::new();
        for frame in frames {
            let line = self.describe(frame);
            if frame.tag == b'S' {
                settings.push(line);
                continue;
            }
            self.push_settings(who, &mut settings);
            self.push(format!("{who} < {line}"));
        }
        self.push_settings(who, &mut settings);
    }

    /// Writes down settings that came together.
    fn push_settings(&mut self, who: &str, settings: &mut Vec<String>) {
        settings.sort();
        for line in settings.drain(..) {
            self.push(format!("{who} < {line}"));
        }
    }

    /// Adds a line, masked.
    fn push(&mut self, mut line: String) {
        for (text, shown) in &self.masks {
            line = line.replace(text, shown);
        }
        self.lines.push(line);
    }

    /// A frame in words.
    fn describe(&mut self, frame: &Frame) -> String {
        let body = &frame.body;
        match frame.tag {
            b'A' => {
                let (_, channel, payload) = decode_notification(body);
                format!("Notification {channel} {payload:?}")
            }
            b'C' => format!("Complete {}", decode_text(body).0),
            b'D' => self.describe_row(frame),
            b'E' => format!("Error {:?}", decode_fields(frame)),
            b'K' => format!("Key of {} bytes", body.len()),
            b'N' => format!("Notice {:?}", decode_fields(frame)),
            b'S' => format!("Setting {:?}", decode_setting(frame)),
            b'T' => self.describe_columns(body),
            b't' => self.describe_parameters(body),
            b'Z' => format!("Ready {}", char::from(body[0])),
            tag => format!("{} {}", char::from(tag), shown(body)),
        }
    }

    /// A row description in words.
    fn describe_columns(&mut self, body: &[u8]) -> String {
        let (count, mut rest) = decode_u16(body);
        let mut line = String::from("Columns");
        for _ in 0..count {
            let (name, after) = decode_text(rest);
            let (table, after) = decode_u32(after);
            let (column, after) = decode_u16(after);
            let (kind, after) = decode_u32(after);
            let (sizes, after) = after.split_at(8);
            let (table, kind) = (self.object(table), self.object(kind));
            let _ = write!(line, " [{name} {table}.{column} {kind} {sizes:?}]");
            rest = after;
        }
        assert!(rest.is_empty(), "bytes behind the last column");
        line
    }

    /// A parameter description in words.
    fn describe_parameters(&mut self, body: &[u8]) -> String {
        let (count, mut rest) = decode_u16(body);
        let mut line = String::from("Parameters");
        for _ in 0..count {
            let (kind, after) = decode_u32(rest);
            let _ = write!(line, " {}", self.object(kind));
            rest = after;
        }
        line
    }

    /// A row in words.
    fn describe_row(&mut self, frame: &Frame) -> String {
        let mut line = String::from("Row");
        for value in decode_values(frame) {
            let value = value.map_or_else(|| "NULL".to_owned(), |bytes| shown(&bytes));
            let _ = write!(line, " [{value}]");
        }
        line
    }

    /// The number of an object; one that the run has made is shown by its place in the run.
    fn object(&mut self, oid: u32) -> String {
        if oid < USER_OID_MIN {
            return oid.to_string();
        }
        let next = self.objects.len();
        format!("#{}", self.objects.entry(oid).or_insert(next))
    }

    /// The lines so far.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// Bytes as readable text; long ones as their length and a checksum.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= VALUE_SHOWN_MAX {
        return bytes.escape_ascii().to_string();
    }
    format!("{} bytes, checksum {:016x}", bytes.len(), checksum(bytes))
}

/// FNV-1a over words, and then over the bytes that are left: enough to notice a difference.
pub fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        step(sum, u64::from_be_bytes(*word))
    });
    rest.iter()
        .fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}

/// Fails with the first difference and what led to it.
pub fn assert_same(direct: &Transcript, proxied: &Transcript, how: &str) {
    let (left, right) = (direct.lines(), proxied.lines());
    let same = left
        .iter()
        .zip(right)
        .take_while(|(left, right)| left == right)
        .count();
    if same == left.len() && same == right.len() {
        return;
    }
    let before = left[same.saturating_sub(12)..same].join("\n    ");
    let rest = |lines: &[String]| lines[same..].iter().take(6).cloned().collect::<Vec<_>>();
    panic!(
        "{how} differs from direct in line {same}:\n    {before}\n  direct:\n    {}\n  {how}:\n    {}\n",
        rest(left).join("\n    "),
        rest(right).join("\n    "),
    );
}

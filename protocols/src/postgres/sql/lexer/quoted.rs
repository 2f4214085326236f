//! Whatever stands in quotes.
//!
//! Holds the extent of strings and quoted identifiers. It must not know what they say. Its
//! invariant: without its closing quote a token is malformed and reaches to the end of the text.

use super::{Kind, line_comment_end};

/// A string without backslash escapes, from behind its opening quote.
#[inline]
pub(super) fn plain(text: &[u8], start: usize, kind: Kind) -> (Kind, usize) {
    let mut position = start;
    loop {
        let Some(len) = text[position..].iter().position(|byte| *byte == b'\'') else {
            return (Kind::Malformed, text.len());
        };
        position += len + 1;
        match next_part(text, position) {
            None => return (kind, position),
            Some(next) => position = next,
        }
    }
}

/// A string of bits, from behind its opening quote. A doubled quote ends it and begins a string.
pub(super) fn bits(text: &[u8], start: usize, kind: Kind) -> (Kind, usize) {
    let mut position = start;
    loop {
        let Some(len) = text[position..].iter().position(|byte| *byte == b'\'') else {
            return (Kind::Malformed, text.len());
        };
        position += len + 1;
        match next_line_part(text, position) {
            None => return (kind, position),
            Some(next) => position = next,
        }
    }
}

/// A string with backslash escapes, from behind its opening quote.
pub(super) fn escaped(text: &[u8], start: usize) -> (Kind, usize) {
    let mut position = start;
    while position < text.len() {
        match text[position] {
            b'\\' => position += 2,
            b'\'' => match next_part(text, position + 1) {
                None => return (Kind::EscapeString, position + 1),
                Some(next) => position = next,
            },
            _ => position += 1,
        }
    }
    (Kind::Malformed, text.len())
}

/// An identifier in quotes, from behind its opening quote. PostgreSQL has no empty ones.
pub(super) fn identifier(text: &[u8], start: usize, kind: Kind) -> (Kind, usize) {
    let mut position = start;
    loop {
        let Some(len) = text[position..].iter().position(|byte| *byte == b'"') else {
            return (Kind::Malformed, text.len());
        };
        position += len + 1;
        match text.get(position) {
            Some(b'"') => position += 1,
            _ if position == start + 1 => return (Kind::Malformed, position),
            _ => return (kind, position),
        }
    }
}

/// A string in dollars, from its first dollar.
pub(super) fn dollar(text: &[u8], start: usize) -> (Kind, usize) {
    let tag_len = tag_len(&text[start + 1..]);
    if text.get(start + 1 + tag_len) != Some(&b'$') {
        return (Kind::Malformed, start + 1);
    }
    let delimiter = &text[start..start + tag_len + 2];
    let mut position = start + delimiter.len();
    while let Some(len) = text[position..].iter().position(|byte| *byte == b'$') {
        position += len;
        if text[position..].starts_with(delimiter) {
            return (Kind::DollarString, position + delimiter.len());
        }
        position += 1;
    }
    (Kind::Malformed, text.len())
}

/// Where a string goes on behind a quote: a doubled quote, or another part on another line.
#[inline]
fn next_part(text: &[u8], position: usize) -> Option<usize> {
    match text.get(position) {
        Some(b'\'') => Some(position + 1),
        Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0c | b'-') => next_line_part(text, position),
        _ => None,
    }
}

fn next_line_part(text: &[u8], mut position: usize) -> Option<usize> {
    let mut has_newline = false;
    loop {
        match text[position..] {
            [b'\n' | b'\r', ..] => {
                has_newline = true;
                position += 1;
            }
            [b' ' | b'\t' | 0x0c, ..] => position += 1,
            [b'-', b'-', ..] => position = line_comment_end(text, position + 2),
            [b'\'', ..] if has_newline => return Some(position + 1),
            _ => return None,
        }
    }
}

fn tag_len(text: &[u8]) -> usize {
    let is_tag = |index: usize, byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => true,
        b'0'..=b'9' => index > 0,
        _ => false,
    };
    let end = text
        .iter()
        .enumerate()
        .position(|(index, byte)| !is_tag(index, *byte));
    end.unwrap_or(text.len())
}

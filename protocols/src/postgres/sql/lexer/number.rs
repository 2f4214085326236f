//! Numbers and parameters.
//!
//! Holds their extent. It must not know their value. Its invariant: a number that runs into a word
//! is malformed, because PostgreSQL's releases read it in different ways.

use super::Kind;
use super::class::{is_word, is_word_start};
use super::word_end;

/// The number at `start`, where a digit stands or a point before a digit.
pub(super) fn scan(text: &[u8], start: usize) -> (Kind, usize) {
    if let [b'0', letter, ..] = text[start..]
        && let Some(is_digit) = radix(letter)
    {
        let end = digits_end(text, start + 2, is_digit);
        let end = if end == start + 2 { start + 1 } else { end };
        return finish(text, start, end, Kind::Integer);
    }
    let mut kind = Kind::Integer;
    let mut end = start;
    if text[start] != b'.' {
        end = decimal_end(text, start);
    }
    // Two points behind a number are a range and not part of it.
    if text.get(end) == Some(&b'.') && text.get(end + 1) != Some(&b'.') {
        kind = Kind::Decimal;
        end = decimal_end(text, end + 1);
    }
    if let Some(behind) = exponent_end(text, end) {
        kind = Kind::Decimal;
        end = behind;
    }
    finish(text, start, end, kind)
}

/// The parameter whose digits begin at `start`.
pub(super) fn parameter(text: &[u8], start: usize) -> (Kind, usize) {
    let len = text[start..].iter().position(|byte| !byte.is_ascii_digit());
    finish(
        text,
        start,
        len.map_or(text.len(), |len| start + len),
        Kind::Parameter,
    )
}

/// Ends the token from `start` at `end`, unless a word begins right there, or has begun within the
/// token and goes on: `1e5$1` is a number only up to the letter.
#[inline]
fn finish(text: &[u8], start: usize, end: usize, kind: Kind) -> (Kind, usize) {
    let is_joined = match text.get(end) {
        None => false,
        Some(b'$') => text[start..end]
            .iter()
            .rev()
            .take_while(|byte| is_word(**byte))
            .any(|byte| is_word_start(*byte)),
        Some(byte) => is_word_start(*byte),
    };
    if is_joined {
        (Kind::Malformed, word_end(text, end))
    } else {
        (kind, end)
    }
}

fn radix(letter: u8) -> Option<fn(&u8) -> bool> {
    match letter {
        b'b' | b'B' => Some(|byte| matches!(byte, b'0' | b'1')),
        b'o' | b'O' => Some(|byte| matches!(byte, b'0'..=b'7')),
        b'x' | b'X' => Some(u8::is_ascii_hexdigit),
        _ => None,
    }
}

#[inline]
fn decimal_end(text: &[u8], start: usize) -> usize {
    let end = match text.get(start) {
        Some(byte) if byte.is_ascii_digit() => start + 1,
        _ => return start,
    };
    digits_end(text, end, u8::is_ascii_digit)
}

/// The end of digits that may have single underscores before them.
#[inline]
fn digits_end(text: &[u8], start: usize, is_digit: fn(&u8) -> bool) -> usize {
    let mut end = start;
    loop {
        match &text[end..] {
            [byte, ..] if is_digit(byte) => end += 1,
            [b'_', byte, ..] if is_digit(byte) => end += 2,
            _ => return end,
        }
    }
}

/// The end of an exponent that begins at `start`, if a whole one does.
#[inline]
fn exponent_end(text: &[u8], start: usize) -> Option<usize> {
    let digits = match text[start..] {
        [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] => start + 2,
        [b'e' | b'E', b'0'..=b'9', ..] => start + 1,
        _ => return None,
    };
    Some(decimal_end(text, digits))
}

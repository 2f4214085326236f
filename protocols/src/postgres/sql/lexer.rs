//! PostgreSQL's lexical rules.
//!
//! Holds the splitting of a text into tokens, as PostgreSQL does it with
//! standard_conforming_strings on and a client encoding whose bytes above 127 are never part of
//! ASCII characters. It must not be used for other sessions. Its invariant: tokens come in order
//! and never overlap, and what lies between them is white space and comments only.

mod class;
mod number;
mod operator;
mod quoted;

use class::{Class, class, is_word};

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, with quotes and prefixes.
    pub text: &'a [u8],
    /// Bytes of the input before it.
    pub start: usize,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `B'…'`.
    BitString,
    /// `::`.
    Cast,
    /// A number with a point or an exponent.
    Decimal,
    /// `$$…$$` or `$tag$…$tag$`.
    DollarString,
    /// `E'…'`, with backslash escapes.
    EscapeString,
    /// `X'…'`.
    HexString,
    /// A number without point and exponent.
    Integer,
    /// What PostgreSQL would not accept: an unfinished literal or comment, which reaches to the
    /// end, or bytes that begin no token.
    Malformed,
    /// `N'…'`.
    NationalString,
    /// A run of operator characters, cut where PostgreSQL cuts it.
    Operator,
    /// `$1`.
    Parameter,
    /// One of `,()[].;:` or `..` or `:=`.
    Punctuation,
    /// `"…"`.
    QuotedIdentifier,
    /// `'…'`.
    String,
    /// `U&"…"`.
    UnicodeIdentifier,
    /// `U&'…'`.
    UnicodeString,
    /// An identifier or keyword without quotes.
    Word,
}

/// Splits a text into tokens. Allocates nothing.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the beginning of `text`.
    pub const fn new(text: &'a [u8]) -> Self {
        Self { text, position: 0 }
    }

    /// The token at `start`, where no white space and no line comment begins.
    #[inline(always)]
    fn token(&self, start: usize, class: Class) -> (Kind, usize) {
        let text = self.text;
        match class {
            Class::Word => (Kind::Word, word_end(text, start + 1)),
            Class::Prefix => prefixed(text, start),
            Class::Punctuation => punctuation(text, start),
            Class::Operator => (Kind::Operator, operator::end(text, start)),
            Class::Digit => number::scan(text, start),
            Class::Quote => quoted::plain(text, start + 1, Kind::String),
            Class::DoubleQuote => quoted::identifier(text, start + 1, Kind::QuotedIdentifier),
            Class::Dollar => dollar(text, start),
            Class::Space | Class::None => (Kind::Malformed, start + 1),
        }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Token<'a>> {
        let mut start = self.position;
        let (kind, end) = loop {
            let &first = self.text.get(start)?;
            let class = class(first);
            match class {
                Class::Space => start += 1,
                Class::Operator => match comment(self.text, start) {
                    None => break self.token(start, class),
                    Some(Ok(end)) => start = end,
                    Some(Err(end)) => break (Kind::Malformed, end),
                },
                _ => break self.token(start, class),
            }
        };
        self.position = end;
        Some(Token {
            kind,
            text: &self.text[start..end],
            start,
        })
    }
}

/// The end of the comment that begins here, if one does; the end of the text if it never ends.
#[inline]
fn comment(text: &[u8], start: usize) -> Option<Result<usize, usize>> {
    match text[start..] {
        [b'-', b'-', ..] => Some(Ok(line_comment_end(text, start + 2))),
        [b'/', b'*', ..] => Some(block_comment_end(text, start + 2)),
        _ => None,
    }
}

fn line_comment_end(text: &[u8], start: usize) -> usize {
    let len = text[start..]
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'));
    len.map_or(text.len(), |len| start + len)
}

fn block_comment_end(text: &[u8], start: usize) -> Result<usize, usize> {
    let mut depth = 1_usize;
    let mut position = start;
    while position < text.len() {
        match text[position..] {
            [b'*', b'/', ..] => {
                depth -= 1;
                position += 2;
                if depth == 0 {
                    return Ok(position);
                }
            }
            [b'/', b'*', ..] => {
                depth += 1;
                position += 2;
            }
            _ => position += 1,
        }
    }
    Err(text.len())
}

#[inline(always)]
fn word_end(text: &[u8], mut position: usize) -> usize {
    while position < text.len() && is_word(text[position]) {
        position += 1;
    }
    position
}

/// A word that begins with a letter which may also begin a literal.
#[inline]
fn prefixed(text: &[u8], start: usize) -> (Kind, usize) {
    let behind = start + 2;
    match text[start..] {
        [b'b' | b'B', b'\'', ..] => quoted::bits(text, behind, Kind::BitString),
        [b'e' | b'E', b'\'', ..] => quoted::escaped(text, behind),
        [b'n' | b'N', b'\'', ..] => quoted::plain(text, behind, Kind::NationalString),
        [b'x' | b'X', b'\'', ..] => quoted::bits(text, behind, Kind::HexString),
        [b'u' | b'U', b'&', b'\'', ..] => quoted::plain(text, behind + 1, Kind::UnicodeString),
        [b'u' | b'U', b'&', b'"', ..] => {
            quoted::identifier(text, behind + 1, Kind::UnicodeIdentifier)
        }
        _ => (Kind::Word, word_end(text, start + 1)),
    }
}

#[inline]
fn punctuation(text: &[u8], start: usize) -> (Kind, usize) {
    match text[start..] {
        [b':', b':', ..] => (Kind::Cast, start + 2),
        [b':', b'=', ..] | [b'.', b'.', ..] => (Kind::Punctuation, start + 2),
        [b'.', b'0'..=b'9', ..] => number::scan(text, start),
        _ => (Kind::Punctuation, start + 1),
    }
}

fn dollar(text: &[u8], start: usize) -> (Kind, usize) {
    match text[start + 1..] {
        [b'0'..=b'9', ..] => number::parameter(text, start + 1),
        _ => quoted::dollar(text, start),
    }
}

#[cfg(test)]
mod tests;

//! What a byte may begin.
//!
//! Holds one table. It must not know what follows the byte. Its invariant: every byte has one
//! class.

/// What a byte may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// A number.
    Digit,
    /// A parameter or a string in dollars.
    Dollar,
    /// An identifier in quotes.
    DoubleQuote,
    /// Nothing.
    None,
    /// An operator or a comment.
    Operator,
    /// A word, or a literal with a prefix.
    Prefix,
    /// A mark that stands alone, or a number with nothing before its point.
    Punctuation,
    /// A string.
    Quote,
    /// White space.
    Space,
    /// A word.
    Word,
}

static CLASSES: [Class; 256] = classes();

/// Whether a byte may go on with a word.
static WORD: [bool; 256] = words();

#[inline(always)]
pub(super) fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Whether a word goes on with this byte.
#[inline(always)]
pub(super) fn is_word(byte: u8) -> bool {
    WORD[usize::from(byte)]
}

/// Whether a word may begin with this byte.
#[inline(always)]
pub(super) fn is_word_start(byte: u8) -> bool {
    matches!(class(byte), Class::Word | Class::Prefix)
}

const fn classes() -> [Class; 256] {
    let mut table = [Class::None; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => Class::Digit,
            b'$' => Class::Dollar,
            b'"' => Class::DoubleQuote,
            b'\'' => Class::Quote,
            // The vertical tab is white space from PostgreSQL 16 on and an error before.
            b' ' | b'\t' | b'\n' | b'\r' | 0x0c => Class::Space,
            b',' | b'(' | b')' | b'[' | b']' | b'.' | b';' | b':' => Class::Punctuation,
            b'b' | b'B' | b'e' | b'E' | b'n' | b'N' | b'u' | b'U' | b'x' | b'X' => Class::Prefix,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Class::Word,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' => Class::Operator,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Operator,
            _ => Class::None,
        };
        byte += 1;
    }
    table
}

const fn words() -> [bool; 256] {
    let classes = classes();
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            classes[byte],
            Class::Word | Class::Prefix | Class::Digit | Class::Dollar
        );
        byte += 1;
    }
    table
}

//! Inline commands: a line of words, as a person types it into a terminal.
//!
//! Words are separated by white space and may be quoted, with escapes in double quotes, as
//! redis-server's `sdssplitargs` reads them. Knows nothing of commands.

use super::number;

/// The line has a quote that is not closed, or one that is not followed by white space.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unbalanced;

/// Writes the words of a line as a canonical request. Says how many there are; for none, nothing is
/// written.
pub fn rewrite(line: &[u8], output: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    let mut words = Vec::new();
    let mut rest = trim(line);
    while !rest.is_empty() {
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
        rest = trim(rest);
    }
    if !words.is_empty() {
        write_request(output, words.iter().map(Vec::as_slice));
    }
    Ok(words.len())
}

/// Writes a request of these arguments.
pub fn write_request<'a>(output: &mut Vec<u8>, arguments: impl ExactSizeIterator<Item = &'a [u8]>) {
    output.push(b'*');
    number::write(output, arguments.len() as u64);
    output.extend_from_slice(b"\r\n");
    for argument in arguments {
        write_bulk(output, argument);
    }
}

/// Writes a bulk string.
pub fn write_bulk(output: &mut Vec<u8>, bytes: &[u8]) {
    output.push(b'$');
    number::write(output, bytes.len() as u64);
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(bytes);
    output.extend_from_slice(b"\r\n");
}

/// White space as C's `isspace` sees it; the end of a C string ends a line, too.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

fn trim(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| !is_space(byte));
    match end {
        Some(end) if bytes[end] != 0 => &bytes[end..],
        _ => &[],
    }
}

/// Reads one word and gives back what follows it.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        match rest {
            [] | [0, ..] => return Ok(&[]),
            [byte, ..] if is_space(*byte) => return Ok(rest),
            [b'"', quoted @ ..] => return take_double_quoted(quoted, word),
            [b'\'', quoted @ ..] => return take_single_quoted(quoted, word),
            [byte, following @ ..] => {
                word.push(*byte);
                rest = following;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        match rest {
            [] | [0, ..] => return Err(Unbalanced),
            [b'\\', b'x', high, low, following @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                rest = following;
            }
            [b'\\', escaped, following @ ..] if *escaped != 0 => {
                word.push(unescape(*escaped));
                rest = following;
            }
            [b'"', following @ ..] => return end_quoted(following),
            [byte, following @ ..] => {
                word.push(*byte);
                rest = following;
            }
        }
    }
}

fn take_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        match rest {
            [] | [0, ..] => return Err(Unbalanced),
            [b'\\', b'\'', following @ ..] => {
                word.push(b'\'');
                rest = following;
            }
            [b'\'', following @ ..] => return end_quoted(following),
            [byte, following @ ..] => {
                word.push(*byte);
                rest = following;
            }
        }
    }
}

/// A closing quote must be followed by white space or by nothing.
fn end_quoted(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest {
        [] | [0, ..] => Ok(&[]),
        [byte, ..] if is_space(*byte) => Ok(rest),
        _ => Err(Unbalanced),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<u8>, Unbalanced> {
        let mut output = Vec::new();
        rewrite(line, &mut output)?;
        Ok(output)
    }

    #[test]
    fn reads_words_quotes_and_escapes() {
        assert_eq!(
            words(b"  set k 'a b' ").as_deref(),
            Ok(&b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$3\r\na b\r\n"[..])
        );
        assert_eq!(
            words(br#"echo "\x41\n\"\\q""#).as_deref(),
            Ok(&b"*2\r\n$4\r\necho\r\n$5\r\nA\n\"\\q\r\n"[..])
        );
        assert_eq!(
            words(br"echo 'it\'s'").as_deref(),
            Ok(&b"*2\r\n$4\r\necho\r\n$4\r\nit's\r\n"[..])
        );
        assert_eq!(words(br#"a"b""#).as_deref(), Ok(&b"*1\r\n$2\r\nab\r\n"[..]));
    }

    #[test]
    fn finds_nothing_in_an_empty_line() {
        assert_eq!(words(b"").as_deref(), Ok(&b""[..]));
        assert_eq!(words(b" \t ").as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn refuses_quotes_that_do_not_match() {
        for line in [
            &b"set \"a"[..],
            b"set 'a",
            b"set \"a\"b",
            b"set 'a'b",
            b"\"\\",
        ] {
            assert_eq!(words(line), Err(Unbalanced), "{}", line.escape_ascii());
        }
    }
}

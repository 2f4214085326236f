//! Splits a text of the language into words, literals and signs.
//!
//! Knows no grammar. Comments and white space vanish; words are in upper case.

/// The smallest piece with a meaning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lexeme {
    /// A word, in upper case.
    Word(String),
    /// A string literal, or a quoted identifier.
    Text(String),
    /// A number.
    Number(u32),
    /// `$n`.
    Parameter(usize),
    /// Anything else.
    Sign(char),
}

/// The lexemes of a text; `None` for one that does not end well.
pub fn split(text: &str) -> Option<Vec<Lexeme>> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/")? + 2,
            'E' if rest.starts_with("E'") => {
                let (value, length) = quoted(&rest[1..], '\'')?;
                found.push(Lexeme::Text(value.replace("\\\\", "\\")));
                length + 1
            }
            '\'' | '"' => {
                let (value, length) = quoted(rest, first)?;
                found.push(Lexeme::Text(value));
                length
            }
            '$' => {
                let length = run(&rest[1..], |c| c.is_ascii_digit()) + 1;
                found.push(Lexeme::Parameter(rest[1..length].parse().ok()?));
                length
            }
            _ if first.is_ascii_digit() => {
                let length = run(rest, |c| c.is_ascii_alphanumeric());
                found.push(match rest[..length].parse() {
                    Ok(number) => Lexeme::Number(number),
                    Err(_) => Lexeme::Word(rest[..length].to_owned()),
                });
                length
            }
            _ if first.is_ascii_alphabetic() || first == '_' => {
                let length = run(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
                found.push(Lexeme::Word(rest[..length].to_ascii_uppercase()));
                length
            }
            _ if first.is_whitespace() => first.len_utf8(),
            _ => {
                found.push(Lexeme::Sign(first));
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Some(found)
}

fn run(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

/// The value and the length of a quoted piece, with doubled quotes inside it undone.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut signs = text.char_indices().skip(1).peekable();
    while let Some((at, sign)) = signs.next() {
        if sign != quote {
            value.push(sign);
        } else if signs.next_if(|&(_, next)| next == quote).is_some() {
            value.push(quote);
        } else {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_words_literals_and_signs() {
        let found = split("Select token('it''s', $2) -- x\n/* y */;").unwrap();
        let expected = [
            Lexeme::Word("SELECT".into()),
            Lexeme::Word("TOKEN".into()),
            Lexeme::Sign('('),
            Lexeme::Text("it's".into()),
            Lexeme::Sign(','),
            Lexeme::Parameter(2),
            Lexeme::Sign(')'),
            Lexeme::Sign(';'),
        ];
        assert_eq!(found, expected);
        assert_eq!(split("'open"), None);
    }
}

//! PgBouncer's list of users and secrets.
//!
//! Holds its syntax: `"user" "secret"` on each line. It must not know what kind a secret is. Its
//! invariant: a line that is not understood is an error with its number, never skipped.

use thiserror::Error;

/// A user and its secret, as written but for the quotes.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The user.
    pub user: Vec<u8>,
    /// A password, an MD5 hash or a SCRAM verifier; may be empty.
    pub secret: Vec<u8>,
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Entry")
            .field("user", &self.user.escape_ascii().to_string())
            .finish()
    }
}

/// The list has a line that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct UserlistError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// Neither a user nor a comment.
    #[error("a line begins with a quoted user name or with a semicolon")]
    Begin,
    /// No secret behind the user.
    #[error("a quoted secret must follow the user name")]
    Secret,
    /// A quote that is not closed on its line.
    #[error("a quote is not closed")]
    Unclosed,
    /// A user without a name.
    #[error("the user name is empty")]
    User,
}

/// The entries in order; a user may come twice, and then the last one counts.
pub fn decode(text: &[u8]) -> Result<Vec<Entry>, UserlistError> {
    let mut entries = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b";") {
            continue;
        }
        let entry = decode_line(line).map_err(|reason| UserlistError {
            line: index + 1,
            reason,
        })?;
        entries.push(entry);
    }
    Ok(entries)
}

fn decode_line(line: &[u8]) -> Result<Entry, Reason> {
    let (user, rest) = decode_quoted(line, Reason::Begin)?;
    if user.is_empty() {
        return Err(Reason::User);
    }
    let (secret, _) = decode_quoted(rest.trim_ascii_start(), Reason::Secret)?;
    Ok(Entry { user, secret })
}

/// A text in quotes, and what is behind it; a quote within is doubled.
fn decode_quoted(bytes: &[u8], missing: Reason) -> Result<(Vec<u8>, &[u8]), Reason> {
    let mut rest = bytes.strip_prefix(b"\"").ok_or(missing)?;
    let mut text = Vec::new();
    loop {
        let quote = rest
            .iter()
            .position(|byte| *byte == b'"')
            .ok_or(Reason::Unclosed)?;
        text.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix(b"\"") {
            None => return Ok((text, rest)),
            Some(behind) => {
                text.push(b'"');
                rest = behind;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str, secret: &str) -> Entry {
        Entry {
            user: user.into(),
            secret: secret.into(),
        }
    }

    #[test]
    fn decodes_entries_when_well_formed() {
        let text =
            b"; a comment\r\n\n\"alice\" \"secret\"\r\n  \"b\"\"ob\"\t\"p\"\"w;d\" \"x\" y\n\
            \"eve\" \"\"";
        let expected = [
            entry("alice", "secret"),
            entry("b\"ob", "p\"w;d"),
            entry("eve", ""),
        ];
        assert_eq!(decode(text).unwrap(), expected);
        assert_eq!(decode(b"").unwrap(), []);
    }

    #[test]
    fn names_line_when_malformed() {
        let cases: [(&[u8], Reason); 6] = [
            (b"alice secret", Reason::Begin),
            (b"\"alice\"", Reason::Secret),
            (b"\"alice\" secret", Reason::Secret),
            (b"\"alice", Reason::Unclosed),
            (b"\"alice\" \"secret", Reason::Unclosed),
            (b"\"\" \"secret\"", Reason::User),
        ];
        for (line, reason) in cases {
            let text = [b"; one\n\"two\" \"\"\n", line].concat();
            assert_eq!(decode(&text), Err(UserlistError { line: 3, reason }));
        }
    }

    #[test]
    fn hides_secret_when_printed() {
        assert_eq!(
            format!("{:?}", entry("alice", "secret")),
            "Entry { user: \"alice\" }"
        );
    }
}

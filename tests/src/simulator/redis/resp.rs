//! RESP in both versions as the simulated sides write and read it.
//!
//! Written apart from the `protocols` crate on purpose: what the core believes about the format is
//! checked against a second opinion. Knows no session. Invariant: `Value::take` gives back what
//! `Value::write` wrote.

/// The version of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// What every connection begins with.
    Two,
    /// After HELLO 3.
    Three,
}

/// A reply, or a part of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A line.
    Simple(String),
    /// A line that says what went wrong, its code first.
    Error(String),
    /// A number.
    Int(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Bytes that are not there.
    Null,
    /// A list that is not there.
    NullList,
    /// Values in order.
    List(Vec<Value>),
    /// Keys and values by turns.
    Map(Vec<Value>),
    /// Text for people.
    Text(String),
    /// What answers nothing; a list in the old version.
    Push(Vec<Value>),
}

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bad;

impl Value {
    /// `+OK`.
    pub fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    /// An error.
    pub fn error(text: &str) -> Self {
        Self::Error(text.to_owned())
    }

    /// Bytes.
    pub fn bulk(bytes: &[u8]) -> Self {
        Self::Bulk(bytes.to_vec())
    }

    /// Its bytes in a version.
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(version, &mut out);
        out
    }

    /// Appends its bytes in a version.
    pub fn write(&self, version: Version, out: &mut Vec<u8>) {
        let is_new = version == Version::Three;
        match self {
            Self::Simple(text) => line(out, b'+', text),
            Self::Error(text) => line(out, b'-', text),
            Self::Int(number) => line(out, b':', number),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Null if is_new => out.extend(b"_\r\n"),
            Self::Null => out.extend(b"$-1\r\n"),
            Self::NullList if is_new => out.extend(b"_\r\n"),
            Self::NullList => out.extend(b"*-1\r\n"),
            Self::List(values) => list(out, b'*', values.len(), values, version),
            Self::Map(values) if is_new => list(out, b'%', values.len() / 2, values, version),
            Self::Map(values) => list(out, b'*', values.len(), values, version),
            Self::Text(text) if is_new => {
                line(out, b'=', text.len() + 4);
                out.extend(b"txt:");
                out.extend(text.as_bytes());
                out.extend(b"\r\n");
            }
            Self::Text(text) => bulk(out, text.as_bytes()),
            Self::Push(values) if is_new => list(out, b'>', values.len(), values, version),
            Self::Push(values) => list(out, b'*', values.len(), values, version),
        }
    }

    /// Reads the value that `bytes` begin with, and says how many bytes it is.
    pub fn take(bytes: &[u8]) -> Result<Option<(Self, usize)>, Bad> {
        let mut reader = Reader { bytes, at: 0 };
        match reader.value() {
            Ok(value) => Ok(Some((value, reader.at))),
            Err(Stop::End) => Ok(None),
            Err(Stop::Bad) => Err(Bad),
        }
    }

    /// The bytes of a bulk.
    pub fn as_bulk(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }
}

fn line(out: &mut Vec<u8>, kind: u8, what: impl core::fmt::Display) {
    out.push(kind);
    out.extend(format!("{what}\r\n").as_bytes());
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, b'$', bytes.len());
    out.extend(bytes);
    out.extend(b"\r\n");
}

fn list(out: &mut Vec<u8>, kind: u8, count: usize, values: &[Value], version: Version) {
    line(out, kind, count);
    values.iter().for_each(|value| value.write(version, out));
}

/// A request as clients write it.
pub fn request<T: AsRef<[u8]>>(words: &[T]) -> Vec<u8> {
    let mut out = Vec::new();
    line(&mut out, b'*', words.len());
    words.iter().for_each(|word| bulk(&mut out, word.as_ref()));
    out
}

enum Stop {
    End,
    Bad,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let end = end.ok_or(Stop::End)?;
        self.at += end + 2;
        Ok(&rest[..end])
    }

    fn number(text: &[u8]) -> Result<i64, Stop> {
        let text = core::str::from_utf8(text).map_err(|_| Stop::Bad)?;
        text.parse().map_err(|_| Stop::Bad)
    }

    fn count(text: &[u8]) -> Result<usize, Stop> {
        usize::try_from(Self::number(text)?).map_err(|_| Stop::Bad)
    }

    fn body(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let rest = self.bytes.get(self.at..self.at + count + 2);
        let rest = rest.ok_or(Stop::End)?;
        let (body, end) = rest.split_at(count);
        self.at += count + 2;
        if end == b"\r\n" {
            Ok(body)
        } else {
            Err(Stop::Bad)
        }
    }

    fn values(&mut self, count: usize) -> Result<Vec<Value>, Stop> {
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Result<Value, Stop> {
        let first = self.line()?;
        let (&kind, rest) = first.split_first().ok_or(Stop::Bad)?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        Ok(match kind {
            b'+' => Value::Simple(text()),
            b'-' => Value::Error(text()),
            b':' => Value::Int(Self::number(rest)?),
            b'$' if rest == b"-1" => Value::Null,
            b'*' if rest == b"-1" => Value::NullList,
            b'_' if rest.is_empty() => Value::Null,
            b'$' => Value::Bulk(self.body(Self::count(rest)?)?.to_vec()),
            b'=' => {
                let body = self.body(Self::count(rest)?)?;
                let body = body.strip_prefix(b"txt:").ok_or(Stop::Bad)?;
                Value::Text(String::from_utf8_lossy(body).into_owned())
            }
            b'*' => Value::List(self.values(Self::count(rest)?)?),
            b'%' => Value::Map(self.values(Self::count(rest)? * 2)?),
            b'>' => Value::Push(self.values(Self::count(rest)?)?),
            _ => return Err(Stop::Bad),
        })
    }
}

/// What a node takes off its input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taken {
    /// Nothing that is whole.
    Nothing,
    /// A request; without words it is not answered.
    Request(Vec<Vec<u8>>),
    /// What is none, and what a node says to it.
    Bad(&'static str),
}

/// Takes the first request off `input`.
pub fn take_request(input: &mut Vec<u8>) -> Taken {
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
        return Taken::Nothing;
    };
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line.split(|&byte| byte == b' ');
        let words = words.filter(|word| !word.is_empty()).map(<[u8]>::to_vec);
        let words = words.collect();
        input.drain(..=end);
        return Taken::Request(words);
    };
    let Ok(count) = Reader::number(count) else {
        return Taken::Bad("ERR Protocol error: invalid multibulk length");
    };
    let mut reader = Reader {
        bytes: input,
        at: end + 1,
    };
    let mut words = Vec::new();
    for _ in 0..count {
        match reader.word() {
            Ok(word) => words.push(word),
            Err(taken) => return taken,
        }
    }
    let at = reader.at;
    input.drain(..at);
    Taken::Request(words)
}

impl Reader<'_> {
    fn word(&mut self) -> Result<Vec<u8>, Taken> {
        let line = self.line().map_err(|_| Taken::Nothing)?;
        let length = match line.split_first() {
            Some((b'$', length)) => Self::count(length),
            _ => return Err(Taken::Bad("ERR Protocol error: expected '$', got '!'")),
        };
        let Ok(length) = length else {
            return Err(Taken::Bad("ERR Protocol error: invalid bulk length"));
        };
        let body = self.body(length).map_err(|_| Taken::Nothing)?;
        Ok(body.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_back_what_was_written_in_both_versions() {
        let values = [
            Value::ok(),
            Value::error("ERR no"),
            Value::Int(-3),
            Value::bulk(b"a\r\nb"),
            Value::Null,
            Value::List(vec![
                Value::Int(1),
                Value::bulk(b""),
                Value::List(Vec::new()),
            ]),
        ];
        for value in values {
            for version in [Version::Two, Version::Three] {
                let bytes = value.bytes(version);
                let taken = Value::take(&bytes).unwrap().unwrap();
                assert_eq!(taken, (value.clone(), bytes.len()));
                for cut in 0..bytes.len() {
                    assert_eq!(Value::take(&bytes[..cut]), Ok(None));
                }
            }
        }
        assert_eq!(Value::take(b"!\r\n"), Err(Bad));
    }

    #[test]
    fn takes_requests_of_both_forms_and_waits_for_the_rest() {
        let mut input = b"PING  x\r\n*2\r\n$3\r\nGET\r\n$1\r\nk".to_vec();
        let ping = Taken::Request(vec![b"PING".to_vec(), b"x".to_vec()]);
        assert_eq!(take_request(&mut input), ping);
        assert_eq!(take_request(&mut input), Taken::Nothing);
        input.extend(b"\r\n");
        let get = Taken::Request(vec![b"GET".to_vec(), b"k".to_vec()]);
        assert_eq!(take_request(&mut input), get);
        assert!(input.is_empty());
    }
}

//! A connection to one Sentinel, in as much RESP as it takes to ask one.
//!
//! Knows no command. Invariants: every wait ends in time; what comes is bounded in length, number
//! and depth before it is kept.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a Sentinel may take to be connected to, and for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// The longest text in an answer, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// The most values in one list.
const LIST_LENGTH_MAX: usize = 4_096;

/// Lists in lists: one of maps is two.
const DEPTH_MAX: usize = 4;

/// What a Sentinel answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// That it does not do it.
    Error(String),
    /// Several.
    List(Vec<Value>),
    /// Null.
    Nothing,
    /// Text of any kind, numbers among them.
    Text(String),
}

impl Value {
    /// A text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What stands behind a name in a list of names and values.
    pub fn field(&self, name: &str) -> Option<&str> {
        let pairs = self.list().chunks_exact(2);
        let mut pairs = pairs.filter(|pair| pair[0].text() == Some(name));
        pairs.next()?[1].text()
    }

    /// What is in a list; nothing if it is none.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            _ => &[],
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = in_time(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks something, and waits for the answer.
    pub async fn ask(&mut self, words: &[&str]) -> Result<Value> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        in_time(async {
            self.stream.write_all(request.as_bytes()).await?;
            self.value(DEPTH_MAX).await
        })
        .await
    }

    /// Ends when something has come that nobody asked for. May be dropped at any time.
    pub async fn hear(&mut self) -> Result<()> {
        let length = self.stream.fill_buf().await?.len();
        self.stream.consume(length);
        match length {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn value(&mut self, depth: usize) -> Pin<Box<dyn Future<Output = Result<Value>> + Send + '_>> {
        Box::pin(async move {
            let line = self.line().await?;
            let (kind, rest) = line.split_at_checked(1).ok_or_else(odd)?;
            let length = || match rest.parse::<i64>() {
                Ok(-1) => Ok(None),
                Ok(length) => usize::try_from(length).map(Some).map_err(|_| odd()),
                Err(_) => Err(odd()),
            };
            match kind {
                "+" | ":" => Ok(Value::Text(rest.into())),
                "-" => Ok(Value::Error(rest.into())),
                "$" => self.bulk(length()?).await,
                "*" => {
                    let Some(count) = length()? else {
                        return Ok(Value::Nothing);
                    };
                    if count > LIST_LENGTH_MAX || depth == 0 {
                        return Err(odd());
                    }
                    let mut values = Vec::new();
                    for _ in 0..count {
                        values.push(self.value(depth - 1).await?);
                    }
                    Ok(Value::List(values))
                }
                _ => Err(odd()),
            }
        })
    }

    async fn bulk(&mut self, length: Option<usize>) -> Result<Value> {
        let Some(length) = length else {
            return Ok(Value::Nothing);
        };
        if length > TEXT_BYTES_MAX {
            return Err(odd());
        }
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn line(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let mut bounded = (&mut self.stream).take(TEXT_BYTES_MAX as u64);
        bounded.read_until(b'\n', &mut bytes).await?;
        if bytes.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = bytes.strip_suffix(b"\r\n").ok_or_else(odd)?;
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}

/// What is no answer of any Sentinel.
fn odd() -> Error {
    Error::new(ErrorKind::InvalidData, "it does not speak as a Sentinel")
}

async fn in_time<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Error::new(ErrorKind::TimedOut, "it does not answer");
    timeout(ANSWER_TIME_MAX, future)
        .await
        .unwrap_or_else(|_| Err(late()))
}

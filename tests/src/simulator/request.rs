//! The messages that simulated clients send.
//!
//! Knows layouts, no session. Invariant: everything built here is well formed.

use super::wire::{Body, packet};

/// One request of a client: parts, each sent when the reply of the one before has come, and the
/// tokens of its statements. It is answered by exactly one ReadyForQuery, except one that ends the
/// connection.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// What it is, for people.
    pub name: &'static str,
    /// Its bytes.
    pub parts: Vec<Vec<u8>>,
    /// Its tokens.
    pub tokens: Vec<String>,
    /// Nothing follows it.
    pub is_last: bool,
    /// The next one goes out with it.
    pub is_followed: bool,
}

/// Appends messages to a unit under construction.
#[derive(Clone, Debug, Default)]
pub struct Messages(pub Vec<u8>);

impl Messages {
    /// Query.
    pub fn query(mut self, text: &str) -> Self {
        Body::default().text(text).send(&mut self.0, b'Q');
        self
    }

    /// Parse with one type per parameter left open.
    pub fn parse(mut self, name: &str, text: &str) -> Self {
        Body::default()
            .text(name)
            .text(text)
            .int16(0)
            .send(&mut self.0, b'P');
        self
    }

    /// Bind of text values.
    pub fn bind(mut self, portal: &str, name: &str, values: &[&str]) -> Self {
        let count = i16::try_from(values.len()).expect("few parameters");
        let body = Body::default()
            .text(portal)
            .text(name)
            .int16(0)
            .int16(count);
        let body = values
            .iter()
            .fold(body, |body, value| body.sized(value.as_bytes()));
        body.int16(0).send(&mut self.0, b'B');
        self
    }

    /// Describe of a statement (`S`) or portal (`P`).
    pub fn describe(mut self, kind: u8, name: &str) -> Self {
        Body::default()
            .raw(&[kind])
            .text(name)
            .send(&mut self.0, b'D');
        self
    }

    /// Execute.
    pub fn execute(mut self, portal: &str, rows_max: i32) -> Self {
        Body::default()
            .text(portal)
            .int32(rows_max)
            .send(&mut self.0, b'E');
        self
    }

    /// Close of a statement (`S`) or portal (`P`).
    pub fn close(mut self, kind: u8, name: &str) -> Self {
        Body::default()
            .raw(&[kind])
            .text(name)
            .send(&mut self.0, b'C');
        self
    }

    /// A message without a body: Sync, Flush, CopyDone, Terminate.
    pub fn bare(mut self, tag: u8) -> Self {
        Body::default().send(&mut self.0, tag);
        self
    }

    /// Sync.
    pub fn sync(self) -> Self {
        self.bare(b'S')
    }

    /// CopyData.
    pub fn copy_data(mut self, line: &str) -> Self {
        Body::default().raw(line.as_bytes()).send(&mut self.0, b'd');
        self
    }

    /// CopyFail.
    pub fn copy_fail(mut self, reason: &str) -> Self {
        Body::default().text(reason).send(&mut self.0, b'f');
        self
    }

    /// FunctionCall without arguments.
    pub fn function_call(mut self, oid: i32) -> Self {
        Body::default()
            .int32(oid)
            .int16(0)
            .int16(0)
            .int16(0)
            .send(&mut self.0, b'F');
        self
    }
}

/// A startup packet.
pub fn startup(pairs: &[(String, String)]) -> Vec<u8> {
    let body = Body::default().int32(3 << 16);
    let body = pairs
        .iter()
        .fold(body, |body, (name, value)| body.text(name).text(value));
    packet(&body.raw(&[0]).0)
}

/// A request for TLS.
pub fn tls_request() -> Vec<u8> {
    packet(&Body::default().int32((1234 << 16) | 5679).0)
}

/// A cancel request.
pub fn cancel(pid: i32, secret: i32) -> Vec<u8> {
    packet(
        &Body::default()
            .int32((1234 << 16) | 5678)
            .int32(pid)
            .int32(secret)
            .0,
    )
}

/// PasswordMessage.
pub fn password(answer: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Body::default().text(answer).send(&mut out, b'p');
    out
}

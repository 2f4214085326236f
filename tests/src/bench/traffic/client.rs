//! One client of the generator: a socket, its script, and when its batch was sent.
//!
//! At most one batch is under way; its latency ends with its last ReadyForQuery.

use std::io::{ErrorKind, Read, Result, Write};
use std::time::Instant;

use mio::net::TcpStream;

use super::scan::Scanner;
use super::script::{Random, Script};

/// A logged-in client.
#[derive(Debug)]
pub struct Client {
    /// Its socket, not blocking.
    pub stream: TcpStream,
    /// What it sends.
    script: Script,
    /// What it draws its keys from.
    random: Random,
    /// Where the replies stand.
    scanner: Scanner,
    /// ReadyForQuery messages that are still to come.
    ready_left: u32,
    /// When the batch under way was sent.
    sent_at: Instant,
    /// Bytes that the kernel has not taken yet.
    unsent: Vec<u8>,
    /// The other side has closed.
    is_closed: bool,
}

/// What a readable socket brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Nothing that ends a batch.
    None,
    /// The batch is answered; it took so many microseconds.
    Answered {
        /// Since it was sent.
        latency_us: u64,
        /// Whether an error was among the answers.
        has_error: bool,
    },
    /// The other side has closed the connection.
    Closed,
}

impl Client {
    /// Takes a logged-in socket over.
    pub fn new(stream: TcpStream, script: Script, seed: u64) -> Self {
        Self {
            stream,
            script,
            random: Random::new(seed),
            scanner: Scanner::default(),
            ready_left: 0,
            sent_at: Instant::now(),
            unsent: Vec::new(),
            is_closed: false,
        }
    }

    /// Sends the next batch.
    pub fn begin(&mut self, now: Instant) -> Result<()> {
        debug_assert_eq!(self.ready_left, 0);
        self.unsent.clear();
        self.ready_left = self.script.append_next(&mut self.random, &mut self.unsent);
        self.sent_at = now;
        self.flush()
    }

    /// Sends what the kernel takes.
    pub fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what there is, once, or until a read comes back short.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Result<Progress> {
        let mut has_error = false;
        loop {
            let count = match self.stream.read(bytes) {
                Ok(0) => {
                    self.is_closed = true;
                    return Ok(Progress::Closed);
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let seen = self.scanner.take(&bytes[..count]);
            has_error |= seen.errors > 0;
            let was_waiting = self.ready_left > 0;
            self.ready_left = self.ready_left.saturating_sub(seen.ready);
            if was_waiting && self.ready_left == 0 {
                let latency_us = self.waited_us(Instant::now());
                return Ok(Progress::Answered {
                    latency_us,
                    has_error,
                });
            }
            if count < bytes.len() {
                return Ok(Progress::None);
            }
        }
    }

    /// How long the batch under way has been waiting, in microseconds; zero if there is none.
    pub fn age_us(&self, now: Instant) -> u64 {
        if self.ready_left == 0 || self.is_closed {
            return 0;
        }
        self.waited_us(now)
    }

    /// What the client does, and where in it it stands.
    pub fn describe(&self) -> String {
        format!("{:?}", self.script)
    }

    /// The text of the first error that the client has seen.
    pub fn error_text(&self) -> String {
        self.scanner.error_text()
    }

    /// Time since the batch was sent.
    fn waited_us(&self, now: Instant) -> u64 {
        let waited = now.saturating_duration_since(self.sent_at);
        u64::try_from(waited.as_micros()).unwrap_or(u64::MAX)
    }
}

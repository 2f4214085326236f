//! The bare echo: what a request costs on a driver of manifold when nothing is done with it.
//!
//! Accepts, and answers with fixed bytes, as long as the reply to one of the benchmark's reads: once
//! for each receive, or for each Redis request that it brought. Sends at the end of the pass, once
//! per socket, like a shard. Knows no more of a protocol.

use std::io::{Error, Result};
use std::net::SocketAddr;

use clap::Parser;
use manifold_core::event::{Event, Operation};
use manifold_core::ids::{ConnId, ListenerId};
use manifold_core::slab::Slab;
use manifold_drivers::{Config, Driver, Kind, ListenAddress, bind};
use manifold_tests::harness::frames::frame;

/// Bytes of a buffer for replies.
const BUFFER_BYTES: usize = 512;

/// What the echo is told.
#[derive(Parser)]
struct Settings {
    /// Which driver.
    #[arg(long, value_parser = ["io_uring", "epoll"])]
    driver: String,
    /// Whose replies.
    #[arg(long, value_parser = ["postgres", "redis"], default_value = "postgres")]
    protocol: String,
    /// The loopback port.
    #[arg(long)]
    port: u16,
}

/// Connections and what is due.
struct Echo {
    /// What every request is answered with.
    reply: Vec<u8>,
    /// What each request of a receive begins with, if it matters how many there are.
    begin: Option<u8>,
    /// Open connections; the value says whether a send is under way.
    conns: Slab<ConnId, bool>,
    /// What to tell the driver at the end of the pass.
    due: Vec<Operation>,
    /// Buffers that are free.
    buffers: Vec<Vec<u8>>,
}

fn main() -> Result<()> {
    let settings = Settings::parse();
    let kind = match settings.driver.as_str() {
        "epoll" => Kind::Epoll,
        _ => Kind::IoUring,
    };
    let mut driver = Driver::open(kind, &Config::default()).map_err(Error::other)?;
    let address = SocketAddr::from(([127, 0, 0, 1], settings.port));
    let listener = bind(&ListenAddress::Tcp(address), false, 4096)?;
    driver.listen(ListenerId(0), listener)?;
    let mut echo = Echo::new(&settings.protocol);
    loop {
        driver.wait(None, &mut |event| echo.handle_event(event))?;
        for operation in echo.due.drain(..) {
            driver.submit(operation);
        }
    }
}

impl Echo {
    /// Without connections.
    fn new(protocol: &str) -> Self {
        let (reply, begin) = match protocol {
            "redis" => (redis_reply(), Some(b'*')),
            _ => (postgres_reply(), None),
        };
        Self {
            reply,
            begin,
            conns: Slab::new(),
            due: Vec::new(),
            buffers: Vec::new(),
        }
    }

    /// Takes one event in.
    fn handle_event(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { socket, .. } => {
                let conn = self.conns.insert(false);
                self.due.push(Operation::Adopt { conn, socket });
            }
            Event::Received { conn, bytes } => {
                let begins = |begin| bytes.iter().filter(|&&byte| byte == begin).count();
                self.answer(conn, self.begin.map_or(1, begins));
            }
            Event::Sent {
                conn, mut buffer, ..
            } => {
                if let Some(is_sending) = self.conns.get_mut(conn) {
                    *is_sending = false;
                }
                buffer.clear();
                self.buffers.push(buffer);
            }
            Event::Eof { conn } | Event::Failed { conn, .. } => {
                self.due.push(Operation::Close { conn });
            }
            Event::Closed { conn } => drop(self.conns.remove(conn)),
            _ => {}
        }
    }

    /// Sends the reply so many times, unless the last ones are still under way: a client of the
    /// benchmark never sends before it has its replies.
    fn answer(&mut self, conn: ConnId, times: usize) {
        let Some(is_sending) = self.conns.get_mut(conn) else {
            return;
        };
        if std::mem::replace(is_sending, true) {
            return;
        }
        let spare = self.buffers.pop();
        let mut buffer = spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        (0..times).for_each(|_| buffer.extend(&self.reply));
        self.due.push(Operation::Send { conn, buffer });
    }
}

/// The bytes that Redis answers to one of the benchmark's reads.
fn redis_reply() -> Vec<u8> {
    [b"$64\r\n".as_slice(), &[b'x'; 64], b"\r\n"].concat()
}

/// The bytes that PostgreSQL answers to one of the benchmark's reads.
fn postgres_reply() -> Vec<u8> {
    let mut row_description = b"\0\x01abalance\0".to_vec();
    row_description.extend([0, 0, 0x40, 0, 0, 3, 0, 0, 0, 23, 0, 4]);
    row_description.extend([0xff, 0xff, 0xff, 0xff, 0, 0]);
    [
        frame(b'2', b""),
        frame(b'T', &row_description),
        frame(b'D', b"\0\x01\0\0\0\x010"),
        frame(b'C', b"SELECT 1\0"),
        frame(b'Z', b"I"),
    ]
    .concat()
}

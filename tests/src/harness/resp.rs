//! A client that sends raw bytes to a Redis and collects raw replies.
//!
//! Adds nothing of its own to what a test sends and hides nothing of what comes: a reply is the
//! bytes of one value, attributes before it included. Every wait has a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use manifold_protocols::redis::resp::inline::write_request;
use manifold_protocols::redis::resp::reply::Finder;

use super::wire::WAIT_MAX;

/// A raw connection.
#[derive(Debug)]
pub struct Resp {
    socket: TcpStream,
    /// Bytes received and not taken.
    buffer: Vec<u8>,
    /// The other side has closed.
    has_ended: bool,
}

impl Resp {
    /// Connects and sends nothing.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, WAIT_MAX)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(WAIT_MAX))?;
        Ok(Self {
            socket,
            buffer: Vec::new(),
            has_ended: false,
        })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the connection takes bytes");
    }

    /// Sends bytes as they are, if the connection takes them.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Sends a command, given as words between spaces, and waits for its reply.
    pub fn ask(&mut self, words: &str) -> Vec<u8> {
        self.send(&command(words));
        self.reply()
    }

    /// The same with arguments of any bytes.
    pub fn ask_of(&mut self, arguments: &[&[u8]]) -> Vec<u8> {
        self.send(&request(arguments));
        self.reply()
    }

    /// The same; nothing if the connection has ended.
    pub fn try_ask(&mut self, words: &str) -> io::Result<Option<Vec<u8>>> {
        self.try_send(&command(words))?;
        self.try_reply(WAIT_MAX)
    }

    /// Sends a command and insists on its reply.
    pub fn expect(&mut self, words: &str, wanted: &str) {
        let reply = self.ask(words);
        assert_eq!(shown(&reply), shown(wanted.as_bytes()), "to {words}");
    }

    /// The next reply.
    pub fn reply(&mut self) -> Vec<u8> {
        match self.try_reply(WAIT_MAX) {
            Ok(Some(reply)) => reply,
            Ok(None) => panic!("closed after {}", shown(&self.buffer)),
            Err(error) => panic!("{error} after {}", shown(&self.buffer)),
        }
    }

    /// The next replies.
    pub fn replies(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.reply()).collect()
    }

    /// The next reply, or nothing if the connection has ended; an error if there is none in time.
    pub fn try_reply(&mut self, time_max: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + time_max;
        let mut finder = Finder::default();
        let mut looked_at = 0;
        loop {
            if looked_at < self.buffer.len() {
                let progress = finder
                    .find(&self.buffer[looked_at..])
                    .unwrap_or_else(|error| panic!("{error}: {}", shown(&self.buffer)));
                looked_at += progress.len;
                if progress.is_end {
                    let rest = self.buffer.split_off(looked_at);
                    return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
                }
            }
            if self.has_ended || !self.receive(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Everything up to the end of the connection; the test fails if it does not end.
    pub fn until_end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            match self.receive(deadline) {
                Ok(true) => {}
                Ok(false) => return std::mem::take(&mut self.buffer),
                Err(error) => panic!("not closed ({error}) after {}", shown(&self.buffer)),
            }
        }
    }

    /// Everything that comes within a time.
    pub fn during(&mut self, time: Duration) -> Vec<u8> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && matches!(self.receive(deadline), Ok(true)) {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side has closed; waits at most so long. What comes meanwhile is kept.
    pub fn has_ended(&mut self, time_max: Duration) -> bool {
        let deadline = Instant::now() + time_max;
        while !self.has_ended && matches!(self.receive(deadline), Ok(true)) {}
        self.has_ended
    }

    /// Where it comes from.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is connected")
    }

    /// A second hold on the same connection, for a thread of its own.
    pub fn socket(&self) -> TcpStream {
        self.socket.try_clone().expect("a socket can be cloned")
    }

    /// Breaks the connection with a reset, without a good-bye.
    pub fn vanish(self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: the option's value is a live `linger` of the size that is given with it.
        unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&self.socket),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
    }

    /// Reads more bytes; false at the end of the connection.
    fn receive(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.socket
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut bytes = [0; 64 << 10];
        match self.socket.read(&mut bytes) {
            Ok(count) => {
                self.buffer.extend(&bytes[..count]);
                self.has_ended |= count == 0;
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.has_ended = true;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// A request of arguments of any bytes.
pub fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_request(&mut bytes, arguments.iter().copied());
    bytes
}

/// A request of words between spaces; `""` stands for an empty one.
pub fn command(words: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = words
        .split_ascii_whitespace()
        .map(|word| if word == "\"\"" { "" } else { word }.as_bytes())
        .collect();
    request(&words)
}

/// Several commands, one behind the other.
pub fn commands(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| command(line)).collect()
}

/// A bulk string as a reply.
pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Bytes as readable text; of long ones, the beginning.
pub fn shown(bytes: &[u8]) -> String {
    let begin = &bytes[..bytes.len().min(300)];
    let dots = if begin.len() < bytes.len() { "..." } else { "" };
    format!("{}{dots} ({} bytes)", begin.escape_ascii(), bytes.len())
}

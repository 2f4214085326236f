//! A client that sends and collects raw frames.
//!
//! Adds nothing of its own to what a test sends and hides nothing of what comes. Every wait has a
//! deadline, so that a test which hangs fails and shows what it had got.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::frames::{self, Frame};
use super::login::{Exchange, Login};
use super::reply::{Reply, decode_setting, decode_u32};

/// How long a test waits for bytes before it fails.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// Where to connect.
#[derive(Clone, Debug)]
pub enum Target {
    /// Loopback.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// A connected socket.
#[derive(Debug)]
enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A raw connection.
#[derive(Debug)]
pub struct Wire {
    /// The connection.
    socket: Socket,
    /// Where it leads, for cancel requests.
    target: Target,
    /// Bytes received.
    buffer: Vec<u8>,
    /// How many of them have been taken.
    taken: usize,
    /// The other side has closed.
    ended: bool,
    /// The process id of the cancel key.
    pub pid: u32,
    /// The secret of the cancel key.
    pub secret: u32,
    /// The settings as last reported.
    pub settings: BTreeMap<String, String>,
    /// Everything from the first answer to the first ReadyForQuery.
    pub greeting: Reply,
}

impl Wire {
    /// Connects and sends nothing.
    pub fn open(target: &Target) -> std::io::Result<Self> {
        let socket = match target {
            Target::Tcp(address) => {
                let socket = TcpStream::connect_timeout(address, WAIT_MAX)?;
                socket.set_nodelay(true)?;
                Socket::Tcp(socket)
            }
            Target::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        Ok(Self {
            socket,
            target: target.clone(),
            buffer: Vec::new(),
            taken: 0,
            ended: false,
            pid: 0,
            secret: 0,
            settings: BTreeMap::new(),
            greeting: Reply::default(),
        })
    }

    /// Connects and logs in; if refused, what was said instead.
    pub fn login(target: &Target, login: &Login) -> Result<Self, Reply> {
        let Ok(mut wire) = Self::open(target) else {
            return Err(Reply::default());
        };
        wire.start(login)?;
        Ok(wire)
    }

    /// Logs in on a connection that has said nothing yet.
    pub fn start(&mut self, login: &Login) -> Result<(), Reply> {
        let version = 3 << 16;
        if self
            .try_send(&frames::startup(version, &login.parameters))
            .is_err()
        {
            return Err(Reply::default());
        }
        let mut exchange = Exchange::new(login);
        let mut reply = Reply::default();
        loop {
            let Ok(Some(frame)) = self.try_frame(WAIT_MAX) else {
                return Err(reply);
            };
            if frame.tag == b'K' {
                let (pid, rest) = decode_u32(&frame.body);
                (self.pid, self.secret) = (pid, decode_u32(rest).0);
            }
            let answer = if frame.tag == b'R' {
                exchange.answer(&frame)
            } else {
                None
            };
            let done = frame.tag == b'Z';
            reply.frames.push(frame);
            if let Some(bytes) = answer {
                self.send(&bytes);
            }
            if done {
                self.greeting = reply;
                return Ok(());
            }
        }
    }

    /// Sends bytes and insists that they go.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the connection takes bytes");
    }

    /// Sends bytes.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(socket) => {
                socket.set_write_timeout(Some(WAIT_MAX))?;
                socket.write_all(bytes)
            }
            Socket::Unix(socket) => {
                socket.set_write_timeout(Some(WAIT_MAX))?;
                socket.write_all(bytes)
            }
        }
    }

    /// Says that nothing more will be sent, and still reads.
    pub fn end_sending(&mut self) {
        let _ = match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        };
    }

    /// The next frame; the test fails without one.
    pub fn frame(&mut self) -> Frame {
        match self.try_frame(WAIT_MAX) {
            Ok(Some(frame)) => frame,
            Ok(None) => panic!("the connection was closed; unread: {:?}", self.unread()),
            Err(error) => panic!("no frame: {error}; unread: {:?}", self.unread()),
        }
    }

    /// The next frame, or nothing at the end of the connection, or a timeout.
    pub fn try_frame(&mut self, time_max: Duration) -> std::io::Result<Option<Frame>> {
        let deadline = Instant::now() + time_max;
        loop {
            if let Some((frame, length)) = Frame::decode(&self.buffer[self.taken..]) {
                self.taken += length;
                if frame.tag == b'S' {
                    let (name, value) = decode_setting(&frame);
                    self.settings.insert(name, value);
                }
                return Ok(Some(frame));
            }
            if !self.receive(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Reads more bytes; false at the end of the connection.
    fn receive(&mut self, deadline: Instant) -> std::io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.max(Duration::from_millis(1));
        self.buffer.drain(..std::mem::take(&mut self.taken));
        let mut bytes = [0; 64 << 10];
        let result = match &mut self.socket {
            Socket::Tcp(socket) => {
                socket.set_read_timeout(Some(left))?;
                socket.read(&mut bytes)
            }
            Socket::Unix(socket) => {
                socket.set_read_timeout(Some(left))?;
                socket.read(&mut bytes)
            }
        };
        match result {
            Ok(count) => {
                self.buffer.extend(&bytes[..count]);
                self.ended |= count == 0;
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.ended = true;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Everything up to the given number of ReadyForQuery frames.
    pub fn until_ready(&mut self, count: usize) -> Reply {
        let mut reply = Reply::default();
        let mut ready = 0;
        while ready < count {
            let frame = match self.try_frame(WAIT_MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => panic!("closed after {} {:?}", reply.tags(), reply.error()),
                Err(error) => panic!("{error} after {} {:?}", reply.tags(), reply.error()),
            };
            ready += usize::from(frame.tag == b'Z');
            reply.frames.push(frame);
        }
        reply
    }

    /// Everything up to a frame of the given type.
    pub fn until(&mut self, tag: u8) -> Reply {
        let mut reply = Reply::default();
        while reply.frames.last().is_none_or(|frame| frame.tag != tag) {
            let frame = match self.try_frame(WAIT_MAX) {
                Ok(Some(frame)) => frame,
                other => panic!("{other:?} after {} {:?}", reply.tags(), reply.error()),
            };
            reply.frames.push(frame);
        }
        reply
    }

    /// Everything up to the end of the connection; the test fails if it does not end.
    pub fn until_end(&mut self) -> Reply {
        let mut reply = Reply::default();
        loop {
            match self.try_frame(WAIT_MAX) {
                Ok(Some(frame)) => reply.frames.push(frame),
                Ok(None) => return reply,
                Err(error) => panic!("not closed ({error}) after {}", reply.tags()),
            }
        }
    }

    /// Everything up to the end of the connection. If the other side waits for more, it is told
    /// after a while that nothing will come.
    pub fn until_end_or_idle(&mut self) -> Reply {
        let mut reply = Reply::default();
        loop {
            match self.try_frame(Duration::from_millis(250)) {
                Ok(Some(frame)) => reply.frames.push(frame),
                Ok(None) => return reply,
                Err(_) => break,
            }
        }
        self.end_sending();
        reply.frames.extend(self.until_end().frames);
        reply
    }

    /// Everything that comes within a time.
    pub fn during(&mut self, time: Duration) -> Reply {
        let deadline = Instant::now() + time;
        let mut reply = Reply::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.try_frame(left) {
                Ok(Some(frame)) => reply.frames.push(frame),
                Ok(None) | Err(_) => return reply,
            }
            if left.is_zero() {
                return reply;
            }
        }
    }

    /// Raw bytes, at least so many, or fewer at the end of the connection.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let deadline = Instant::now() + WAIT_MAX;
        while self.unread().len() < count && self.receive(deadline).expect("bytes in time") {}
        let count = count.min(self.unread().len());
        let bytes = self.unread()[..count].to_vec();
        self.taken += count;
        bytes
    }

    /// Bytes received and not yet taken.
    fn unread(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// Whether the other side has closed; waits at most so long.
    pub fn has_ended(&mut self, time_max: Duration) -> bool {
        self.ended || matches!(self.try_frame(time_max), Ok(None))
    }

    /// A simple query and its whole reply.
    pub fn query(&mut self, sql: &str) -> Reply {
        self.send(&frames::query(sql));
        self.until_ready(1)
    }

    /// The unnamed statement with text parameters, and its whole reply.
    pub fn extended(&mut self, sql: &str, values: &[Option<&str>]) -> Reply {
        self.send(&frames::extended(sql, values));
        self.until_ready(1)
    }

    /// The first value that a query returns.
    pub fn value(&mut self, sql: &str) -> String {
        self.query(sql).value()
    }

    /// Asks on a connection of its own to cancel what this session runs, and waits until that
    /// connection is closed.
    pub fn cancel(&self) {
        let mut wire = Self::open(&self.target).expect("cancel requests are accepted");
        wire.send(&frames::cancel_request(self.pid, self.secret));
        assert!(
            wire.has_ended(WAIT_MAX),
            "a cancel connection is closed without a word"
        );
    }

    /// Breaks the connection without a goodbye.
    pub fn vanish(self) {
        drop(self);
    }
}

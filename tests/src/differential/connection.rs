//! A raw connection that never waits longer than it is told to, and its replies one by one.
//!
//! Knows no command. Invariant: a reply is the bytes that came, whole.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use manifold_protocols::redis::resp::reply::Finder;

/// One side of a session.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    finder: Finder,
    /// What has come of the reply that is not whole.
    part: Vec<u8>,
    /// Replies that have come and have not been taken.
    pub replies: VecDeque<Vec<u8>>,
    /// The other side has closed.
    pub has_ended: bool,
    /// It has closed with a reset: what it had said before may be lost.
    pub was_reset: bool,
}

impl Connection {
    /// Connects; tries for a while, because a node may be on its way up.
    pub fn open(address: SocketAddr) -> Self {
        let begin = Instant::now();
        let socket = loop {
            match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
                Ok(socket) => break socket,
                Err(error) if begin.elapsed() > Duration::from_secs(20) => {
                    panic!("nobody accepts at {address}: {error}")
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        socket
            .set_nodelay(true)
            .expect("a socket takes its options");
        socket
            .set_nonblocking(true)
            .expect("a socket takes its options");
        Self {
            socket,
            finder: Finder::default(),
            part: Vec::new(),
            replies: VecDeque::new(),
            has_ended: false,
            was_reset: false,
        }
    }

    /// Where it comes from, as CLIENT LIST shows it.
    pub fn address(&self) -> String {
        let address = self.socket.local_addr();
        address.map_or_else(|_| "none".to_owned(), |it| it.to_string())
    }

    /// Sends bytes; takes in what comes meanwhile. A connection that has ended takes everything.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let begin = Instant::now();
        while !rest.is_empty() && !self.has_ended {
            match self.socket.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.receive();
                    self.wait_for(libc::POLLIN | libc::POLLOUT, Duration::from_millis(50));
                    assert!(begin.elapsed() < Duration::from_secs(60), "nobody reads");
                }
                // What was said before the end is still there to be read.
                Err(_) => return,
            }
        }
    }

    /// Takes in what has come. Says whether that was anything.
    pub fn receive(&mut self) -> bool {
        let mut bytes = [0; 64 << 10];
        let mut has_come = false;
        while !self.has_ended {
            match self.socket.read(&mut bytes) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    has_come = true;
                    self.take(&bytes[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return has_come,
                Err(_) => {
                    self.was_reset = true;
                    self.has_ended = true;
                }
            }
        }
        has_come
    }

    /// Waits until there are so many replies, or the end.
    pub fn wait(&mut self, count: usize, time_max: Duration) {
        let deadline = Instant::now() + time_max;
        loop {
            self.receive();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.replies.len() >= count || self.has_ended || left.is_zero() {
                return;
            }
            self.wait_for(libc::POLLIN, left);
        }
    }

    /// Waits for the end.
    pub fn wait_for_end(&mut self, time_max: Duration) {
        self.wait(usize::MAX, time_max);
    }

    /// Whether part of a reply is there.
    pub fn is_amid(&self) -> bool {
        !self.part.is_empty()
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Breaks the connection with a reset, without a good-bye.
    pub fn vanish(&self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: the option's value is a live `linger` of the size that is given with it.
        unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Ok(progress) = self.finder.find(rest) else {
                self.replies.push_back(rest.to_vec());
                self.has_ended = true;
                return;
            };
            let (piece, after) = rest.split_at(progress.len);
            self.part.extend_from_slice(piece);
            rest = after;
            if progress.is_end {
                self.replies.push_back(std::mem::take(&mut self.part));
            }
        }
    }

    fn wait_for(&self, events: libc::c_short, time_max: Duration) {
        let mut poll = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events,
            revents: 0,
        };
        let millis = time_max.as_millis().clamp(1, 1000) as libc::c_int;
        // SAFETY: one live `pollfd` is given, and its number.
        unsafe { libc::poll(&raw mut poll, 1, millis) };
    }
}

/// A connection of our own to ask things: begins again when it is lost.
#[derive(Debug)]
pub(super) struct Control {
    address: SocketAddr,
    /// What is said first.
    greeting: Option<String>,
    resp: Option<crate::harness::Resp>,
}

impl Control {
    /// Of what listens there, with the words that let it in.
    pub fn new(address: SocketAddr, greeting: Option<String>) -> Self {
        Self {
            address,
            greeting,
            resp: None,
        }
    }

    /// A command and its reply; tries again while the other side is away.
    pub fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let begin = Instant::now();
        loop {
            match self.try_ask(words) {
                Ok(Some(reply)) if !reply.starts_with(b"-LOADING") => return reply,
                other => {
                    let waited = begin.elapsed();
                    assert!(waited < Duration::from_secs(60), "no answer: {other:?}");
                    self.resp = None;
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    fn try_ask(&mut self, words: &[&[u8]]) -> io::Result<Option<Vec<u8>>> {
        if self.resp.is_none() {
            let mut resp = crate::harness::Resp::open(self.address)?;
            if let Some(greeting) = &self.greeting {
                resp.try_ask(greeting)?;
            }
            self.resp = Some(resp);
        }
        let resp = self.resp.as_mut().expect("it is there now");
        resp.try_send(&crate::harness::resp::request(words))?;
        resp.try_reply(Duration::from_secs(30))
    }

    /// The same in words between spaces.
    pub fn say(&mut self, words: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        self.ask(&words)
    }

    /// The flags of the session from this address in CLIENT LIST; nothing if it is not there.
    pub fn flags_of(&mut self, address: &str) -> Option<String> {
        let list = self.say("CLIENT LIST");
        let list = String::from_utf8_lossy(&list);
        let addressed = format!(" addr={address} ");
        let line = list.lines().find(|line| line.contains(&addressed))?;
        let flags = line.split(' ').find_map(|it| it.strip_prefix("flags="));
        flags.map(str::to_owned)
    }
}

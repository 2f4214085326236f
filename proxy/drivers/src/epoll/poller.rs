//! The system calls of the epoll driver.
//!
//! Knows nothing of connections. Invariant: none of them ever waits, except `Poller::wait`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use manifold_core::event::Peer;
use socket2::SockAddr;

use crate::socket;

/// The most that one look brings; what is more comes with the next.
const EVENTS_MAX: usize = 256;

/// An epoll instance.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    found: usize,
}

impl Poller {
    /// One that watches nothing yet.
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        Ok(Self {
            epoll,
            events,
            found: 0,
        })
    }

    /// Watches a descriptor.
    pub(super) fn add(&self, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    /// Watches a descriptor for something else. What it is ready for already is found again.
    pub(super) fn modify(&self, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Watches a descriptor no more. Closing the only descriptor of a socket does it, too.
    pub(super) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, action: i32, fd: RawFd, interest: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest as u32,
            u64: token,
        };
        // SAFETY: the event outlives the call, which keeps no reference to it.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), action, fd, &mut event) }).map(drop)
    }

    /// Waits until something is ready or the time is up. Times are rounded up to milliseconds.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        self.found = 0;
        // SAFETY: the kernel writes at most as many events as the vector holds.
        let found = check(unsafe {
            let events = self.events.as_mut_ptr();
            libc::epoll_wait(self.epoll.as_raw_fd(), events, EVENTS_MAX as i32, timeout)
        });
        match found {
            Ok(found) => self.found = found as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How many descriptors the last `wait` found ready.
    pub(super) fn found(&self) -> usize {
        self.found
    }

    /// The token of the n-th of them, and what it is ready for.
    pub(super) fn ready(&self, n: usize) -> (u64, i32) {
        let event = self.events[n];
        (event.u64, event.events as i32)
    }
}

/// Receives what is there, up to the length of `into`; zero at the end of the stream.
pub(super) fn receive(fd: RawFd, into: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: the kernel writes into `into` only, and only during the call.
    retry(|| unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) })
}

/// Sends as much as the kernel takes now.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> Result<usize, i32> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the kernel reads from `bytes` only, and only during the call.
    retry(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Accepts a client that waits, and says who it is, if it has not left already.
pub(super) fn accept(listener: RawFd) -> Result<(OwnedFd, Option<Peer>), i32> {
    // SAFETY: both pointers come from socket2 and are valid for the call; `storage` is as long as
    // `len` says.
    let accepted = unsafe {
        SockAddr::try_init(|storage, len| {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            check(libc::accept4(listener, storage.cast(), len, flags))
        })
    };
    let (fd, address) = accepted.map_err(|error| socket::errno(&error))?;
    // SAFETY: the kernel made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((socket, socket::peer(&address)))
}

/// Repeats what a signal interrupted.
fn retry(mut call: impl FnMut() -> isize) -> Result<usize, i32> {
    loop {
        match usize::try_from(call()) {
            Ok(len) => return Ok(len),
            Err(_) => match socket::errno(&io::Error::last_os_error()) {
                libc::EINTR => {}
                errno => return Err(errno),
            },
        }
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

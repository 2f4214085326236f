//! Sockets of connections: making them, asking them, shutting them down.
//!
//! Knows nothing of either driver's way to wait. Invariant: every descriptor is close-on-exec,
//! every TCP socket sends at once (TCP_NODELAY).

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use manifold_core::event::{Address, Failure, Peer};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::config::Config;
use crate::listener::Listener;

/// What an errno of a socket means to the core.
pub(crate) fn failure(errno: i32) -> Failure {
    match errno {
        libc::ECONNREFUSED | libc::ENOENT => Failure::Refused,
        libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => Failure::Reset,
        libc::ETIMEDOUT => Failure::TimedOut,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN => {
            Failure::Unreachable
        }
        // EAGAIN is how a unix socket says that its queue of connects is full.
        libc::EMFILE
        | libc::ENFILE
        | libc::ENOMEM
        | libc::ENOBUFS
        | libc::ENOSPC
        | libc::EADDRNOTAVAIL
        | libc::EAGAIN => Failure::Exhausted,
        errno => Failure::Other(errno),
    }
}

/// The errno in an error of the standard library; those without one are ours to understand.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

/// A socket on its way to an address.
pub(crate) struct Outbound {
    /// The socket.
    pub(crate) socket: OwnedFd,
    /// Where it is to be connected, or `None` if it is already.
    pub(crate) target: Option<SockAddr>,
}

/// Makes the socket for a connect. A unix socket is connected on the spot, because such a connect
/// never waits for a peer; a TCP socket is the driver's to connect.
pub(crate) fn open_outbound(address: &Address, config: &Config) -> io::Result<Outbound> {
    match address {
        Address::Ip(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            prepare_upstream(&socket, config)?;
            Ok(Outbound {
                socket: socket.into(),
                target: Some((*address).into()),
            })
        }
        Address::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.connect(&SockAddr::unix(&**path)?)?;
            Ok(Outbound {
                socket: socket.into(),
                target: None,
            })
        }
    }
}

/// Lets a dead upstream be noticed: by keepalive when it is idle, by TCP_USER_TIMEOUT when it is
/// not.
fn prepare_upstream(socket: &Socket, config: &Config) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(config.keepalive_idle)
        .with_interval(config.keepalive_interval)
        .with_retries(config.keepalive_retries);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(config.user_timeout))
}

/// Prepares a listener. What it accepts inherits TCP_NODELAY from it.
pub(crate) fn prepare_listener(listener: &Listener, nonblocking: bool) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if matches!(listener, Listener::Tcp(_)) {
        socket.set_tcp_nodelay(true)?;
    }
    socket.set_nonblocking(nonblocking)
}

/// Chooses between answering EAGAIN and waiting.
pub(crate) fn set_nonblocking(socket: &OwnedFd, nonblocking: bool) -> io::Result<()> {
    SockRef::from(socket).set_nonblocking(nonblocking)
}

/// Who is at the other end, if there is still one.
pub(crate) fn peer_of(socket: &OwnedFd) -> Option<Peer> {
    peer(&SockRef::from(socket).peer_addr().ok()?)
}

/// The core's idea of an address.
pub(crate) fn peer(address: &SockAddr) -> Option<Peer> {
    if address.is_unix() {
        return Some(Peer::Unix);
    }
    address.as_socket().map(Peer::Ip)
}

/// Ends both directions. What was sent is still delivered, and whatever the kernel waits for on
/// this socket ends.
pub(crate) fn shutdown(socket: impl AsFd) {
    // It fails only on what is not connected any more, which is what was wanted.
    let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
}

/// Has the close of a socket reset the connection. The kernel does so by itself if bytes are left
/// unread, but not if io_uring has taken them out after the shutdown: the peer would then face a
/// window that nobody opens any more, and a blocked send of its would hang for a minute.
pub(crate) fn reset_at_close(socket: &OwnedFd) {
    // It fails only on what is not connected any more.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{ListenAddress, bind};
    use std::net::{Ipv4Addr, TcpStream};

    fn listener() -> Listener {
        bind(
            &ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into()),
            false,
            16,
        )
        .unwrap()
    }

    fn port_of(listener: &Listener) -> std::net::SocketAddr {
        match listener.address().unwrap() {
            ListenAddress::Tcp(address) => address,
            ListenAddress::Unix(_) => unreachable!("it was bound to TCP"),
        }
    }

    #[test]
    fn tells_failures_apart_by_errno() {
        for (errno, expected) in [
            (libc::ECONNREFUSED, Failure::Refused),
            (libc::ENOENT, Failure::Refused),
            (libc::ECONNRESET, Failure::Reset),
            (libc::EPIPE, Failure::Reset),
            (libc::ETIMEDOUT, Failure::TimedOut),
            (libc::ENETUNREACH, Failure::Unreachable),
            (libc::EHOSTUNREACH, Failure::Unreachable),
            (libc::EMFILE, Failure::Exhausted),
            (libc::ENFILE, Failure::Exhausted),
            (libc::ENOMEM, Failure::Exhausted),
            (libc::ENOBUFS, Failure::Exhausted),
            (libc::EADDRNOTAVAIL, Failure::Exhausted),
            (libc::EACCES, Failure::Other(libc::EACCES)),
        ] {
            assert_eq!(failure(errno), expected, "errno {errno}");
        }
    }

    #[test]
    fn accepts_sockets_that_send_at_once() {
        let listener = listener();
        prepare_listener(&listener, false).unwrap();
        let _client = TcpStream::connect(port_of(&listener)).unwrap();
        let Listener::Tcp(listener) = listener else {
            unreachable!()
        };
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }

    #[test]
    fn prepares_upstream_sockets_for_a_dead_peer() {
        let config = Config {
            user_timeout: Duration::from_secs(7),
            ..Config::default()
        };
        let address = Address::Ip(port_of(&listener()));
        let outbound = open_outbound(&address, &config).unwrap();
        let socket = SockRef::from(&outbound.socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), config.keepalive_idle);
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            config.keepalive_interval
        );
        assert_eq!(
            socket.tcp_keepalive_retries().unwrap(),
            config.keepalive_retries
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(7))
        );
    }
}

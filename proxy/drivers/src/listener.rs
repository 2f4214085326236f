//! Listening sockets: where, and how they are bound.
//!
//! Knows nothing of accepting. Invariant: a path of a unix socket is taken over only from a
//! process that is gone.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

/// Where to listen.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ListenAddress {
    /// TCP; port 0 lets the kernel choose one.
    Tcp(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A bound socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of a path.
    Unix(UnixListener),
}

impl Listener {
    /// Where it listens, with the port that the kernel chose.
    pub fn address(&self) -> io::Result<ListenAddress> {
        Ok(match self {
            Self::Tcp(listener) => ListenAddress::Tcp(listener.local_addr()?),
            Self::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_path_buf);
                ListenAddress::Unix(path.unwrap_or_default())
            }
        })
    }

    /// The same socket once more, for another shard. Shards share a unix socket so; for TCP each
    /// binds its own with `reuse_port`.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Binds and listens. With `reuse_port` several sockets may be bound to one TCP address, and the
/// kernel spreads the clients over them. A path whose socket answers nobody is taken over.
pub fn bind(address: &ListenAddress, reuse_port: bool, backlog: i32) -> io::Result<Listener> {
    match address {
        ListenAddress::Tcp(address) => bind_tcp(*address, reuse_port, backlog),
        ListenAddress::Unix(path) => bind_unix(path, backlog),
    }
}

fn bind_tcp(address: SocketAddr, reuse_port: bool, backlog: i32) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    // What is accepted inherits it: a client whose host has vanished is noticed, and gives up what
    // it holds, after 90 s.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(Listener::Tcp(socket.into()))
}

fn bind_unix(path: &Path, backlog: i32) -> io::Result<Listener> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse || !is_abandoned(path) {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    socket.listen(backlog)?;
    Ok(Listener::Unix(socket.into()))
}

/// Whether a path is a socket on which nobody listens any more.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::Ipv4Addr;

    const ANY_PORT: ListenAddress = ListenAddress::Tcp(SocketAddr::V4(
        std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
    ));

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("manifold-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn kind_of(result: io::Result<Listener>) -> io::ErrorKind {
        result.expect_err("this address is taken").kind()
    }

    #[test]
    fn keeps_accepted_clients_under_watch() {
        let listener = bind(&ANY_PORT, false, 8).unwrap();
        let Listener::Tcp(listener) = listener else {
            panic!("an address of TCP is listened on by TCP");
        };
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        let idle = accepted.tcp_keepalive_time().unwrap();
        assert_eq!(idle, Duration::from_secs(60));
    }

    #[test]
    fn shares_a_tcp_address_only_if_all_agree() {
        let first = bind(&ANY_PORT, true, 8).unwrap();
        let address = first.address().unwrap();
        let _second = bind(&address, true, 8).unwrap();
        assert_eq!(kind_of(bind(&address, false, 8)), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn takes_over_a_path_whose_socket_answers_nobody() {
        let path = path("abandoned");
        let address = ListenAddress::Unix(path.clone());
        drop(bind(&address, false, 8).unwrap());
        assert!(path.exists(), "a closed socket leaves its path behind");
        let listener = bind(&address, false, 8).unwrap();
        assert_eq!(listener.address().unwrap(), address);
        UnixStream::connect(&path).unwrap();
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn leaves_a_path_alone_whose_socket_is_alive() {
        let path = path("alive");
        let address = ListenAddress::Unix(path.clone());
        let _alive = bind(&address, false, 8).unwrap();
        assert_eq!(kind_of(bind(&address, false, 8)), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn leaves_a_file_alone_that_is_no_socket() {
        let path = path("file");
        File::create(&path).unwrap();
        let bound = bind(&ListenAddress::Unix(path.clone()), false, 8);
        assert_eq!(kind_of(bound), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        fs::remove_file(path).unwrap();
    }
}

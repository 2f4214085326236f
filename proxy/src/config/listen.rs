//! Where a service listens, as it is written: `127.0.0.1:6432` or `unix:/path`.
//!
//! Pure. Binding is somewhere else.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The longest path of a unix socket, in bytes: `sun_path` less its terminator.
const PATH_BYTES_MAX: usize = 107;

/// An address to listen on.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Listen {
    /// TCP. Port 0 lets the kernel choose.
    Ip(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// What is wrong with an address to listen on. Whoever wrote it is to blame.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ListenError {
    /// Neither an address with a port nor a unix path.
    #[error("{0:?} is not an address to listen on")]
    Address(String),
    /// A unix path that depends on where the proxy was started.
    #[error("{0:?} is not an absolute path")]
    Relative(String),
    /// A unix path that the kernel does not take.
    #[error("{0:?} is longer than the {PATH_BYTES_MAX} bytes of a unix socket's path")]
    TooLong(String),
}

impl ListenError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Address(_) => {
                "write an IP address and a port, like \"127.0.0.1:6432\" (\"0.0.0.0:6432\" for \
                 every address), or \"unix:/run/manifold/.s.PGSQL.6432\""
            }
            Self::Relative(_) => "write \"unix:/\" and the rest of the path",
            Self::TooLong(_) => "choose a shorter directory",
        }
    }
}

impl Listen {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, ListenError> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text
                .parse()
                .map(Self::Ip)
                .map_err(|_| ListenError::Address(text.into()));
        };
        if !path.starts_with('/') {
            return Err(ListenError::Relative(path.into()));
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(ListenError::TooLong(path.into()));
        }
        Ok(Self::Unix(path.into()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_kinds_when_written_well() {
        for text in [
            "127.0.0.1:6432",
            "[::1]:6432",
            "0.0.0.0:0",
            "unix:/run/m/.s.PGSQL.6432",
        ] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_cannot_be_bound() {
        for text in [
            "6432",
            ":6432",
            "localhost:6432",
            "127.0.0.1",
            "127.0.0.1:99999",
            "*:6432",
        ] {
            assert_eq!(Listen::parse(text), Err(ListenError::Address(text.into())));
        }
        assert_eq!(
            Listen::parse("unix:run"),
            Err(ListenError::Relative("run".into()))
        );
        let long = format!("/{}", "x".repeat(PATH_BYTES_MAX));
        assert_eq!(
            Listen::parse(&format!("unix:{long}")),
            Err(ListenError::TooLong(long))
        );
        assert!(Listen::parse(&format!("unix:/{}", "x".repeat(PATH_BYTES_MAX - 1))).is_ok());
    }
}

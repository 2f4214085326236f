//! What every source of addresses looks like.
//!
//! Knows no particular source. Invariant: a snapshot is complete in itself; nobody has to remember
//! the one before it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

/// The nodes behind a name at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// Their addresses in the source's order of preference, none of them twice.
    pub addresses: Vec<SocketAddr>,
}

/// Something that knows where the nodes of one service are.
pub trait Source {
    /// The nodes as they are now.
    ///
    /// Takes as long as the source takes: the caller sets the deadline, and may drop the future.
    fn snapshot(&self) -> impl Future<Output = Result<Snapshot, SourceError>> + Send;
}

/// Why a source has no answer. The environment is to blame, and asking again may help.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The resolver of this host could not answer.
    #[error("looking up {host:?} failed: {error}")]
    Lookup {
        /// The name that was asked for.
        host: Box<str>,
        /// What the resolver said.
        error: io::Error,
    },
    /// The resolver answered that the name has no address.
    #[error("{host:?} has no address")]
    NoAddress {
        /// The name that was asked for.
        host: Box<str>,
    },
}

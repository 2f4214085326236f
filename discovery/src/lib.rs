//! Where the nodes of a service are: names in, addresses out.
//!
//! Plain values out: this crate knows nothing of shards, sessions or protocols beyond the scheme of
//! a URL. Each kind of source is one file that implements [`Source`]; today there is one, [`Name`],
//! which looks a host name up whenever it is asked.
//!
//! Invariant: nothing here runs on a shard's thread.
#![forbid(unsafe_code)]

mod name;
mod source;
mod upstream;

pub use name::Name;
pub use source::{Snapshot, Source, SourceError};
pub use upstream::{Protocol, Upstream, UpstreamError, Whereabouts};

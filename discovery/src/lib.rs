//! Where the nodes of a service are: names in, addresses out.
//!
//! Plain values out: this crate knows nothing of shards, sessions or protocols beyond the scheme of
//! a URL. Each kind of source is one file that implements `source::Source`: it follows what it
//! knows for ever and says each change whole.
//!
//! Invariant: nothing here runs on a shard's thread.
#![forbid(unsafe_code)]

mod dns;
mod list;
mod lookup;
mod named;
mod resolver;
mod sentinel;
mod source;
mod srv;
mod table;
mod upstream;
mod zookeeper;

pub use source::{Follower, Lead, News, Node, Place, Role, Snapshot, SourceError};
pub use table::follow;
pub use upstream::{
    Format, Protocol, Sentinel, SrvError, Upstream, UpstreamError, Whereabouts, Zookeeper,
    ZookeeperError,
};

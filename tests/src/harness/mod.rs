//! Real parts for end-to-end tests: PostgreSQL, Redis, the proxy, and clients that speak raw bytes.
//!
//! A test runs one script against the node directly and through the proxy on each driver, and
//! compares what the client saw, frame by frame ([`compare`]) or byte by byte ([`compare_redis`]). Knows nothing of the proxy's inside.
//! Invariant: whatever a test started has ended when the test binary has.

pub mod cluster;
pub mod duet;
pub mod frames;
pub mod login;
pub mod names;
pub mod node;
pub mod patroni;
pub mod place;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod reply;
pub mod resp;
pub mod sentinel;
pub mod stage;
pub mod transcript;
pub mod wire;
pub mod zookeeper;

pub use cluster::RedisCluster;
pub use duet::{Duet, Scene, Voice, compare_both, compare_redis};
pub use frames::Frame;
pub use login::Login;
pub use node::{Node, NodeOptions};
pub use patroni::Patroni;
pub use place::{Place, places};
pub use process::{Folder, Process};
pub use proxy::{Driver, Proxy, ProxyOptions};
pub use redis::{RedisNode, RedisOptions};
pub use reply::{Fields, Reply};
pub use resp::Resp;
pub use sentinel::Sentinels;
pub use stage::{Actor, Setup, Stage, compare, compare_with};
pub use wire::{Target, Wire};
pub use zookeeper::Zookeeper;

//! The shard of manifold as a pure state machine: events in, operations out.
#![forbid(unsafe_code)]

pub mod auth;
pub mod event;
pub mod ids;
pub mod limits;
pub mod permits;
pub mod proof;
pub mod shard;
pub mod slab;
pub mod time;
pub mod topology;

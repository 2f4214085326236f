//! The shard of manifold as a pure state machine: events in, operations out.
#![forbid(unsafe_code)]

pub mod audience;
pub mod auth;
pub mod client;
pub mod conns;
pub mod crowd;
pub mod event;
pub mod fingerprint;
pub mod identity;
pub mod ids;
pub mod input;
pub mod library;
pub mod limits;
pub mod map;
pub mod output;
pub mod permits;
pub mod planted;
pub mod profile;
pub mod proof;
pub(crate) mod random;
pub(crate) mod reach;
pub mod redis;
pub mod register;
pub mod roster;
pub mod shard;
pub mod slab;
pub mod stats;
pub mod texts;
pub mod time;
pub mod timers;
pub mod topology;
pub mod upstream;

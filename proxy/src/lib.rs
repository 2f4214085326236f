//! The proxy around its shards: command line, configuration, threads and the control plane.
//!
//! The rooms, from the outside in: [`command`] reads words, [`config`] turns them and a file into
//! plain values, [`serve`] starts what they describe, [`shards`] is the data plane with its
//! threads, [`classify`] says what statements do, and [`control`] is everything that no client
//! waits for. Nothing in here touches a client's bytes: that is the core's, and the system calls
//! are the drivers'.
#![forbid(unsafe_code)]

pub mod classify;
pub mod command;
pub mod config;
pub mod control;
pub mod descriptors;
pub mod logging;
pub mod serve;
pub mod shards;

//! Connections to nodes: who may use which (`schedule`, `base`), and one folder a protocol for what
//! is said on them.

pub mod active;
pub mod base;
pub mod errands;
pub mod idle;
mod outage;
pub mod postgres;
pub mod pressure;
pub mod queues;
pub mod redis;
pub mod room;
pub mod schedule;
pub mod stall;
pub mod waits;
pub mod whereabouts;

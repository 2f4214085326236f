//! Downstream sessions, one folder a protocol.

pub mod postgres;
pub mod redis;

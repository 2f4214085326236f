//! Bytes to messages and back.
//!
//! Holds what the wire formats say and nothing else: no sockets, no clocks, no sessions, no policy.
//! The decode path never allocates; every decoder answers "not yet", a message, or a typed error.
#![forbid(unsafe_code)]

pub mod postgres;
pub mod redis;

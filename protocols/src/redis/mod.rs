//! Redis as it goes over the wire.
//!
//! Holds what commands are and how keys are spread over slots. It must not know sessions, pipes or
//! policy. Its invariant: nothing is passed for harmless that was not recognised.

pub mod cluster;
pub mod command;

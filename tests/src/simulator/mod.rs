//! The simulator: a third driver, a network, nodes and clients in one thread, from one seed.
//!
//! Pure and deterministic: no sockets, clocks, threads or hash order. Invariant: the same seed with
//! the same options gives the same run.

pub mod client;
pub mod network;
pub mod postgres;
pub mod private;
pub mod prng;
pub mod request;
pub mod script;
pub mod statement;
pub mod wire;

//! A simulated Redis, alone or as a cluster: node, clients, model, and what a world has of it.
//!
//! How it works: every request whose reply depends on data carries a token in one of its words; the
//! node logs what it answered to each (`log`), and a client compares what it receives with that log
//! and with what it knows of its own session (`model`, `judge`). Invariant: the same seed with the
//! same set-up gives the same run.

pub mod client;
pub mod cluster;
pub mod connection;
mod data;
pub mod judge;
pub mod log;
pub mod model;
pub mod node;
mod options;
pub mod play;
pub mod publish;
pub mod resp;
pub mod script;
mod session;
mod table;
mod transaction;

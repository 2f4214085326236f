//! The PostgreSQL protocol, version 3, both sides of it.
//!
//! Holds framing, messages, startup, authentication and what SQL text looks like. It must not know
//! sessions, pools or policy. Its invariant: no input, however malformed, makes a decoder panic.

pub mod authentication;
pub mod backend;
pub mod frame;
pub mod frontend;
pub mod options;
mod reader;
pub mod sql;
pub mod startup;
mod writer;

pub use reader::{MessageError, Strings};

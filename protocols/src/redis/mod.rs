//! The Redis protocol, versions 2 and 3, and what its commands do.
//!
//! Holds the wire format (`resp`), commands (`command`), patterns (`glob`) and the slots of a
//! cluster (`cluster`). It must not know sessions, pools or policy. Its invariant: no input,
//! however malformed, makes a decoder panic.

pub mod cluster;
pub mod command;
pub mod glob;
pub mod resp;

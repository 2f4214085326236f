//! What the tests of manifold share: the simulator and the harness that starts real parts.

pub mod bench;
pub mod differential;
pub mod harness;
pub mod simulator;

//! The benchmark: manifold beside PgBouncer or nutcracker and beside no proxy at all, on one machine, in one run.
//!
//! [`loads`] says what is measured and what is to be reached, [`systems`] starts it, [`traffic`] is
//! the generator for what pgbench cannot do, [`table`] prints. Knows the proxies only as processes
//! with a port. Invariant: the systems of one load take turns, so that whatever the machine does
//! meanwhile happens to all of them.

pub mod cost;
pub mod generator;
pub mod loads;
pub mod nutcracker;
pub mod options;
pub mod pgbench;
pub mod pgbouncer;
pub mod sample;
pub mod systems;
pub mod table;
pub mod traffic;

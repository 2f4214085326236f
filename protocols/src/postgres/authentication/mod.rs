//! How a client proves who it is.
//!
//! Holds the methods, each as a computation over bytes. It must not know where secrets come from
//! and has no randomness of its own. Its invariant: secrets are compared in constant time.

pub mod md5;
pub mod scram;
pub mod userlist;

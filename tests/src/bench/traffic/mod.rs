//! The benchmark's own generator, for what pgbench cannot do: thousands of clients, latency of
//! every request, startup parameters of each client's own, and what real drivers send.
//!
//! A closed loop on one thread: every client has one batch of requests under way and sends the next
//! when the last ReadyForQuery of the batch has come. It costs one receive and one send per batch,
//! like any client. Knows nothing of who answers.

pub mod application;
pub mod client;
pub mod login;
pub mod run;
pub mod scan;
pub mod script;

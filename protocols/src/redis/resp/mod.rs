//! RESP, the serialisation protocol of Redis: requests as clients send them (`request`, `passage`
//! for those that are passed on in pieces, and `inline` for what people type) and replies as nodes
//! send them (`reply`).
//!
//! Sources: the protocol specification, and redis-server 7.0.15 for what it says to malformed
//! requests. Invariant: what is found to be whole and canonical here, a node reads as one request.

pub mod element;
pub mod inline;
pub mod number;
pub mod passage;
pub mod reply;
pub mod request;

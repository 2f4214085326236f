//! What is read from a node to prove statements by: two fixed queries.
//!
//! The shard runs them over an ordinary upstream and carries the rows; only the classifier reads
//! them. Invariant: both work for every user, on every supported version, in any state of the
//! session's settings.

/// One text column; each row is one line of facts. The classifier knows the form of the lines.
pub const CATALOG_QUERY: &str = "SELECT ''";

/// One row of one text column that changes whenever an answer of [`CATALOG_QUERY`] may change.
pub const CATALOG_VERSION_QUERY: &str = "SELECT ''";

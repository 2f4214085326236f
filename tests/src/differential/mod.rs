//! Random Redis sessions, each with a private connection to one node and with a session of the
//! proxy before another: the same bytes go both ways and the same bytes have to come back.
//!
//! Here's how it works. A *troupe* is a few sessions that share keys which nobody else touches, so
//! that what it sees depends on nobody else. Its plan follows from a seed alone (`plan`, `scenes`,
//! `catalogue`). It is played act by act (`troupe`): first direct, until the node has nothing more
//! to say, then through the proxy until as much has come back; whatever else comes is a difference
//! in the next act. Many troupes play at once (`run`), so that their sessions share upstreams.
//! Meanwhile a saboteur (`faults`) breaks the proxy's node, not the other; an act that it touched
//! may differ as far as the README says, and then the direct node gets the other's keys (`keys`)
//! and the troupe goes on with new sessions. What must differ is named in `compare`.
//!
//! What is left out, because two nodes do not agree on it either: RANDOMKEY, SPOP of some members
//! and the RAND commands; stream ids made of the clock; INFO, CLIENT LIST and whatever shows
//! counters, addresses or idle times; what other troupes would see (DBSIZE, FLUSHDB, SWAPDB,
//! SCRIPT FLUSH, PUBSUB NUMPAT). CLIENT SETINFO is left out because the proxy answers it for nodes
//! that do not know it, and CLIENT and SUBSCRIBE inside of MULTI because the README says what
//! becomes of them.
//!
//! Nodes that want a password from everybody play only with `--passwords`: there not everything is
//! as it should be yet.

mod catalogue;
mod compare;
mod connection;
mod faults;
mod keys;
mod plan;
mod player;
pub mod run;
mod scenes;
mod troupe;
mod world;

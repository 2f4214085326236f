//! The invariants that are checked from outside: each a small function that names itself.
//!
//! Reads the parts of a world, changes nothing. What only one part can see (a client its replies, a
//! node its sessions, a driver its contract) that part notes itself.

use core::time::Duration;

use manifold_core::limits::Limits;
use manifold_core::stats::Stats;
use manifold_core::time::Instant;

use super::client::Client;
use super::driver::Driver;
use super::postgres::Node;
use super::postgres::database::owner_of;

/// I3: no token is committed twice.
pub fn check_at_most_once(node: &Node) -> Option<String> {
    let doubled = node.database.ledger.iter().find(|(_, count)| **count > 1);
    doubled.map(|(token, count)| format!("I3: {token} was committed {count} times"))
}

/// I4: what a client was told is committed is in the ledger.
pub fn check_acknowledged(client: &mut Client, node: &Node) -> Option<String> {
    let acknowledged = core::mem::take(&mut client.acknowledged);
    let lost = acknowledged
        .iter()
        .find(|token| !node.database.ledger.contains_key(*token));
    lost.map(|token| format!("I4: {token} was acknowledged and is not in the ledger"))
}

/// I6: nothing is in the ledger that its client has rolled back, or never sent to a commit.
pub fn check_nothing_foreign(clients: &[Client], node: &Node) -> Option<String> {
    for token in node.database.ledger.keys() {
        let owner = owner_of(token);
        let client = clients.iter().find(|client| client.name == owner);
        let is_known = client.is_some_and(|client| {
            client.unknown.contains(token) || client.committed().any(|other| other == token)
        });
        if !is_known {
            return Some(format!(
                "I6: {token} is in the ledger and its client did not commit it"
            ));
        }
    }
    None
}

/// I9: there are never more connections to a node than it was promised.
pub fn check_connections(connections: usize, connections_max: u32) -> Option<String> {
    (connections > connections_max as usize)
        .then(|| format!("I9: {connections} connections where {connections_max} are allowed"))
}

/// I8: a cancel hits no write of a client that asked for none, unless it has gone.
pub fn check_cancelled(clients: &[Client], cancelled: &[String]) -> Option<String> {
    let is_wanted = |token: &&String| {
        let owner = clients.iter().find(|client| client.name == owner_of(token));
        owner.is_some_and(|client| client.is_gone() || client.may_be_cancelled(token))
    };
    let hit = cancelled.iter().find(|token| !is_wanted(token));
    hit.map(|token| format!("I8: a cancel hit {token}, whose client asked for none"))
}

/// Connects of one shard in one run: many more than its clients and faults give reason for.
const CONNECTS_MAX: u64 = 3_000;

/// I9: a shard does not connect again and again for nothing.
pub fn check_connects(connects: u64) -> Option<String> {
    (connects > CONNECTS_MAX).then(|| format!("I9: {connects} connects in one run"))
}

/// How long a shard may keep a connection of which it was told that it failed.
const FAILED_MAX: Duration = Duration::from_secs(5);

/// I10: a connection that failed is closed.
pub fn check_forgotten(now: Instant, driver: &Driver) -> Option<String> {
    let found = driver.has_forgotten(now, FAILED_MAX);
    found.map(|conn| format!("I10: {conn:?} failed long ago and was not closed"))
}

/// How many connections for cancels there may be for each upstream: its own, and those of upstreams
/// at its place that were given up before it, which still have to land or to be given up.
const CANCELS_MAX: usize = 4;

/// How much later than it should a deadline may be noticed: timers are coarse.
const LATE_MAX: Duration = Duration::from_secs(1);

/// I9: cancels need connections of their own, and there are not many of them.
pub fn check_links(links: usize, connections_max: u32) -> Option<String> {
    let links_max = (1 + CANCELS_MAX) * connections_max as usize;
    (links > links_max).then(|| format!("I9: {links} connections to the node, limit {links_max}"))
}

/// I9: neither a connect nor a cancel waits for a silent node longer than it may.
pub fn check_hanging(now: Instant, driver: &Driver, limits: &Limits) -> Option<String> {
    let found = driver.has_hung(now, limits.connect_time_max + LATE_MAX);
    found.map(|conn| format!("I9: {conn:?} waits for the node longer than connect_time_max"))
}

/// Requests of the proxy's own that may stand in a pipe beside those that are counted.
const OWN_REQUESTS_MAX: u64 = 8;

/// I9: no pipe is deeper than it may be.
pub fn check_depth(depth: u64, limits: &Limits) -> Option<String> {
    let depth_max = limits.pipe_depth_max as u64 + OWN_REQUESTS_MAX;
    (depth > depth_max).then(|| format!("I9: {depth} requests in one pipe, limit {depth_max}"))
}

/// I2: a node that keeps to the protocol is never taken for one that does not.
pub fn check_understood(stats: &Stats) -> Option<String> {
    (stats.mismatches > 0).then(|| "I2: the core took a reply for another one".to_owned())
}

/// I10: what a shard counts as being there is gone when everybody is.
pub fn check_gauges(stats: &Stats) -> Option<String> {
    let gauges = [stats.clients, stats.upstreams, stats.leased];
    (gauges != [0, 0, 0])
        .then(|| format!("I10: clients, upstreams and leases are {gauges:?} at the end"))
}

/// I10: when everybody is gone, nothing is left at the node.
pub fn check_nothing_left(node: &Node) -> Option<String> {
    if let Some(session) = node.sessions().next() {
        return Some(format!(
            "I10: session {:?} of {:?} is left",
            session.id, session.user
        ));
    }
    (!node.database.locks.is_empty()).then(|| "I10: a lock is left".to_owned())
}

//! The invariants that are checked from outside: each a small function that names itself.
//!
//! Reads the parts of a world, changes nothing. What only one part can see (a client its replies, a
//! node its sessions, a driver its contract) that part notes itself.

use super::client::Client;
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

/// I9: a node never holds more connections than it was promised, cancels aside.
pub fn check_connections(node: &Node, connections_max: u32) -> Option<String> {
    let sessions = node
        .sessions()
        .filter(|session| session.is_logged_in())
        .count();
    (sessions > connections_max as usize)
        .then(|| format!("I9: {sessions} connections where {connections_max} are allowed"))
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

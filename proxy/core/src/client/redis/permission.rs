//! Whether the node would let a session do what the proxy does in its place.
//!
//! The node's users may be allowed any command and forbidden any other, and only the node knows. It
//! is asked with the same command in a form that changes nothing. Invariant: what is forbidden at
//! the node is not done here.

use manifold_protocols::redis::command::{ClientCommand, SessionCommand};
use manifold_protocols::redis::resp::request::STRANGER_BULK_BYTES_MAX;

use crate::client::redis::pump::Turn;
use crate::client::redis::subscribe::Change;
use crate::client::redis::{Waiting, errors};
use crate::ids::ClientId;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Own;
use crate::upstream::redis::pool::Lane;

/// A number that no connection has.
const NOBODY: &[u8] = b"9223372036854775807";

/// A channel that nobody listens to.
pub(crate) const NOWHERE: &[u8] = b"manifold:nowhere";

impl Redis {
    /// Asks the node for permission, unless it has just given it. None if the session may go on.
    pub(crate) fn ask_permission(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        command: SessionCommand,
        words: &[&[u8]],
    ) -> Option<Turn> {
        let client = &mut self.clients[id];
        if core::mem::take(&mut client.is_permitted) {
            return None;
        }
        // The node looks at the count of words first, and so does whoever answers here.
        let table = &self.nodes[client.service.index()].table;
        let row = table.find(words[0], words.get(1).copied());
        row.filter(|row| row.takes(words.len()))?;
        let question = harmless(command, words)?;
        let is_end = Change::of(command).is_some();
        if is_end && self.key_of(id).login.is_none() && !self.is_stranger(id) {
            // To ask takes a moment, in which others would still find it listening. Users who may
            // listen and may not stop are made on purpose, and log in.
            return None;
        }
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Some(Turn::Wait);
        }
        let pool = client.pool;
        // What ends a subscription is confirmed by a push, and a lease may get pushes unasked.
        let lease = client.lease.filter(|_| !is_end);
        let target = match lease {
            Some(lease) => Some(lease.upstream),
            None => self.pick(reach, pool, Lane::Fast),
        };
        let Some(target) = target else {
            self.clients[id].wait_for(Waiting::Lane(Lane::Fast), reach.now);
            let pipes = &mut self.pools[pool].lanes[Lane::Fast as usize];
            pipes.waiting.push_back(id);
            self.list_pool(pool);
            return Some(Turn::Wait);
        };
        let own = match is_end {
            true => Own::PermissionToEnd(id),
            false => Own::Permission(id),
        };
        self.clients[id].wait_for(Waiting::Permission, reach.now);
        self.ask(reach, target, own, &question);
        Some(Turn::Wait)
    }

    /// The node has said whether a session may do what it wants.
    pub(crate) fn handle_permission(&mut self, reach: &mut Reach<'_>, id: ClientId, reply: &[u8]) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        assert!(
            client.waiting == Waiting::Permission,
            "a session waits until the node has answered"
        );
        if NOS.iter().any(|no| reply.starts_with(no)) {
            return self.answer_next(reach, id, reply);
        }
        client.is_permitted = true;
        client.waiting = Waiting::No;
        self.clients_to_pump.push_back(id);
    }

    /// The upstream on which the node was asked is lost: it is asked again elsewhere.
    pub(crate) fn lose_permission(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            client.waiting = Waiting::No;
            self.clients_to_pump.push_back(id);
        }
    }

    /// Whether a session has to say who it is, and has not.
    pub(crate) fn is_stranger(&self, id: ClientId) -> bool {
        let node = &self.nodes[self.clients[id].service.index()];
        node.lock == Some(true) && self.key_of(id).login.is_none()
    }

    /// What a stranger hears who asks for something else than to be let in.
    pub(crate) fn turn_away(&self, id: ClientId, words: &[&[u8]]) -> Option<Vec<u8>> {
        let table = &self.nodes[self.clients[id].service.index()].table;
        let row = table.find(words[0], words.get(1).copied())?;
        (!row.is_open && row.takes(words.len())).then(|| errors::LOCKED.to_vec())
    }

    /// Whether a node would take a new connection with this secret for no client at all.
    pub(crate) fn is_too_long_for_stranger(
        &self,
        id: ClientId,
        user: &[u8],
        password: &[u8],
    ) -> bool {
        let is_locked = self.nodes[self.clients[id].service.index()].lock == Some(true);
        is_locked && user.len().max(password.len()) > STRANGER_BULK_BYTES_MAX
    }
}

/// What is passed on of the answers. Other errors come of the form that changes nothing, or of a
/// node that does not know what the proxy does for it.
const NOS: [&[u8]; 3] = [b"-NOPERM", b"-NOAUTH", b"-ERR No such user"];

/// A form of the command that changes nothing.
fn harmless<'a>(command: SessionCommand, words: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    let command = match command {
        SessionCommand::Client(command) => command,
        SessionCommand::Unsubscribe => return Some(vec![b"UNSUBSCRIBE", NOWHERE]),
        SessionCommand::PUnsubscribe => return Some(vec![b"PUNSUBSCRIBE", NOWHERE]),
        SessionCommand::SUnsubscribe => return Some(vec![b"SUNSUBSCRIBE", NOWHERE]),
        _ => return None,
    };
    let rest: &[&[u8]] = match command {
        ClientCommand::GetName => &[b"GETNAME"],
        ClientCommand::GetRedir => &[b"GETREDIR"],
        ClientCommand::Id => &[b"ID"],
        ClientCommand::Info => &[b"INFO"],
        ClientCommand::Kill => return Some(kill_nobody(words)),
        ClientCommand::List => &[b"LIST", b"ID", NOBODY],
        ClientCommand::NoEvict => &[b"NO-EVICT", b"OFF"],
        ClientCommand::NoTouch => &[b"NO-TOUCH", b"OFF"],
        ClientCommand::Reply => &[b"REPLY", b"ON"],
        // An option that there is not.
        ClientCommand::SetInfo => &[b"SETINFO", b"NOTHING", b""],
        ClientCommand::SetName => &[b"SETNAME", crate::upstream::redis::connect::NAME],
        ClientCommand::Unblock => &[b"UNBLOCK", NOBODY],
        _ => return None,
    };
    let mut question: Vec<&[u8]> = vec![b"CLIENT"];
    question.extend_from_slice(rest);
    Some(question)
}

/// The users that it names, and a number that nobody has.
fn kill_nobody<'a>(words: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut question: Vec<&[u8]> = vec![b"CLIENT", b"KILL"];
    for pair in words.get(2..).unwrap_or_default().chunks_exact(2) {
        if pair[0].eq_ignore_ascii_case(b"user") {
            question.extend_from_slice(pair);
        }
    }
    question.extend_from_slice(&[b"ID", NOBODY]);
    question
}

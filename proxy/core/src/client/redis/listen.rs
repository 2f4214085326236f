//! Sessions that listen: how messages reach them, and what they may do meanwhile.
//!
//! With the old protocol, a session that listens may do little else; with the new one it goes on as
//! before, and messages come between replies. Knows no hub. Invariant: a message never comes inside
//! of a reply.

use manifold_protocols::redis::command::{Handling, SessionCommand};
use manifold_protocols::redis::resp::inline::write_bulk;
use manifold_protocols::redis::resp::request::Arguments;

use crate::audience::Kind;
use crate::client::redis::errors;
use crate::client::redis::judge::find_command;
use crate::client::redis::pump::Turn;
use crate::client::redis::subscribe::Change;
use crate::ids::{ClientId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::Version;
use crate::upstream::redis::{Effect, Expectation, Whose};

impl Redis {
    /// Copies a push to a session, behind the reply at hand. Says whether it still reads.
    pub(crate) fn push_to(&mut self, reach: &mut Reach<'_>, id: ClientId, push: &[u8]) -> bool {
        let Some(client) = self.clients.get_mut(id) else {
            return true;
        };
        let version = self.pools[client.pool].key.version;
        let conn = client.conn;
        let mut waiting = reach.conns.unsent(conn) + push.len();
        let is_amid = client.is_amid;
        let subscriptions = client.subscriptions_mut();
        waiting += subscriptions.late.len();
        if waiting > reach.limits.subscriber_bytes_max {
            return false;
        }
        let output = match is_amid {
            true => &mut subscriptions.late,
            false => reach.conns.write(conn),
        };
        output.push(first_byte(version));
        output.extend_from_slice(&push[1..]);
        true
    }

    /// A reply has ended: what was pushed meanwhile follows.
    pub(crate) fn flush_late(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let conn = client.conn;
        let session = client.session.as_mut();
        let subscriptions = session.and_then(|session| session.subscriptions.as_mut());
        if let Some(subscriptions) = subscriptions.filter(|it| !it.late.is_empty()) {
            let late = core::mem::take(&mut subscriptions.late);
            reach.conns.write(conn).extend_from_slice(&late);
        }
    }

    /// A request of a session that listens. None if it is like any other.
    pub(crate) fn take_subscribed(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        count: usize,
    ) -> Option<Turn> {
        if self.key_of(id).version == Version::Three {
            return None;
        }
        let client = &self.clients[id];
        let table = &self.nodes[client.service.index()].table;
        let mut words = Arguments::of(&client.input.unparsed()[..len]);
        let (name, argument) = (words.next()?, words.next());
        // What the node does not know, it will say.
        let command = find_command(table, name, argument)?;
        if command.is_container {
            return None;
        }
        let reply = match command.handling {
            Handling::Session(command) if Change::of(command).is_some() => return None,
            Handling::Session(SessionCommand::Quit | SessionCommand::Reset) => return None,
            // Who speaks another protocol is not answered in any state.
            Handling::Refuse => return None,
            Handling::Session(SessionCommand::Exec) => {
                let has_shards = table.find(b"ssubscribe", None).is_some();
                errors::exec_while_subscribed(command.takes(count), has_shards)
            }
            _ if !command.takes(count) => errors::arity(&command.name),
            Handling::Session(SessionCommand::Ping) if count > 2 => errors::arity("ping"),
            Handling::Session(SessionCommand::Ping) => {
                let mut pong = b"*2\r\n$4\r\npong\r\n".to_vec();
                write_bulk(&mut pong, argument.unwrap_or_default());
                pong
            }
            _ => {
                let has_shards = table.find(b"ssubscribe", None).is_some();
                errors::is_subscribed(&command.name, has_shards)
            }
        };
        self.answer(reach, id, len, &reply);
        Some(Turn::Next)
    }

    /// The hub on which a session that hears its own message has to publish it, so that message and
    /// reply come in the node's order.
    pub(crate) fn hub_of_own_message(&self, id: ClientId, len: usize) -> Option<UpstreamId> {
        let client = &self.clients[id];
        let subscriptions = client.subscriptions()?;
        let (pool, upstream) = self.ready_hub(self.key_of(id))?;
        let mut words = Arguments::of(&client.input.unparsed()[..len]);
        let kind = match words.next()? {
            name if name.eq_ignore_ascii_case(b"publish") => Kind::Channel,
            name if name.eq_ignore_ascii_case(b"spublish") => Kind::Shard,
            _ => return None,
        };
        let is_own = subscriptions.is_fitting(pool, kind, words.next()?);
        is_own.then_some(upstream)
    }

    /// A subscription inside of a transaction would be the upstream's and not the session's. The
    /// transaction fails, as one does in which a command was refused.
    pub(crate) fn refuse_in_multi(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
    ) -> Turn {
        let client = &self.clients[id];
        let lease = client.lease.expect("MULTI is on a lease");
        let mut words = Arguments::of(&client.input.unparsed()[..len]);
        let name = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        let upstream = &mut self.upstreams[lease.upstream];
        let position = reach.conns.written_total(upstream.conn);
        // Without its argument it is refused, and the node knows that something was.
        reach
            .conns
            .write(upstream.conn)
            .extend_from_slice(b"*1\r\n$4\r\nECHO\r\n");
        upstream.pipe.push_back(Expectation {
            whose: Whose::Nobody,
            replies: 1,
            position,
            effect: Effect::Read,
        });
        let service = &reach.service(client.service).name;
        let text = errors::no_subscription_in_multi(service, &name);
        self.answer(reach, id, len, &text);
        Turn::Next
    }
}

/// What a push begins with, which is all that differs between the versions.
pub(crate) fn first_byte(version: Version) -> u8 {
    match version {
        Version::Two => b'*',
        Version::Three => b'>',
    }
}

//! Requests of a client that has an upstream alone.
//!
//! There almost everything goes as it is; what it does to the upstream is noted here, and believed
//! when the node has answered. Invariant: what the session keeps itself does not reach the node,
//! unless the node queues it for a transaction.

use manifold_protocols::redis::command::{ClientCommand, Handling, SessionCommand};
use manifold_protocols::redis::resp::request::Arguments;

use crate::client::redis::judge::{Alone, Need, judge};
use crate::client::redis::pump::Turn;
use crate::client::redis::spread::PartKind;
use crate::client::redis::subscribe::Change;
use crate::client::redis::telling::{TALES_MAX, Tale};
use crate::client::redis::transact::len_of;
use crate::client::redis::{Client, Lease, Waiting};
use crate::ids::{ClientId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::{Effect, Own};

impl Redis {
    /// Looks at one request of a client that has a lease.
    pub(crate) fn take_on_lease(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        count: usize,
    ) -> Turn {
        let client = &self.clients[id];
        let lease = client.lease.expect("it has a lease");
        if lease.is_stream {
            return self.send_raw(reach, id, lease.upstream, len);
        }
        let is_admin = reach.service(client.service).is_admin;
        let table = &self.nodes[client.service.index()].table;
        let need = judge(table, &client.input.unparsed()[..len], is_admin);
        if client.has_to_wait(&lease, need) {
            self.clients[id].waiting = Waiting::Itself;
            return Turn::Wait;
        }
        if let Some(PartKind::Unit { replies, .. }) = client.part_at_hand().map(|part| part.kind) {
            // It follows another one, and is one piece here, too.
            let len = len_of(client.input.unparsed(), replies);
            self.send(reach, id, lease.upstream, len, replies, Effect::Unit);
            return Turn::Next;
        }
        if !lease.is_in_transaction()
            && let Some(hub) = self.hub_of_own_message(id, len)
        {
            return self.publish_to_itself(reach, id, len, hub);
        }
        let alone = match need {
            Need::Permission | Need::Refusal => {
                if lease.is_queueing {
                    // The node has to know that the transaction is not what it should be.
                    self.ask(reach, lease.upstream, Own::Poison, &[b"MANIFOLD-DENIED"]);
                }
                return self.deny(reach, id, len);
            }
            Need::HangUp => return self.hang_up(reach, id),
            Need::Share(_, effect) => Alone::plain(self.effect_on_lease(id, len, effect)),
            Need::Alone(alone) if alone.pins => {
                if let Some(turn) = self.redirect(reach, id, len) {
                    return turn;
                }
                Alone {
                    effect: Effect::Redirect,
                    ..alone
                }
            }
            Need::Alone(alone) => alone,
            Need::Session(command) => match self.alone_for(id, count, command) {
                Some(alone) => alone,
                // What is not queued ends the transaction.
                None if lease.is_multi && !is_end(command) => {
                    return self.refuse_in_multi(reach, id, len);
                }
                None => return self.take_session(reach, id, len, command),
            },
        };
        self.send_alone(reach, id, len, count, alone)
    }

    /// How a session's own command goes to the node on its lease, if it does.
    fn alone_for(&mut self, id: ClientId, count: usize, command: SessionCommand) -> Option<Alone> {
        let client = &self.clients[id];
        let lease = client.lease.expect("it has a lease");
        let effect = match command {
            SessionCommand::Client(ClientCommand::GetRedir) if lease.is_pinned => Effect::Redirect,
            SessionCommand::Multi if count == 1 => Effect::Multi,
            SessionCommand::Multi => Effect::Read,
            // What a session of a cluster did not answer itself is for the node to answer.
            _ if client.branch.is_some() && !lease.is_multi => Effect::Read,
            _ if is_end(command) || !lease.is_multi => return None,
            _ => self.queue_of_session(id, command)?,
        };
        Some(Alone::plain(effect))
    }

    /// Between MULTI and EXEC the node queues whatever it is. None if it must not.
    fn queue_of_session(&mut self, id: ClientId, command: SessionCommand) -> Option<Effect> {
        let client = &mut self.clients[id];
        let tale = Tale::of(command);
        let is_too_much = tale.is_some() && client.tales() >= TALES_MAX;
        let lease = client.lease.as_mut().expect("it has a lease");
        if is_too_much || is_never_queued(command) {
            return None;
        }
        lease.is_strange |= tale.is_none_or(|tale| tale == Tale::Hello);
        Some(tale.map_or(Effect::Write, Effect::Tell))
    }

    /// A message that its sender hears itself goes where it will come from.
    fn publish_to_itself(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        hub: UpstreamId,
    ) -> Turn {
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        self.send(reach, id, hub, len, 1, Effect::Count);
        Turn::Next
    }

    /// Sends a request on its client's lease, and notes what that does to the lease.
    fn send_alone(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        count: usize,
        alone: Alone,
    ) -> Turn {
        let client = &mut self.clients[id];
        let lease = client.lease.expect("it has a lease");
        if alone.effect == Effect::Pause {
            self.note_pause(reach, id, len, lease.is_queueing);
        }
        let client = &mut self.clients[id];
        if client.is_leaving && matches!(alone.effect, Effect::Block | Effect::Stream) {
            // Nobody would be there for what it waits for.
            self.end_client(reach, id);
            return Turn::Wait;
        }
        let lease = client.lease.as_mut().expect("it has a lease");
        match alone.effect {
            Effect::Multi => lease.is_queueing = true,
            Effect::Exec | Effect::Discard if count == 1 => lease.is_queueing = false,
            Effect::Stream => lease.is_stream = true,
            _ => {}
        }
        lease.is_pinned |= alone.pins;
        lease.is_soiled |= alone.soils;
        reach.stats.requests_unaudited += u64::from(alone.soils);
        reach.connections[client.service.index()]
            .tally
            .requests_leased += 1;
        let target = lease.upstream;
        if alone.effect == Effect::Wait && !lease.is_queueing {
            // What it waits for is what its connection knows to be written: everything up to now.
            self.ask(reach, target, Own::Ping, &[b"PING"]);
        }
        self.send(reach, id, target, len, 1, alone.effect);
        Turn::Next
    }

    /// Writes a client's request into a stream, where nothing is expected.
    fn send_raw(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        target: UpstreamId,
        len: usize,
    ) -> Turn {
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        let bytes = &client.input.unparsed()[..len];
        let conn = self.upstreams[target].conn;
        reach.conns.write(conn).extend_from_slice(bytes);
        client.input.consume(len);
        Turn::Next
    }

    /// What a request that could be shared does to a lease.
    fn effect_on_lease(&self, id: ClientId, len: usize, effect: Effect) -> Effect {
        let client = &self.clients[id];
        let table = &self.nodes[client.service.index()].table;
        let mut words = Arguments::of(&client.input.unparsed()[..len]);
        let command = words.next().and_then(|name| table.find(name, words.next()));
        match command.map(|command| command.handling) {
            Some(Handling::Session(SessionCommand::Exec)) => Effect::Exec,
            Some(Handling::Session(SessionCommand::Discard)) => Effect::Discard,
            Some(Handling::Session(SessionCommand::Unwatch)) => Effect::Unwatch,
            _ => effect,
        }
    }
}

/// What would change what comes back on an upstream, which has to be known; and what has to do with
/// other sessions, which only their shards know, and no node amid a transaction: by their numbers
/// it would find the proxy's own connections.
fn is_never_queued(command: SessionCommand) -> bool {
    use ClientCommand::{Kill, List, Reply, Unblock};
    match command {
        SessionCommand::Client(command) => matches!(command, Kill | List | Reply | Unblock),
        command => Change::of(command).is_some(),
    }
}

impl Client {
    /// How often its transaction will tell of the connection.
    fn tales(&self) -> usize {
        let session = self.session.as_ref();
        let tales = session.and_then(|session| session.tales.as_ref());
        tales.map_or(0, |tales| tales.count())
    }

    /// Whether a request depends on how earlier ones end. Whether the node has a transaction is
    /// certain when it has answered everything; what comes after one that changes the session
    /// itself goes where that has led.
    pub(crate) fn has_to_wait(&self, lease: &Lease, need: Need) -> bool {
        use SessionCommand::{Multi, Quit, Reset};
        let is_elsewhere = self.route.is_some_and(|it| it.upstream != lease.upstream);
        let is_session = matches!(need, Need::Session(it) if !matches!(it, Multi | Quit | Reset));
        let is_in_doubt = lease.is_in_transaction() && is_session;
        let is_moving = lease.is_strange && !lease.is_queueing;
        is_elsewhere || !self.is_settled() && (is_in_doubt || is_moving)
    }
}

impl Alone {
    fn plain(effect: Effect) -> Self {
        Self {
            effect,
            pins: false,
            soils: false,
        }
    }
}

/// Whether a command ends a transaction without being queued.
fn is_end(command: SessionCommand) -> bool {
    matches!(command, SessionCommand::Reset | SessionCommand::Quit)
}

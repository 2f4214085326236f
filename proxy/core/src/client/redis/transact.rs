//! Transactions of a session of a cluster: all of one is at one node.
//!
//! MULTI names no key, so the node of a transaction is that of its first key. Until that is known,
//! MULTI is answered as every node answers it, and what needs no key is queued here. Invariant:
//! nothing of a transaction is sent to a second node.

use manifold_protocols::redis::command::{
    Class, ClientCommand, Command, Handling, SessionCommand, Table,
};
use manifold_protocols::redis::resp::request::{Arguments, Finder, Found};

use crate::client::redis::aim::{Aim, aim, is_wide};
use crate::client::redis::fan::{Asked, command_of};
use crate::client::redis::judge::{Need, find_unit};
use crate::client::redis::pump::Turn;
use crate::client::redis::spread::{Part, PartKind};
use crate::client::redis::{Mute, Waiting, errors};
use crate::ids::{ClientId, ServiceId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Effect;

/// A transaction that has begun.
#[derive(Debug, Default)]
pub struct Held {
    /// Its node, once that is known.
    node: Option<ServiceId>,
    /// The node has begun it, so that what follows is queued and not run.
    is_open: bool,
    /// What is to be queued there first.
    requests: Vec<Box<[u8]>>,
    /// It has a key of another node: it will be refused as a whole.
    is_crossed: bool,
    /// The slot of its first key.
    slot: Option<u16>,
}

impl Held {
    /// It is at another node, because nothing of it has been queued at the one before.
    pub(crate) fn move_to(&mut self, node: ServiceId) {
        self.node = Some(node);
    }
}

/// Requests that are held back for a transaction whose node is not known, at most.
const HELD_MAX: usize = 1024;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
const QUEUED: &[u8] = b"+QUEUED\r\n";
const OK: &[u8] = b"+OK\r\n";

/// What no node knows, so that a transaction does not run without what was not let through.
const POISON: &[u8] = b"*1\r\n$15\r\nMANIFOLD-DENIED\r\n";

impl Redis {
    /// Whether a session has something at one node that its next requests have to do with.
    pub(crate) fn is_in_transaction(&mut self, id: ClientId) -> bool {
        let spread = self.clients[id].spread();
        if spread.held.is_some() {
            return true;
        }
        let Some(node) = spread.bound else {
            return false;
        };
        let has_landed = spread.is_settled();
        let Some(branch) = spread.branch(node).and_then(|it| self.clients.get(it)) else {
            return false;
        };
        // What it watches may be on its way to another node.
        let is_busy = branch.lease.is_some() || !branch.is_settled() || !has_landed;
        if !is_busy && branch.input.unparsed().is_empty() {
            self.clients[id].spread().bound = None;
        }
        false
    }

    /// Whether what has to do with watched keys has to wait: what was sent before may be on its way
    /// to other nodes, and those keys with it.
    pub(crate) fn has_to_land(&mut self, id: ClientId) -> bool {
        let epoch = self.map(self.clients[id].service).epoch;
        let client = &mut self.clients[id];
        let spread = client.spread();
        let is_early = !spread.is_settled();
        if is_early {
            client.waiting = Waiting::Itself;
        } else {
            spread.epoch = epoch;
        }
        is_early
    }

    /// MULTI.
    pub(crate) fn begin_transaction(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        table: &Table,
    ) -> Turn {
        if asked.count != 1 {
            self.answer(reach, id, asked.len, &errors::arity("multi"));
            return Turn::Next;
        }
        let client = &self.clients[id];
        let service = client.service;
        if self.key_of(id).login.is_none() {
            match self.nodes[service.index()].lock {
                Some(true) => {
                    self.answer(reach, id, asked.len, errors::LOCKED);
                    return Turn::Next;
                }
                Some(false) => {}
                // A node would say at once whether it has begun a transaction.
                None => return self.await_lane(reach, id),
            }
        }
        let client = &self.clients[id];
        let bound = client.spread.as_ref().and_then(|spread| spread.bound);
        if let Some(node) = bound {
            if self.has_to_land(id) {
                return Turn::Wait;
            }
            // Where it watches its keys.
            let mut part = self.take_part(reach, id, asked.len, PartKind::Whole);
            part.node = Some(node);
            self.dispatch(reach, id, part, node);
            let held = Held {
                node: Some(node),
                // The client hears itself whether the node does.
                is_open: true,
                ..Held::default()
            };
            self.clients[id].spread().held = Some(Box::new(held));
            return Turn::Next;
        }
        let is_admin = reach.service(service).is_admin;
        let unparsed = client.input.unparsed();
        let unit = find_unit(table, unparsed, self.bulk_bytes_max, is_admin);
        match unit.filter(|_| client.mute != Mute::Next) {
            Some(unit) => {
                let requests = &unparsed[..unit.len];
                let asked = Asked {
                    len: unit.len,
                    is_scripted: has_script(table, requests),
                    is_wide: is_wide(keys_of_unit(table, requests).into_iter()),
                    ..asked
                };
                let kind = PartKind::Unit {
                    replies: unit.replies,
                    lane: unit.lane,
                };
                self.send_unit(reach, id, asked, table, kind)
            }
            None => {
                self.clients[id].spread().held = Some(Box::default());
                self.answer(reach, id, asked.len, OK);
                Turn::Next
            }
        }
    }

    /// A transaction that is all there goes to the node of its keys.
    fn send_unit(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        table: &Table,
        kind: PartKind,
    ) -> Turn {
        let requests = &self.clients[id].input.unparsed()[..asked.len];
        let (slot, is_crossed) = slots_of_unit(table, requests);
        let PartKind::Unit { replies, .. } = kind else {
            return self.send_whole(reach, id, asked, slot, kind);
        };
        if !is_crossed {
            return self.send_whole(reach, id, asked, slot, kind);
        }
        let last = last_word(requests);
        let mut reply = OK.to_vec();
        reply.extend_from_slice(&QUEUED.repeat(replies as usize - 2));
        reply.extend_from_slice(match last.eq_ignore_ascii_case(b"discard") {
            true => OK,
            false => errors::CROSSSLOT,
        });
        self.answer(reach, id, asked.len, &reply);
        Turn::Next
    }

    /// A request between MULTI and EXEC.
    pub(crate) fn take_in_transaction(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        command: Option<&Command>,
    ) -> Turn {
        match asked.need {
            Need::HangUp => return self.hang_up(reach, id),
            Need::Permission | Need::Refusal => {
                self.queue_own(reach, id, POISON);
                return self.deny(reach, id, asked.len);
            }
            Need::Session(command @ (SessionCommand::Reset | SessionCommand::Quit)) => {
                return self.take_session(reach, id, asked.len, command);
            }
            Need::Session(SessionCommand::Multi) | Need::Share(..) => {}
            Need::Session(_) => return self.refuse_in_transaction(reach, id, asked),
            // What makes a connection its session's own is at one node only.
            Need::Alone(alone) if alone.pins || is_of_connection(alone.effect, command) => {
                return self.refuse_in_transaction(reach, id, asked);
            }
            Need::Alone(_) => {}
        }
        let request = &self.clients[id].input.unparsed()[..asked.len];
        let name = Arguments::of(request).next().unwrap_or_default();
        let is_exec = name.eq_ignore_ascii_case(b"exec");
        let is_end = (is_exec || name.eq_ignore_ascii_case(b"discard")) && asked.count == 1;
        if is_end {
            return self.end_transaction(reach, id, asked, is_exec);
        }
        let is_good = command.is_some_and(|command| command.takes(asked.count));
        let aimed = command.map(|command| aim(command, Arguments::of(request)));
        match aimed {
            Some(Aim::Slot(_) | Aim::Split(_)) if is_good => {
                self.queue_keyed(reach, id, asked, command)
            }
            Some(_) if is_good && asked.need != Need::Session(SessionCommand::Multi) => {
                self.queue_keyless(reach, id, asked)
            }
            // What is wrong with it is for the node to say.
            _ => self.queue_at_node(reach, id, asked, None),
        }
    }

    /// The node has to know that the transaction is not what it should be.
    fn refuse_in_transaction(&mut self, reach: &mut Reach<'_>, id: ClientId, asked: Asked) -> Turn {
        self.queue_own(reach, id, POISON);
        let request = &self.clients[id].input.unparsed()[..asked.len];
        let name = Arguments::of(request).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let service = &reach.service(self.clients[id].service).name;
        let text = errors::no_session_in_multi(service, &name);
        self.answer(reach, id, asked.len, &text);
        Turn::Next
    }

    fn held(&mut self, id: ClientId) -> &mut Held {
        let held = self.clients[id].spread().held.as_mut();
        held.expect("a transaction has begun")
    }

    fn queue_keyless(&mut self, reach: &mut Reach<'_>, id: ClientId, asked: Asked) -> Turn {
        let held = self.held(id);
        if held.node.is_some() || held.requests.len() >= HELD_MAX {
            return self.queue_at_node(reach, id, asked, None);
        }
        let request = self.clients[id].input.unparsed()[..asked.len].into();
        self.held(id).requests.push(request);
        self.answer(reach, id, asked.len, QUEUED);
        Turn::Next
    }

    fn queue_keyed(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        command: Option<&Command>,
    ) -> Turn {
        let request = &self.clients[id].input.unparsed()[..asked.len];
        let words = Arguments::of(request);
        let keys = command.and_then(|command| command.keys(words).ok());
        let mut slots = keys.into_iter().flatten().map(slot_of);
        let channels = command.into_iter().flat_map(|it| it.channels(words));
        let first = slots.next().or_else(|| channels.map(slot_of).next());
        let is_crossed = slots.any(|slot| Some(slot) != first);
        let held = self.held(id);
        let known = *held.slot.get_or_insert(first.unwrap_or_default());
        if is_crossed || first.is_some_and(|slot| slot != known) {
            self.held(id).is_crossed = true;
            self.answer(reach, id, asked.len, QUEUED);
            return Turn::Next;
        }
        self.queue_at_node(reach, id, asked, first)
    }

    /// Sends a request to the transaction's node, which is the one of this slot if there is none.
    /// What was sent before the transaction has to be answered first: if it came back, it would be
    /// queued in there.
    fn queue_at_node(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        slot: Option<u16>,
    ) -> Turn {
        if self.held(id).node.is_none() && self.has_to_land(id) {
            return Turn::Wait;
        }
        let Some(node) = self.place(reach, id, slot) else {
            self.answer(reach, id, asked.len, errors::SLOT_NOT_SERVED);
            return Turn::Next;
        };
        if !self.held(id).is_open {
            self.clients[id].waiting = Waiting::Itself;
            return Turn::Wait;
        }
        for request in core::mem::take(&mut self.held(id).requests) {
            self.send_own(reach, id, &request, node);
        }
        let branch = self.clients[id].spread().branch(node);
        let branch = branch.and_then(|branch| self.clients.get(branch));
        if branch.is_some_and(|it| it.input.unparsed().len() > reach.limits.input_high) {
            self.clients[id].waiting = Waiting::Itself;
            return Turn::Wait;
        }
        let mut part = self.take_part(reach, id, asked.len, PartKind::Whole);
        part.node = Some(node);
        self.dispatch(reach, id, part, node);
        Turn::Next
    }

    /// The node of a transaction; if it has none, that becomes the one of this slot, or any.
    fn place(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        slot: Option<u16>,
    ) -> Option<ServiceId> {
        if let Some(node) = self.held(id).node {
            return Some(node);
        }
        let map = self.map(self.clients[id].service);
        let node = match slot {
            Some(slot) => map.owner(slot)?,
            None => map.home()?,
        };
        let held = self.held(id);
        held.node = Some(node);
        self.clients[id].spread().bound = Some(node);
        let mut part = self.own_part(reach, id, MULTI);
        part.node = Some(node);
        part.slot = slot;
        self.clients[id].spread().out += 1;
        self.dispatch(reach, id, part, node);
        Some(node)
    }

    fn send_own(&mut self, reach: &mut Reach<'_>, id: ClientId, request: &[u8], node: ServiceId) {
        let mut part = self.own_part(reach, id, request);
        part.node = Some(node);
        self.clients[id].spread().out += 1;
        self.dispatch(reach, id, part, node);
    }

    /// Queues something of the proxy's own for a transaction.
    fn queue_own(&mut self, reach: &mut Reach<'_>, id: ClientId, request: &[u8]) {
        let held = self.held(id);
        match held.node {
            Some(node) => self.send_own(reach, id, request, node),
            None => held.requests.push(request.into()),
        }
    }

    /// Something of a session was not let through: a transaction that it is in fails.
    pub(crate) fn spoil_transaction(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        if self.clients[id].spread().held.is_some() {
            self.queue_own(reach, id, POISON);
        }
    }

    fn end_transaction(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        is_exec: bool,
    ) -> Turn {
        let held = self.held(id);
        let is_crossed = held.is_crossed;
        let is_nowhere = held.node.is_none();
        let is_empty = held.requests.is_empty();
        if is_nowhere && (is_crossed || !is_exec || is_empty) {
            // Nothing of it is at any node.
            let reply = match (is_exec, is_crossed) {
                (true, true) => errors::CROSSSLOT,
                (true, false) => b"*0\r\n",
                (false, _) => OK,
            };
            self.clients[id].spread().held = None;
            self.answer(reach, id, asked.len, reply);
            return Turn::Next;
        }
        if is_exec && is_crossed {
            let node = held.node.expect("it is somewhere");
            self.send_own(reach, id, DISCARD, node);
            self.clients[id].spread().held = None;
            self.clients[id].spread().bound = None;
            self.answer(reach, id, asked.len, errors::CROSSSLOT);
            return Turn::Next;
        }
        let turn = self.queue_at_node(reach, id, asked, None);
        if matches!(turn, Turn::Next) {
            let spread = self.clients[id].spread();
            spread.held = None;
            // What it watched is over, too.
            spread.bound = None;
        }
        turn
    }

    /// The node has answered what the proxy asked on a session's account.
    pub(crate) fn settle_own(&mut self, front: ClientId, part: &Part) {
        self.clients[front].spread().out -= 1;
        let is_multi = part.request.as_deref() == Some(MULTI);
        if is_multi && part.kept != OK {
            // What the client believes to be queued would run one by one.
            self.doomed.push(front);
        } else if is_multi && let Some(held) = &mut self.clients[front].spread().held {
            held.is_open = true;
        }
    }
}

/// Whether a command makes a stream of its connection, or has the node push to it.
fn is_of_connection(effect: Effect, command: Option<&Command>) -> bool {
    let tracking = Handling::Session(SessionCommand::Client(ClientCommand::Tracking));
    effect == Effect::Stream || command.is_some_and(|it| it.handling == tracking)
}

/// The keys and channels of a transaction.
fn keys_of_unit<'a>(table: &Table, mut requests: &'a [u8]) -> Vec<&'a [u8]> {
    let mut all = Vec::new();
    while let Ok(Found::Whole { len, .. }) = Finder::default().find(requests, usize::MAX >> 1) {
        let (request, rest) = requests.split_at(len);
        requests = rest;
        let words = Arguments::of(request);
        let Some(command) = command_of(table, request) else {
            continue;
        };
        let keys = command.keys(words).into_iter().flatten();
        all.extend(keys.chain(command.channels(words)));
    }
    all
}

/// The slot of a transaction's first key, and whether it has one of another slot.
fn slots_of_unit(table: &Table, requests: &[u8]) -> (Option<u16>, bool) {
    let keys = keys_of_unit(table, requests);
    let mut slots = keys.into_iter().map(slot_of);
    let first = slots.next();
    (first, slots.any(|slot| Some(slot) != first))
}

/// Whether one of some requests runs a script.
fn has_script(table: &Table, mut requests: &[u8]) -> bool {
    let mut has_script = false;
    while let Ok(Found::Whole { len, .. }) = Finder::default().find(requests, usize::MAX >> 1) {
        let command = command_of(table, &requests[..len]);
        has_script |= command.is_none_or(|it| it.class == Class::Keyed || !it.is_audited);
        requests = &requests[len..];
    }
    has_script
}

fn slot_of(key: &[u8]) -> u16 {
    manifold_protocols::redis::cluster::slot(key)
}

/// How long so many requests are together, which are known to be whole.
pub(crate) fn len_of(bytes: &[u8], requests: u32) -> usize {
    let mut at = 0;
    for _ in 0..requests {
        let found = Finder::default().find(&bytes[at..], usize::MAX >> 1);
        if let Ok(Found::Whole { len, .. }) = found {
            at += len;
        }
    }
    at
}

/// The only word of the last of some requests.
fn last_word(mut requests: &[u8]) -> &[u8] {
    let mut last: &[u8] = b"";
    while let Ok(Found::Whole { len, .. }) = Finder::default().find(requests, usize::MAX >> 1) {
        last = Arguments::of(&requests[..len]).next().unwrap_or_default();
        requests = &requests[len..];
    }
    last
}

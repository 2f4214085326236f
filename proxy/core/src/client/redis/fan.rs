//! Requests of a session of a cluster: to which of its branches each goes, whole or in parts.
//!
//! What is a session's own business is the session's here, too; everything else goes to a node.
//! Invariant: a request waits as long as an earlier one of its session may still be on its way from
//! one node to another.

use core::net::SocketAddr;

use manifold_protocols::redis::command::{
    Class, ClientCommand, Command, Handling, ResponsePolicy, SessionCommand, Table,
};
use manifold_protocols::redis::resp::inline::write_request;
use manifold_protocols::redis::resp::request::Arguments;

use crate::client::redis::aim::{Aim, aim, is_wide, split};
use crate::client::redis::gather::{Gather, Merge, cursor_at};
use crate::client::redis::judge::{Need, judge};
use crate::client::redis::pump::Turn;
use crate::client::redis::spread::{Part, PartKind};
use crate::client::redis::subscribe::Change;
use crate::client::redis::{Waiting, errors};
use crate::ids::{ClientId, ServiceId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Effect;

pub use crate::client::redis::transact::Held;

/// A request as it is looked at here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// How long it is.
    pub len: usize,
    /// How many words it has.
    pub count: usize,
    /// What it needs.
    pub need: Need,
    /// What comes back may be what a script says.
    pub is_scripted: bool,
    /// It has several keys.
    pub is_wide: bool,
}

/// A part of a request, and which node it is for.
#[derive(Debug)]
struct Errand {
    slot: u16,
    node: ServiceId,
    request: Box<[u8]>,
    is_wide: bool,
}

/// What a node of a cluster says to what changes nothing here.
const OK: &[u8] = b"+OK\r\n";

impl Redis {
    /// Looks at one request of a session of a cluster.
    pub(crate) fn take_spread(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        count: usize,
    ) -> Turn {
        let client = &self.clients[id];
        let is_admin = reach.service(client.service).is_admin;
        let table = self.nodes[client.service.index()].table.clone();
        let request = &client.input.unparsed()[..len];
        let need = judge(&table, request, is_admin);
        let mut words = Arguments::of(request);
        let name = words.next().unwrap_or_default();
        let command = table.find(name, words.next());
        let command = command.filter(|_| !name.contains(&b'|'));
        // So may what nobody looked at.
        let is_scripted = command.is_none_or(|it| it.class == Class::Keyed || !it.is_audited);
        let asked = Asked {
            len,
            count,
            need,
            is_scripted,
            is_wide: false,
        };
        if self.is_in_transaction(id) {
            return self.take_in_transaction(reach, id, asked, command);
        }
        match need {
            Need::Permission | Need::Refusal => return self.deny(reach, id, len),
            Need::HangUp => return self.hang_up(reach, id),
            Need::Session(SessionCommand::Multi) => {
                let turn = self.wait_for_map(reach, id);
                return turn.unwrap_or_else(|| self.begin_transaction(reach, id, asked, &table));
            }
            Need::Session(SessionCommand::Select) => {}
            Need::Session(command) => {
                if Change::of(command).is_some()
                    && let Some(turn) = self.wait_for_map(reach, id)
                {
                    return turn;
                }
                return self.take_session(reach, id, len, command);
            }
            Need::Alone(alone) if alone.effect == Effect::Stream => {
                return self.want_lease(reach, id);
            }
            Need::Alone(_) | Need::Share(..) => {}
        }
        if let Some(turn) = self.wait_for_map(reach, id) {
            return turn;
        }
        if let Some(turn) = self.answer_for_cluster(reach, id, len, command) {
            return turn;
        }
        if let Some(turn) = self.unwatch(reach, id, len, command) {
            return turn;
        }
        match command {
            Some(command) => self.send_by_keys(reach, id, asked, command),
            // The node will refuse it.
            None => self.send_whole(reach, id, asked, None, PartKind::Whole),
        }
    }

    /// UNWATCH, where keys are watched at a node.
    fn unwatch(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        command: Option<&Command>,
    ) -> Option<Turn> {
        let unwatch = Handling::Session(SessionCommand::Unwatch);
        command.filter(|command| command.handling == unwatch)?;
        let node = self.clients[id].spread().bound?;
        if self.has_to_land(id) {
            return Some(Turn::Wait);
        }
        self.clients[id].spread().bound = None;
        let mut part = self.take_part(reach, id, len, PartKind::Whole);
        part.node = Some(node);
        self.dispatch(reach, id, part, node);
        Some(Turn::Next)
    }

    /// What the proxy says itself, because a node would speak of itself alone.
    fn answer_for_cluster(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        command: Option<&Command>,
    ) -> Option<Turn> {
        let command = command?;
        match command.handling {
            Handling::Session(
                SessionCommand::Asking | SessionCommand::ReadOnly | SessionCommand::ReadWrite,
            ) => self.answer(reach, id, len, OK),
            Handling::Session(SessionCommand::Client(
                ClientCommand::Tracking | ClientCommand::Caching,
            )) => {
                let service = self.clients[id].service;
                let text = errors::no_tracking(&reach.service(service).name);
                self.answer(reach, id, len, &text);
            }
            _ if command.name.starts_with("cluster|") => {
                let reply = self.describe_cluster(reach, id, len, command)?;
                self.answer(reach, id, len, &reply);
            }
            _ => return None,
        }
        Some(Turn::Next)
    }

    /// Without a map nothing can be sent, but by those who are not let in anyway.
    pub(crate) fn wait_for_map(&mut self, reach: &mut Reach<'_>, id: ClientId) -> Option<Turn> {
        let service = self.clients[id].service;
        if self.map(service).is_known() {
            return None;
        }
        if self.nodes[service.index()].lock == Some(true) && self.key_of(id).login.is_none() {
            let found = self.next_len(id)?;
            let request = &self.clients[id].input.unparsed()[..found];
            let name = Arguments::of(request).next().unwrap_or_default();
            let text = match name.eq_ignore_ascii_case(b"exec") {
                true => errors::LOCKED_EXEC,
                false => errors::LOCKED,
            };
            self.answer(reach, id, found, text);
            return Some(Turn::Next);
        }
        self.clients[id].wait_for(Waiting::Map, reach.now);
        self.map_mut(service).waiting.push_back(id);
        self.refresh_maps(reach);
        Some(Turn::Wait)
    }

    /// How long the next request is, which is known to be whole.
    fn next_len(&self, id: ClientId) -> Option<usize> {
        use manifold_protocols::redis::resp::request::{Finder, Found};
        let unparsed = self.clients[id].input.unparsed();
        match Finder::default().find(unparsed, self.bulk_bytes_max) {
            Ok(Found::Whole { len, .. }) => Some(len),
            _ => None,
        }
    }

    fn send_by_keys(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        command: &Command,
    ) -> Turn {
        let request = &self.clients[id].input.unparsed()[..asked.len];
        let words = Arguments::of(request);
        match &*command.name {
            "scan" => return self.scan(reach, id, asked),
            "randomkey" => return self.send_to_all(reach, id, asked, Merge::Any(reach.now.0)),
            "pubsub|shardchannels" => {
                let merge = Merge::By(ResponsePolicy::Join);
                return self.send_to_all(reach, id, asked, merge);
            }
            "pubsub|shardnumsub" => {
                let merge = Merge::By(ResponsePolicy::AggSum);
                return self.send_to_all(reach, id, asked, merge);
            }
            _ => {}
        }
        match aim(command, words) {
            _ if !command.takes(asked.count) => {
                self.send_whole(reach, id, asked, None, PartKind::Whole)
            }
            Aim::Slot(slot) => {
                let keys = command.keys(words).into_iter().flatten();
                let asked = Asked {
                    is_wide: is_wide(keys),
                    ..asked
                };
                self.send_whole(reach, id, asked, Some(slot), PartKind::Whole)
            }
            Aim::Any => self.send_whole(reach, id, asked, None, PartKind::Whole),
            Aim::All(policy) => self.send_to_all(reach, id, asked, Merge::By(policy)),
            Aim::Split(policy) => self.send_in_parts(reach, id, asked, command, policy),
        }
    }

    /// Whether a request for these slots has to wait for earlier ones of its session. What stands
    /// behind one with several keys of its slot always waits for that: if both were sent, and a
    /// node refused the first until the slot has come to where it goes, the second would have run
    /// before it.
    pub(crate) fn has_to_wait(
        &mut self,
        reach: &Reach<'_>,
        id: ClientId,
        mut slots: impl Iterator<Item = u16>,
    ) -> bool {
        let service = self.clients[id].service;
        let cluster = self.nodes[service.index()].cluster.as_ref();
        let map = cluster.expect("the service is a cluster");
        let spread = self.clients[id].spread.iter().flat_map(|it| &it.branches);
        let is_full = { spread }.any(|(_, branch)| {
            let branch = self.clients.get(*branch);
            branch.is_some_and(|it| it.input.unparsed().len() > reach.limits.input_high)
        });
        let client = self.clients.get_mut(id).expect("it asks");
        let spread = client.spread.as_mut().expect("its service is a cluster");
        if spread.out == 0 {
            spread.epoch = map.epoch;
        }
        let is_early = spread.strays > 0
            || spread.epoch != map.epoch
            || spread.out > 0
                && slots.any(|slot| map.is_moving(slot) || spread.wide.contains(&slot));
        let is_early = is_early && !reach.planted.is(Bug::OvertakeStray);
        if is_early || is_full {
            client.waiting = Waiting::Itself;
        }
        is_early || is_full
    }

    /// Whether a request that has to do with all slots, or with what its session watches, has to
    /// wait for one of its session that may be asked again.
    pub(crate) fn has_to_wait_for_wide(&mut self, id: ClientId) -> bool {
        let is_early = !self.clients[id].spread().wide.is_empty();
        if is_early {
            self.clients[id].waiting = Waiting::Itself;
        }
        is_early
    }

    /// Sends a request to the node of a slot, or to the one that does what any could.
    pub(crate) fn send_whole(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        slot: Option<u16>,
        kind: PartKind,
    ) -> Turn {
        let is_watching = matches!(asked.need, Need::Alone(alone) if alone.effect == Effect::Watch);
        if self.has_to_wait(reach, id, slot.into_iter()) || is_watching && self.has_to_land(id) {
            return Turn::Wait;
        }
        let map = self.map(self.clients[id].service);
        let node = match slot {
            Some(slot) => map.owner(slot),
            None => map.home(),
        };
        let Some(node) = node else {
            self.answer(reach, id, asked.len, errors::SLOT_NOT_SERVED);
            return Turn::Next;
        };
        let bound = self.clients[id].spread().bound;
        if is_watching && bound.is_some_and(|bound| bound != node) {
            self.answer(reach, id, asked.len, errors::CROSSSLOT);
            return Turn::Next;
        }
        let mut part = self.take_part(reach, id, asked.len, kind);
        part.slot = slot;
        part.is_scripted = asked.is_scripted;
        part.is_wide = asked.is_wide;
        self.note_wide(id, &part);
        if is_watching {
            part.node = Some(node);
            self.clients[id].spread().bound = Some(node);
        }
        self.dispatch(reach, id, part, node);
        Turn::Next
    }

    /// The session's next request, as something that a branch can be given.
    pub(crate) fn take_part(
        &mut self,
        reach: &Reach<'_>,
        id: ClientId,
        len: usize,
        kind: PartKind,
    ) -> Part {
        let client = &mut self.clients[id];
        let part = Part {
            number: client.taken,
            at: client.input.position(),
            len: len as u32,
            request: None,
            slot: None,
            node: None,
            kind,
            is_mute: client.take_mute(),
            is_scripted: false,
            is_asking: false,
            asked_of: None,
            is_wide: false,
            is_passing: false,
            is_stray: false,
            tries: 0,
            began: reach.now,
            verdict: None,
            refusal: None,
            kept: Vec::new(),
        };
        client.input.advance(len);
        client.taken = client.taken.wrapping_add(1);
        client.spread().out += 1;
        part
    }

    /// What has to do with the slot of a part with several keys waits for it.
    fn note_wide(&mut self, id: ClientId, part: &Part) {
        let slots = part.slot.into_iter().filter(|_| part.is_wide);
        self.clients[id].spread().wide.extend(slots);
    }

    /// Something that the proxy itself asks on a session's account.
    pub(crate) fn own_part(&self, reach: &Reach<'_>, id: ClientId, request: &[u8]) -> Part {
        Part {
            number: self.clients[id].taken,
            at: 0,
            len: 0,
            request: Some(request.into()),
            slot: None,
            node: None,
            kind: PartKind::Own,
            is_mute: false,
            is_scripted: false,
            is_asking: false,
            asked_of: None,
            is_wide: false,
            is_passing: false,
            is_stray: false,
            tries: 0,
            began: reach.now,
            verdict: None,
            refusal: None,
            kept: Vec::new(),
        }
    }

    /// Sends something else than the session's next request to one node. If this shard does not
    /// know it, what is there is not blocked any more.
    pub(crate) fn send_to_node(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        request: &[u8],
        node: SocketAddr,
    ) {
        let cluster = self.clients[id].service;
        let Some(node) = self.map(cluster).node(node) else {
            return self.answer(reach, id, len, b":0\r\n");
        };
        let mut part = self.take_part(reach, id, len, PartKind::Whole);
        part.request = Some(request.into());
        part.node = Some(node);
        self.dispatch(reach, id, part, node);
    }

    /// Sends a request to all nodes that have slots.
    fn send_to_all(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        merge: Merge,
    ) -> Turn {
        if self.has_to_wait_for_wide(id) || self.has_to_wait(reach, id, core::iter::empty()) {
            return Turn::Wait;
        }
        let service = self.clients[id].service;
        let primaries = self.map(service).primaries().to_vec();
        let request: Box<[u8]> = self.clients[id].input.unparsed()[..asked.len].into();
        let pieces = primaries
            .iter()
            .map(|(slot, node)| Errand {
                slot: *slot,
                node: *node,
                request: request.clone(),
                is_wide: false,
            })
            .collect();
        self.send_pieces(reach, id, asked.len, pieces, merge);
        Turn::Next
    }

    /// Sends each node its part of a request.
    fn send_in_parts(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        asked: Asked,
        command: &Command,
        policy: ResponsePolicy,
    ) -> Turn {
        let request = self.clients[id].input.unparsed()[..asked.len].to_vec();
        let words = Arguments::of(&request);
        let Some(split) = split(command, words) else {
            return self.send_whole(reach, id, asked, None, PartKind::Whole);
        };
        let slots = split.slots.iter().map(|piece| piece.slot);
        if self.has_to_wait(reach, id, slots) {
            return Turn::Wait;
        }
        let name = words.clone().next().unwrap_or_default();
        let map = self.map(self.clients[id].service);
        let mut pieces = Vec::new();
        let mut places = Vec::new();
        for piece in split.slots {
            let Some(node) = map.owner(piece.slot) else {
                self.answer(reach, id, asked.len, errors::SLOT_NOT_SERVED);
                return Turn::Next;
            };
            let mut words = vec![name];
            words.extend(piece.words);
            let mut bytes = Vec::new();
            write_request(&mut bytes, words.into_iter());
            pieces.push(Errand {
                slot: piece.slot,
                node,
                request: bytes.into(),
                is_wide: piece.places.len() > 1,
            });
            places.push(piece.places);
        }
        let merge = match policy {
            ResponsePolicy::Join => Merge::ByPlaces(places),
            policy => Merge::By(policy),
        };
        self.send_pieces(reach, id, asked.len, pieces, merge);
        Turn::Next
    }

    /// Gives parts to branches, whose replies become one.
    fn send_pieces(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        pieces: Vec<Errand>,
        merge: Merge,
    ) {
        let whole = self.take_part(reach, id, len, PartKind::Gathered(0));
        let gather = Gather::new(merge, pieces.len(), whole.len, whole.is_mute);
        let spread = self.clients[id].spread();
        spread.gathers.insert(whole.number, gather);
        for (place, errand) in (0..).zip(pieces) {
            let part = Part {
                request: Some(errand.request),
                slot: Some(errand.slot),
                kind: PartKind::Gathered(place),
                is_wide: errand.is_wide,
                verdict: None,
                kept: Vec::new(),
                refusal: None,
                ..whole
            };
            self.note_wide(id, &part);
            self.dispatch(reach, id, part, errand.node);
        }
    }

    /// SCAN: one node after the other, by a cursor that says which.
    fn scan(&mut self, reach: &mut Reach<'_>, id: ClientId, asked: Asked) -> Turn {
        if self.has_to_wait_for_wide(id) || self.has_to_wait(reach, id, core::iter::empty()) {
            return Turn::Wait;
        }
        let request = self.clients[id].input.unparsed()[..asked.len].to_vec();
        let mut words: Vec<&[u8]> = Arguments::of(&request).collect();
        let primaries = self.map(self.clients[id].service).primaries();
        let found = words.get(1).and_then(|cursor| cursor_at(cursor));
        let Some((inner, slot)) = found else {
            // The node says what is wrong with it.
            return self.send_whole(reach, id, asked, None, PartKind::Whole);
        };
        // The node that it was at, or the one that has that node's slots now.
        let node = match slot {
            0 => primaries.first().map(|(_, node)| *node),
            slot => self.map(self.clients[id].service).owner(slot),
        };
        let Some(node) = node else {
            self.answer(reach, id, asked.len, errors::SLOT_NOT_SERVED);
            return Turn::Next;
        };
        let slot = match slot {
            0 => primaries.first().map_or(0, |(slot, _)| *slot),
            slot => slot,
        };
        let next = primaries.iter().map(|(first, _)| *first);
        let next = next.filter(|first| *first > slot).min();
        let inner = inner.to_string();
        words[1] = inner.as_bytes();
        let mut bytes = Vec::new();
        write_request(&mut bytes, words.into_iter());
        let merge = Merge::Scan { slot, next };
        let errand = Errand {
            slot,
            node,
            request: bytes.into(),
            is_wide: false,
        };
        self.send_pieces(reach, id, asked.len, vec![errand], merge);
        Turn::Next
    }

    /// A part of a reply is there.
    pub(crate) fn gather(
        &mut self,
        reach: &mut Reach<'_>,
        front: ClientId,
        place: u32,
        part: Part,
    ) {
        let spread = self.clients[front].spread();
        let Some(gather) = spread.gathers.get_mut(&part.number) else {
            return;
        };
        if !gather.take(place as usize, part.kept) {
            return;
        }
        let gather = spread.gathers.remove(&part.number);
        let gather = gather.expect("it is there");
        spread.out -= 1;
        let (len, is_mute) = (gather.len, gather.is_mute);
        if !is_mute {
            self.deliver(reach, front, part.number, &gather.merged());
        }
        self.complete(reach, front, part.number, len);
    }
}

/// Whether a table has a command whose words say what it is.
pub(crate) fn command_of<'a>(table: &'a Table, request: &[u8]) -> Option<&'a Command> {
    let mut words = Arguments::of(request);
    let name = words.next()?;
    let command = table.find(name, words.next());
    command.filter(|_| !name.contains(&b'|'))
}

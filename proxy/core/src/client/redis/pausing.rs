//! CLIENT PAUSE: the node holds the writes of every connection, so none may be shared with reads.
//!
//! While writes are paused each has an upstream of its own, and whoever reads goes on as with a
//! connection of its own. All shards are told. Pauses that did not come through this proxy are not
//! known here. Invariant: this decides where requests go and never whether they do.

use manifold_protocols::redis::command::{Access, Table};
use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::request::Arguments;

use crate::client::redis::judge::{Alone, Need};
use crate::event::{Message, Operation};
use crate::ids::{ClientId, ServiceId, ShardId};
use crate::reach::Reach;
use crate::redis::{Node, Redis};
use crate::time::Instant;
use crate::upstream::redis::Effect;

/// The longest pause that is believed, in milliseconds: 24 hours.
const PAUSE_MAX: i64 = 24 * 60 * 60 * 1000;

impl Redis {
    /// A session pauses the node, or lets it go on: all shards have to know. What is queued for a
    /// transaction may pause it at any time from now on, and does not let it go on yet.
    pub(crate) fn note_pause(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        is_queued: bool,
    ) {
        let client = &self.clients[id];
        let service = self.cluster_of(client.service).unwrap_or(client.service);
        let mut words = Arguments::of(&client.input.unparsed()[..len]);
        let time = words.nth(2).and_then(number::parse).unwrap_or(0);
        if is_queued && time == 0 {
            return;
        }
        let nanos = time.clamp(0, PAUSE_MAX) as u64 * 1_000_000;
        let until = Instant(reach.now.0 + nanos);
        self.handle_paused(service, until);
        let others = (0..reach.shards)
            .map(ShardId)
            .filter(|&it| it != reach.shard);
        for shard in others {
            let message = Message::WritesPaused { service, until };
            let operation = Operation::ToShard { shard, message };
            reach.conns.operations.push_back(operation);
        }
    }

    /// The writes of a node are paused until then.
    pub(crate) fn handle_paused(&mut self, service: ServiceId, until: Instant) {
        let is_part = |node: &&mut Node| node.part_of == Some(service);
        for node in self.nodes.iter_mut().filter(is_part) {
            node.paused_until = until;
        }
        self.nodes[service.index()].paused_until = until;
    }
}

/// What a request needs while writes are paused, if it could be shared otherwise.
pub(crate) fn need_in_pause(table: &Table, request: &[u8], need: Need) -> Need {
    let Need::Share(_, effect) = need else {
        return need;
    };
    let mut words = Arguments::of(request);
    let command = words.next().and_then(|name| table.find(name, words.next()));
    // Some reads note something in passing, and wait, too.
    let notes = |access| !matches!(access, Access::Read);
    let is_held = effect != Effect::Read
        || command.is_none_or(|command| command.keys.iter().any(|key| notes(key.access)));
    if !is_held {
        return need;
    }
    Need::Alone(Alone {
        effect,
        pins: false,
        soils: false,
    })
}

//! The node in its network: who is connected to which session, and bytes both ways.
//!
//! A node has one door, or several where it plays many nodes that share what they know: each is a
//! process of its own, with an address, that dies and comes back by itself. Knows links and
//! sessions. Invariant: a session's bytes leave in the order it wrote them, and its link closes
//! only after the last of them.

use std::collections::BTreeMap;

use manifold_core::event::Address;
use manifold_core::time::Instant;

use super::setup::other_address;
use crate::simulator::network::{End, LinkId, Network};
use crate::simulator::serves::{Serves, SessionId};

/// A node and its connections.
#[derive(Debug)]
pub struct NodePort<Node> {
    /// The node.
    pub node: Node,
    /// Where it can be reached.
    pub doors: Vec<Door>,
    /// The most sessions that were logged in at once.
    pub sessions_high: usize,
    sessions: BTreeMap<LinkId, Visit>,
}

/// A process that serves at an address.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where.
    pub address: Address,
    /// Nobody can connect before this moment, and nothing runs.
    pub down_until: Instant,
    /// Nothing runs before this moment.
    pub frozen_until: Instant,
}

impl Door {
    /// One that is open.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            down_until: Instant(0),
            frozen_until: Instant(0),
        }
    }
}

/// A session, and the place of the door through which it came.
#[derive(Clone, Copy, Debug)]
struct Visit {
    session: SessionId,
    door: usize,
}

/// Something that can be done for a connection of the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Bytes come in.
    Read,
    /// A step is done.
    Step,
    /// Bytes go out.
    Write,
    /// The session is over, or its connection.
    Close,
}

impl<Node: Serves> NodePort<Node> {
    /// A node that is up.
    pub fn new(node: Node, doors: Vec<Door>) -> Self {
        Self {
            node,
            doors,
            sessions_high: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// Accepts a connection at a door.
    pub fn accept(&mut self, link: LinkId, door: usize) {
        let session = self.node.accept(door);
        self.sessions.insert(link, Visit { session, door });
        self.sessions_high = self.sessions_high.max(self.node.sessions_open());
    }

    /// The door at an address.
    pub fn door_at(&self, address: &Address) -> Option<usize> {
        let mut doors = self.doors.iter();
        let place = doors.position(|door| door.address == *address);
        place.or_else(|| (*address == other_address()).then_some(0))
    }

    /// The door of a link.
    pub fn door_of(&self, link: LinkId) -> Option<usize> {
        self.sessions.get(&link).map(|visit| visit.door)
    }

    /// The links of the node.
    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        self.sessions.keys().copied()
    }

    /// How many sessions a door has whose other end has not closed: a node may notice that late.
    pub fn connections(&self, network: &Network, door: usize) -> usize {
        let is_counted = |(link, visit): (&LinkId, &Visit)| {
            let standing = self.node.standing(visit.session, Instant(0));
            let is_held = visit.door == door && network.is_held(*link, End::Near);
            is_held && standing.is_some_and(|it| it.is_counted)
        };
        self.sessions
            .iter()
            .filter(|&entry| is_counted(entry))
            .count()
    }

    /// The session of a link.
    pub fn session_of(&self, link: LinkId) -> Option<SessionId> {
        self.sessions.get(&link).map(|visit| visit.session)
    }

    /// Everything that can be done now.
    pub fn acts(&self, now: Instant, network: &Network) -> Vec<(LinkId, Act)> {
        let mut acts = Vec::new();
        for (&link, visit) in &self.sessions {
            let Some(standing) = self.node.standing(visit.session, now) else {
                continue;
            };
            let readable = network.readable(now, link, End::Far);
            // A process notices that its client is gone when it next reads from it.
            let is_waiting = !standing.is_ready && !standing.is_busy;
            let is_lost =
                readable.is_reset || readable.is_eof && readable.bytes == 0 && !standing.has_output;
            if readable.bytes > 0 && !standing.has_ended {
                acts.push((link, Act::Read));
            }
            if standing.is_ready && self.doors[visit.door].frozen_until <= now {
                acts.push((link, Act::Step));
            } else if is_lost && is_waiting {
                acts.push((link, Act::Close));
            }
            if standing.has_output && network.room(now, link, End::Far) > 0 {
                acts.push((link, Act::Write));
            } else if standing.has_ended && !standing.has_output {
                acts.push((link, Act::Close));
            }
        }
        acts
    }

    /// When something may become possible without bytes arriving.
    pub fn next_time(&self, now: Instant) -> Option<Instant> {
        let own = self.node.next_time(now);
        let doors = self.doors.iter();
        let thaw = doors.flat_map(|door| [door.frozen_until, door.down_until]);
        let thaw = thaw.filter(|time| *time > now);
        thaw.chain(own).min()
    }

    /// Does one thing; says which bytes moved.
    pub fn act(&mut self, now: Instant, network: &mut Network, link: LinkId, act: Act) -> Vec<u8> {
        let Some(session) = self.session_of(link) else {
            return Vec::new();
        };
        match act {
            Act::Read => {
                let bytes = network.read(now, link, End::Far, usize::MAX);
                self.node.receive(session, &bytes);
                bytes
            }
            Act::Step => {
                self.node.step(session, now);
                Vec::new()
            }
            Act::Write => {
                let room = network.room(now, link, End::Far);
                let bytes = self.node.take_output(session, room);
                network.write(now, link, End::Far, &bytes);
                bytes
            }
            Act::Close => {
                self.drop_link(link);
                network.close(now, link, End::Far);
                Vec::new()
            }
        }
    }

    /// The process of a session dies.
    pub fn kill(&mut self, now: Instant, network: &mut Network, link: LinkId) {
        self.drop_link(link);
        network.reset(now, link, End::Far);
    }

    /// The host of a session is gone, and nobody says so.
    pub fn vanish(&mut self, now: Instant, network: &mut Network, link: LinkId) {
        self.drop_link(link);
        network.vanish(now, link, End::Far);
    }

    /// A door's process dies.
    pub fn crash(&mut self, now: Instant, network: &mut Network, door: usize, until: Instant) {
        let sessions = self.sessions.iter();
        let links = sessions.filter(|(_, visit)| visit.door == door);
        let links: Vec<LinkId> = links.map(|(link, _)| *link).collect();
        links
            .into_iter()
            .for_each(|link| self.kill(now, network, link));
        self.doors[door].down_until = until;
    }

    /// Everything is up and runs again.
    pub fn heal(&mut self, now: Instant) {
        for door in &mut self.doors {
            door.down_until = now;
            door.frozen_until = now;
        }
    }

    fn drop_link(&mut self, link: LinkId) {
        if let Some(visit) = self.sessions.remove(&link) {
            self.node.remove(visit.session);
        }
    }
}

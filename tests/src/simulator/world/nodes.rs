//! The node in its network: who is connected to which session, and bytes both ways.
//!
//! Knows links and sessions. Invariant: a session's bytes leave in the order it wrote them, and
//! its link closes only after the last of them.

use std::collections::BTreeMap;

use manifold_core::time::Instant;

use crate::simulator::network::{End, LinkId, Network};
use crate::simulator::serves::{Serves, SessionId};

/// A node and its connections.
#[derive(Debug)]
pub struct NodePort<Node> {
    /// The node.
    pub node: Node,
    /// Nobody can connect before this moment, and nothing runs.
    pub down_until: Instant,
    /// Nothing runs before this moment.
    pub frozen_until: Instant,
    /// The most sessions that were logged in at once.
    pub sessions_high: usize,
    sessions: BTreeMap<LinkId, SessionId>,
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
    pub fn new(node: Node) -> Self {
        Self {
            node,
            down_until: Instant(0),
            frozen_until: Instant(0),
            sessions_high: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// Accepts a connection.
    pub fn accept(&mut self, link: LinkId) {
        let session = self.node.accept();
        self.sessions.insert(link, session);
        self.sessions_high = self.sessions_high.max(self.node.sessions_open());
    }

    /// The links of the node.
    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        self.sessions.keys().copied()
    }

    /// How many sessions there are whose other end has not closed: a node may notice that late.
    pub fn connections(&self, network: &Network) -> usize {
        let is_counted = |(link, id): (&LinkId, &SessionId)| {
            let standing = self.node.standing(*id, Instant(0));
            network.is_held(*link, End::Near) && standing.is_some_and(|it| it.is_counted)
        };
        self.sessions
            .iter()
            .filter(|&entry| is_counted(entry))
            .count()
    }

    /// The session of a link.
    pub fn session_of(&self, link: LinkId) -> Option<SessionId> {
        self.sessions.get(&link).copied()
    }

    /// Everything that can be done now.
    pub fn acts(&self, now: Instant, network: &Network) -> Vec<(LinkId, Act)> {
        let mut acts = Vec::new();
        for (&link, &id) in &self.sessions {
            let Some(standing) = self.node.standing(id, now) else {
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
            if standing.is_ready && self.frozen_until <= now {
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
        let thaw = [self.frozen_until, self.down_until];
        let thaw = thaw.into_iter().filter(|time| *time > now);
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

    /// The node dies.
    pub fn crash(&mut self, now: Instant, network: &mut Network, until: Instant) {
        let links: Vec<LinkId> = self.links().collect();
        links
            .into_iter()
            .for_each(|link| self.kill(now, network, link));
        self.down_until = until;
    }

    fn drop_link(&mut self, link: LinkId) {
        if let Some(session) = self.sessions.remove(&link) {
            self.node.remove(session);
        }
    }
}

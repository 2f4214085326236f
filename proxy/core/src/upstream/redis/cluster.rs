//! The map of a cluster: which node has which slot, and how that stays true.
//!
//! A node of a cluster is to this shard like the one node of another service, with pools, permits
//! and retries of its own; it becomes known by the address that the cluster announces. The map is
//! asked for over whatever upstream is ready, when something says that it is wrong, and now and
//! then. Knows no client's request. Invariant: at most one such question is under way.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use std::collections::VecDeque;

use manifold_protocols::redis::cluster::{Range, SLOTS, ranges};

use crate::client::redis::errors;
use crate::client::redis::spread::Part;
use crate::event::{Address, Level};
use crate::ids::{ClientId, PoolId, ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::{Node, Redis};
use crate::time::Instant;
use crate::topology::{Service, Target};
use crate::upstream::redis::pool::{Lane, Pool, Post};
use crate::upstream::redis::{Own, State, Upstream};
use crate::upstream::schedule::Connections;

/// The map of one cluster as one shard knows it.
#[derive(Debug, Default)]
pub struct Cluster {
    /// By slot; empty as long as nothing is known.
    owners: Vec<Option<ServiceId>>,
    /// Every node that was ever in the map.
    nodes: Vec<(SocketAddr, ServiceId)>,
    /// Those that have slots, with the first of them, in its order.
    primaries: Vec<(u16, ServiceId)>,
    /// Where what any node could do is done.
    home: Option<ServiceId>,
    /// Counts the changes.
    pub epoch: u64,
    /// The upstream on which it is asked for.
    asked_on: Option<UpstreamId>,
    asked_at: Instant,
    /// Something said that it is wrong.
    is_stale: bool,
    /// When it is asked for again, whatever happens.
    due_at: Instant,
    /// The trouble has been told to the operator.
    has_complained: bool,
    /// Sessions that wait until it is known.
    pub waiting: VecDeque<ClientId>,
    /// Parts of requests that a node could not do yet, each with the time at which it is sent again
    /// and the session that it is of.
    pub delayed: Vec<(Instant, ClientId, Part)>,
    /// Slots on their way from node to node, as far as anybody ran into it, and until when that is
    /// taken into account.
    moving: Vec<(u16, Instant)>,
    /// Channels are listened to that no node is known to hold.
    pub has_lost_topics: bool,
    /// Upstreams that owe an answer: which, where it was asked for, and when that was seen first.
    owing: Vec<(UpstreamId, u64, Instant)>,
}

/// Nodes of one cluster that are remembered, at most; a cluster has 1 000 by its own rules.
const NODES_MAX: usize = 4096;

/// The shortest time between two questions for the map.
const PAUSE: Duration = Duration::from_millis(100);

/// How long an answer may take before another node is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a node may owe an answer before that is taken for a sign that it is gone.
const SILENCE: Duration = Duration::from_secs(2);

/// How often the map is asked for if nothing is wrong with it, less up to a quarter.
const PERIOD: Duration = Duration::from_secs(30);

/// How long a slot that was on its way is taken to be.
const MOVING: Duration = Duration::from_secs(2);

/// Slots on their way that are remembered, at most.
const MOVING_MAX: usize = 64;

impl Cluster {
    /// Whether it is known at all.
    pub fn is_known(&self) -> bool {
        !self.owners.is_empty()
    }

    /// Who has a slot.
    pub fn owner(&self, slot: u16) -> Option<ServiceId> {
        *self.owners.get(usize::from(slot))?
    }

    /// The nodes that have slots, each with its first one, in their order.
    pub fn primaries(&self) -> &[(u16, ServiceId)] {
        &self.primaries
    }

    /// The node at an address, if it was ever in the map.
    pub fn node(&self, address: SocketAddr) -> Option<ServiceId> {
        let mut nodes = self.nodes.iter();
        let found = nodes.find(|(one, _)| *one == address);
        found.map(|(_, node)| *node)
    }

    /// Where what any node could do is done: the same as long as it has slots at all, because what
    /// is published there is heard there.
    pub fn home(&self) -> Option<ServiceId> {
        self.home
    }

    /// Whether every slot has a node.
    pub fn is_complete(&self) -> bool {
        self.is_known() && self.owners.iter().all(Option::is_some)
    }

    /// How many slots have one.
    pub fn slots_assigned(&self) -> usize {
        self.owners.iter().flatten().count()
    }

    /// Whether a slot has been on its way from node to node just now.
    pub fn is_moving(&self, slot: u16) -> bool {
        self.moving.iter().any(|(one, _)| *one == slot)
    }

    fn note_moving(&mut self, slot: u16, now: Instant) {
        self.moving.retain(|(one, _)| *one != slot);
        if self.moving.len() < MOVING_MAX {
            self.moving.push((slot, now + MOVING));
        }
    }

    /// Puts things in order after slots have changed hands.
    fn settle(&mut self) {
        self.epoch += 1;
        self.primaries.clear();
        let mut last = None;
        for (slot, owner) in (0..).zip(&self.owners) {
            let Some(node) = owner.filter(|node| last != Some(*node)) else {
                continue;
            };
            last = Some(node);
            if self.primaries.iter().all(|(_, one)| *one != node) {
                self.primaries.push((slot, node));
            }
        }
        let is_there = |home: &ServiceId| self.primaries.iter().any(|(_, one)| one == home);
        let first = self.primaries.first().map(|(_, node)| *node);
        self.home = self.home.filter(is_there).or(first);
    }
}

impl Redis {
    /// The cluster of a service: its own, or the one that it is a node of.
    pub(crate) fn cluster_of(&self, service: ServiceId) -> Option<ServiceId> {
        let node = &self.nodes[service.index()];
        node.cluster.as_ref().map(|_| service).or(node.part_of)
    }

    /// The map of a service that is a cluster.
    pub(crate) fn map(&self, service: ServiceId) -> &Cluster {
        let cluster = self.nodes[service.index()].cluster.as_ref();
        cluster.expect("the service is a cluster")
    }

    pub(crate) fn map_mut(&mut self, service: ServiceId) -> &mut Cluster {
        let cluster = self.nodes[service.index()].cluster.as_mut();
        cluster.expect("the service is a cluster")
    }

    /// Where a service that is a cluster is connected to, if its map says: its home, and the others
    /// one after the other while that fails. None if those that are configured are to be asked.
    pub(crate) fn address_of_home(&self, reach: &Reach<'_>, service: ServiceId) -> Option<Address> {
        match &reach.service(self.home_of(service)?).target {
            Target::Address(address) => Some(address.clone()),
            Target::Name(_) => None,
        }
    }

    /// The node of a cluster that stands for it now.
    fn home_of(&self, service: ServiceId) -> Option<ServiceId> {
        let node = &self.nodes[service.index()];
        let cluster = node.cluster.as_ref()?;
        let attempt = node.failures as usize % (cluster.primaries.len() + 1);
        let others = cluster.primaries.iter().map(|(_, node)| *node);
        let home = cluster.home.into_iter();
        let mut all = home.chain(others.filter(|it| Some(*it) != cluster.home));
        all.nth(attempt)
    }

    /// Whose permits the upstreams of a service have: those of the node that they lead to, whatever
    /// they are for.
    pub(crate) fn payer(&self, service: ServiceId) -> ServiceId {
        self.home_of(service).unwrap_or(service)
    }

    /// The node of a cluster at an address, which may be new. An empty host is that of the upstream
    /// on which it was named. None if it cannot be known.
    pub(crate) fn node_at(
        &mut self,
        reach: &mut Reach<'_>,
        cluster: ServiceId,
        (host, port): (&[u8], u16),
        named_on: UpstreamId,
    ) -> Option<ServiceId> {
        let ip = match host {
            b"" => match self.upstreams.get(named_on)?.address.as_ref()? {
                Address::Ip(address) => address.ip(),
                Address::Unix(_) => return None,
            },
            host => core::str::from_utf8(host).ok()?.parse::<IpAddr>().ok()?,
        };
        let address = SocketAddr::new(ip, port);
        if let Some(node) = self.map(cluster).node(address) {
            return Some(node);
        }
        if self.map(cluster).nodes.len() >= NODES_MAX {
            return None;
        }
        let whole = reach.service(cluster).clone();
        let id = ServiceId(reach.services.len() as u32);
        let roster = whole.cluster.as_ref().expect("it is a cluster");
        let service = Service {
            id,
            listeners: Vec::new(),
            target: Target::Address(Address::Ip(address)),
            permits: roster.permits(address),
            part_of: Some(cluster),
            cluster: None,
            ..whole
        };
        reach.services.push(service);
        reach.connections.push(Connections::default());
        let known = &self.nodes[cluster.index()];
        self.nodes.push(Node {
            threads: known.threads,
            ..Node::new(known.table.clone(), Some(cluster), reach.seed)
        });
        self.map_mut(cluster).nodes.push((address, id));
        Some(id)
    }

    /// The node of a cluster at an address, if a map ever had it.
    pub(crate) fn known_node_at(
        &self,
        cluster: ServiceId,
        (host, port): (&[u8], u16),
    ) -> Option<ServiceId> {
        let ip = core::str::from_utf8(host).ok()?.parse::<IpAddr>().ok()?;
        self.map(cluster).node(SocketAddr::new(ip, port))
    }

    /// Something says that the map is not right any more.
    pub(crate) fn doubt_map(&mut self, service: ServiceId) {
        if let Some(cluster) = self.cluster_of(service) {
            self.map_mut(cluster).is_stale = true;
        }
    }

    /// A node has said who has a slot now.
    pub(crate) fn learn_owner(&mut self, cluster: ServiceId, slot: u16, node: ServiceId) {
        let map = self.map_mut(cluster);
        map.is_stale = true;
        if map.is_known() && map.owner(slot) != Some(node) {
            map.owners[usize::from(slot)] = Some(node);
            map.settle();
        }
    }

    /// A node has said that a slot is on its way to another.
    pub(crate) fn learn_moving(&mut self, cluster: ServiceId, slot: u16, now: Instant) {
        self.map_mut(cluster).note_moving(slot, now);
    }

    /// Asks for the map on an upstream that is ready, if it is wanted.
    pub(crate) fn ask_for_map(
        &mut self,
        reach: &mut Reach<'_>,
        service: ServiceId,
        target: UpstreamId,
    ) {
        let Some(cluster) = self.cluster_of(service) else {
            return;
        };
        if !self.is_let_in(cluster, self.upstreams[target].pool) {
            // The nodes will say so to whoever waits.
            return self.wake_for_map(cluster);
        }
        let map = self.map_mut(cluster);
        let is_wanted = map.is_stale || !map.is_known();
        if !is_wanted || map.asked_on.is_some() || reach.now < map.asked_at + PAUSE {
            return;
        }
        map.asked_on = Some(target);
        map.asked_at = reach.now;
        map.is_stale = false;
        self.ask(reach, target, Own::Slots, &[b"CLUSTER", b"SLOTS"]);
    }

    /// An upstream is lost: what was asked for on it is not going to be answered.
    pub(crate) fn lose_map_question(&mut self, service: ServiceId, id: UpstreamId) {
        if let Some(cluster) = self.cluster_of(service) {
            let map = self.map_mut(cluster);
            map.is_stale = true;
            map.asked_on = map.asked_on.filter(|one| *one != id);
        }
    }

    /// Asks for the maps that are wanted.
    pub(crate) fn refresh_maps(&mut self, reach: &mut Reach<'_>) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].cluster.is_some() {
                self.refresh_map(reach, ServiceId(index as u32));
                self.ask_for_lost_topics(reach, ServiceId(index as u32));
            }
        }
    }

    fn refresh_map(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        let now = reach.now;
        // One that has no slots any more may be dead for ever.
        let mut primaries = self.map(cluster).primaries.iter();
        let is_failing =
            primaries.any(|(_, node)| self.nodes[node.index()].failing_since.is_some());
        self.mind_silent(reach, cluster);
        let map = self.map_mut(cluster);
        map.moving.retain(|(_, until)| now < *until);
        map.is_stale |= is_failing || now >= map.due_at;
        if now >= map.asked_at + PATIENCE {
            map.asked_on = None;
        }
        if map.asked_on.is_some() || !map.is_stale && map.is_known() {
            return;
        }
        let ready: Vec<_> = self.upstreams_of(cluster).collect();
        let idle = ready
            .iter()
            .filter(|id| self.upstreams[**id].pipe.is_empty());
        let idle: Vec<_> = idle.copied().collect();
        // What stands behind others' requests may come late: a new one gets the time to open.
        let is_opened = idle.is_empty() && self.open_for_map(reach, cluster);
        if is_opened || ready.is_empty() {
            return;
        }
        // One that owes nothing will answer. Not always the same: it may be the one that knows
        // least.
        let best = if idle.is_empty() { &ready } else { &idle };
        let target = best[(now.0 / 1_000_000) as usize % best.len()];
        self.ask_for_map(reach, cluster, target);
    }

    /// Upstreams to nodes of a cluster on which a question of our own can be asked.
    fn upstreams_of(&self, cluster: ServiceId) -> impl Iterator<Item = UpstreamId> + '_ {
        let ready = self.upstreams.iter().filter(move |(_, one)| {
            let node = &self.nodes[one.service.index()];
            let is_part = one.service == cluster || node.part_of == Some(cluster);
            let is_lane = matches!(one.post, Post::Lane(_)) && self.is_let_in(cluster, one.pool);
            is_part && is_lane && one.state == State::Ready && !one.is_retiring
        });
        ready.map(|(id, _)| id)
    }

    /// Looks for nodes that owe answers. One of them may have been replaced, which is a reason to
    /// ask for the map; and one that has no slots any more is not waited for.
    fn mind_silent(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        let before = core::mem::take(&mut self.map_mut(cluster).owing);
        let seen = |id, position| {
            let mut before = before.iter();
            let known = before.find(|one| (one.0, one.1) == (id, position));
            known.map_or(reach.now, |one| one.2)
        };
        let parts = self
            .upstreams
            .iter()
            .filter(|(_, one)| self.nodes[one.service.index()].part_of == Some(cluster));
        let owing: Vec<_> = parts
            .filter_map(|(id, one)| Some((id, one.pipe.front()?.position)))
            .map(|(id, position)| (id, position, seen(id, position)))
            .collect();
        let is_late = |since: Instant| reach.now - since >= SILENCE;
        // On a lease, a command may block for as long as it likes.
        let is_lane = |id: &UpstreamId| matches!(self.upstreams[*id].post, Post::Lane(_));
        let is_silent = owing
            .iter()
            .any(|(id, _, since)| is_late(*since) && is_lane(id));
        let map = self.map_mut(cluster);
        map.is_stale |= is_silent && reach.now >= map.asked_at + PATIENCE;
        let primaries = map.primaries.clone();
        let late = owing.iter().filter(|(.., since)| is_late(*since));
        let late: Vec<_> = late.map(|(id, ..)| *id).collect();
        map.owing = owing;
        for id in late {
            let node = self.upstreams.get(id).map(|one| one.service);
            if node.is_some_and(|node| primaries.iter().all(|(_, one)| *one != node)) {
                self.handle_upstream_down(reach, id, "it has no slots, and does not answer");
            }
        }
    }

    /// Whether the sessions of a pool get answers from the nodes, as far as is known.
    fn is_let_in(&self, cluster: ServiceId, pool: PoolId) -> bool {
        self.nodes[cluster.index()].lock != Some(true) || self.pools[pool].key.login.is_some()
    }

    /// Nothing is open on which the map could be asked for at once.
    fn open_for_map(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) -> bool {
        let is_home = |(id, pool): &(PoolId, &Pool)| {
            let is_home = pool.key.service == cluster && pool.clients > 0;
            let is_home = is_home && self.is_let_in(cluster, *id);
            is_home && pool.lanes[Lane::Fast as usize].upstreams.is_empty()
        };
        let home = self.pools.iter().find(is_home).map(|(pool, _)| pool);
        home.is_some_and(|pool| self.open(reach, pool, Post::Lane(Lane::Fast)))
    }

    /// A node has answered who has which slots.
    pub(crate) fn handle_slots(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        let Some(upstream) = self.upstreams.get(id) else {
            return;
        };
        let Some(cluster) = self.cluster_of(upstream.service) else {
            return;
        };
        let jitter = reach.now.0 % (PERIOD.as_nanos() as u64 / 4);
        let map = self.map_mut(cluster);
        map.asked_on = None;
        map.due_at = Instant((reach.now + PERIOD).0 - jitter);
        match ranges(reply) {
            Some(ranges) if !ranges.is_empty() => self.take_map(reach, cluster, &ranges, id),
            _ => self.handle_no_map(reach, cluster, reply),
        }
    }

    fn take_map(
        &mut self,
        reach: &mut Reach<'_>,
        cluster: ServiceId,
        ranges: &[Range<'_>],
        id: UpstreamId,
    ) {
        let mut owners = vec![None; usize::from(SLOTS)];
        for range in ranges {
            let node = self.node_at(reach, cluster, (range.host, range.port), id);
            let slots = usize::from(range.first)..=usize::from(range.last);
            if let Some(part) = owners.get_mut(slots) {
                part.fill(node);
            }
        }
        let map = self.map_mut(cluster);
        map.has_complained = false;
        if map.owners != owners {
            map.owners = owners;
            map.settle();
        }
        self.retire_unpaid(reach, cluster);
        self.recall_all(reach, cluster);
        // A single slot may have been known to have gone before.
        self.move_topics(reach, cluster);
        self.wake_for_map(cluster);
    }

    /// What was opened before there was a map counts at no node: it ends with what it has.
    fn retire_unpaid(&mut self, reach: &mut Reach<'_>, cluster: ServiceId) {
        let is_unpaid = |one: &Upstream| one.payer == cluster && matches!(one.post, Post::Lane(_));
        let unpaid = self.upstreams.iter().filter(|(_, one)| is_unpaid(one));
        for id in unpaid.map(|(id, _)| id).collect::<Vec<_>>() {
            self.upstreams[id].is_retiring = true;
            self.end_if_drained(reach, id);
        }
    }

    /// A node has said something else.
    fn handle_no_map(&mut self, reach: &mut Reach<'_>, cluster: ServiceId, reply: &[u8]) {
        let is_no_cluster = reply.starts_with(b"-ERR This instance has cluster support disabled");
        let map = self.map_mut(cluster);
        map.is_stale = true;
        if !core::mem::replace(&mut map.has_complained, true) {
            let name = &reach.service(cluster).name;
            let said = reply.escape_ascii();
            let text = format!("service \"{name}\": its cluster has no map: {said}");
            reach.log(Level::Warn, text);
        }
        if reply.starts_with(b"-NOAUTH") || reply.starts_with(b"-NOPERM") {
            // The node will say so to whoever is not let in.
            self.wake_for_map(cluster);
        } else if is_no_cluster && !self.map(cluster).is_known() {
            let text = errors::no_cluster(&reach.service(cluster).name);
            for id in core::mem::take(&mut self.map_mut(cluster).waiting) {
                self.answer_next(reach, id, &text);
            }
        }
    }

    fn wake_for_map(&mut self, cluster: ServiceId) {
        for id in core::mem::take(&mut self.map_mut(cluster).waiting) {
            if let Some(client) = self.clients.get_mut(id) {
                client.waiting = crate::client::redis::Waiting::No;
                self.clients_to_pump.push_back(id);
            }
        }
    }

    /// A session does not wait for the map any more.
    pub(crate) fn leave_map_queue(&mut self, id: ClientId) {
        let service = self.clients[id].service;
        self.map_mut(service).waiting.retain(|&one| one != id);
    }
}

//! Pools: which sessions may share upstreams, and who waits for one.
//!
//! A pool has a fast and a slow lane, so that nobody's short read stands behind somebody's long
//! one, and upstreams that are leased one by one. Knows no request. Invariants: everybody in a pool
//! has the same user, database and version of the protocol; an upstream is in one pool.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::ids::{ClientId, PoolId, ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::State;
use crate::upstream::redis::hub::Hub;

/// The versions of the protocol. Replies differ beyond their form, so none is made of the other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Version {
    /// What a connection begins with.
    Two,
    /// After HELLO 3.
    Three,
}

/// What an upstream has logged in with. It stays in memory and is never written anywhere.
#[derive(Eq, Hash, PartialEq)]
pub struct Login {
    /// Empty for AUTH with a password alone.
    pub user: Box<[u8]>,
    /// As the client said it.
    pub password: Box<[u8]>,
}

impl core::fmt::Debug for Login {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Login({})", self.user.escape_ascii())
    }
}

/// What sessions must have in common to share an upstream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// Whose node.
    pub service: ServiceId,
    /// Who; nobody as long as a session has not said.
    pub login: Option<Rc<Login>>,
    /// Which database.
    pub database: u32,
    /// Which version of the protocol.
    pub version: Version,
}

impl Key {
    /// The key of the pool that has the hub for sessions with this one: subscriptions have nothing
    /// to do with databases, and both versions are served from the new one.
    pub(crate) fn of_hub(&self) -> Self {
        Self {
            database: 0,
            version: Version::Three,
            ..self.clone()
        }
    }
}

/// Which of a pool's pipes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lane {
    /// Commands that the node calls fast.
    Fast,
    /// The others.
    Slow,
}

/// What an upstream is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Post {
    /// A lane's pipe.
    Lane(Lane),
    /// One client at a time.
    Lease,
    /// Subscriptions of everybody who is logged in as it is.
    Hub,
}

/// A request to be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Resend {
    /// Whose.
    pub client: ClientId,
    /// Its number.
    pub number: u32,
    /// Where it begins in the client's input.
    pub at: u64,
    /// How long it is.
    pub len: u32,
    /// The client does not want the reply.
    pub is_mute: bool,
    /// How many replies it has.
    pub replies: u32,
    /// What it does.
    pub effect: super::Effect,
}

/// The upstreams of a lane and who waits for room on them.
#[derive(Debug, Default)]
pub struct Pipes {
    /// Whatever their state.
    pub upstreams: Vec<UpstreamId>,
    /// Before everybody who waits.
    pub resends: VecDeque<Resend>,
    /// In the order in which they came.
    pub waiting: VecDeque<ClientId>,
}

/// What sessions share.
#[derive(Debug)]
pub struct Pool {
    /// What they have in common.
    pub key: Key,
    /// By [`Lane`].
    pub lanes: [Pipes; 2],
    /// Upstreams for leases, whatever their state.
    pub leases: Vec<UpstreamId>,
    /// Who waits for a lease.
    pub lease_queue: VecDeque<ClientId>,
    /// What its sessions, and those of the same login in other pools, are subscribed to.
    pub hub: Option<Box<Hub>>,
    /// Who waits to come here.
    pub movers: VecDeque<ClientId>,
    /// Sessions that are here or on their way here.
    pub clients: u32,
    /// Whether it is on the list of those that can go on.
    pub is_listed: bool,
}

impl Pool {
    /// An empty pool.
    pub fn new(key: Key) -> Self {
        Self {
            key,
            lanes: Default::default(),
            leases: Vec::new(),
            lease_queue: VecDeque::new(),
            hub: None,
            movers: VecDeque::new(),
            clients: 0,
            is_listed: false,
        }
    }

    /// All its upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = UpstreamId> + '_ {
        let lanes = self.lanes.iter().flat_map(|pipes| &pipes.upstreams);
        let hub = self.hub.iter().filter_map(|hub| hub.upstream);
        lanes.chain(&self.leases).copied().chain(hub)
    }

    /// Whether somebody waits for something.
    pub fn is_wanting(&self) -> bool {
        let mut lanes = self.lanes.iter();
        !self.lease_queue.is_empty()
            || !self.movers.is_empty()
            || self.hub.as_ref().is_some_and(|hub| hub.is_wanting())
            || lanes.any(|pipes| !pipes.waiting.is_empty() || !pipes.resends.is_empty())
    }

    /// Everybody who waits.
    pub fn queued(&self) -> impl Iterator<Item = ClientId> + '_ {
        let lanes = self.lanes.iter().flat_map(|pipes| &pipes.waiting);
        let hub = self.hub.iter().flat_map(|hub| &hub.waiting);
        let lanes = lanes.chain(&self.lease_queue).chain(&self.movers);
        lanes.chain(hub).copied()
    }

    /// Nobody waits or listens any more.
    pub fn forget_queues(&mut self) {
        for pipes in &mut self.lanes {
            pipes.resends.clear();
            pipes.waiting.clear();
        }
        self.lease_queue.clear();
        self.movers.clear();
        self.hub = None;
    }

    /// Forgets an upstream.
    pub fn forget(&mut self, id: UpstreamId) {
        for pipes in &mut self.lanes {
            pipes.upstreams.retain(|&one| one != id);
        }
        self.leases.retain(|&one| one != id);
        if let Some(hub) = &mut self.hub {
            hub.upstream = hub.upstream.filter(|&one| one != id);
        }
    }
}

/// Leases that are kept ready in a pool in which leases are used.
const SPARE_LEASES: usize = 2;

/// Requests in flight on one upstream, at most. A node answers a million in the time that anybody
/// notices; the bound is for memory.
const PIPE_DEPTH_MAX: usize = 16_384;

impl Redis {
    /// The pool with this key.
    pub(crate) fn pool(&mut self, key: &Key) -> PoolId {
        if let Some(&id) = self.pools_by_key.get(key) {
            return id;
        }
        let id = self.pools.insert(Pool::new(key.clone()));
        self.pools_by_key.insert(key.clone(), id);
        id
    }

    /// A session comes to a pool.
    pub(crate) fn enter_pool(&mut self, id: PoolId) {
        self.pools[id].clients += 1;
    }

    /// A session leaves a pool.
    pub(crate) fn leave_pool(&mut self, id: PoolId) {
        self.pools[id].clients -= 1;
        self.forget_pool_if_unused(id);
    }

    /// A pool without sessions and without upstreams is forgotten.
    pub(crate) fn forget_pool_if_unused(&mut self, id: PoolId) {
        let pool = &self.pools[id];
        let is_used = pool.clients > 0 || pool.hub.as_ref().is_some_and(|hub| hub.is_used());
        if !is_used && pool.upstreams().next().is_none() && !pool.is_listed {
            self.pools_by_key.remove(&pool.key);
            self.pools.remove(id);
        }
    }

    /// The upstream of a lane on which most is free, if there is room on one.
    pub(crate) fn pick(&self, reach: &Reach<'_>, pool: PoolId, lane: Lane) -> Option<UpstreamId> {
        let upstreams = self.pools[pool].lanes[lane as usize].upstreams.iter();
        upstreams
            .copied()
            .filter(|&id| self.has_room(reach, id))
            .min_by_key(|&id| self.upstreams[id].pipe.len())
    }

    /// Where a request that is sent again has to follow another of its client.
    fn pick_again(&self, pool: PoolId, lane: Lane) -> Option<UpstreamId> {
        let resend = self.pools[pool].lanes[lane as usize].resends.front()?;
        let route = self.clients.get(resend.client)?.route;
        route.map(|route| route.upstream)
    }

    /// Whether another request may be written to an upstream.
    pub(crate) fn has_room(&self, reach: &Reach<'_>, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        upstream.state == State::Ready
            && !upstream.is_retiring
            && upstream.pipe.len() < PIPE_DEPTH_MAX
            && reach.conns.unsent(upstream.conn) <= reach.limits.upstream_output_high
    }

    /// Somebody in a pool may be able to go on: looked at before the pass ends.
    pub(crate) fn list_pool(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(id)
            && !core::mem::replace(&mut pool.is_listed, true)
        {
            self.pools_to_serve.push(id);
        }
    }

    /// Lets go on who can in a pool, and opens what is missing.
    pub(crate) fn serve(&mut self, reach: &mut Reach<'_>, id: PoolId) {
        self.pools[id].is_listed = false;
        // It stays while it is served, whoever goes meanwhile.
        self.enter_pool(id);
        for lane in [Lane::Fast, Lane::Slow] {
            self.serve_lane(reach, id, lane);
            self.widen(reach, id, lane);
        }
        self.serve_movers(reach, id);
        self.serve_leases(reach, id);
        self.open_spares(reach, id);
        self.serve_hub(reach, id);
        self.leave_pool(id);
    }

    fn serve_lane(&mut self, reach: &mut Reach<'_>, id: PoolId, lane: Lane) {
        loop {
            let pipes = &self.pools[id].lanes[lane as usize];
            if pipes.resends.is_empty() && pipes.waiting.is_empty() {
                return;
            }
            let Some(target) = self
                .pick_again(id, lane)
                .or_else(|| self.pick(reach, id, lane))
            else {
                if pipes.upstreams.is_empty() {
                    self.open(reach, id, Post::Lane(lane));
                }
                return;
            };
            let pipes = &mut self.pools[id].lanes[lane as usize];
            if let Some(resend) = pipes.resends.pop_front() {
                self.send_again(reach, target, &resend);
            } else if let Some(client) = pipes.waiting.pop_front() {
                self.go_on(reach, client);
            }
        }
    }

    fn serve_movers(&mut self, reach: &mut Reach<'_>, id: PoolId) {
        if self.pools[id].movers.is_empty() {
            return;
        }
        let Some(target) = self.pick(reach, id, Lane::Fast) else {
            if self.pools[id].lanes[Lane::Fast as usize]
                .upstreams
                .is_empty()
            {
                self.open(reach, id, Post::Lane(Lane::Fast));
            }
            return;
        };
        while let Some(client) = self.pools[id].movers.pop_front() {
            self.arrive(reach, client, target);
        }
        self.warm(reach, id);
    }

    /// An upstream of a pool that can be leased now.
    pub(crate) fn free_lease(&self, id: PoolId) -> Option<UpstreamId> {
        let mut leases = self.pools[id].leases.iter().copied();
        leases.find(|&lease| self.upstreams[lease].is_idle())
    }

    fn serve_leases(&mut self, reach: &mut Reach<'_>, id: PoolId) {
        while let Some(&client) = self.pools[id].lease_queue.front() {
            if let Some(free) = self.free_lease(id) {
                self.pools[id].lease_queue.pop_front();
                self.grant(reach, client, free);
                self.pump(reach, client);
                continue;
            }
            let leases = self.pools[id].leases.iter();
            let opening = leases
                .filter(|&&id| self.upstreams[id].state != State::Ready)
                .count();
            let wanted = self.pools[id].lease_queue.len();
            if opening >= wanted || !self.open(reach, id, Post::Lease) {
                return;
            }
        }
    }

    /// What a session that has come will need is opened before it does.
    pub(crate) fn warm(&mut self, reach: &mut Reach<'_>, id: PoolId) {
        let pool = &self.pools[id];
        let has_leases = !pool.leases.is_empty();
        if pool.lanes[Lane::Fast as usize].upstreams.is_empty() {
            self.open(reach, id, Post::Lane(Lane::Fast));
        }
        let payer = self.payer(self.pools[id].key.service);
        if reach.service(payer).cluster.is_some() {
            // It asks for the map, and goes when it knows it.
            return;
        }
        let permits = &reach.service(payer).permits;
        if !has_leases && permits.free() > permits.connections_max() / 2 {
            self.open(reach, id, Post::Lease);
        }
    }

    /// Opens leases for those who come next, so that a command that blocks is at the node as soon
    /// as it would be on a connection that is there.
    fn open_spares(&mut self, reach: &mut Reach<'_>, id: PoolId) {
        let Some(pool) = self.pools.get(id) else {
            return;
        };
        let is_spare = |&&id: &&UpstreamId| self.upstreams[id].holder.is_none();
        let spares = pool.leases.iter().filter(is_spare).count();
        // Who reads a stream will not ask for another.
        let is_used = |id: &UpstreamId| {
            let holder = self.upstreams[*id].holder;
            let lease = holder.and_then(|id| self.clients.get(id)?.lease);
            lease.is_some_and(|lease| !lease.is_stream)
        };
        if !pool.leases.iter().any(is_used) {
            return;
        }
        for _ in spares..SPARE_LEASES {
            if !self.has_permits_to_spare(reach, id) || !self.open(reach, id, Post::Lease) {
                return;
            }
        }
    }

    /// Whether there are permits for what nobody waits for.
    pub(crate) fn has_permits_to_spare(&self, reach: &Reach<'_>, id: PoolId) -> bool {
        let payer = self.payer(self.pools[id].key.service);
        let permits = &reach.service(payer).permits;
        let is_short = self.nodes[payer.index()].is_wanting;
        !is_short && permits.free() > permits.connections_max() / 4
    }

    /// A client that waited goes on.
    pub(crate) fn go_on(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            client.waiting = crate::client::redis::Waiting::No;
            client.was_called = true;
            self.pump(reach, id);
        }
    }
}

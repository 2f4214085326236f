//! The Redis half of a shard: its clients, upstreams and pools.
//!
//! Gets the events that concern it, with what it may use of its shard. Knows nothing of other
//! protocols. Invariant: outside of an event, everybody who can go on has gone on.

#[cfg(test)]
pub(crate) mod stage;

use std::collections::VecDeque;
use std::rc::Rc;

use manifold_protocols::redis::command::Table;

use crate::client::redis::{Client, Waiting, errors};
use crate::conns::Owner;
use crate::crowd::Crowd;
use crate::event::{Failure, Peer, Socket};
use crate::ids::{ClientId, PoolId, ServiceId, UpstreamId};
use crate::map::{FastMap, fast_map};
use crate::reach::Reach;
use crate::shard::Timer;
use crate::slab::Slab;
use crate::time::Instant;
use crate::topology::Service;
use crate::upstream::redis::Upstream;
use crate::upstream::redis::cluster::Cluster;
use crate::upstream::redis::connect::describe;
use crate::upstream::redis::heavy::Heavy;
use crate::upstream::redis::pool::{Key, Pool};
use crate::upstream::whereabouts::Whereabouts;

/// What a timer of this protocol is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RedisTimer {
    /// An upstream that is not ready.
    Connect(UpstreamId),
    /// Connecting may be tried again.
    Retry(ServiceId),
    /// Whatever has to be looked at now and then.
    Tick,
    /// What the nodes of a cluster could not do yet may be asked again.
    Delayed(ServiceId),
}

/// How often what has no timer of its own is looked at.
const TICK_NANOS: u64 = 50_000_000;

/// The longest argument that a node takes unless it is told otherwise (`proto-max-bulk-len`).
const BULK_BYTES_MAX: usize = 512 << 20;

/// What is known of the node of a service.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its commands.
    pub table: Rc<Table>,
    /// The cluster that it is a node of, if that is how it became known.
    pub part_of: Option<ServiceId>,
    /// The map of the cluster, for a service that is one.
    pub cluster: Option<Box<Cluster>>,
    /// How many threads it reads with.
    pub threads: u32,
    /// The upstream on which it is asked for these, or was.
    pub is_asked_on: Option<UpstreamId>,
    /// It has not told somebody its commands, and the operator knows.
    pub has_refused_commands: bool,
    /// Whether it wants a password from everybody; none as long as it has not said.
    pub lock: Option<bool>,
    /// Attempts to connect that failed since the last that succeeded.
    pub failures: u32,
    /// When the failing began.
    pub failing_since: Option<Instant>,
    /// What was missing when one failed last.
    pub missing: Box<str>,
    /// Some upstream has been ready since the start.
    pub was_reached: bool,
    /// When it was reached again.
    pub reached_at: Instant,
    /// The operator knows that somebody may not ask for its role.
    pub has_refused_role: bool,
    /// Before this, none is made.
    pub retry_at: Instant,
    /// Its writes are paused until then.
    pub paused_until: Instant,
    /// Other shards know that somebody here waits for a permit.
    pub is_wanting: bool,
    /// What it answers at length.
    pub heavy: Heavy,
    /// Upstreams that wait for the service's name to be looked up.
    pub unresolved: Vec<UpstreamId>,
    /// Where the name leads.
    pub whereabouts: Whereabouts,
}

impl Node {
    /// Of which nothing is known yet.
    pub(crate) fn new(table: Rc<Table>, part_of: Option<ServiceId>, seed: u64) -> Self {
        Self {
            table,
            part_of,
            cluster: None,
            threads: 1,
            is_asked_on: None,
            has_refused_commands: false,
            lock: None,
            failures: 0,
            failing_since: None,
            missing: "".into(),
            was_reached: false,
            reached_at: Instant(0),
            has_refused_role: false,
            retry_at: Instant(0),
            paused_until: Instant(0),
            is_wanting: false,
            heavy: Heavy::new(seed),
            unresolved: Vec::new(),
            whereabouts: Whereabouts::default(),
        }
    }
}

/// The Redis half of a shard.
#[derive(Debug)]
pub struct Redis {
    pub(crate) clients: Slab<ClientId, Client>,
    pub(crate) upstreams: Slab<UpstreamId, Upstream>,
    pub(crate) pools: Slab<PoolId, Pool>,
    pub(crate) pools_by_key: FastMap<Key, PoolId>,
    /// By the places of services, of whatever protocol.
    pub(crate) nodes: Vec<Node>,
    /// Clients to be looked at before the pass ends.
    pub(crate) clients_to_pump: VecDeque<ClientId>,
    /// Pools in which somebody may go on before the pass ends.
    pub(crate) pools_to_serve: Vec<PoolId>,
    /// Clients that wait for other shards.
    pub(crate) inquirers: Vec<ClientId>,
    /// How many of the clients are branches of others.
    pub(crate) branches: usize,
    /// Clients that are closed before the pass ends.
    pub(crate) doomed: Vec<ClientId>,
    /// For a request on its way from one client's input to another's; empty in between.
    pub(crate) scratch: Vec<u8>,
    pub(crate) bulk_bytes_max: usize,
    /// Whose traffic is worth gathering.
    pub(crate) crowd: Crowd,
    is_ticking: bool,
    /// Clients ever accepted.
    accepted: u64,
}

impl Redis {
    /// A half with no connections, for so many services.
    pub fn new(seed: u64, services: &[Service]) -> Self {
        let table = Rc::new(Table::builtin());
        let node = |service: &Service| Node {
            cluster: service.cluster.as_ref().map(|_| Box::default()),
            ..Node::new(table.clone(), None, seed)
        };
        Self {
            clients: Slab::new(),
            upstreams: Slab::new(),
            pools: Slab::new(),
            pools_by_key: fast_map(seed),
            nodes: services.iter().map(node).collect(),
            clients_to_pump: VecDeque::new(),
            pools_to_serve: Vec::new(),
            inquirers: Vec::new(),
            branches: 0,
            doomed: Vec::new(),
            scratch: Vec::new(),
            bulk_bytes_max: BULK_BYTES_MAX,
            crowd: Crowd::new(),
            is_ticking: false,
            accepted: 0,
        }
    }

    /// A socket has been accepted.
    pub(crate) fn handle_accepted(
        &mut self,
        reach: &mut Reach<'_>,
        service: ServiceId,
        socket: Socket,
        peer: Peer,
    ) {
        let conn = reach.conns.adopt(socket, Owner::Nobody);
        if self.clients.len() - self.branches >= reach.limits.clients_max as usize {
            let text = errors::too_many_clients();
            reach.conns.write(conn).extend_from_slice(&text);
            reach.conns.close_after_flush(conn);
            return;
        }
        let pool = self.pool(&Key::initial(service));
        self.enter_pool(pool);
        self.accepted += 1;
        // Unique over all shards.
        let number = self.accepted * SHARDS_MAX + u64::from(reach.shard.0);
        let id = self
            .clients
            .insert(Client::new(conn, peer, service, pool, number, reach.now));
        if self.nodes[service.index()].cluster.is_some() {
            self.clients[id].spread = Some(Box::default());
        }
        reach.conns.set_owner(conn, Owner::RedisClient(id));
        reach.stats.clients_accepted += 1;
        reach.stats.clients += 1;
        reach.connections[service.index()].tally.clients_accepted += 1;
        self.start_ticking(reach);
        self.warm(reach, pool);
    }

    /// Bytes of a client.
    pub(crate) fn handle_requests(&mut self, reach: &mut Reach<'_>, id: ClientId, bytes: &[u8]) {
        let client = &mut self.clients[id];
        if client.is_leaving {
            return;
        }
        client.active_at = reach.now;
        client.input.append(bytes, &mut reach.conns.pool);
        if client.waiting == Waiting::No {
            self.pump(reach, id);
        } else if client.input.unparsed().len() > reach.limits.input_high && !client.is_paused {
            client.is_paused = true;
            reach.conns.pause(client.conn);
        }
    }

    /// A connection has failed.
    pub(crate) fn handle_failed(
        &mut self,
        reach: &mut Reach<'_>,
        owner: Owner,
        failure: Option<Failure>,
    ) {
        match owner {
            Owner::RedisClient(id) => self.drop_client(reach, id),
            Owner::RedisUpstream(id) => {
                let why = failure.map_or("it closed the connection", describe);
                self.handle_upstream_down(reach, id, why);
            }
            _ => {}
        }
    }

    /// A client will send no more. What it has sent is still answered.
    pub(crate) fn handle_eof(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let client = &mut self.clients[id];
        client.is_leaving = true;
        // A node gives up on what it waits for on behalf of whoever has gone.
        let is_stream = client.lease.is_some_and(|lease| lease.is_stream);
        if is_stream || self.is_blocked(id) {
            self.end_client(reach, id);
        } else {
            self.clients_to_pump.push_back(id);
        }
    }

    /// The kernel has taken what was written to a client.
    pub(crate) fn handle_client_sent(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let client = &self.clients[id];
        if let Some(lease) = client.lease
            && self.upstreams[lease.upstream].is_paused
            && reach.conns.unsent(client.conn) <= reach.limits.output_high
        {
            let upstream = &mut self.upstreams[lease.upstream];
            upstream.is_paused = false;
            reach.conns.resume(upstream.conn);
        }
        let client = &self.clients[id];
        if client.is_paused || client.is_leaving {
            self.clients_to_pump.push_back(id);
        }
        if self.clients[id].spread.is_some() {
            self.resume_branches(reach, id);
        }
    }

    /// The kernel has taken what was written to an upstream.
    pub(crate) fn handle_upstream_sent(&mut self, reach: &Reach<'_>, id: UpstreamId) {
        self.go_on_passing(reach, id);
        let pool = self.upstreams[id].pool;
        if self.pools[pool].is_wanting() {
            self.list_pool(pool);
        }
    }

    pub(crate) fn handle_timer(&mut self, reach: &mut Reach<'_>, timer: RedisTimer) {
        match timer {
            RedisTimer::Connect(id) => self.handle_connect_timer(reach, id),
            RedisTimer::Retry(service) => self.list_pools_of(service),
            RedisTimer::Tick => self.tick(reach),
            RedisTimer::Delayed(service) => self.send_delayed(reach, service),
        }
    }

    fn start_ticking(&mut self, reach: &mut Reach<'_>) {
        if !core::mem::replace(&mut self.is_ticking, true) {
            let next = Instant(reach.now.0 + TICK_NANOS);
            reach.timers.add(next, Timer::Redis(RedisTimer::Tick));
        }
    }

    fn tick(&mut self, reach: &mut Reach<'_>) {
        self.is_ticking = false;
        if self.clients.is_empty() && self.upstreams.is_empty() {
            return;
        }
        self.start_ticking(reach);
        self.end_long_waits(reach);
        self.end_lost_hubs(reach);
        self.end_long_resends(reach);
        self.end_stalled(reach);
        self.end_inquiries(reach);
        self.close_idle(reach);
        self.refresh_maps(reach);
        let services: Vec<_> = reach.services.iter().map(|service| service.id).collect();
        for service in services {
            self.share_permits(reach, service);
            self.end_unwanted(reach, service);
            self.list_pools_of(service);
        }
    }

    /// Who has waited for too long is told so.
    fn end_long_waits(&mut self, reach: &mut Reach<'_>) {
        let wanting = self.pools.iter().filter(|(_, pool)| pool.is_wanting());
        let queued = wanting.flat_map(|(_, pool)| pool.queued());
        let nodes = self.nodes.iter().filter_map(|node| node.cluster.as_ref());
        let lost = nodes.flat_map(|cluster| cluster.waiting.iter().copied());
        let waiting: Vec<_> = queued
            .chain(lost)
            .filter_map(|id| Some((id, self.clients.get(id)?)))
            .filter(|(_, client)| client.waiting != Waiting::No)
            .filter_map(|(id, client)| {
                let text = self.too_long(reach, client.service, client.since)?;
                Some((id, client.pool, client.waiting, text))
            })
            .collect();
        for (id, pool, waiting, text) in waiting {
            if waiting == Waiting::Move {
                self.refuse_move(reach, id, &text);
                continue;
            }
            if waiting == Waiting::Hub {
                self.leave_hubs(id);
            }
            if waiting == Waiting::Map {
                self.leave_map_queue(id);
            }
            let pool = &mut self.pools[pool];
            pool.lease_queue.retain(|&one| one != id);
            for pipes in &mut pool.lanes {
                pipes.waiting.retain(|&one| one != id);
            }
            self.answer_next(reach, id, &text);
        }
    }

    /// Closes an upstream that nobody has used for long.
    fn close_idle(&mut self, reach: &mut Reach<'_>) {
        let limit = reach.limits.upstream_idle_max;
        let idle = self
            .upstreams
            .iter()
            .find(|(id, upstream)| self.may_close(*id) && reach.now - upstream.since >= limit)
            .map(|(id, _)| id);
        if let Some(id) = idle {
            self.close_upstream(reach, id);
        }
    }

    /// Lets everybody go on who can, before the pass ends.
    pub(crate) fn settle(&mut self, reach: &mut Reach<'_>) {
        loop {
            if let Some(id) = self.doomed.pop() {
                self.drop_client(reach, id);
            } else if let Some(id) = self.clients_to_pump.pop_front() {
                self.pump(reach, id);
            } else if let Some(id) = self.pools_to_serve.pop() {
                self.serve(reach, id);
            } else {
                return;
            }
        }
    }
}

/// More shards than any host has cores for: what the numbers of clients leave room for.
const SHARDS_MAX: u64 = 1 << 10;

impl Key {
    /// Where every session begins.
    pub(crate) fn initial(service: ServiceId) -> Self {
        use crate::upstream::redis::pool::Version;
        Self {
            service,
            login: None,
            database: 0,
            version: Version::Two,
        }
    }
}

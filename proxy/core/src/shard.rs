//! The shard: one thread's clients, upstreams, buffers and timers, as a pure state machine.
//!
//! Sharing nothing, it takes events in and gives operations out. Knows no socket and no clock.
//!
//! A pass is: `handle_event` for every completion, `handle_timeout` if `poll_timeout` has come,
//! then `finish_pass` once, then `poll_operation` until it answers `None`.

use std::collections::VecDeque;

use crate::client::postgres::examine::{Examined, Piece};
use crate::client::postgres::{Client, Phase, Waiting, errors::Refusal};
use crate::conns::{Conns, Owner};
use crate::crowd::Gather;
use crate::event::{Event, Level, Message, Operation, Peer, Socket};
use crate::fingerprint::Fingerprints;
use crate::identity::{Database, Identity};
use crate::ids::{ClientId, ConnId, IdentityId, LaneId, ListenerId, ShardId, UpstreamId};
use crate::library::Library;
use crate::limits::Limits;
use crate::map::{FastMap, fast_map};
#[cfg(feature = "planted-bugs")]
use crate::planted::Bug;
use crate::random::Random;
use crate::reach::Reach;
use crate::redis::{Redis, RedisTimer};
use crate::register::Register;
use crate::slab::Slab;
use crate::stats::{Stats, Tally, tallies};
use crate::texts::Texts;
use crate::topology::{Protocol, Service};
use crate::upstream::postgres::Upstream;
use crate::upstream::schedule::{Connections, Lane, LaneKey};
use crate::{time::Instant, timers::Timers};

/// What a shard is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard this is.
    pub id: ShardId,
    /// How many there are.
    pub shards: u32,
    /// What every random choice, every hash and every secret starts from: not to be guessed.
    pub seed: u64,
    /// The bounds.
    pub limits: Limits,
    /// The services that this shard serves, by `ServiceId`'s place.
    pub services: Vec<Service>,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Timer {
    /// A cancel that has not landed.
    Cancel(ConnId),
    /// An upstream that is not ready.
    Connect(UpstreamId),
    /// The end of a drain.
    Drain,
    /// An upstream that has said good-bye and is still there.
    Goodbye(UpstreamId),
    /// A client that is not logged in.
    Login(ClientId),
    /// Something of the Redis half.
    Redis(RedisTimer),
    /// Connecting may be tried again.
    Retry,
    /// Whatever has to be looked at now and then.
    Tick,
}

/// How often the shard looks at what has no timer of its own.
const TICK_NANOS: u64 = 50_000_000;

/// One shard. See the module's documentation for the order of calls.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    shards: u32,
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    pub(crate) services: Vec<Service>,
    /// The time of the pass.
    pub(crate) now: Instant,
    pub(crate) conns: Conns,
    pub(crate) clients: Slab<ClientId, Client>,
    pub(crate) upstreams: Slab<UpstreamId, Upstream>,
    pub(crate) lanes: Slab<LaneId, Lane>,
    pub(crate) lanes_by_key: FastMap<LaneKey, LaneId>,
    pub(crate) identities: Slab<IdentityId, Identity>,
    /// By their places; `register` knows which are in use.
    pub(crate) databases: Vec<Database>,
    pub(crate) register: Register,
    /// What is known of each service's connections, by its place.
    pub(crate) connections: Vec<Connections>,
    pub(crate) fingerprints: Fingerprints,
    pub(crate) texts: Texts,
    pub(crate) library: Library,
    /// Identities that may have lost their last upstream in this pass.
    pub(crate) bereft: Vec<IdentityId>,
    pub(crate) timers: Timers<Timer>,
    /// The messages of the request being looked at, and the rest of the transaction it begins.
    pub(crate) pieces: Vec<Piece>,
    pub(crate) parts: Vec<Examined>,
    /// Clients to be looked at before the pass ends.
    pub(crate) clients_to_pump: VecDeque<ClientId>,
    /// Lanes in which somebody may go on before the pass ends.
    pub(crate) lanes_to_serve: VecDeque<LaneId>,
    /// Lanes in which a text has been answered for the first time.
    pub(crate) lanes_to_reconsider: Vec<LaneId>,
    /// Lanes whose shared requests had to join others.
    pub(crate) lanes_to_grow: Vec<LaneId>,
    pub(crate) redis: Redis,
    pub(crate) stats: Stats,
    pub(crate) planted: crate::planted::Planted,
    /// No new clients; those that are idle are closed.
    pub(crate) is_draining: bool,
    is_drained: bool,
    is_ticking: bool,
    pub(crate) random: Random,
}

impl Shard {
    /// A shard with no connections.
    pub fn new(settings: Settings) -> Self {
        let Settings {
            id,
            shards,
            seed,
            limits,
            services,
        } = settings;
        Self {
            id,
            shards,
            seed,
            now: Instant(0),
            conns: Conns::default(),
            clients: Slab::new(),
            upstreams: Slab::new(),
            lanes: Slab::new(),
            lanes_by_key: fast_map(seed),
            identities: Slab::new(),
            databases: Vec::new(),
            register: Register::new(seed),
            connections: services.iter().map(|_| Connections::default()).collect(),
            fingerprints: Fingerprints::new(seed),
            texts: Texts::new(seed, limits.texts_max, limits.texts_bytes_max),
            library: Library::new(seed),
            bereft: Vec::new(),
            timers: Timers::new(Instant(0)),
            pieces: Vec::new(),
            parts: Vec::new(),
            clients_to_pump: VecDeque::new(),
            lanes_to_serve: VecDeque::new(),
            lanes_to_reconsider: Vec::new(),
            lanes_to_grow: Vec::new(),
            redis: Redis::new(seed, &services),
            stats: Stats::default(),
            planted: Default::default(),
            is_draining: false,
            is_drained: false,
            is_ticking: false,
            random: Random::new(seed, id),
            limits,
            services,
        }
    }

    /// Plants a bug, for the simulator to find.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: Bug) {
        self.planted.plant(bug);
        if bug == Bug::ReuseSlotWithoutGeneration {
            self.clients.ignore_generations();
        }
    }

    /// Takes in one event. Never fails: what a peer does wrong becomes operations.
    pub fn handle_event(&mut self, now: Instant, event: Event<'_>) {
        self.now = now;
        match event {
            Event::Accepted {
                listener,
                socket,
                peer,
            } => {
                self.route_accepted(listener, socket, peer);
            }
            Event::Connected { conn } => match self.conns.owner(conn) {
                Owner::Upstream(id) => self.handle_connected(id),
                Owner::Canceller(id) => self.handle_canceller_connected(conn, id),
                Owner::RedisUpstream(id) => {
                    let (redis, mut reach) = self.redis();
                    redis.handle_connected(&mut reach, id);
                }
                Owner::Client(_) | Owner::RedisClient(_) | Owner::Nobody => {}
            },
            Event::Received { conn, bytes } => self.handle_received(conn, bytes),
            Event::Sent { conn, buffer, sent } => self.handle_sent(conn, buffer, sent),
            Event::Eof { conn } => self.handle_eof(conn),
            Event::Failed { conn, failure } => match self.conns.owner(conn) {
                Owner::Client(id) => self.drop_client(id),
                Owner::Upstream(id) => self.handle_upstream_down(id, Some(failure)),
                Owner::Canceller(id) => self.end_canceller(conn, id),
                owner @ (Owner::RedisClient(_) | Owner::RedisUpstream(_)) => {
                    let (redis, mut reach) = self.redis();
                    redis.handle_failed(&mut reach, owner, Some(failure));
                }
                Owner::Nobody => self.conns.close(conn),
            },
            Event::Closed { conn } => self.handle_closed(conn),
            Event::Classified { ticket, verdict } => {
                for client in self.texts.handle_classified(ticket, &verdict) {
                    self.wake(client, Waiting::Verdict);
                }
            }
            Event::CatalogReady {
                database,
                understood,
            } => {
                self.handle_catalog_ready(database, understood);
            }
            Event::Resolved { service, lead } => {
                if self.services[service.index()].protocol == Protocol::Redis {
                    let (redis, mut reach) = self.redis();
                    redis.handle_resolved(&mut reach, service, lead);
                } else {
                    self.handle_resolved(service, lead);
                }
            }
            Event::FromShard { message } => self.handle_message(message),
            Event::Users { service, users } => self.take_users(service, users),
            Event::Drain { deadline_ms } => self.begin_drain(deadline_ms),
        }
    }

    /// Another shard has something to say.
    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Cancel {
                pid,
                secret,
                shard,
                client,
            } => {
                self.cancel(pid, secret);
                let message = Message::CancelTaken { client };
                let operation = Operation::ToShard { shard, message };
                self.conns.operations.push_back(operation);
            }
            Message::CancelTaken { client } => self.end_client(client),
            Message::ConnectionsWanted { service } => self.give_up_free(service),
            Message::SessionsAsked {
                service,
                question,
                shard,
                client,
            } => {
                let (redis, mut reach) = self.redis();
                redis.handle_asked(&mut reach, service, &question, (shard, client));
            }
            Message::WritesPaused { service, until } => self.redis.handle_paused(service, until),
            Message::SessionsTold { client, finding } => {
                let (redis, mut reach) = self.redis();
                redis.handle_told(&mut reach, client, finding);
            }
        }
    }

    fn handle_received(&mut self, conn: ConnId, bytes: &[u8]) {
        match self.conns.owner(conn) {
            Owner::Client(id) => {
                let client = &mut self.clients[id];
                client.input.append(bytes, &mut self.conns.pool);
                match client.phase {
                    Phase::Ready => self.pump(id),
                    Phase::Startup => self.read_startup(id),
                    Phase::Cancelling => self.drop_client(id),
                    Phase::Login => self.read_login(id),
                }
            }
            Owner::Upstream(id) => self.handle_replies(id, bytes),
            Owner::RedisClient(id) => {
                let (redis, mut reach) = self.redis();
                redis.crowd.note(conn);
                redis.handle_requests(&mut reach, id, bytes);
            }
            Owner::RedisUpstream(id) => {
                let (redis, mut reach) = self.redis();
                redis.crowd.note(conn);
                redis.handle_replies(&mut reach, id, bytes);
            }
            Owner::Canceller(_) | Owner::Nobody => {}
        }
    }

    fn handle_sent(&mut self, conn: ConnId, buffer: Vec<u8>, sent: usize) {
        self.conns.handle_sent(conn, buffer, sent);
        match self.conns.owner(conn) {
            Owner::Client(id) => {
                let client = &self.clients[id];
                let is_waiting =
                    !client.input.unparsed().is_empty() || client.is_paused || client.is_leaving;
                if is_waiting {
                    self.clients_to_pump.push_back(id);
                }
                self.resume_upstream_of(id);
            }
            Owner::Upstream(id) => {
                if let Some(holder) = self.upstreams[id].holder
                    && self.clients.get(holder).is_some()
                {
                    self.clients_to_pump.push_back(holder);
                }
            }
            Owner::RedisClient(id) => {
                let (redis, mut reach) = self.redis();
                redis.handle_client_sent(&mut reach, id);
            }
            Owner::RedisUpstream(id) => {
                let (redis, reach) = self.redis();
                redis.handle_upstream_sent(&reach, id);
            }
            Owner::Canceller(_) | Owner::Nobody => {}
        }
    }

    /// A client has read: its upstream, if it was stopped for it, goes on.
    fn resume_upstream_of(&mut self, id: ClientId) {
        let client = &self.clients[id];
        if let Some(target) = client.upstream
            && self
                .upstreams
                .get(target)
                .is_some_and(|upstream| upstream.is_paused)
            && self.conns.unsent(client.conn) <= self.limits.output_high
        {
            self.upstreams[target].is_paused = false;
            self.conns.resume(self.upstreams[target].conn);
        }
    }

    fn handle_eof(&mut self, conn: ConnId) {
        match self.conns.owner(conn) {
            Owner::Client(id) => {
                // What it has sent is still answered, as a node would.
                self.clients[id].is_leaving = true;
                match self.clients[id].phase {
                    Phase::Cancelling | Phase::Startup => self.drop_client(id),
                    Phase::Login => self.read_login(id),
                    Phase::Ready => self.clients_to_pump.push_back(id),
                }
            }
            Owner::Upstream(id) => self.handle_upstream_down(id, None),
            Owner::Canceller(id) => self.end_canceller(conn, id),
            Owner::RedisClient(id) => {
                let (redis, mut reach) = self.redis();
                redis.handle_eof(&mut reach, id);
            }
            owner @ Owner::RedisUpstream(_) => {
                let (redis, mut reach) = self.redis();
                redis.handle_failed(&mut reach, owner, None);
            }
            // It may still read what it was told last.
            Owner::Nobody => self.conns.close_after_flush(conn),
        }
    }

    fn end_canceller(&mut self, conn: ConnId, target: UpstreamId) {
        self.conns.close(conn);
        self.handle_cancel_landed(target);
        if self.upstreams.get(target).is_some() {
            self.settle_upstream(target);
        }
    }

    fn handle_closed(&mut self, conn: ConnId) {
        if let Some(service) = self.conns.handle_closed(conn) {
            self.services[service.index()].permits.give_back();
            self.connections[service.index()].closing -= 1;
            self.redis.list_pools_of(service);
        }
    }

    /// The Redis half, and what it may use of this shard.
    pub(crate) fn redis(&mut self) -> (&mut Redis, Reach<'_>) {
        let reach = Reach {
            now: self.now,
            shard: self.id,
            shards: self.shards,
            seed: self.seed,
            limits: &self.limits,
            services: &mut self.services,
            connections: &mut self.connections,
            conns: &mut self.conns,
            timers: &mut self.timers,
            stats: &mut self.stats,
            planted: self.planted,
        };
        (&mut self.redis, reach)
    }

    /// A socket has been accepted: by its listener, it is one protocol's or the other's.
    fn route_accepted(&mut self, listener: ListenerId, socket: Socket, peer: Peer) {
        let mut services = self.services.iter();
        match services.find(|service| service.listeners.contains(&listener)) {
            Some(service) if service.protocol == Protocol::Redis => {
                let service = service.id;
                let (redis, mut reach) = self.redis();
                redis.handle_accepted(&mut reach, service, socket, peer);
            }
            _ => self.handle_accepted(listener, socket, peer),
        }
    }

    /// Does what was due at `now`. Call when `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let mut due = Vec::new();
        self.timers.expire(now, &mut due);
        for timer in due {
            self.handle_timer(timer);
        }
    }

    fn handle_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Cancel(conn) => {
                if let Owner::Canceller(target) = self.conns.owner(conn) {
                    // It may still land, and nobody will know when: not where anybody else is.
                    if let Some(upstream) = self.upstreams.get_mut(target) {
                        upstream.is_draining = true;
                    }
                    self.end_canceller(conn, target);
                }
            }
            Timer::Connect(id) => self.handle_connect_timer(id),
            Timer::Drain => self.end_drain(),
            Timer::Goodbye(id) => {
                if self.upstreams.get(id).is_some_and(|it| it.is_retired) {
                    self.forget_upstream(id);
                }
            }
            Timer::Login(id)
                if self
                    .clients
                    .get(id)
                    .is_some_and(|it| it.phase == Phase::Cancelling) =>
            {
                self.end_client(id);
            }
            Timer::Login(id) => {
                if let Some(client) = self.clients.get(id).filter(|it| it.phase != Phase::Ready) {
                    let name = self.name(client.service);
                    let refusal = match client.phase {
                        Phase::Login if !client.is_asked() => {
                            let seconds = self.limits.login_time_max.as_secs();
                            Refusal::login_waited_too_long(name, seconds)
                        }
                        _ => Refusal::login_too_slow(name),
                    };
                    self.refuse_client(id, &refusal);
                }
            }
            Timer::Redis(timer) => {
                let (redis, mut reach) = self.redis();
                redis.handle_timer(&mut reach, timer);
            }
            Timer::Retry => {}
            Timer::Tick => self.tick(),
        }
    }

    /// Begins to look at things now and then, as long as there are clients or upstreams.
    pub(crate) fn start_ticking(&mut self) {
        if !self.is_ticking {
            self.is_ticking = true;
            self.timers
                .add(Instant(self.now.0 + TICK_NANOS), Timer::Tick);
        }
    }

    fn tick(&mut self) {
        self.is_ticking = false;
        if self.clients.is_empty() && self.upstreams.is_empty() {
            return;
        }
        self.start_ticking();
        if !self.clients.is_empty() {
            self.check_catalogs();
        }
        self.adapt_active_sets();
        for index in 0..self.services.len() {
            let service = self.services[index].id;
            self.drop_stale_places(service);
            self.end_long_waits(service);
            self.relieve_stalled(service);
            self.close_idle(service);
            if self.services[index].permits.is_wanted_elsewhere() {
                self.give_up_free(service);
            }
        }
    }

    /// Makes one send of all that became sendable. Call once per pass, after its events.
    pub fn finish_pass(&mut self, now: Instant) {
        self.now = now;
        self.settle();
        self.forget_left();
        for lane in core::mem::take(&mut self.lanes_to_reconsider) {
            self.reconsider_tails(lane);
        }
        for index in 0..self.connections.len() {
            let connections = &self.connections[index];
            if !connections.waiting.is_empty() || !connections.errands.is_empty() {
                let service = self.services[index].id;
                self.run_errands(service);
                self.balance(service);
            } else if connections.is_wanting {
                self.set_wanting(self.services[index].id, false);
            }
        }
        for lane in core::mem::take(&mut self.lanes_to_grow) {
            self.grow(lane);
        }
        self.settle();
        self.end_bereft();
        self.forget_left();
        while let Some(conn) = self.conns.take_ended() {
            self.handle_closed(conn);
        }
        let (redis, mut reach) = self.redis();
        redis.settle(&mut reach);
        self.conns.flush();
        if self.is_draining && !self.is_drained {
            self.end_idle_clients();
            self.conns.flush();
        }
        if self.is_draining && !self.is_drained && self.conns.is_empty() {
            self.is_drained = true;
            self.conns.operations.push_back(Operation::Drained);
        }
    }

    /// Lets everybody go on who can.
    fn settle(&mut self) {
        loop {
            if let Some(client) = self.clients_to_pump.pop_front() {
                self.pump(client);
            } else if let Some(lane) = self.lanes_to_serve.pop_front() {
                self.serve_lane(lane);
            } else {
                break;
            }
        }
    }

    /// The next operation, until `None`.
    pub fn poll_operation(&mut self) -> Option<Operation> {
        self.conns.operations.pop_front()
    }

    /// When `handle_timeout` wants to be called, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What is worth waiting for before the next pass, if anything. To be asked once in a pass.
    pub fn gather(&mut self, now: Instant) -> Option<Gather> {
        self.redis.crowd.gather(now)
    }

    /// The counters and gauges.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is counted for each service, in the order of the settings.
    pub fn tallies(&self) -> Vec<Tally> {
        tallies(&self.services, &self.connections)
    }

    /// Says something to the operator.
    pub(crate) fn log(&mut self, level: Level, text: impl AsRef<str>) {
        let text = text.as_ref().to_owned();
        self.conns
            .operations
            .push_back(Operation::Log { level, text });
    }
}

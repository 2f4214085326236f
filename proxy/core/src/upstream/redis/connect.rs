//! An upstream from the decision to open it until it is ready, and its orderly end.
//!
//! Holds the greeting: who we are, which database, which version. Invariant: an upstream is opened
//! on a permit, which comes back when its connection has ended.

use manifold_protocols::redis::resp::inline::write_request;
use manifold_protocols::redis::resp::number;

use crate::conns::Owner;
use crate::event::{Failure, Level};
use crate::ids::{PoolId, ServiceId, UpstreamId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::{Redis, RedisTimer};
use crate::shard::Timer;
use crate::time::Instant;
use crate::upstream::redis::pool::{Post, Version};
use crate::upstream::redis::refusal::is_loading;
use crate::upstream::redis::{Effect, Expectation, Own, State, Upstream, Whose};

/// The name that the node's CLIENT LIST shows for our connections.
pub(crate) const NAME: &[u8] = b"manifold";

/// The first pause after a failed attempt; it doubles.
const RETRY_NANOS: u64 = 50_000_000;

/// The longest pause.
const RETRY_NANOS_MAX: u64 = 2_000_000_000;

/// The longest pause where another node may take over at any moment.
const FAILOVER_RETRY_NANOS_MAX: u64 = 100_000_000;

impl Redis {
    /// Opens an upstream for a pool, if there is a permit for it and the node is not resting.
    pub(crate) fn open(&mut self, reach: &mut Reach<'_>, pool: PoolId, post: Post) -> bool {
        let service = self.pools[pool].key.service;
        if reach.now < self.nodes[service.index()].retry_at || self.is_leaderless(reach, service) {
            return false;
        }
        let payer = self.payer(service);
        let may_open = match post {
            Post::Lane(_) => true,
            Post::Lease => self.may_lease(reach, payer),
            Post::Hub => self.may_subscribe(reach, payer),
        };
        if !may_open || !reach.service(payer).permits.take() {
            self.make_room(reach, pool);
            self.set_wanting(reach, payer, true);
            return false;
        }
        let conn = reach.conns.reserve(Some(payer));
        let id = self.upstreams.insert(Upstream {
            payer,
            ..Upstream::new(conn, service, pool, post, reach.now)
        });
        reach.conns.set_owner(conn, Owner::RedisUpstream(id));
        let pool = &mut self.pools[pool];
        match post {
            Post::Lane(lane) => pool.lanes[lane as usize].upstreams.push(id),
            Post::Lease => pool.leases.push(id),
            Post::Hub => {
                let hub = pool.hub.as_mut();
                hub.expect("it is opened for its hub").upstream = Some(id);
            }
        }
        let connect = Timer::Redis(RedisTimer::Connect(id));
        reach
            .timers
            .add(reach.now + reach.limits.connect_time_max, connect);
        reach.stats.upstreams_opened += 1;
        reach.stats.upstreams += 1;
        reach.connections[service.index()].tally.upstreams_opened += 1;
        self.lead(reach, id);
        true
    }

    /// Whether a lease leaves room for the lanes that are not open yet. Where only one permit is
    /// left by subscriptions, lanes and leases take turns.
    fn may_lease(&self, reach: &Reach<'_>, payer: ServiceId) -> bool {
        let permits = &reach.service(payer).permits;
        let connections_max = permits.connections_max();
        let upstreams = || self.upstreams.iter().filter(|(_, it)| it.payer == payer);
        let hubs = upstreams().filter(|(_, it)| it.post == Post::Hub).count() as u32;
        let lanes = upstreams().filter(|(_, it)| matches!(it.post, Post::Lane(_)));
        let reserve = (connections_max / 8).max(2);
        let reserve = reserve.min(connections_max.saturating_sub(hubs + 1));
        permits.free() > reserve.saturating_sub(lanes.count() as u32)
    }

    /// The connection stands: says who we are and what we want.
    pub(crate) fn handle_connected(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        self.upstreams[id].state = State::Greeting;
        self.greet(reach, id);
    }

    /// An upstream that was ready has to become so again, in the time that a new one has.
    pub(crate) fn begin_greeting(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.state = State::Greeting;
        upstream.since = reach.now;
        let connect = Timer::Redis(RedisTimer::Connect(id));
        let latest = reach.now + reach.limits.connect_time_max;
        reach.timers.add(latest, connect);
    }

    /// Writes the greeting. The answer to its PING makes the upstream ready.
    pub(crate) fn greet(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let key = self.pools[self.upstreams[id].pool].key.clone();
        let mut login: Vec<&[u8]> = Vec::new();
        if key.version == Version::Three {
            login.extend([&b"HELLO"[..], b"3"]);
        }
        if let Some(secret) = &key.login {
            login.push(b"AUTH");
            if !secret.user.is_empty() {
                login.push(&secret.user);
            } else if key.version == Version::Three {
                login.push(b"default");
            }
            login.push(&secret.password);
        }
        let database = key.database.to_string();
        let select: [&[u8]; 2] = [b"SELECT", database.as_bytes()];
        let is_elsewhere = key.database != 0 && !reach.planted.is(Bug::ForgetSelect);
        if is_elsewhere && key.login.is_some() {
            self.ask(reach, id, Own::SelectEarly, &select);
        }
        if !login.is_empty() {
            self.ask(reach, id, Own::Login, &login);
        }
        if is_elsewhere {
            self.ask(reach, id, Own::Select, &select);
        }
        if self.upstreams[id].post == Post::Lease {
            // Not CLIENT ID, which not every user may ask.
            self.ask(reach, id, Own::Id, &[b"HELLO"]);
        }
        self.ask_for_role(reach, id);
        self.ask(reach, id, Own::Name, &[b"CLIENT", b"SETNAME", NAME]);
        self.ask(reach, id, Own::Ready, &[b"PING"]);
        self.ask_for_abilities(reach, id);
    }

    /// Sends a request of our own.
    pub(crate) fn ask(
        &mut self,
        reach: &mut Reach<'_>,
        id: UpstreamId,
        own: Own,
        arguments: &[&[u8]],
    ) {
        let upstream = &mut self.upstreams[id];
        let position = reach.conns.written_total(upstream.conn);
        write_request(reach.conns.write(upstream.conn), arguments.iter().copied());
        upstream.pipe.push_back(Expectation {
            whose: Whose::Own(own),
            replies: 1,
            position,
            effect: Effect::Read,
        });
    }

    /// A request of our own has been answered.
    pub(crate) fn handle_own_reply(
        &mut self,
        reach: &mut Reach<'_>,
        id: UpstreamId,
        own: Own,
        reply: &[u8],
    ) {
        let is_error = matches!(reply.first(), Some(b'-' | b'!'));
        match own {
            Own::SelectEarly => self.upstreams[id].has_selected = !is_error,
            Own::Select if self.upstreams[id].has_selected => {}
            Own::Login | Own::Select if is_error => self.handle_refusal(reach, id, reply),
            Own::Login | Own::Select => {}
            Own::Role => self.handle_role(reach, id, reply),
            Own::Name => {
                let upstream = &mut self.upstreams[id];
                upstream.is_named = !is_error;
                if self.pools[upstream.pool].key.login.is_none() {
                    let is_locked = reply.starts_with(b"-NOAUTH");
                    let service = upstream.service;
                    self.note_lock(reach, service, is_locked);
                }
            }
            // What else it may say is for those who ask: a password is missing, a script runs.
            Own::Ready if is_loading(reply) => {
                self.handle_upstream_down(reach, id, "it is loading its data");
            }
            Own::Ready => self.handle_ready(reach, id),
            Own::Id => self.upstreams[id].number = read_number(reply),
            Own::Ping | Own::Poison | Own::Asking => {}
            Own::Slots => self.handle_slots(reach, id, reply),
            Own::Info => self.handle_info(reach, id, reply),
            Own::Version => self.handle_version(id, reply),
            Own::Commands => self.handle_commands(reach, id, reply),
            Own::Threads => self.handle_threads(id, reply),
            Own::Reset if is_error => {
                self.handle_upstream_down(reach, id, "it does not know RESET");
            }
            Own::Reset if self.upstreams[id].post == Post::Hub => {
                self.handle_hub_reset(reach, self.upstreams[id].pool);
            }
            Own::Reset => self.greet(reach, id),
            Own::Subscription => self.handle_hub_reply(reach, id, reply),
            Own::Permission(client) | Own::PermissionToEnd(client) => {
                self.handle_permission(reach, client, reply);
            }
        }
    }

    /// Whether the node wants a password from everybody. When it begins to, those who came without
    /// one have lost what only their connection had; they are told so by its end.
    fn note_lock(&mut self, reach: &mut Reach<'_>, service: ServiceId, is_locked: bool) {
        let node = &mut self.nodes[service.index()];
        let was_open = node.lock.replace(is_locked) == Some(false);
        if !was_open || !is_locked {
            return;
        }
        let name = &reach.service(service).name;
        let text = format!(
            "service \"{name}\": its node wants a password now; sessions without one are closed"
        );
        reach.log(Level::Warn, text);
        let whole = self.nodes[service.index()].part_of.unwrap_or(service);
        let pools = &self.pools;
        let all = self.clients.iter().filter(|(_, client)| {
            let key = &pools[client.pool].key;
            key.service == whole && key.login.is_none()
        });
        let all: Vec<_> = all.map(|(id, _)| id).collect();
        for id in all {
            self.end_client(reach, id);
        }
    }

    /// The greeting is complete.
    fn handle_ready(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.state = State::Ready;
        upstream.since = reach.now;
        let (pool, service, upstream_post) = (upstream.pool, upstream.service, upstream.post);
        let node = &mut self.nodes[service.index()];
        node.failures = 0;
        node.whereabouts.confirm();
        if node.failing_since.take().is_some() {
            // What was waited for a node does not count for those who wait for an upstream.
            node.reached_at = reach.now;
        }
        node.was_reached = true;
        node.retry_at = Instant(0);
        if upstream_post == Post::Hub {
            self.handle_hub_ready(reach, pool);
        } else {
            self.ask_for_map(reach, service, id);
        }
        self.list_pool(pool);
    }

    /// The node does not let us in, and says why: that is the answer for everybody who waits to get
    /// in there. Who was in is told what a node that lets nobody go on tells it, so that it logs in
    /// again: a password has been changed, a user is gone.
    fn handle_refusal(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        let (pool_id, post) = (self.upstreams[id].pool, self.upstreams[id].post);
        let is_busy = reply.starts_with(b"-BUSY ");
        if reply.starts_with(b"-ERR max number of clients") || is_loading(reply) || is_busy {
            self.handle_upstream_down(reach, id, "it takes no more connections");
            return;
        }
        let reply = reply.to_vec();
        self.close_upstream(reach, id);
        if let Some(pool) = self.pools.get_mut(pool_id) {
            let movers = core::mem::take(&mut pool.movers);
            for client in movers {
                self.refuse_move(reach, client, &reply);
            }
            self.end_waiting(reach, pool_id, &reply);
        }
        self.refuse_hub(reach, pool_id, post, &reply);
    }

    /// Ends the sessions of a pool that wait for an upstream, because none is to be had.
    fn end_waiting(&mut self, reach: &mut Reach<'_>, pool_id: PoolId, reply: &[u8]) {
        let Some(pool) = self.pools.get_mut(pool_id) else {
            return;
        };
        let service = pool.key.service;
        let mut all: Vec<_> = pool.lease_queue.drain(..).collect();
        for pipes in &mut pool.lanes {
            all.extend(pipes.waiting.drain(..));
            all.extend(pipes.resends.drain(..).map(|resend| resend.client));
        }
        all.retain(|&id| self.clients.get(id).is_some());
        if all.is_empty() {
            return;
        }
        let name = &reach.service(service).name;
        let why = String::from_utf8_lossy(reply.trim_ascii_end());
        let text = format!(
            "service \"{name}\": its node does not let in any more who was logged in, and says \
             \"{why}\"; sessions are closed, so that they log in again"
        );
        reach.log(Level::Warn, text);
        for client in all {
            self.end_client(reach, client);
        }
    }

    /// A connection to the node could not be had. The next attempt waits, longer each time.
    pub(crate) fn back_off(&mut self, reach: &mut Reach<'_>, service: ServiceId, why: &str) {
        let wants_primary = reach.service(service).wants_primary;
        let node = &mut self.nodes[service.index()];
        if node.retry_at > reach.now {
            return;
        }
        let current = node.whereabouts.current();
        let is_round_over = node.whereabouts.reject(current.as_ref());
        let has_others = wants_primary && !is_round_over;
        let longest = match wants_primary {
            true => FAILOVER_RETRY_NANOS_MAX,
            false => RETRY_NANOS_MAX,
        };
        let pause = (RETRY_NANOS << node.failures.min(6)).min(longest);
        // Between half of it and all of it, so that shards and hosts do not come all at once.
        let jitter = foldhash_of(reach.seed, reach.now.0) % (pause / 2);
        node.retry_at = match has_others {
            true => reach.now,
            false => Instant(reach.now.0 + pause / 2 + jitter),
        };
        let is_first = node.failures == 0;
        node.failing_since.get_or_insert(reach.now);
        node.missing = why.into();
        node.failures = node.failures.saturating_add(1);
        self.doubt(reach, service);
        let node = &self.nodes[service.index()];
        let retry = Timer::Redis(RedisTimer::Retry(service));
        reach.timers.add(node.retry_at, retry);
        reach.stats.upstreams_failed += 1;
        if is_first {
            let name = &reach.service(service).name;
            let text = format!("service \"{name}\": no connection to its node: {why}");
            reach.log(Level::Warn, text);
        }
    }

    /// An upstream that is not ready in time is given up.
    pub(crate) fn handle_connect_timer(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let is_late = |upstream: &Upstream| {
            let time = reach.now - upstream.since;
            upstream.state != State::Ready && time >= reach.limits.connect_time_max
        };
        if self.upstreams.get(id).is_some_and(is_late) {
            self.handle_upstream_down(reach, id, "it does not answer in time");
        }
    }

    /// Ends an upstream on which nothing is in flight.
    pub(crate) fn close_upstream(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let Some(upstream) = self.upstreams.remove(id) else {
            return;
        };
        reach.stats.upstreams -= 1;
        reach.close_upstream(upstream.payer, upstream.conn);
        self.pools[upstream.pool].forget(id);
        self.list_pool(upstream.pool);
    }
}

/// The number of the connection in an answer to HELLO.
fn read_number(reply: &[u8]) -> Option<u64> {
    const FIELD: &[u8] = b"$2\r\nid\r\n:";
    let at = reply.windows(FIELD.len()).position(|part| part == FIELD)?;
    let digits = reply[at + FIELD.len()..]
        .split(|&byte| byte == b'\r')
        .next()?;
    number::parse(digits).and_then(|number| u64::try_from(number).ok())
}

/// Why a connection failed, in words.
pub(crate) fn describe(failure: Failure) -> &'static str {
    match failure {
        Failure::Refused => "nobody listens there",
        Failure::Reset => "it closed the connection",
        Failure::TimedOut => "it does not answer",
        Failure::Unreachable => "there is no way to it",
        Failure::Exhausted => "this host is out of sockets, memory or ports",
        Failure::Other(_) => "the connection failed",
    }
}

fn foldhash_of(seed: u64, value: u64) -> u64 {
    use core::hash::BuildHasher;
    foldhash::quality::FixedState::with_seed(seed).hash_one(value)
}

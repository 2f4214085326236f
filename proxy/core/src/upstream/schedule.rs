//! Who may use which upstream, and when another is opened.
//!
//! Knows lanes, pipes' depths and permits; knows neither messages nor statements. Invariants: a
//! request that needs an upstream alone gets an empty pipe; the places in a queue are served in
//! order; waiting always ends, by an upstream or by `queue_wait_max`.

use core::time::Duration;
use std::rc::Rc;

use crate::client::postgres::Waiting;
use crate::event::Operation;
use crate::fingerprint::Fingerprint;
use crate::ids::{ClientId, IdentityId, LaneId, ServiceId, UpstreamId};
use crate::profile::Class;
use crate::shard::{Shard, Timer};
use crate::stats::Tally;
use crate::time::Instant;
use crate::upstream::active::ActiveSet;
use crate::upstream::postgres::Upstream;
use crate::upstream::queues::{Kind, Place, Queues};
use crate::upstream::room::Need;
use crate::upstream::whereabouts::Whereabouts;

/// Upstreams of one identity and fingerprint, and who waits for one.
#[derive(Debug)]
pub struct Lane {
    /// Whose.
    pub identity: IdentityId,
    /// With which settings.
    pub fingerprint: Rc<Fingerprint>,
    /// What RESET goes back to on them, beyond the node's defaults.
    pub base: Rc<Fingerprint>,
    /// Its upstreams, in the order in which shared requests prefer them.
    pub upstreams: Vec<UpstreamId>,
    /// Who waits.
    pub queues: Queues,
    /// How many upstreams shared requests use at once.
    pub active: ActiveSet,
}

/// What a request asks of an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Demand {
    /// Its class.
    pub class: Class,
    /// Whether it may write.
    pub writes: bool,
    /// Whether RESET, which may be hidden in it, has to go back to what the session began with
    /// rather than to the node's defaults.
    pub has_base: bool,
}

impl Demand {
    /// One for a class, on an upstream like everybody's.
    pub fn new(class: Class, writes: bool) -> Self {
        Self {
            class,
            writes,
            has_base: false,
        }
    }

    /// Whether it has to start on an empty pipe.
    pub fn is_owned(self) -> bool {
        self.class == Class::Exclusive || self.writes
    }
}

/// What is known of a service's node and of the connections to it on this shard.
#[derive(Debug, Default)]
pub struct Connections {
    /// All upstreams, whatever their state.
    pub upstreams: Vec<UpstreamId>,
    /// Connections that are being closed: their permits are on the way back.
    pub closing: usize,
    /// Attempts that failed since the last that succeeded.
    pub failures: u32,
    /// When the failing began.
    pub failing_since: Option<Instant>,
    /// What was wrong with the attempt that failed last, and where.
    pub trouble: Option<Rc<str>>,
    /// Whether any attempt ever succeeded.
    pub has_been_up: bool,
    /// When the last time without a node was over.
    pub up_since: Instant,
    /// Before this, none is opened.
    pub retry_at: Instant,
    /// When who waits is looked at again, whatever happens.
    pub look_at: Instant,
    /// Requests without a lease that were ever answered.
    pub answered: u64,
    /// When a shared request came last.
    pub shared_at: Instant,
    /// Identities for which something is to be done: logins, requests of our own.
    pub errands: Vec<IdentityId>,
    /// Upstreams that wait for the service's name to be looked up.
    pub unresolved: Vec<UpstreamId>,
    /// Lanes in which somebody waits.
    pub waiting: Vec<LaneId>,
    /// Whether the node's permits are known to be short on our account.
    pub is_wanting: bool,
    /// A look-up of the service's name is under way.
    pub is_resolving: bool,
    /// Where the name leads.
    pub whereabouts: Whereabouts,
    /// What is counted for the service.
    pub tally: Tally,
}

/// A shared request joins a pipe only while everything in it is expected to take less than this.
pub const PIPE_NANOS_MAX: u64 = 2_000_000;

/// Who has waited so much longer gets a free upstream of another lane, though switching costs: with
/// 20 ms, 100 clients in 5 lanes on 8 upstreams had a tenth less done than with 100 ms.
pub const UNFAIR: Duration = Duration::from_millis(100);

/// Who has waited so long for an upstream of his own lane gets one that another lane, in which
/// nobody waits, has used just now.
const SETTLED: Duration = Duration::from_millis(5);

/// So long after its last request an upstream is no longer in use by its lane.
const IDLE: Duration = Duration::from_millis(1);

/// How long after a shared request some upstreams are kept for the next ones.
const RESERVE_NANOS: u64 = 10_000_000_000;

impl Lane {
    /// An empty lane.
    pub fn new(identity: IdentityId, fingerprint: Rc<Fingerprint>, base: Rc<Fingerprint>) -> Self {
        Self {
            identity,
            fingerprint,
            base,
            upstreams: Vec::new(),
            queues: Queues::default(),
            active: ActiveSet::default(),
        }
    }

    /// What it is found by.
    pub fn key(&self) -> LaneKey {
        (self.identity, self.fingerprint.number, self.base.number)
    }
}

/// What a lane is found by: whose, and the numbers of its settings and of its base.
pub type LaneKey = (IdentityId, u64, u64);

impl Shard {
    /// The lane of an identity and fingerprint, where RESET goes back to the node's defaults.
    pub(crate) fn lane(&mut self, identity: IdentityId, fingerprint: &Rc<Fingerprint>) -> LaneId {
        let base = self.fingerprints.empty();
        self.lane_with_base(identity, fingerprint, &base)
    }

    /// The lane of an identity, fingerprint and base.
    pub(crate) fn lane_with_base(
        &mut self,
        identity: IdentityId,
        fingerprint: &Rc<Fingerprint>,
        base: &Rc<Fingerprint>,
    ) -> LaneId {
        let key = (identity, fingerprint.number, base.number);
        if let Some(&lane) = self.lanes_by_key.get(&key) {
            return lane;
        }
        let lane = Lane::new(identity, Rc::clone(fingerprint), Rc::clone(base));
        let lane = self.lanes.insert(lane);
        self.lanes_by_key.insert(key, lane);
        self.identities[identity].lanes += 1;
        lane
    }

    /// Forgets a lane that nobody uses or waits in.
    fn drop_lane_if_empty(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        if lane.upstreams.is_empty() && lane.queues.is_empty() {
            self.lanes_by_key.remove(&lane.key());
            self.identities[lane.identity].lanes -= 1;
            self.lanes.remove(id);
        }
    }

    /// The upstream that a request may be put on right now, if there is one.
    pub(crate) fn choose(
        &self,
        lane: LaneId,
        client: ClientId,
        demand: Demand,
    ) -> Option<UpstreamId> {
        let lane = &self.lanes[lane];
        if demand.class != Class::Share {
            let service = self.identities[lane.identity].service;
            if !self.has_room_for_owned(service) {
                return None;
            }
        }
        if demand.is_owned() {
            let free = lane.upstreams.iter().rev().copied();
            let mut free = free.filter(|&id| self.upstreams[id].is_free());
            // One that has the client's application_name need not be told it.
            let wanted = &self.clients[client].session().application;
            let fits = |id: &UpstreamId| self.upstreams[*id].application == *wanted;
            return free.clone().find(fits).or_else(|| free.next());
        }
        let depth_max = self.limits.pipe_depth_max;
        let eligible = lane
            .upstreams
            .iter()
            .copied()
            .filter(|&id| self.upstreams[id].takes_shared());
        let best = if demand.class == Class::Share {
            eligible
                .take(lane.active.size())
                .min_by_key(|&id| self.upstreams[id].pipe.len())
        } else {
            eligible.min_by_key(|&id| self.upstreams[id].pipe.len())
        }?;
        let upstream = &self.upstreams[best];
        let has_room = upstream.pipe.len() < depth_max
            && (upstream.pipe.is_empty() || upstream.expected_nanos < PIPE_NANOS_MAX)
            && self.conns.unsent(upstream.conn) < self.limits.upstream_output_high;
        has_room.then_some(best)
    }

    /// Whether another upstream may be taken for one client alone: some are kept for short shared
    /// requests as long as such come.
    fn has_room_for_owned(&self, service: ServiceId) -> bool {
        let connections = &self.connections[service.index()];
        let connections_max = self.services[service.index()].permits.connections_max();
        if connections_max < 4 || self.now.nanos_since(connections.shared_at) > RESERVE_NANOS {
            return true;
        }
        let reserve = (connections_max / 8).max(1) as usize;
        let owned = connections.upstreams.iter().filter(|&&id| {
            let upstream = &self.upstreams[id];
            upstream.holder.is_some() || upstream.tail.is_some()
        });
        owned.count() + reserve < connections_max as usize
    }

    /// Puts a client into its lane's queue.
    pub(crate) fn enqueue(&mut self, lane: LaneId, client: ClientId, demand: Demand, front: bool) {
        let since = self.clients[client].since;
        let place = Place {
            client,
            since,
            demand,
        };
        let service = self.identities[self.lanes[lane].identity].service;
        self.lanes[lane].queues.push(place, front);
        let waiting = &mut self.connections[service.index()].waiting;
        if !waiting.contains(&lane) {
            waiting.push(lane);
        }
    }

    /// Whether a place is still held by whoever took it.
    pub(super) fn is_waiting(&self, place: Place) -> bool {
        self.clients.get(place.client).is_some_and(|client| {
            client.waiting == Waiting::Upstream && client.since == place.since
        })
    }

    /// Lets those go first in a lane's queues go on for whom there is an upstream now.
    pub(crate) fn serve_lane(&mut self, id: LaneId) {
        while let Some(place) = self.next_place(id) {
            let client = self
                .clients
                .get_mut(place.client)
                .expect("a place that is held");
            client.waiting = Waiting::No;
            let waited = self.now.nanos_since(place.since);
            self.stats.queue_nanos += waited;
            self.stats.queue_nanos_max = self.stats.queue_nanos_max.max(waited);
            let longest = &mut self.tally_of(place.client).queue_nanos_max;
            *longest = waited.max(*longest);
            self.pump_turn(place.client);
            let again = self
                .clients
                .get(place.client)
                .is_some_and(|client| client.waiting == Waiting::Upstream);
            if again {
                break;
            }
        }
        self.forget_if_served(id);
    }

    /// Takes the next place out of a lane's queues for which there is an upstream.
    fn next_place(&mut self, id: LaneId) -> Option<Place> {
        let lane = self.lanes.get(id)?;
        for (kind, mut place) in lane.queues.by_age() {
            while !self.is_waiting(place) {
                self.lanes[id].queues.pop(kind);
                let next = self.lanes[id].queues.of(kind).front().copied();
                let Some(next) = next else { break };
                place = next;
            }
            let is_first = self.lanes[id].queues.of(kind).front() == Some(&place);
            if is_first && self.choose(id, place.client, place.demand).is_some() {
                return self.lanes[id].queues.pop(kind);
            }
        }
        None
    }

    /// Many may have waited as Tail for a text that nobody knew: now that it has been answered it
    /// may have earned a place in a shared pipe.
    pub(crate) fn reconsider_tails(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        for place in lane.queues.take(Kind::Tail) {
            if self.is_waiting(place) {
                self.clients[place.client].waiting = Waiting::No;
                self.pump_turn(place.client);
            }
        }
        if let Some(lane) = self.lanes.get_mut(id) {
            // Each that has to wait on took its place in front of those before it.
            lane.queues.reverse(Kind::Tail);
        }
        self.forget_if_served(id);
    }

    /// Takes a lane off the list of those in which somebody waits, if nobody does.
    pub(super) fn forget_if_served(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        if lane.queues.is_empty() {
            let service = self.identities[lane.identity].service;
            self.connections[service.index()]
                .waiting
                .retain(|&waiting| waiting != id);
            self.drop_lane_if_empty(id);
        }
    }

    /// Somebody waits in these lanes: finds upstreams for them by opening, switching or holding
    /// back. Called once per pass.
    pub(crate) fn balance(&mut self, service: ServiceId) {
        let mut lanes = core::mem::take(&mut self.connections[service.index()].waiting);
        lanes.retain(|&lane| self.lanes.get(lane).is_some());
        lanes.sort_by_key(|&lane| self.lanes[lane].queues.since());
        let mut wanted = 0;
        for &lane in &lanes {
            wanted += self.wanted_upstreams(lane);
        }
        self.connections[service.index()].waiting = lanes;
        // By index, for this runs in every pass under load and must allocate nothing.
        for index in 0..self.connections[service.index()].waiting.len() {
            let lane = self.connections[service.index()].waiting[index];
            if self.lanes.get(lane).is_none() {
                continue;
            }
            for _ in 0..self.wanted_upstreams(lane) {
                if !self.take_over_free(lane) && !self.open_for(lane) {
                    break;
                }
            }
            // Room may have come from elsewhere: whoever waits longest is looked at first.
            self.lanes_to_serve.push_back(lane);
        }
        self.hold_back(service, wanted);
    }

    /// How many more upstreams a lane could use at once for those who wait in it.
    fn wanted_upstreams(&self, id: LaneId) -> usize {
        let lane = &self.lanes[id];
        let coming = lane
            .upstreams
            .iter()
            .filter(|&&id| self.upstreams[id].is_coming())
            .count();
        let sharing = lane
            .upstreams
            .iter()
            .filter(|&&id| self.upstreams[id].takes_shared());
        let is_wanted = |kind| !lane.queues.of(kind).is_empty();
        let shared = is_wanted(Kind::Shared) && sharing.count() < lane.active.size();
        let service = self.identities[lane.identity].service;
        let alone = if self.has_room_for_owned(service) {
            // Most of what may be slow is only new: one upstream more at a time for them.
            lane.queues.of(Kind::Owned).len() + usize::from(is_wanted(Kind::Tail))
        } else {
            0
        };
        (alone + usize::from(shared)).saturating_sub(coming)
    }

    /// A shared request had to join others: uses one upstream more, up to the active set's size.
    pub(crate) fn grow(&mut self, lane: LaneId) {
        let Some(found) = self.lanes.get(lane) else {
            return;
        };
        if found.upstreams.len() < found.active.size() && !self.take_over_free(lane) {
            self.open_for(lane);
        }
    }

    /// Moves a free upstream of another lane to this one, if there is one that nobody waits for.
    fn take_over_free(&mut self, target: LaneId) -> bool {
        let identity = self.lanes[target].identity;
        let service = self.identities[identity].service;
        let candidates = &self.connections[service.index()].upstreams;
        let mut free = candidates.iter().copied().filter(|&id| {
            let upstream = &self.upstreams[id];
            upstream.is_free() && upstream.lane != target && self.fits(id, target)
        });
        let lane = &self.lanes[target];
        let is_pressing = lane.upstreams.is_empty()
            || lane
                .queues
                .since()
                .is_some_and(|since| self.now - since >= SETTLED);
        let found = free
            .clone()
            .find(|&id| is_pressing || self.now - self.upstreams[id].since >= IDLE);
        let Some(found) = found else {
            if free.next().is_some() {
                self.look_again(service);
            }
            return false;
        };
        self.move_upstream(found, target);
        self.switch(found);
        self.lanes_to_serve.push_back(target);
        true
    }

    /// What is not due yet may be so without anything else happening.
    fn look_again(&mut self, service: ServiceId) {
        let connections = &mut self.connections[service.index()];
        if self.now >= connections.look_at {
            connections.look_at = self.now + SETTLED;
            self.timers.add(connections.look_at, Timer::Retry);
        }
    }

    /// Makes an upstream one of another lane's, without a word to the node.
    pub(crate) fn move_upstream(&mut self, id: UpstreamId, target: LaneId) {
        let source = self.upstreams[id].lane;
        if source == target {
            return;
        }
        self.lanes[source].upstreams.retain(|&other| other != id);
        self.lanes[target].upstreams.push(id);
        self.upstreams[id].lane = target;
        self.upstreams[id].has_served = false;
        self.drop_lane_if_empty(source);
    }

    /// Opens an upstream for a lane, on a permit that is free or that a free upstream gives up.
    pub(super) fn open_for(&mut self, lane: LaneId) -> bool {
        let identity = self.lanes[lane].identity;
        let service = self.identities[identity].service;
        if !self.may_connect(service) {
            self.reserve_share(service);
            return false;
        }
        if !self.is_openable(identity) {
            return false;
        }
        if !self.services[service.index()].permits.take() {
            let since = self.lanes[lane].queues.since().unwrap_or(self.now);
            self.make_room(
                service,
                Need {
                    identity,
                    base: self.lanes[lane].base.number,
                    since,
                    is_login: false,
                },
            );
            return false;
        }
        self.open(lane, false);
        true
    }

    /// Tells other shards whether this one is short of permits.
    pub(crate) fn set_wanting(&mut self, service: ServiceId, is_wanting: bool) {
        let connections = &mut self.connections[service.index()];
        let before = core::mem::replace(&mut connections.is_wanting, is_wanting);
        self.services[service.index()]
            .permits
            .set_wanting(before, is_wanting);
    }

    /// Keeps new shared requests off as many upstreams as somebody waits for, so that they become
    /// free soon.
    pub(crate) fn hold_back(&mut self, service: ServiceId, wanted: usize) {
        let upstreams = &self.connections[service.index()].upstreams;
        let held = upstreams
            .iter()
            .filter(|&&id| self.upstreams[id].is_held_back)
            .count();
        for _ in held..wanted {
            let victim = self.connections[service.index()]
                .upstreams
                .iter()
                .copied()
                .filter(|&id| self.upstreams[id].can_be_held_back())
                .max_by_key(|&id| self.lanes[self.upstreams[id].lane].upstreams.len());
            let Some(victim) = victim else { break };
            self.upstreams[victim].is_held_back = true;
        }
    }

    /// An upstream has nothing in flight and no holder: whoever waited longest for one gets it.
    pub(crate) fn offer(&mut self, id: UpstreamId) {
        if !self.upstreams[id].is_free() {
            return;
        }
        if self.start_chore(id) {
            return;
        }
        let was_held_back = core::mem::take(&mut self.upstreams[id].is_held_back);
        let Upstream { service, lane, .. } = self.upstreams[id];
        let waiting = &self.connections[service.index()].waiting;
        let own = self.lanes[lane].queues.since();
        let oldest = waiting
            .iter()
            .copied()
            .filter(|&other| other != lane && self.lanes.get(other).is_some())
            .filter_map(|other| Some((self.lanes[other].queues.since()?, other)))
            .min();
        // What nobody else waits for stays free: whoever makes room looks for the best to close.
        if let Some(login) = self.waiting_login(service)
            && own.map_or(was_held_back, |own| login.since < own)
            && self.may_close_for(id, login)
        {
            self.retire(id);
            return;
        }
        if let Some((since, other)) = oldest
            && self.is_due(id, other, was_held_back)
            && (self.upstreams[id].has_served || own.is_none())
            && self.wanted_upstreams(other) > 0
        {
            if self.fits(id, other) {
                self.move_upstream(id, other);
                self.switch(id);
                self.lanes_to_serve.push_back(other);
                return;
            }
            let need = Need {
                identity: self.lanes[other].identity,
                base: self.lanes[other].base.number,
                since,
                is_login: false,
            };
            if self.is_openable(need.identity) && self.may_close_for(id, need) {
                self.retire(id);
                return;
            }
        }
        self.lanes_to_serve.push_back(lane);
    }

    /// Whether another lane, in which somebody waits, gets an upstream that has just become free.
    /// Other settings cost the node and us a request more: as long as every lane has an upstream,
    /// each keeps its own, unless that would be unfair.
    fn is_due(&self, id: UpstreamId, other: LaneId, was_held_back: bool) -> bool {
        let upstream = &self.upstreams[id];
        let lane = &self.lanes[other];
        let Some(since) = lane.queues.since() else {
            return false;
        };
        let is_stranger = !self.fits(id, other);
        let is_bereft = lane.upstreams.is_empty();
        match self.lanes[upstream.lane].queues.since() {
            None => is_stranger || is_bereft || self.now - since >= SETTLED,
            Some(own) if since < own => {
                since + UNFAIR < own || (was_held_back && (is_stranger || is_bereft))
            }
            Some(_) => false,
        }
    }

    /// Asks where a service is, once.
    pub(crate) fn resolve(&mut self, service: ServiceId) {
        let connections = &mut self.connections[service.index()];
        if !connections.is_resolving {
            connections.is_resolving = true;
            self.conns
                .operations
                .push_back(Operation::Resolve { service });
        }
    }
}

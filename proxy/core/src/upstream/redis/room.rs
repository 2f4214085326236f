//! Room for those who wait: permits are few, and pools may be many.
//!
//! Who needs an upstream and gets no permit has an idle one of others closed; where none is idle, a
//! busy lane of others is drained, and a lease that ends is not kept. Invariant: of the pools of a
//! service, the one whose client waits longest is the next to get a permit.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::ids::{ClientId, PoolId, ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::time::Instant;
use crate::upstream::redis::pool::{Lane, Pool, Post};
use crate::upstream::redis::{State, Upstream};

/// A lane is left open for so long at least, so that what opening costs is spread over many
/// requests.
const TURN_NANOS: u64 = 50_000_000;

impl Redis {
    /// Whether an upstream can be closed without anybody's loss.
    pub(crate) fn may_close(&self, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        let is_hub = upstream.post == Post::Hub;
        let hub = self.pools[upstream.pool].hub.as_ref();
        upstream.is_idle() && !(is_hub && hub.is_some_and(|hub| hub.is_used()))
    }

    /// Whether a hub leaves an upstream for commands.
    pub(crate) fn may_subscribe(&self, reach: &Reach<'_>, payer: ServiceId) -> bool {
        let mut upstreams = self.upstreams.iter();
        let has_lane =
            upstreams.any(|(_, one)| one.payer == payer && matches!(one.post, Post::Lane(_)));
        reach.service(payer).permits.free() > u32::from(!has_lane)
    }

    /// Makes an upstream end so that this pool gets its permit.
    pub(crate) fn make_room(&mut self, reach: &mut Reach<'_>, pool: PoolId) {
        let payer = self.payer(self.pools[pool].key.service);
        if reach.connections[payer.index()].closing > 0 {
            return;
        }
        let of_service = |(_, upstream): &(UpstreamId, &Upstream)| upstream.payer == payer;
        let all = || self.upstreams.iter().filter(of_service);
        if all().any(|(_, upstream)| upstream.is_retiring) {
            return;
        }
        if let Some(id) = self.idle_longest(payer) {
            return self.close_upstream(reach, id);
        }
        let oldest = all()
            .filter(|(_, it)| it.pool != pool && matches!(it.post, Post::Lane(_)))
            .filter(|(_, it)| it.state == State::Ready && reach.now.0 >= it.opened.0 + TURN_NANOS)
            .min_by_key(|(_, it)| it.opened)
            .map(|(id, _)| id);
        if let Some(id) = oldest {
            self.upstreams[id].is_retiring = true;
            self.end_if_drained(reach, id);
        }
    }

    /// Of the upstreams that nobody uses or waits for, the one that has been so for longest.
    fn idle_longest(&self, payer: ServiceId) -> Option<UpstreamId> {
        let upstreams = self.upstreams.iter();
        let idle = upstreams.filter(|(id, upstream)| {
            upstream.payer == payer && self.may_close(*id) && !self.is_wanted(upstream)
        });
        idle.min_by_key(|(_, upstream)| upstream.since)
            .map(|(id, _)| id)
    }

    /// Whether somebody in its pool waits for just such an upstream.
    fn is_wanted(&self, upstream: &Upstream) -> bool {
        let pool = &self.pools[upstream.pool];
        match upstream.post {
            Post::Lane(lane) => {
                let pipes = &pool.lanes[lane as usize];
                let has_movers = lane == Lane::Fast && !pool.movers.is_empty();
                has_movers || !pipes.waiting.is_empty() || !pipes.resends.is_empty()
            }
            Post::Lease => !pool.lease_queue.is_empty(),
            Post::Hub => pool.hub.as_ref().is_some_and(|hub| hub.is_wanting()),
        }
    }

    /// An upstream that takes no more requests ends with the last of those that it has.
    pub(crate) fn end_if_drained(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let upstream = self.upstreams.get(id);
        if upstream.is_some_and(|it| it.is_retiring && it.pipe.is_empty()) {
            self.close_upstream(reach, id);
        }
    }

    /// Whether a lease that ends in a pool is more urgent elsewhere, and there is no other permit.
    pub(crate) fn is_needed_elsewhere(&self, reach: &Reach<'_>, pool: PoolId) -> bool {
        let payer = self.payer(self.pools[pool].key.service);
        if reach.service(payer).permits.free() > 0 {
            return false;
        }
        let here = self.longest_wait(pool);
        let others = self.pools.iter().filter(|(id, _)| *id != pool);
        others
            .filter(|(_, other)| self.payer(other.key.service) == payer && other.is_wanting())
            .any(|(id, _)| self.longest_wait(id) < here)
    }

    /// Since when somebody has waited in a pool; the end of time if nobody does.
    fn longest_wait(&self, pool: PoolId) -> Instant {
        let pool = &self.pools[pool];
        let lanes = pool.lanes.iter().map(|pipes| &pipes.waiting);
        // Who comes first in a queue has waited longest in it.
        let first = |queue: &VecDeque<ClientId>| {
            let mut queue = queue.iter();
            queue.find_map(|&id| Some(self.clients.get(id)?.since))
        };
        let hub = pool.hub.iter().map(|hub| &hub.waiting);
        let queues = lanes.chain([&pool.lease_queue, &pool.movers]).chain(hub);
        let since = queues.filter_map(first).min();
        since.unwrap_or(Instant(u64::MAX))
    }

    /// Tells other shards whether this one is short of permits.
    pub(crate) fn set_wanting(&mut self, reach: &Reach<'_>, service: ServiceId, is_wanting: bool) {
        let before = &mut self.nodes[service.index()].is_wanting;
        let before = core::mem::replace(before, is_wanting);
        let permits = &reach.service(service).permits;
        permits.set_wanting(before, is_wanting);
    }

    /// Nobody here waits for a permit any more, or another shard does: an upstream is given up that
    /// is idle here, or of which this shard has more than its share.
    pub(crate) fn share_permits(&mut self, reach: &mut Reach<'_>, service: ServiceId) {
        let here = |pool: &Pool| self.payer(pool.key.service) == service && pool.is_wanting();
        let is_wanting = self.pools.iter().any(|(_, pool)| here(pool));
        if !is_wanting {
            self.set_wanting(reach, service, false);
        }
        let permits = &reach.service(service).permits;
        let has_more = permits.held() > permits.fair_share();
        let is_closing = reach.connections[service.index()].closing > 0;
        if !permits.is_wanted_elsewhere() || is_closing {
            return;
        }
        if is_wanting && !has_more {
            return;
        }
        let of_service = |(_, upstream): &(UpstreamId, &Upstream)| upstream.payer == service;
        let all = || self.upstreams.iter().filter(of_service);
        if let Some(id) = self.idle_longest(service) {
            return self.close_upstream(reach, id);
        }
        let is_retiring = all().any(|(_, upstream)| upstream.is_retiring);
        let oldest = all()
            .filter(|(_, it)| matches!(it.post, Post::Lane(_)) && it.state == State::Ready)
            .min_by_key(|(_, it)| it.opened)
            .map(|(id, _)| id)
            .filter(|_| has_more && !is_retiring);
        if let Some(id) = oldest {
            self.upstreams[id].is_retiring = true;
            self.end_if_drained(reach, id);
        }
    }

    /// Permits may have come back.
    pub(crate) fn list_pools_of(&mut self, service: ServiceId) {
        let pools = self.pools.iter();
        let of_service = |pool: &Pool| self.payer(pool.key.service) == service;
        let wanting = pools.filter(|(_, pool)| of_service(pool) && pool.is_wanting());
        let mut wanting: Vec<_> = wanting.map(|(id, _)| (self.longest_wait(id), id)).collect();
        // The last one listed is the first one served.
        wanting.sort_unstable_by_key(|one| Reverse(one.0));
        for (_, id) in wanting {
            self.list_pool(id);
        }
    }
}

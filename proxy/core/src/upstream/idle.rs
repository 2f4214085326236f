//! Upstreams that nobody uses: closed after a while, or given up to who is short of them.
//!
//! Knows no request. Invariant: one that could not be opened again is kept.

use crate::ids::ServiceId;
use crate::shard::Shard;
use crate::upstream::postgres::State;

impl Shard {
    /// Closes upstreams that nobody has used for long.
    pub(crate) fn close_idle(&mut self, service: ServiceId) {
        let idle_max = self.limits.upstream_idle_max;
        let idle = self.connections[service.index()]
            .upstreams
            .iter()
            .copied()
            .find(|&id| {
                let upstream = &self.upstreams[id];
                let is_idle = upstream.is_free() && self.now - upstream.since >= idle_max;
                is_idle && !self.is_irreplaceable(id)
            });
        if let Some(id) = idle {
            self.retire(id);
        }
    }

    /// Another shard is short of permits: gives up an upstream that is free here, if nobody waits
    /// for one or this shard holds more than its share.
    pub(crate) fn give_up_free(&mut self, service: ServiceId) {
        let permits = &self.services[service.index()].permits;
        let has_more = permits.held() > permits.fair_share();
        if self.connections[service.index()].is_wanting && !has_more {
            return;
        }
        let upstreams = &self.connections[service.index()].upstreams;
        let free = upstreams
            .iter()
            .copied()
            .find(|&id| self.upstreams[id].is_free() && !self.is_irreplaceable(id));
        match free {
            Some(free) => self.retire(free),
            None if has_more => self.give_up_next(service),
            None => {}
        }
    }

    /// The next upstream that becomes free is given up.
    fn give_up_next(&mut self, service: ServiceId) {
        let upstreams = &self.connections[service.index()].upstreams;
        if upstreams.iter().any(|&id| self.upstreams[id].is_draining) {
            return;
        }
        let shared = upstreams.iter().copied().find(|&id| {
            let upstream = &self.upstreams[id];
            let is_shared = upstream.state == State::Ready && upstream.holder.is_none();
            is_shared && !self.is_irreplaceable(id)
        });
        if let Some(shared) = shared {
            self.upstreams[shared].is_draining = true;
        }
    }
}

//! What lanes' active sets are adapted by: how deep the pipes are and how slow their heads.
//!
//! Looks at lanes and pipes and changes neither, except for the active sets' sizes. Invariant: a
//! lane is never given more upstreams than `connections_max`.

use crate::ids::LaneId;
use crate::shard::Shard;
use crate::upstream::active::{Pressure, View};
use crate::upstream::postgres::Upstream;
use crate::upstream::queues::Kind;

/// A head that has taken so long holds up those behind it: then one more upstream is used at once.
const SLOW_HEAD_NANOS: u64 = 5_000_000;

impl Shard {
    /// Lets every lane find out how many upstreams serve it best. Called now and then.
    pub(crate) fn adapt_active_sets(&mut self) {
        let all: Vec<LaneId> = self.lanes.iter().map(|(id, _)| id).collect();
        let busy_lanes = self.busy_lanes();
        for id in all {
            if self.lanes.get(id).is_none() {
                // It gave its last upstream to a lane that grew.
                continue;
            }
            let pressure = self.pressure(id);
            let lane = &self.lanes[id];
            let service = self.identities[lane.identity].service;
            let view = View {
                pressure,
                busy_lanes: busy_lanes[service.index()],
                size_max: self.services[service.index()].permits.connections_max() as usize,
                answered: self.connections[service.index()].answered,
            };
            let lane = &mut self.lanes[id];
            let before = lane.active.size();
            lane.active.adapt(self.now, view);
            if lane.active.size() > before {
                self.grow(id);
            }
        }
    }

    /// How many lanes of each service have had shared requests lately.
    fn busy_lanes(&self) -> Vec<usize> {
        let mut busy = vec![0; self.services.len()];
        for (_, lane) in self.lanes.iter().filter(|(_, lane)| lane.active.is_busy()) {
            busy[self.identities[lane.identity].service.index()] += 1;
        }
        busy
    }

    /// How a lane's shared requests fare.
    fn pressure(&self, id: LaneId) -> Pressure {
        let lane = &self.lanes[id];
        let mut pipes = lane.upstreams.iter().map(|&id| &self.upstreams[id]);
        let is_deep = |upstream: &Upstream| {
            // Our own requests wait for nobody.
            let mut behind = upstream.pipe.iter().skip(1);
            upstream.tail.is_none() && behind.any(|one| one.client().is_some())
        };
        let is_slow = |upstream: &Upstream| {
            upstream.is_stalled
                || (is_deep(upstream)
                    && self.now.nanos_since(upstream.head_since) > SLOW_HEAD_NANOS)
        };
        if lane.queues.of(Kind::Shared).is_empty() && !pipes.clone().any(is_deep) {
            return Pressure::None;
        }
        let shared = pipes
            .clone()
            .filter(|it| it.takes_shared() || it.is_stalled);
        if shared.clone().count() >= lane.active.size()
            && pipes.all(|it| !it.takes_shared() || is_slow(it))
        {
            return Pressure::Stuck;
        }
        Pressure::Busy
    }
}

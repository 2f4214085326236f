//! The end of waiting in vain: places that nobody holds any more, and waits that took too long.
//!
//! Called now and then; knows queues and limits, and no upstream but by number. Invariant: whoever
//! has waited `queue_wait_max` is told so.

use crate::client::postgres::Waiting;
use crate::ids::{ClientId, ServiceId};
use crate::shard::Shard;
use crate::upstream::queues::Place;

impl Shard {
    /// Takes those out of the queues who do not wait any more.
    pub(crate) fn drop_stale_places(&mut self, service: ServiceId) {
        for index in (0..self.connections[service.index()].waiting.len()).rev() {
            let id = self.connections[service.index()].waiting[index];
            let Some(lane) = self.lanes.get(id) else {
                continue;
            };
            let places = lane.queues.iter().copied();
            let stale: Vec<Place> = places.filter(|place| !self.is_waiting(*place)).collect();
            if !stale.is_empty() {
                self.lanes[id].queues.remove(&stale);
                self.forget_if_served(id);
            }
        }
    }

    /// Ends waits that have lasted `queue_wait_max`, and those for a node that cannot be reached.
    pub(crate) fn end_long_waits(&mut self, service: ServiceId) {
        let wait_max = self.limits.queue_wait_max;
        let failing_since = self.connections[service.index()].failing_since;
        let is_down = failing_since
            .is_some_and(|since| self.now - since >= self.limits.connect_time_max)
            && self.ready_upstreams(service) == 0;
        let mut late = Vec::new();
        for &lane in &self.connections[service.index()].waiting {
            let Some(lane) = self.lanes.get(lane) else {
                continue;
            };
            late.extend(lane.queues.iter().copied().filter(|place| {
                self.is_waiting(*place) && (is_down || self.now - place.since >= wait_max)
            }));
        }
        let mut late: Vec<ClientId> = late.into_iter().map(|place| place.client).collect();
        for database in self.databases.iter().filter(|it| it.service == service) {
            late.extend(database.waiting.iter().copied().filter(|&id| {
                self.clients.get(id).is_some_and(|client| {
                    client.waiting == Waiting::Catalog
                        && (is_down || self.now - client.since >= wait_max)
                })
            }));
        }
        for id in late {
            self.refuse_waiting(id, is_down);
        }
    }
}

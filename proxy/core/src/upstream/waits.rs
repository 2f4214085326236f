//! The end of waiting in vain: places that nobody holds any more, and waits that took too long.
//!
//! Called now and then; knows queues and limits, and no upstream but by number. Invariant: whoever
//! has waited `queue_wait_max` is told so; the time without a node is not counted (outage.rs).

use crate::client::postgres::Waiting;
use crate::client::postgres::errors::Refusal;
use crate::ids::{ClientId, ServiceId};
use crate::shard::Shard;
use crate::time::Instant;
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

    /// Ends waits that have lasted `queue_wait_max`, and those for a node where there is none any
    /// more.
    pub(crate) fn end_long_waits(&mut self, service: ServiceId) {
        let is_held = self.is_held(service);
        let is_down = is_held && self.is_given_up(service);
        let wait_max = self.limits.queue_wait_max;
        let up_since = self.connections[service.index()].up_since;
        let is_late =
            |since: Instant| is_down || (!is_held && self.now - since.max(up_since) >= wait_max);
        let mut late = Vec::new();
        for &lane in &self.connections[service.index()].waiting {
            let Some(lane) = self.lanes.get(lane) else {
                continue;
            };
            let places = lane.queues.iter().copied();
            late.extend(places.filter(|place| self.is_waiting(*place) && is_late(place.since)));
        }
        let mut late: Vec<ClientId> = late.into_iter().map(|place| place.client).collect();
        for database in self.databases.iter().filter(|it| it.service == service) {
            late.extend(database.waiting.iter().copied().filter(|&id| {
                self.clients.get(id).is_some_and(|client| {
                    client.waiting == Waiting::Catalog && is_late(client.since)
                })
            }));
        }
        for id in late {
            self.refuse_waiting(id, is_down);
        }
        if is_down {
            self.refuse_held_logins(service);
        }
    }

    /// Tells those who want to log in to a service that there is no node.
    fn refuse_held_logins(&mut self, service: ServiceId) {
        let errands = self.connections[service.index()].errands.clone();
        let mut error = Vec::new();
        let refusal = Refusal::unreachable(self.name(service), &self.outage_text(service));
        refusal.fatal().encode(&mut error);
        for identity in errands {
            self.refuse_logins(identity, &error);
        }
    }
}

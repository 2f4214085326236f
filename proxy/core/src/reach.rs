//! What a protocol may use of its shard: time, connections, timers, and what is known of services.
//!
//! A protocol that keeps its own state gets this lent with each event. Invariant: it holds nothing
//! of any protocol.

use crate::conns::Conns;
use crate::event::{Level, Operation};
use crate::ids::{ConnId, ServiceId, ShardId};
use crate::limits::Limits;
use crate::planted::Planted;
use crate::shard::Timer;
use crate::stats::Stats;
use crate::time::Instant;
use crate::timers::Timers;
use crate::topology::Service;
use crate::upstream::schedule::Connections;

/// The shard as a protocol sees it while it handles an event.
pub(crate) struct Reach<'a> {
    pub now: Instant,
    pub shard: ShardId,
    /// How many shards there are.
    pub shards: u32,
    pub seed: u64,
    pub limits: &'a Limits,
    pub services: &'a mut Vec<Service>,
    pub connections: &'a mut Vec<Connections>,
    pub conns: &'a mut Conns,
    pub timers: &'a mut Timers<Timer>,
    pub stats: &'a mut Stats,
    /// The bug of the shard, if tests have planted one.
    pub planted: Planted,
}

impl Reach<'_> {
    /// The service of an id.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.index()]
    }

    /// Closes the connection of an upstream; its permit comes back when it has ended.
    pub fn close_upstream(&mut self, service: ServiceId, conn: ConnId) {
        self.connections[service.index()].closing += 1;
        self.conns.close(conn);
    }

    /// Looks the name of a service up, unless that is under way.
    pub fn resolve(&mut self, service: ServiceId) {
        let connections = &mut self.connections[service.index()];
        if !core::mem::replace(&mut connections.is_resolving, true) {
            self.conns
                .operations
                .push_back(Operation::Resolve { service });
        }
    }

    /// Says something to the operator.
    pub fn log(&mut self, level: Level, text: String) {
        self.conns
            .operations
            .push_back(Operation::Log { level, text });
    }
}

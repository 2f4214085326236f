//! Where a node is, as far as names say, and what becomes of upstreams to addresses that are gone.
//!
//! Invariants: those of `upstream::whereabouts`. The nodes of a cluster are found by its map, of
//! which names are only the beginning.

use crate::event::{Lead, Level};
use crate::ids::{ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::topology::Target;
use crate::upstream::redis::Upstream;
use crate::upstream::redis::pool::Post;

impl Redis {
    /// Connects an upstream, or has it wait until somebody says where.
    pub(crate) fn lead(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let (service, conn) = (upstream.service, upstream.conn);
        let node = &self.nodes[service.index()];
        let address = match &reach.service(service).target {
            _ if let Some(home) = self.address_of_home(reach, service) => Some(home),
            Target::Address(address) => Some(address.clone()),
            Target::Name(_) => node.whereabouts.current(),
        };
        self.upstreams[id].address.clone_from(&address);
        match address {
            Some(address) => reach.conns.connect(conn, address),
            None => {
                self.nodes[service.index()].unresolved.push(id);
                reach.resolve(service);
            }
        }
    }

    /// Somebody has said who takes a service's writes.
    pub(crate) fn handle_resolved(
        &mut self,
        reach: &mut Reach<'_>,
        service: ServiceId,
        lead: Lead,
    ) {
        reach.connections[service.index()].is_resolving = false;
        let is_known = matches!(lead, Lead::Among(_));
        let is_nobody = lead == Lead::Nobody;
        let node = &mut self.nodes[service.index()];
        let before = node.whereabouts.current();
        node.whereabouts.take(lead);
        if is_known && before != node.whereabouts.current() {
            // What failed there says nothing of who leads now.
            node.retry_at = reach.now;
            self.list_pools_of(service);
        }
        let node = &mut self.nodes[service.index()];
        let is_leaderless = is_nobody && reach.service(service).wants_primary;
        for id in core::mem::take(&mut node.unresolved) {
            match self.upstreams.get(id) {
                Some(_) if is_known => self.lead(reach, id),
                Some(_) if is_leaderless => {
                    self.handle_upstream_down(reach, id, "nobody leads");
                }
                Some(_) => {
                    let why = match &reach.service(service).target {
                        Target::Name(name) if reach.service(service).wants_primary => {
                            format!("nobody says where the primary of {name} is")
                        }
                        _ => "its name has no address".to_owned(),
                    };
                    self.handle_upstream_down(reach, id, &why);
                }
                None => {}
            }
        }
        if reach.service(service).cluster.is_none() {
            self.leave_gone(reach, service);
        }
    }

    /// What leads to an address that is gone ends with what is on it.
    fn leave_gone(&mut self, reach: &mut Reach<'_>, service: ServiceId) {
        let whereabouts = &self.nodes[service.index()].whereabouts;
        let is_gone = |upstream: &Upstream| {
            let is_left = whereabouts.is_gone(upstream.address.as_ref());
            upstream.service == service && is_left && !upstream.is_outdated
        };
        let upstreams = self.upstreams.iter();
        let gone = upstreams.filter(|(_, upstream)| is_gone(upstream));
        let gone: Vec<UpstreamId> = gone.map(|(id, _)| id).collect();
        if gone.is_empty() {
            return;
        }
        let text = format!(
            "service \"{}\": its name leads elsewhere; {} connections to nodes that have left end \
             with what is on them",
            reach.service(service).name,
            gone.len()
        );
        reach.log(Level::Info, text);
        for id in gone {
            self.leave_one(reach, id);
        }
    }

    pub(crate) fn leave_one(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.is_outdated = true;
        let pool = upstream.pool;
        match upstream.post {
            Post::Lane(_) => {
                upstream.is_retiring = true;
                self.end_if_drained(reach, id);
            }
            // It ends with its lease.
            Post::Lease if upstream.holder.is_some() => {}
            Post::Lease => self.close_upstream(reach, id),
            // What is said there is not what is said at the other node.
            Post::Hub => self.handle_upstream_down(reach, id, "its node has left"),
        }
        self.list_pool(pool);
        if self.pools.get(pool).is_some_and(|pool| pool.clients > 0) {
            self.warm(reach, pool);
        }
    }

    /// A connection has failed: its name may lead elsewhere.
    pub(crate) fn doubt(&mut self, reach: &mut Reach<'_>, service: ServiceId) {
        if matches!(reach.service(service).target, Target::Name(_)) {
            reach.resolve(service);
        }
    }
}

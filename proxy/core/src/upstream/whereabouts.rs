//! Where the node of a service is, as far as names say: which address is tried next, and what
//! becomes of upstreams to addresses that are gone.
//!
//! The control thread follows names and says each change whole. Invariants: the last set of
//! addresses stands until there is another; nothing new goes to an address that is gone, and
//! nothing that is there is cut off.

use crate::event::{Address, Lead, Level};
use crate::ids::{LaneId, ServiceId, UpstreamId};
use crate::shard::Shard;
use crate::topology::Target;
use crate::upstream::postgres::State;

/// Where a service's writes go.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts {
    /// None as long as nobody has said.
    addresses: Vec<Address>,
    /// Whoever is there is not to be asked any more, and who comes instead is not known.
    is_nobody: bool,
}

impl Whereabouts {
    /// Somebody has said who leads. What was known stands if nothing is known.
    pub fn take(&mut self, lead: Lead) {
        match lead {
            Lead::Among(addresses) => {
                self.addresses = addresses;
                self.is_nobody = false;
            }
            Lead::Nobody => self.is_nobody = true,
            Lead::Unknown => {}
        }
    }

    /// Where to connect after so many attempts that failed: another address each time, so that a
    /// dead one does not stand in the way.
    pub fn next(&self, failures: u32) -> Option<Address> {
        let count = self.addresses.len().max(1);
        let next = self.addresses.get(failures as usize % count);
        next.filter(|_| !self.is_nobody).cloned()
    }

    /// How many places there are to try.
    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    /// Whether nobody leads at the moment.
    pub fn is_nobody(&self) -> bool {
        self.is_nobody
    }

    /// Whether an upstream that leads there leads to none of them.
    pub fn is_gone(&self, address: Option<&Address>) -> bool {
        let is_known = |address: &Address| !self.is_nobody && self.addresses.contains(address);
        let has_said = self.is_nobody || !self.addresses.is_empty();
        has_said && address.is_some_and(|address| !is_known(address))
    }
}

impl Shard {
    /// Connects an upstream, or has it wait until somebody says where.
    pub(crate) fn lead(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let (service, conn) = (upstream.service, upstream.conn);
        let connections = &self.connections[service.index()];
        let address = match &self.services[service.index()].target {
            Target::Address(address) => Some(address.clone()),
            Target::Name(_) => connections.whereabouts.next(connections.failures),
        };
        self.upstreams[id].address.clone_from(&address);
        match address {
            Some(address) => self.conns.connect(conn, address),
            None => {
                self.connections[service.index()].unresolved.push(id);
                self.resolve(service);
            }
        }
    }

    /// Somebody has said who takes a service's writes.
    pub(crate) fn handle_resolved(&mut self, service: ServiceId, lead: Lead) {
        let connections = &mut self.connections[service.index()];
        connections.is_resolving = false;
        let is_known = matches!(lead, Lead::Among(_));
        connections.whereabouts.take(lead);
        for id in core::mem::take(&mut connections.unresolved) {
            match self.upstreams.get(id) {
                Some(_) if is_known => self.lead(id),
                Some(_) => self.fail_upstream(id, "its name has no address"),
                None => {}
            }
        }
        self.leave_gone(service);
    }

    /// What leads to an address that is gone ends with what is on it; another is opened before
    /// somebody needs it.
    fn leave_gone(&mut self, service: ServiceId) {
        let connections = &self.connections[service.index()];
        let is_gone = |id: &&UpstreamId| {
            let upstream = &self.upstreams[**id];
            let is_left = connections.whereabouts.is_gone(upstream.address.as_ref());
            is_left && !upstream.is_draining
        };
        let gone: Vec<UpstreamId> = connections
            .upstreams
            .iter()
            .filter(is_gone)
            .copied()
            .collect();
        if gone.is_empty() {
            return;
        }
        let text = format!(
            "service \"{}\": its name leads elsewhere; {} connections to nodes that have left end \
             with what is on them",
            self.name(service),
            gone.len()
        );
        self.log(Level::Info, text);
        let mut lanes: Vec<LaneId> = Vec::new();
        for id in gone {
            let upstream = &mut self.upstreams[id];
            let lane = upstream.lane;
            match upstream.state {
                State::Ready => self.retire(id),
                // Somebody's login may be under way.
                _ => upstream.is_draining = true,
            }
            if !lanes.contains(&lane) {
                lanes.push(lane);
            }
        }
        for lane in lanes {
            if self.lanes.get(lane).is_some() {
                self.open_for(lane);
            }
        }
    }

    /// A connection has failed: its name may lead elsewhere.
    pub(crate) fn doubt(&mut self, service: ServiceId) {
        if matches!(self.services[service.index()].target, Target::Name(_)) {
            self.resolve(service);
        }
    }
}

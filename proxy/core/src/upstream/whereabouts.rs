//! Where the node of a service is, as far as names say: which address is tried next, and what
//! becomes of upstreams to addresses that are gone.
//!
//! The control thread follows names and says each change whole. Invariants: the last set of
//! addresses stands until there is another; nothing new goes to an address that is gone, and
//! nothing that is there is cut off.

use crate::event::{Address, Lead, Level};
use crate::ids::{LaneId, ServiceId, UpstreamId};
use crate::shard::{Shard, Timer};
use crate::topology::Target;
use crate::upstream::outage::NOBODY;
use crate::upstream::postgres::State;

/// Where a service's writes go.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts {
    /// None as long as nobody has said.
    addresses: Vec<Address>,
    /// Which of them is tried next, and stays so as long as it is good.
    current: usize,
    /// How many have failed since one was good.
    rejected: usize,
    /// Whoever is there is not to be asked any more, and who comes instead is not known.
    is_nobody: bool,
}

impl Whereabouts {
    /// Somebody has said who leads. What was known stands if nothing is known.
    pub fn take(&mut self, lead: Lead) {
        match lead {
            Lead::Among(addresses) => {
                let current = self.addresses.get(self.current);
                let is_current = |address: &Address| Some(address) == current;
                self.current = addresses.iter().position(is_current).unwrap_or(0);
                self.rejected = 0;
                self.addresses = addresses;
                self.is_nobody = false;
            }
            Lead::Nobody => self.is_nobody = true,
            Lead::Unknown => {}
        }
    }

    /// Where to connect: where it was good last, until that fails.
    pub fn current(&self) -> Option<Address> {
        let current = self.addresses.get(self.current);
        current.filter(|_| !self.is_nobody).cloned()
    }

    /// An attempt has succeeded.
    pub fn confirm(&mut self) {
        self.rejected = 0;
    }

    /// An attempt at an address has failed. Says whether all of them have, since one was good or
    /// since it was said so last.
    pub fn reject(&mut self, address: Option<&Address>) -> bool {
        if self.addresses.get(self.current) != address {
            // One of several attempts at what was rejected already.
            return self.rejected == 0;
        }
        let count = self.addresses.len().max(1);
        self.current = (self.current + 1) % count;
        self.rejected = (self.rejected + 1) % count;
        self.rejected == 0
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
            Target::Name(_) => connections.whereabouts.current(),
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
        let was_nobody = connections.whereabouts.is_nobody();
        connections.whereabouts.take(lead);
        if connections.whereabouts.is_nobody() {
            self.begin_outage(service);
        } else if was_nobody {
            // Whoever was held is not to wait for anything else.
            self.timers.add(self.now, Timer::Retry);
        }
        let connections = &mut self.connections[service.index()];
        let why = match connections.whereabouts.is_nobody() {
            true => NOBODY,
            false => "its name has no address",
        };
        for id in core::mem::take(&mut connections.unresolved) {
            match self.upstreams.get(id) {
                Some(_) if is_known => self.lead(id),
                Some(_) => self.fail_upstream(id, why),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address::Ip(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn among(ports: &[u16]) -> Lead {
        Lead::Among(ports.iter().copied().map(at).collect())
    }

    #[test]
    fn tries_each_address_once_before_a_round_is_over() {
        let mut whereabouts = Whereabouts::default();
        whereabouts.take(among(&[1, 2, 3]));
        assert!(!whereabouts.reject(Some(&at(1))));
        assert!(!whereabouts.reject(Some(&at(2))));
        // A second attempt at what was rejected already moves nothing on.
        assert!(!whereabouts.reject(Some(&at(2))));
        assert_eq!(whereabouts.current(), Some(at(3)));
        assert!(whereabouts.reject(Some(&at(3))));
        assert_eq!(whereabouts.current(), Some(at(1)));
    }

    #[test]
    fn stays_with_an_address_that_is_still_there() {
        let mut whereabouts = Whereabouts::default();
        whereabouts.take(among(&[1, 2]));
        whereabouts.reject(Some(&at(1)));
        whereabouts.take(among(&[5, 2, 4]));
        assert_eq!(whereabouts.current(), Some(at(2)));
        whereabouts.take(Lead::Unknown);
        assert_eq!(whereabouts.current(), Some(at(2)));
    }

    #[test]
    fn leads_nowhere_while_nobody_leads() {
        let mut whereabouts = Whereabouts::default();
        assert!(
            !whereabouts.is_gone(Some(&at(1))),
            "nobody has said anything"
        );
        whereabouts.take(among(&[1]));
        whereabouts.take(Lead::Nobody);
        assert_eq!(whereabouts.current(), None);
        assert!(whereabouts.is_gone(Some(&at(1))));
        whereabouts.take(among(&[1]));
        assert!(!whereabouts.is_gone(Some(&at(1))));
    }
}

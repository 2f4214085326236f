//! What is to be done for an identity rather than for a request: logins, and requests of our own.
//!
//! Finds an upstream for each by waiting for a free one, opening one, or making room. Invariant: an
//! errand stays on its service's list until it has been begun.

use manifold_protocols::postgres::backend::Status;

use crate::auth::{Auth, Opening};
use crate::client::postgres::Waiting;
use crate::ids::{IdentityId, ServiceId};
use crate::shard::Shard;
use crate::upstream::postgres::challenge::Challenge;
use crate::upstream::postgres::pipe::Chore;
use crate::upstream::postgres::{State, Upstream};
use crate::upstream::room::Need;

impl Shard {
    /// Logins and requests of our own that wait for an upstream of their identity.
    pub(crate) fn run_errands(&mut self, service: ServiceId) {
        let mut errands = core::mem::take(&mut self.connections[service.index()].errands);
        if !errands.is_empty() {
            // Each pass begins with another, so that none keeps the others from being opened.
            errands.rotate_left(1);
        }
        let (mut wanted, mut wanted_for_logins) = (0, 0);
        for identity in errands {
            if self.identities.get(identity).is_none() {
                continue;
            }
            self.drop_stale_logins(identity);
            self.drop_idle_checks(identity);
            let found = &self.identities[identity];
            let (has_chores, has_logins) = (!found.chores.is_empty(), !found.logins.is_empty());
            if !has_chores && !has_logins {
                continue;
            }
            self.connections[service.index()].errands.push(identity);
            let is_offered = has_chores && self.offer_to_chores(service, identity);
            wanted += usize::from(has_chores && !is_offered);
            if has_logins {
                wanted_for_logins += usize::from(self.open_for_logins(service, identity));
            } else if !is_offered && self.is_openable(identity) {
                let is_coming = self
                    .upstreams_of(identity)
                    .any(|(_, it)| it.is_coming() && it.is_plain());
                if !is_coming {
                    self.open_for_errand(service, identity);
                }
            }
        }
        if wanted_for_logins > 0 && self.has_one_for_logins(service) {
            wanted += wanted_for_logins;
        }
        self.hold_back(service, wanted);
    }

    /// Whether there is an upstream that may be closed for a login, so that waiting for it to
    /// become free is worth while.
    fn has_one_for_logins(&self, service: ServiceId) -> bool {
        let upstreams = &self.connections[service.index()].upstreams;
        upstreams.len() == 1 || upstreams.iter().any(|&id| !self.is_irreplaceable(id))
    }

    /// Where nobody is connected no catalog has to be looked at.
    fn drop_idle_checks(&mut self, identity: IdentityId) {
        let known = &self.identities[identity];
        let only_checks = known
            .chores
            .iter()
            .all(|chore| matches!(chore, Chore::Version(..)));
        let is_awaited = !self.databases[known.database.index()].waiting.is_empty();
        if only_checks
            && !is_awaited
            && !known.chores.is_empty()
            && self.upstreams_of(identity).next().is_none()
        {
            let known = &mut self.identities[identity];
            known.chores.clear();
            self.databases[known.database.index()].is_checking = false;
        }
    }

    /// Opens as many upstreams as there are logins that wait for the node's word. Says whether
    /// there is one that can go on only when somebody gives an upstream up.
    fn open_for_logins(&mut self, service: ServiceId, identity: IdentityId) -> bool {
        for _ in 0..self.missing_for_logins(identity) {
            if !self.open_for_errand(service, identity) {
                return self.has_room_for_login(service);
            }
        }
        false
    }

    /// How many upstreams are to be opened for logins: one for all as long as the node asks for
    /// nothing, one for each otherwise.
    fn missing_for_logins(&self, identity: IdentityId) -> usize {
        let known = &self.identities[identity];
        let is_relay = self.services[known.service.index()].auth == Auth::Relay;
        let is_each = is_relay && known.opening != Opening::Freely;
        let wanted = if is_each {
            known.logins.len()
        } else {
            known.logins.len().min(1)
        };
        let coming = self.upstreams_of(identity).filter(|(_, upstream)| {
            let may_serve = match &upstream.challenge {
                None => upstream.is_for_login || !is_each,
                Some(Challenge::Client(..)) => false,
                Some(_) => !is_each,
            };
            upstream.state != State::Ready && may_serve
        });
        wanted.saturating_sub(coming.count())
    }

    /// The login that has waited longest for somebody to give an upstream up.
    pub(crate) fn waiting_login(&self, service: ServiceId) -> Option<Need> {
        let connections = &self.connections[service.index()];
        let is_short = !connections.errands.is_empty()
            && connections.closing == 0
            && self.services[service.index()].permits.free() == 0
            && self.has_room_for_login(service);
        if !is_short {
            return None;
        }
        let short = connections
            .errands
            .iter()
            .copied()
            .filter(|&identity| self.identities.get(identity).is_some())
            .filter(|&identity| self.missing_for_logins(identity) > 0);
        let needs = short.flat_map(|identity| {
            let logins = self.identities[identity].logins.iter();
            let since = logins.filter_map(|&id| Some(self.clients.get(id)?.since));
            since.map(move |since| Need {
                identity,
                base: 0,
                since,
                is_login: true,
            })
        });
        needs.min_by_key(|need| need.since)
    }

    /// Whether logins have as many upstreams under way as they may: those who have not proven
    /// anything must not keep everybody else out.
    fn has_room_for_login(&self, service: ServiceId) -> bool {
        let connections_max = self.services[service.index()].permits.connections_max() as usize;
        let upstreams = &self.connections[service.index()].upstreams;
        let under_way = upstreams.iter().filter(|&&id| {
            let upstream = &self.upstreams[id];
            upstream.is_for_login && upstream.state != State::Ready
        });
        under_way.count() < (connections_max / 2).max(1)
    }

    /// Lets a free upstream of an identity do what is to be done for it, or one whose holder waits
    /// for just that.
    fn offer_to_chores(&mut self, service: ServiceId, identity: IdentityId) -> bool {
        let upstreams = &self.connections[service.index()].upstreams;
        let first = self.identities[identity].chores.front();
        let is_catalog = matches!(first, Some(Chore::Catalog(_)));
        let is_trial = matches!(first, Some(Chore::Trial(..)));
        let free = upstreams.iter().copied().find(|&id| {
            let upstream = &self.upstreams[id];
            upstream.identity == identity
                && (upstream.is_plain() || !is_trial)
                && (upstream.is_free() || (is_catalog && self.is_held_up(upstream)))
        });
        free.is_some_and(|free| self.start_chore(free))
    }

    /// Whether the holder of an upstream can only go on when the catalog has been read, and the
    /// catalog may be read on that very upstream.
    fn is_held_up(&self, upstream: &Upstream) -> bool {
        let holder = upstream.holder.and_then(|holder| self.clients.get(holder));
        holder.is_some_and(|holder| {
            holder.waiting == Waiting::Catalog
                && holder.status != Status::Failed
                && !holder.lease.is_some_and(|lease| lease.is_open)
                && upstream.pipe.is_empty()
                && upstream.fences == 0
        })
    }

    /// Opens an upstream for an identity, so that the node can say whether it lets it in, or that
    /// something can be done for it. Says whether it could.
    fn open_for_errand(&mut self, service: ServiceId, identity: IdentityId) -> bool {
        if !self.may_connect(service) {
            self.reserve_share(service);
            return false;
        }
        let first = self.identities[identity].logins.first().copied();
        let is_for_login = first.is_some();
        if is_for_login && !self.has_room_for_login(service) {
            return false;
        }
        if self.services[service.index()].permits.take() {
            let empty = self.fingerprints.empty();
            let lane = self.lane(identity, &empty);
            self.open(lane, is_for_login);
            return true;
        }
        let since = first.map_or(self.now, |client| self.clients[client].since);
        self.make_room(
            service,
            Need {
                identity,
                base: 0,
                since,
                is_login: true,
            },
        );
        false
    }
}

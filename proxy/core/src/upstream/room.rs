//! Making room under `connections_max`, and what follows where a lost upstream cannot be replaced.
//!
//! Knows who has how many upstreams and how another could be opened; knows no messages. Invariant:
//! an upstream without which clients would have to reconnect is closed for others only after they
//! have waited in vain for any other, and never for somebody who has proven nothing.

use core::time::Duration;

use crate::auth::Opening;
use crate::client::postgres::Phase;
use crate::client::postgres::errors::Refusal;
use crate::event::Level;
use crate::identity::Catalog;
use crate::ids::{ClientId, IdentityId, ServiceId, UpstreamId};
use crate::shard::Shard;
use crate::time::Instant;
use crate::upstream::postgres::challenge::Challenge;
use crate::upstream::postgres::pipe::Chore;
use crate::upstream::postgres::{State, Upstream};

/// How long those wait who could only go on at the cost of other clients' sessions.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who needs room.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// For an upstream of which identity.
    pub identity: IdentityId,
    /// The number of its base: one of the same identity and base only needs other settings.
    pub base: u64,
    /// Since when.
    pub since: Instant,
    /// Whether another upstream of the same identity would not do, as it is for a login.
    pub is_login: bool,
}

impl Shard {
    /// Closes an idle upstream, so that its permit comes back; if there is none, the other shards
    /// are told that one is wanted.
    pub(crate) fn make_room(&mut self, service: ServiceId, need: Need) {
        let upstreams = &self.connections[service.index()].upstreams;
        let is_closing = self.connections[service.index()].closing > 0
            || upstreams.iter().any(|&id| self.upstreams[id].is_draining);
        let victim = upstreams
            .iter()
            .copied()
            .filter(|&id| self.upstreams[id].is_free())
            .filter(|&id| {
                let upstream = &self.upstreams[id];
                let is_like =
                    upstream.identity == need.identity && upstream.base.number == need.base;
                need.is_login || !is_like
            })
            .map(|id| {
                (
                    self.is_irreplaceable(id),
                    self.upstreams[id].identity != need.identity,
                    id,
                )
            })
            .filter(|&(is_irreplaceable, _, id)| !is_irreplaceable || self.may_close_for(id, need))
            .min_by_key(|&(is_irreplaceable, is_other, id)| {
                (is_irreplaceable, is_other, self.upstreams[id].since, id)
            });
        match victim {
            Some((.., id)) if !is_closing => self.retire(id),
            _ => self.set_wanting(service, true),
        }
    }

    /// Whether the proxy can open an upstream of this identity by itself, as far as it knows.
    pub(crate) fn is_openable(&self, identity: IdentityId) -> bool {
        let known = &self.identities[identity];
        known.opening != Opening::ByLoginOnly && self.now >= known.retry_at
    }

    /// Whether clients would have to reconnect without this upstream.
    pub(crate) fn is_irreplaceable(&self, id: UpstreamId) -> bool {
        let identity = self.upstreams[id].identity;
        if self.identities[identity].opening != Opening::ByLoginOnly
            || !self.upstreams[id].is_plain()
        {
            return false;
        }
        let in_use = self.upstreams_of(identity).filter(|(_, upstream)| {
            upstream.state == State::Ready && !upstream.is_draining && upstream.is_plain()
        });
        in_use.count() <= 1 && self.clients_of(identity) > 0
    }

    /// Closes an upstream, as soon as nothing is in flight, that cannot be wiped as clean as a new
    /// one, unless clients would have to reconnect without it.
    pub(crate) fn drain_if_replaceable(&mut self, id: UpstreamId) {
        if !self.is_irreplaceable(id) {
            self.upstreams[id].is_draining = true;
        }
    }

    /// Whether an idle upstream may be closed for others. One that cannot be replaced is closed
    /// for requests of clients that are in, after a while: nobody starves. A login has proven
    /// nothing yet, so it costs nobody a session, or anybody who can connect could end all others.
    /// Only where there is one connection in all, nobody of its user could ever come in otherwise.
    pub(crate) fn may_close_for(&self, id: UpstreamId, need: Need) -> bool {
        if !self.is_irreplaceable(id) {
            return true;
        }
        let upstream = &self.upstreams[id];
        let is_only = self.connections[upstream.service.index()].upstreams.len() == 1;
        let is_allowed = !need.is_login || (is_only && upstream.identity == need.identity);
        is_allowed && self.now - need.since >= PATIENCE
    }

    /// All upstreams of an identity, whatever their state.
    pub(crate) fn upstreams_of(
        &self,
        identity: IdentityId,
    ) -> impl Iterator<Item = (UpstreamId, &Upstream)> {
        let service = self.identities[identity].service;
        let all = &self.connections[service.index()].upstreams;
        all.iter()
            .map(|&id| (id, &self.upstreams[id]))
            .filter(move |(_, upstream)| upstream.identity == identity)
    }

    /// How many clients of an identity have come past the node's consent.
    fn clients_of(&self, identity: IdentityId) -> usize {
        let known = &self.identities[identity];
        let is_relayed =
            |upstream: &Upstream| matches!(upstream.challenge, Some(Challenge::Client(..)));
        let (count, relayed) = self
            .upstreams_of(identity)
            .fold((0, 0), |(count, relayed), it| {
                (count + 1, relayed + usize::from(is_relayed(it.1)))
            });
        (known.users as usize).saturating_sub(count + relayed + known.logins.len())
    }

    /// Identities that can be opened by a client's login only, and have lost their last upstream:
    /// their clients can go on only by connecting again.
    pub(crate) fn end_bereft(&mut self) {
        for identity in core::mem::take(&mut self.bereft) {
            let Some(known) = self.identities.get(identity) else {
                continue;
            };
            let is_bereft = known.opening == Opening::ByLoginOnly
                && self
                    .upstreams_of(identity)
                    .all(|(_, upstream)| upstream.is_retired || !upstream.is_plain());
            if !is_bereft {
                continue;
            }
            self.drop_stale_logins(identity);
            if self.identities[identity].logins.is_empty() {
                self.end_clients_of(identity);
            } else if !self.bereft.contains(&identity) {
                // A login that waits for its turn may yet bring another.
                self.bereft.push(identity);
            }
        }
    }

    fn end_clients_of(&mut self, identity: IdentityId) {
        let service = self.identities[identity].service;
        self.drop_chores(identity);
        let is_mine = |id: ClientId| {
            let client = &self.clients[id];
            let is_past = client.phase == Phase::Ready || client.is_proven();
            is_past && client.session().identity == identity
        };
        let mine: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.session.is_some())
            .map(|(id, _)| id)
            .filter(|&id| is_mine(id))
            .collect();
        if mine.is_empty() {
            return;
        }
        let known = &self.identities[identity];
        let text = format!(
            "service \"{}\": user \"{}\" has no connection to the node any more and the proxy has \
             no secret to open one: {} clients have to connect again",
            self.name(service),
            String::from_utf8_lossy(&known.user),
            mine.len(),
        );
        self.log(Level::Warn, text);
        let refusal = Refusal::bereft(self.name(service));
        for id in mine {
            self.refuse_client(id, &refusal);
        }
    }

    /// What was to be done on an upstream of an identity that has none any more is done by somebody
    /// else, or when it is asked for again.
    pub(crate) fn drop_chores(&mut self, identity: IdentityId) {
        let database = self.identities[identity].database;
        let chores = core::mem::take(&mut self.identities[identity].chores);
        let has_dropped = !chores.is_empty();
        for chore in chores {
            let known = &mut self.databases[database.index()];
            match chore {
                Chore::Catalog(_) => known.catalog = Catalog::Unread,
                Chore::Version(..) => known.is_checking = false,
                _ => {}
            }
        }
        if has_dropped {
            self.wake_for_catalog(database);
        }
        let known = &self.databases[database.index()];
        let is_wanted = known.catalog == Catalog::Unread && !known.waiting.is_empty();
        if !is_wanted && known.identity != Some(identity) {
            return;
        }
        let heir = self.heir_of(identity);
        let known = &mut self.databases[database.index()];
        if known.identity == Some(identity) {
            known.identity = heir;
        }
        if is_wanted && let Some(heir) = heir {
            self.read_catalog(heir);
        }
    }

    /// Another identity of the same database: one that has an upstream, or else that of a client
    /// that waits for the catalog.
    fn heir_of(&self, identity: IdentityId) -> Option<IdentityId> {
        let known = self.identities.get(identity)?;
        let all = &self.connections[known.service.index()].upstreams;
        let connected = all.iter().map(|&id| self.upstreams[id].identity);
        let waiting = self.databases[known.database.index()].waiting.iter();
        let waiting = waiting
            .filter_map(|&client| self.clients.get(client)?.session.as_deref())
            .map(|session| session.identity);
        connected
            .chain(waiting)
            .find(|&other| other != identity && self.identities[other].database == known.database)
    }

    /// Says once that an identity's clients depend on the upstreams that their logins brought.
    pub(crate) fn note_dependence(&mut self, identity: IdentityId) {
        let known = &mut self.identities[identity];
        if core::mem::replace(&mut known.is_dependence_noted, true) {
            return;
        }
        let (service, user) = (
            known.service,
            String::from_utf8_lossy(&known.user).into_owned(),
        );
        let text = format!(
            "service \"{}\": the logins of user \"{user}\" leave no secret with the proxy, so a \
             lost \
             connection cannot be opened again and its clients have to reconnect; \
             auth = \"users\" avoids that",
            self.name(service),
        );
        self.log(Level::Info, text);
    }
}

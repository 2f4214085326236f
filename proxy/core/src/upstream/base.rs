//! What RESET goes back to on an upstream: its base.
//!
//! Everybody shares upstreams on which that is the node's defaults. Where a RESET is recognised the
//! session's startup values are set behind it; but one may be hidden in text that nobody has
//! proven. A client that began with other settings than the defaults therefore keeps, for such
//! text, an upstream whose own startup packet carried those settings.
//!
//! Knows lanes and sessions; knows no messages. Invariant: an upstream with a base is used by
//! clients only that began with that very base.

use std::rc::Rc;

use crate::auth::Opening;
use crate::client::postgres::{Until, Waiting};
use crate::event::Level;
use crate::fingerprint::Fingerprint;
use crate::ids::{ClientId, IdentityId, LaneId, UpstreamId};
use crate::proof::Setting;
use crate::shard::Shard;
use crate::upstream::postgres::Upstream;
use crate::upstream::queues::KINDS;
use crate::upstream::schedule::Demand;

impl Upstream {
    /// Whether RESET goes back to the node's defaults on it.
    pub fn is_plain(&self) -> bool {
        self.base.settings.is_empty()
    }
}

impl Shard {
    /// The lane that an upstream is in when it has these settings.
    pub(crate) fn lane_beside(&mut self, id: UpstreamId, fingerprint: &Rc<Fingerprint>) -> LaneId {
        let upstream = &self.upstreams[id];
        let (identity, base) = (upstream.identity, Rc::clone(&upstream.base));
        self.lane_with_base(identity, fingerprint, &base)
    }

    /// Whether an upstream can be made one of this lane's by settings alone.
    pub(super) fn fits(&self, id: UpstreamId, lane: LaneId) -> bool {
        let (upstream, lane) = (&self.upstreams[id], &self.lanes[lane]);
        upstream.identity == lane.identity && Rc::ptr_eq(&upstream.base, &lane.base)
    }

    /// Whether a RESET that nobody sees would show this client that it shares. `application_name`
    /// does not count: it is a label, and an upstream for each label would be too dear.
    pub(crate) fn needs_base(&self, id: ClientId) -> bool {
        let session = self.clients[id].session();
        let known = &self.identities[session.identity];
        // Without a secret no upstream can be opened for it.
        known.opening != Opening::ByLoginOnly
            && known.refused_base != Some(session.startup.number)
            && !session
                .startup
                .settings
                .iter()
                .all(|setting| self.is_default(session.identity, setting))
    }

    /// Whether a setting is known to be what the node would have anyway.
    fn is_default(&self, identity: IdentityId, setting: &Setting) -> bool {
        let known = &self.identities[identity];
        let reported = known.accepted.get(setting).map_or(&[][..], Vec::as_slice);
        let mut reported = reported.iter().peekable();
        reported.peek().is_some()
            && reported.all(|(name, value)| known.parameter(name) == Some(&**value))
    }

    /// The lane that a client's request queues in.
    pub(crate) fn lane_for(&mut self, id: ClientId, demand: Demand) -> LaneId {
        if !demand.has_base {
            return self.lane_of(id);
        }
        let session = self.clients[id].session();
        let identity = session.identity;
        let (fingerprint, base) = (session.fingerprint.clone(), session.startup.clone());
        self.lane_with_base(identity, &fingerprint, &base)
    }

    /// Whether the client should have another upstream for a request that makes its lease last, and
    /// the lease may be over when everything before the request is answered.
    pub(crate) fn may_change_base(&self, id: ClientId, target: UpstreamId) -> bool {
        let client = &self.clients[id];
        let is_ending = client
            .lease
            .is_some_and(|it| it.until == Until::Idle && !it.is_open);
        is_ending
            && client.in_flight > 0
            && self.upstreams[target].is_plain()
            && self.needs_base(id)
    }

    /// The node does not take as startup values what it has taken from SET. Who waits goes on as if
    /// it had no base.
    pub(crate) fn refuse_base(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        let (identity, service, lane) = (upstream.identity, upstream.service, upstream.lane);
        self.identities[identity].refused_base = Some(upstream.base.number);
        let text = format!(
            "service \"{}\": the node does not take the startup settings of a client of user \
             \"{}\" at a login of the proxy: a RESET inside functions goes back to the node's \
             defaults",
            self.name(service),
            String::from_utf8_lossy(&self.identities[identity].user),
        );
        self.log(Level::Warn, text);
        self.stats.upstreams_failed += 1;
        self.forget_upstream(id);
        self.place_anew(lane);
    }

    /// There will be no upstream for those who wait in a lane with a base: they look for another.
    pub(crate) fn place_anew(&mut self, lane: LaneId) {
        let Some(found) = self.lanes.get_mut(lane) else {
            return;
        };
        if found.base.settings.is_empty() {
            return;
        }
        for kind in KINDS {
            for place in self.lanes[lane].queues.take(kind) {
                if self.is_waiting(place) {
                    self.wake(place.client, Waiting::Upstream);
                }
            }
        }
        self.forget_if_served(lane);
    }
}

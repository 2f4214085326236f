//! RESET and its like on an upstream: the node goes back to its defaults, the session to what it
//! began with.
//!
//! Knows settings and what their client was told of them; knows no scheduling. Invariant: what a
//! client was told last of a parameter is what its session has.

use std::rc::Rc;

use manifold_protocols::postgres::backend::{
    Status, decode_parameter_status, encode_parameter_status,
};

use crate::client::postgres::effects::ALL;
use crate::client::postgres::login::{overlaid, reported};
use crate::client::postgres::{Session, Until};
use crate::fingerprint::{APPLICATION_NAME, write_set};
use crate::ids::{ClientId, UpstreamId};
use crate::shard::Shard;
use crate::upstream::postgres::pipe::{Chore, Requester, Resetting, SessionChange};
use crate::upstream::postgres::replies::{Broken, Fate};

impl Session {
    /// The value that the session began with, if it gave one.
    fn startup_value(&self, name: &str) -> Option<&[u8]> {
        if name == APPLICATION_NAME {
            return self.startup_application.as_deref();
        }
        self.startup.value(name)
    }

    /// The names of what it began with.
    fn startup_names(&self) -> impl Iterator<Item = &str> {
        let application = self.startup_application.as_ref().map(|_| APPLICATION_NAME);
        let settings = self.startup.settings.iter().map(|it| &*it.name);
        settings.chain(application)
    }

    /// Notes what the client is told of a parameter.
    pub fn tell(&mut self, name: &[u8], value: &[u8]) {
        self.told.retain(|(other, _)| **other != *name);
        self.told.push((name.into(), value.into()));
    }

    /// Whether a request goes back to a value of this setting that the node does not know.
    pub fn restores(&self, resetting: &[Resetting], name: &[u8]) -> bool {
        let mut startup = self.startup_names();
        startup.any(|it| name.eq_ignore_ascii_case(it.as_bytes()) && ends_reset(resetting, it))
    }
}

/// Whether the last thing that a request does to a setting is to reset it.
fn ends_reset(resetting: &[Resetting], name: &str) -> bool {
    let concerns = |it: &&Resetting| &*it.name == name || &*it.name == ALL;
    let last = resetting.iter().rev().find(concerns);
    last.is_some_and(|it| it.is_reset)
}

impl Shard {
    /// The node reports a parameter.
    pub(super) fn handle_parameter_status(
        &mut self,
        id: UpstreamId,
        body: &[u8],
    ) -> Result<Fate, Broken> {
        let (name, value) = decode_parameter_status(body).map_err(|_| Broken::Mismatch)?;
        let upstream = &mut self.upstreams[id];
        upstream.reported.push((name.into(), value.into()));
        let Some(head) = upstream.pipe.front() else {
            // A reload of the node's configuration: true for everybody without a setting of it.
            let identity = upstream.identity;
            self.identities[identity].set_parameter(name, value);
            return Ok(Fate::Swallow);
        };
        let Requester::Client(client) = head.owner else {
            return Ok(Fate::Swallow);
        };
        let session = self.clients.get_mut(client).map(|it| it.session_mut());
        // The client is told the difference that its session sees, not what the node went through.
        let tells_client = match head.change.as_deref() {
            Some(change) if upstream.status == Status::Idle => {
                matches!(change, SessionChange::Set(_))
            }
            _ => {
                let restores = |session: &Session| session.restores(&head.resetting, name);
                (head.is_leased || head.part.is_some()) && !session.as_deref().is_some_and(restores)
            }
        };
        if tells_client {
            if let Some(session) = session {
                session.tell(name, value);
            }
            return Ok(Fate::Pass);
        }
        if head.change.is_some() || head.is_leased {
            return Ok(Fate::Swallow);
        }
        self.handle_surprising_parameter(id, name, value)
    }

    /// A request that should leave nothing behind has changed a reported setting, or the node's
    /// configuration was reloaded meanwhile. Nobody knows which: the upstream is not used again.
    fn handle_surprising_parameter(
        &mut self,
        id: UpstreamId,
        _name: &[u8],
        _value: &[u8],
    ) -> Result<Fate, Broken> {
        self.upstreams[id].is_draining = true;
        Ok(Fate::Swallow)
    }

    /// The request at the head has reset settings, among other things or inside a transaction. The
    /// client is told the values that its session began with; the node is told behind it.
    pub(crate) fn tell_restored(&mut self, id: UpstreamId, client: ClientId) {
        let Some(head) = self.upstreams[id].pipe.front().filter(|it| it.is_leased) else {
            return;
        };
        let client = &mut self.clients[client];
        let session = client.session();
        let identity = &self.identities[session.identity];
        let mut told = Vec::new();
        for (name, value) in reported(identity, session) {
            if !session.restores(&head.resetting, name) {
                continue;
            }
            let default = identity.parameter(name).unwrap_or_default();
            let startup = if name == APPLICATION_NAME.as_bytes() {
                session.startup_application.as_deref()
            } else {
                overlaid(identity, &session.startup, name)
            };
            let startup = startup.unwrap_or(default);
            if session.told_value(name).unwrap_or(value) != startup {
                told.push((Box::<[u8]>::from(name), Box::<[u8]>::from(startup)));
            }
        }
        let out = self.conns.write(client.conn);
        for (name, value) in told {
            encode_parameter_status(out, &name, &value);
            client.session_mut().tell(&name, &value);
        }
    }

    /// Sets again, in the same transaction, what the request just answered has reset.
    pub(crate) fn send_restore(
        &mut self,
        id: UpstreamId,
        client_id: ClientId,
        resetting: &[Resetting],
    ) {
        let client = &self.clients[client_id];
        if resetting.is_empty()
            || client.status == Status::Failed
            || self.upstreams[id].holder != Some(client_id)
        {
            return;
        }
        let session = client.session();
        let mut text = Vec::new();
        for name in session.startup_names() {
            // What the upstream began with itself the node has gone back to.
            if let Some(value) = session.startup_value(name)
                && ends_reset(resetting, name)
                && self.upstreams[id].base.value(name).is_none()
            {
                write_set(name, value, &mut text);
            }
        }
        if !text.is_empty() {
            self.send_chore(id, Chore::Restore(client_id), &text);
        }
    }

    /// RESET of one setting ran on the node. The node went back to its default; the session goes
    /// back to its startup value.
    pub(crate) fn apply_reset(&mut self, id: UpstreamId, client: ClientId, name: &str) {
        self.untouch(client, name);
        let upstream = &mut self.upstreams[id];
        if name == APPLICATION_NAME {
            upstream.application = None;
            let session = self.clients[client].session();
            let (fingerprint, startup) = (
                Rc::clone(&session.fingerprint),
                session.startup_application.clone(),
            );
            self.change_settings(client, fingerprint, startup, Some(name));
            return;
        }
        let (source, base) = (Rc::clone(&upstream.fingerprint), Rc::clone(&upstream.base));
        let changed = self.fingerprints.reset(&source, &base, name);
        self.upstreams[id].fingerprint = Rc::clone(&changed);
        let session = self.clients[client].session();
        let (startup, application) = (Rc::clone(&session.startup), session.application.clone());
        let target = self.fingerprints.reset(&changed, &startup, name);
        self.change_settings(client, target, application, Some(name));
        let lane = self.lane_beside(id, &changed);
        self.move_upstream(id, lane);
    }

    /// RESET ALL or DISCARD ALL ran on the node.
    pub(crate) fn apply_reset_all(&mut self, id: UpstreamId, client: ClientId, is_discard: bool) {
        let upstream = &mut self.upstreams[id];
        let base = Rc::clone(&upstream.base);
        upstream.fingerprint = Rc::clone(&base);
        upstream.application = None;
        let session = self.clients[client].session_mut();
        session.touched.clear();
        let (startup, application) = (
            Rc::clone(&session.startup),
            session.startup_application.clone(),
        );
        if is_discard {
            session.statements.clear();
            session.is_raw = false;
            session.has_drawn = false;
            if let Some(lease) = &mut self.clients[client].lease {
                // Nothing is left that only this upstream knows.
                lease.until = Until::Idle;
            }
        }
        self.change_settings(client, startup, application, Some(ALL));
        let lane = self.lane_beside(id, &base);
        self.move_upstream(id, lane);
    }

    /// RESET on a lease went back to the node's defaults: back to what the session began with.
    pub(crate) fn restore_settings(&mut self, id: UpstreamId, client_id: ClientId) {
        let client = &self.clients[client_id];
        let upstream = &self.upstreams[id];
        if client.lease.is_none() || upstream.holder != Some(client_id) || client.in_flight > 0 {
            return;
        }
        let wanted = Rc::clone(&client.session().fingerprint);
        if client.status == Status::Idle
            && client.session().touched.is_empty()
            && !Rc::ptr_eq(&upstream.fingerprint, &wanted)
        {
            let lane = self.lane_beside(id, &wanted);
            self.move_upstream(id, lane);
            self.switch(id);
        }
    }
}

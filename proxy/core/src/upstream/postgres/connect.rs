//! An upstream from the decision to open it until it is ready, and its orderly end.
//!
//! Holds the login as the proxy's side of it. Invariants: an upstream is opened on a permit, which
//! comes back when its connection has ended; it is logged in with user and database only, so that
//! no client's settings become a baseline for others, or else it serves nobody but clients that
//! began with the very settings it was logged in with.

use std::rc::Rc;

use manifold_protocols::postgres::backend::{self, Message, Status};
use manifold_protocols::postgres::frontend;

use crate::auth::{Auth, Credential, Opening};
use crate::conns::Owner;
use crate::event::Failure;
use crate::identity::Catalog;
use crate::ids::{ClientId, IdentityId, LaneId, ServiceId, UpstreamId};
use crate::shard::{Shard, Timer};
use crate::time::Instant;
use crate::upstream::postgres::challenge::Challenge;
use crate::upstream::postgres::{State, Upstream};

/// How long a node may take to close a connection that has said good-bye.
const GOODBYE_NANOS: u64 = 1_000_000_000;

/// What is wrong with a node that says `in_hot_standby`, which PostgreSQL reports since version 14.
const STANDBY: &str = "it is a standby";

impl Shard {
    /// Opens an upstream for a lane, or for the login of a client. The permit has been taken.
    pub(crate) fn open(&mut self, lane: LaneId, is_for_login: bool) {
        let identity = self.lanes[lane].identity;
        let service = self.identities[identity].service;
        let conn = self.conns.reserve(Some(service));
        let base = Rc::clone(&self.lanes[lane].base);
        let mut upstream = Upstream::new(conn, service, identity, lane, base, self.seed, self.now);
        upstream.is_for_login = is_for_login;
        let id = self.upstreams.insert(upstream);
        self.conns.set_owner(conn, Owner::Upstream(id));
        self.lanes[lane].upstreams.push(id);
        self.identities[identity].users += 1;
        self.connections[service.index()].upstreams.push(id);
        self.timers
            .add(self.now + self.limits.connect_time_max, Timer::Connect(id));
        self.stats.upstreams_opened += 1;
        self.connections[service.index()].tally.upstreams_opened += 1;
        self.stats.upstreams += 1;
        self.lead(id);
    }

    /// The connection stands: says who wants to log in.
    pub(crate) fn handle_connected(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.state = State::LoggingIn;
        let identity = &self.identities[upstream.identity];
        let mut parameters: Vec<(&[u8], &[u8])> = vec![
            (b"user", &identity.user),
            (b"database", &identity.database_name),
        ];
        let base = upstream.base.settings.iter();
        parameters.extend(base.map(|it| (it.name.as_bytes(), &*it.value)));
        frontend::encode_startup(self.conns.write(upstream.conn), 3, 0, &parameters);
    }

    /// A message of the node before the upstream is ready. Says what is wrong, if anything is.
    pub(crate) fn handle_login_message(
        &mut self,
        id: UpstreamId,
        tag: u8,
        bytes: &[u8],
        body: &[u8],
    ) -> Result<(), &'static str> {
        let message = backend::decode(tag, body).map_err(|_| "it broke the protocol")?;
        match message {
            Message::Authentication(request) => return self.handle_challenge(id, &request, bytes),
            Message::ErrorResponse(fields) => {
                return Err(self.handle_login_error(id, &fields, bytes));
            }
            Message::NoticeResponse(_) => {}
            _ if !self.upstreams[id].is_admitted => return Err("it broke the protocol"),
            Message::BackendKeyData { pid, secret } => {
                let upstream = &mut self.upstreams[id];
                upstream.pid = pid;
                upstream.cancel_secret = secret.into();
            }
            Message::ParameterStatus { name, value } => {
                self.upstreams[id]
                    .reported
                    .push((name.into(), value.into()));
            }
            Message::ReadyForQuery(Status::Idle) if self.is_unwanted_standby(id) => {
                return Err(STANDBY);
            }
            Message::ReadyForQuery(Status::Idle) => self.handle_ready(id),
            _ => return Err("it broke the protocol"),
        }
        Ok(())
    }

    /// Whether a node that was asked for as the primary says that it is none.
    fn is_unwanted_standby(&self, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        let says = |name: &[u8], value: &[u8]| {
            let mut reported = upstream.reported.iter();
            reported.any(|(said, is)| **said == *name && **is == *value)
        };
        self.services[upstream.service.index()].wants_primary && says(b"in_hot_standby", b"on")
    }

    /// The login is complete.
    fn handle_ready(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.state = State::Ready;
        upstream.since = self.now;
        let reported = core::mem::take(&mut upstream.reported);
        let (identity, service) = (upstream.identity, upstream.service);
        let challenge = upstream.challenge.take();
        let is_plain = upstream.base.settings.is_empty();
        if is_plain {
            self.identities[identity].parameters = reported;
        }
        let logins = self.granted(identity, challenge);
        let database = self.identities[identity].database;
        self.end_outage(service);
        self.databases[database.index()].identity = Some(identity);
        if self.databases[database.index()].catalog == Catalog::Unread {
            self.read_catalog(identity);
        }
        for client in logins {
            self.continue_login(client);
        }
        let lane = self.upstreams[id].lane;
        if !Rc::ptr_eq(
            &self.lanes[lane].fingerprint,
            &self.upstreams[id].fingerprint,
        ) {
            self.switch(id);
        }
        match self.upstreams[id].is_draining {
            // Its address has left meanwhile.
            true => self.retire(id),
            false => self.offer(id),
        }
    }

    /// Notes what a node's consent means for the next logins. Says whom it lets in.
    fn granted(&mut self, identity: IdentityId, challenge: Option<Challenge>) -> Vec<ClientId> {
        let known = &mut self.identities[identity];
        let is_relay = self.services[known.service.index()].auth == Auth::Relay;
        match challenge {
            Some(Challenge::Client(client, password)) => {
                match password {
                    Some(password) => known.set_credential(Credential::Password(password)),
                    None if matches!(known.opening, Opening::WithSecret(_)) => {}
                    None => {
                        known.opening = Opening::ByLoginOnly;
                        self.note_dependence(identity);
                    }
                }
                self.prove_client(client);
                vec![client]
            }
            // The node was shown what the proxy knows; that says nothing about a client's word.
            Some(_) if is_relay => Vec::new(),
            Some(_) => core::mem::take(&mut known.logins),
            None => {
                known.granted_until = Some(self.now + self.limits.trust_memory);
                if is_relay {
                    known.opening = Opening::Freely;
                }
                core::mem::take(&mut known.logins)
            }
        }
    }

    /// Says good-bye on an upstream that nobody uses; its permit comes back when the node has
    /// closed the connection, so that the node never counts more than the limit.
    pub(crate) fn retire(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if upstream.is_draining && upstream.pipe.is_empty() && upstream.is_retired {
            return;
        }
        upstream.is_draining = true;
        if !upstream.pipe.is_empty() || upstream.holder.is_some() || upstream.fences > 0 {
            return;
        }
        upstream.is_retired = true;
        frontend::encode_terminate(self.conns.write(upstream.conn));
        let deadline = Instant(self.now.0 + GOODBYE_NANOS);
        self.timers.add(deadline, Timer::Goodbye(id));
    }

    /// Says good-bye in the middle of a request whose client is gone. Outside a copy the node
    /// ignores CopyFail, so that it can always be sent.
    pub(crate) fn abandon(&mut self, id: UpstreamId) {
        self.forward_cancel(id);
        let upstream = &mut self.upstreams[id];
        upstream.is_draining = true;
        upstream.is_retired = true;
        let out = self.conns.write(upstream.conn);
        frontend::encode_copy_fail(out, b"the client is gone");
        frontend::encode_sync(out);
        frontend::encode_terminate(out);
        let deadline = Instant(self.now.0 + GOODBYE_NANOS);
        self.timers.add(deadline, Timer::Goodbye(id));
    }

    /// Takes an upstream out of every list; its connection is closed.
    pub(crate) fn forget_upstream(&mut self, id: UpstreamId) -> Option<Upstream> {
        self.end_relayed(id, "the connection to the node was given up");
        let upstream = self.upstreams.remove(id)?;
        self.bereft.push(upstream.identity);
        self.conns.close(upstream.conn);
        self.lanes[upstream.lane]
            .upstreams
            .retain(|&other| other != id);
        let connections = &mut self.connections[upstream.service.index()];
        connections.upstreams.retain(|&other| other != id);
        connections.closing += 1;
        connections.unresolved.retain(|&other| other != id);
        self.leave_identity(upstream.identity);
        self.stats.upstreams -= 1;
        self.lanes_to_serve.push_back(upstream.lane);
        if upstream.holder.is_some() {
            self.stats.leased -= 1;
        }
        Some(upstream)
    }

    /// What an I/O failure is called.
    pub(crate) fn failure_text(failure: Failure) -> &'static str {
        match failure {
            Failure::Refused => "connection refused",
            Failure::Reset => "connection reset",
            Failure::TimedOut => "connection timed out",
            Failure::Unreachable => "no route",
            Failure::Exhausted => "the proxy's host is out of descriptors or memory",
            Failure::Other(_) => "an I/O error",
        }
    }

    /// The name of a service, for people.
    pub(crate) fn name(&self, service: ServiceId) -> &str {
        &self.services[service.index()].name
    }

    /// What a lane's upstream is called in logs.
    pub(crate) fn log_lost(&mut self, id: UpstreamId, why: &str) {
        let upstream = &self.upstreams[id];
        let text = format!(
            "service \"{}\": lost the connection to the node (pid {}): {why}",
            self.name(upstream.service),
            upstream.pid,
        );
        self.log(crate::event::Level::Warn, Rc::from(text.as_str()));
    }
}

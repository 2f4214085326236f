//! From the startup packet to the first ReadyForQuery.
//!
//! Decides whether a client is believed, on the strength of what the node said; never talks to a
//! node itself. Invariant: a client is Ready only if the node has granted a login to that very user
//! and database and has accepted every setting that the client begins with.

use std::rc::Rc;

use manifold_protocols::postgres::backend::{
    Status, encode_authentication_ok, encode_backend_key_data, encode_parameter_status,
    encode_ready_for_query,
};

use crate::auth::Auth;
use crate::client::postgres::errors::Refusal;
use crate::client::postgres::{Phase, Session};
use crate::fingerprint::{APPLICATION_NAME, Fingerprint};
use crate::identity::Identity;
use crate::ids::{ClientId, IdentityId};
use crate::shard::Shard;
use crate::upstream::postgres::pipe::Chore;

/// Encodings in which a byte of the ASCII range can be part of another character: what looks like a
/// quote may be none.
const UNREADABLE_ENCODINGS: [&[u8]; 7] = [
    b"BIG5",
    b"GB18030",
    b"GBK",
    b"JOHAB",
    b"SHIFT_JIS_2004",
    b"SJIS",
    b"UHC",
];

impl Shard {
    /// A session has been made: the client has to prove who it is, to the proxy or to the node.
    pub(crate) fn begin_login(&mut self, id: ClientId) {
        match self.services[self.clients[id].service.index()].auth {
            Auth::Relay | Auth::Trust => self.ask_node(id),
            Auth::Users => self.challenge_client(id),
        }
    }

    /// Lets the node decide whether this user may come in, unless it has decided before.
    pub(crate) fn ask_node(&mut self, id: ClientId) {
        let client = &self.clients[id];
        let auth = self.services[client.service.index()].auth;
        let identity = client.session().identity;
        let known = &self.identities[identity];
        let is_granted = match auth {
            Auth::Relay => known.granted_until.is_some_and(|until| self.now < until),
            Auth::Trust | Auth::Users => !known.parameters.is_empty(),
        };
        if is_granted {
            self.continue_login(id);
        } else {
            self.identities[identity].logins.push(id);
            self.add_errand(identity);
        }
    }

    /// The node has granted the login.
    pub(crate) fn continue_login(&mut self, id: ClientId) {
        let Some(client) = self
            .clients
            .get(id)
            .filter(|client| client.phase == Phase::Login)
        else {
            return;
        };
        let is_relay = self.services[client.service.index()].auth == Auth::Relay;
        if is_relay && !client.is_local && !client.is_proven() {
            let refusal = Refusal::not_local(self.name(client.service));
            self.refuse_client(id, &refusal);
            return;
        }
        let session = client.session();
        let identity = session.identity;
        let known = &self.identities[identity];
        let accepted = &known.accepted;
        if session
            .fingerprint
            .settings
            .iter()
            .all(|setting| accepted.contains_key(setting))
        {
            self.finish_login(id);
        } else {
            self.identities[identity]
                .chores
                .push_back(Chore::Trial(id, Vec::new(), Vec::new()));
            self.add_errand(identity);
        }
    }

    /// Everything the client begins with is accepted.
    pub(crate) fn finish_login(&mut self, id: ClientId) {
        let Some(client) = self
            .clients
            .get(id)
            .filter(|client| client.phase == Phase::Login)
        else {
            return;
        };
        let session = client.session();
        let identity = &self.identities[session.identity];
        let pid = self.cancel_pid(id);
        let out = self.conns.write(client.conn);
        encode_authentication_ok(out);
        for (name, value) in reported(identity, session) {
            encode_parameter_status(out, name, value);
        }
        encode_backend_key_data(out, pid, &client.secret.to_be_bytes());
        encode_ready_for_query(out, Status::Idle);
        let is_readable = is_readable(identity, &session.fingerprint);
        let client = &mut self.clients[id];
        client.phase = Phase::Ready;
        client.login = None;
        client.session_mut().is_readable = is_readable;
        self.pump(id);
    }

    /// Asks for something to be done for an identity when an upstream can be had.
    pub(crate) fn add_errand(&mut self, identity: IdentityId) {
        let service = self.identities[identity].service;
        let errands = &mut self.connections[service.index()].errands;
        if !errands.contains(&identity) {
            errands.push(identity);
        }
    }

    /// The node does not let this identity in: everybody who waits for its word is told.
    pub(crate) fn refuse_logins(&mut self, identity: IdentityId, error: &[u8]) {
        for id in core::mem::take(&mut self.identities[identity].logins) {
            if let Some(client) = self.clients.get(id) {
                self.conns.write(client.conn).extend_from_slice(error);
                self.stats.logins_refused += 1;
                self.end_client(id);
            }
        }
    }

    /// A client's session has other settings now.
    pub(crate) fn set_fingerprint(&mut self, id: ClientId, fingerprint: Rc<Fingerprint>) {
        let session = self.clients[id].session_mut();
        session.fingerprint = fingerprint;
        session.lane = None;
        let session = self.clients[id].session();
        let is_readable = is_readable(&self.identities[session.identity], &session.fingerprint);
        self.clients[id].session_mut().is_readable = is_readable;
    }
}

/// What a session is told of its parameters: the node's own report for a session without settings,
/// overlaid with what the node reported when each of the session's settings was accepted.
pub fn reported<'a>(
    identity: &'a Identity,
    session: &'a Session,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    identity.parameters.iter().map(move |(name, value)| {
        let value = if **name == *APPLICATION_NAME.as_bytes() {
            session.application.as_deref().unwrap_or(value)
        } else {
            overlaid(identity, &session.fingerprint, name).unwrap_or(value)
        };
        (&**name, value)
    })
}

/// What the node reported of a parameter when a setting of this fingerprint was accepted.
pub fn overlaid<'a>(
    identity: &'a Identity,
    fingerprint: &Fingerprint,
    name: &[u8],
) -> Option<&'a [u8]> {
    let reports = fingerprint
        .settings
        .iter()
        .filter_map(|it| identity.accepted.get(it));
    let mut found = reports
        .flatten()
        .filter(|(reported, _)| **reported == *name);
    found.next().map(|(_, value)| &**value)
}

/// Whether texts of a session with these settings mean what our lexer takes them for.
fn is_readable(identity: &Identity, fingerprint: &Fingerprint) -> bool {
    let of = |name: &str| {
        overlaid(identity, fingerprint, name.as_bytes())
            .or_else(|| fingerprint.value(name))
            .or_else(|| identity.parameter(name.as_bytes()))
    };
    let is_standard = of("standard_conforming_strings").is_none_or(|value| value == b"on");
    let encoding = of("client_encoding")
        .unwrap_or(b"UTF8")
        .to_ascii_uppercase();
    is_standard && !UNREADABLE_ENCODINGS.contains(&encoding.as_slice())
}

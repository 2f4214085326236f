//! A node asks who an upstream is: a client answers, or the proxy with a secret of its own.
//!
//! Holds what happens between the startup packet and the node's AuthenticationOk, and what follows
//! from there being no secret. Invariants: the messages of one client's login go to one upstream
//! and back, byte for byte; a login that was asked for a secret grants nothing to anybody else.

use manifold_protocols::postgres::authentication::scram::{Keys, MECHANISM, Prover};
use manifold_protocols::postgres::backend::{
    Authentication, Fields, encode_authentication_cleartext, encode_authentication_md5,
    encode_authentication_sasl,
};
use manifold_protocols::postgres::{authentication::md5::Hash, frontend};

use crate::auth::{Auth, Credential, Opening, Password};
use crate::client::postgres::Phase;
use crate::client::postgres::authenticate::{Answer, Login};
use crate::client::postgres::errors::Refusal;
use crate::event::Level;
use crate::ids::{ClientId, IdentityId, UpstreamId};
use crate::shard::{Shard, Timer};
use crate::upstream::postgres::State;

/// The login of an upstream at a node that asks for a secret.
#[derive(Debug)]
pub enum Challenge {
    /// A client answers. If it was asked for the password itself, that is remembered.
    Client(ClientId, Option<Password>),
    /// The proxy has answered all that was asked.
    Proxy,
    /// The proxy answers by SCRAM, and the node has not proven itself yet.
    ProxyByScram(Box<Prover>),
}

/// A message of authentication, either way, is no longer than this, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What a mechanism's name ends with that binds to a channel that the client and the node do not
/// share.
const BINDING_SUFFIX: &[u8] = b"-PLUS";

/// How long an identity is not opened again by the proxy itself after the node has refused it.
const REFUSED_NANOS: u64 = 1_000_000_000;

/// Said when an upstream is closed whose login nobody waits for.
const NO_SECRET: &str = "it asks for a secret that the proxy does not have";
const OUT_OF_TURN: &str = "it broke the protocol of authentication";

impl Shard {
    /// A message of authentication other than the node's consent.
    pub(crate) fn handle_challenge(
        &mut self,
        id: UpstreamId,
        request: &Authentication<'_>,
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(OUT_OF_TURN);
        }
        let is_begun = self.upstreams[id].challenge.is_some();
        match request {
            Authentication::Ok => self.handle_consent(id),
            Authentication::CleartextPassword
            | Authentication::Md5Password { .. }
            | Authentication::Sasl { .. }
                if !is_begun =>
            {
                self.begin_challenge(id, request)
            }
            Authentication::SaslContinue(data) => self.continue_sasl(id, data, bytes),
            Authentication::SaslFinal(data) => self.finish_sasl(id, data, bytes),
            Authentication::Other(_) => {
                let refusal = self.unsupported(id, "another kind of");
                self.refuse_opening(id, &refusal);
                Err(NO_SECRET)
            }
            _ => Err(OUT_OF_TURN),
        }
    }

    /// The node is satisfied.
    fn handle_consent(&mut self, id: UpstreamId) -> Result<(), &'static str> {
        let upstream = &self.upstreams[id];
        if upstream.is_admitted {
            return Err(OUT_OF_TURN);
        }
        match &upstream.challenge {
            // A node that consents before it was answered, or without having proven itself.
            Some(Challenge::ProxyByScram(_)) => return Err(OUT_OF_TURN),
            Some(Challenge::Client(client, _)) if self.awaits_answer(*client) => {
                return Err(OUT_OF_TURN);
            }
            _ => {}
        }
        self.upstreams[id].is_admitted = true;
        Ok(())
    }

    /// Whether it is this client's turn in the login that it relays.
    fn awaits_answer(&self, client: ClientId) -> bool {
        let login = self
            .clients
            .get(client)
            .and_then(|client| client.login.as_deref());
        matches!(login, Some(Login::Relayed(_, Some(_))))
    }

    /// The node asks for the first time: decides who answers.
    fn begin_challenge(
        &mut self,
        id: UpstreamId,
        request: &Authentication<'_>,
    ) -> Result<(), &'static str> {
        let upstream = &self.upstreams[id];
        let (service, identity, is_for_login) =
            (upstream.service, upstream.identity, upstream.is_for_login);
        // One that is for a few clients alone brings nobody in.
        let is_plain = upstream.is_plain();
        let known = &mut self.identities[identity];
        known.granted_until = None;
        let credential = match &known.opening {
            Opening::WithSecret(credential) => Some(credential.clone()),
            Opening::ByLoginOnly | Opening::Freely => None,
        };
        if self.services[service.index()].auth == Auth::Relay {
            if credential.is_none() {
                known.opening = Opening::ByLoginOnly;
            }
            if (is_for_login || credential.is_none())
                && is_plain
                && let Some(client) = self.next_login(identity)
            {
                return self.relay_challenge(id, client, request);
            }
        }
        match credential {
            Some(credential) => self.answer_challenge(id, request, credential),
            None => {
                let refusal =
                    Refusal::no_secret(self.name(service), &self.identities[identity].user);
                self.refuse_opening(id, &refusal);
                Err(NO_SECRET)
            }
        }
    }

    /// The next client whose login can be relayed.
    fn next_login(&mut self, identity: IdentityId) -> Option<ClientId> {
        self.drop_stale_logins(identity);
        let logins = &mut self.identities[identity].logins;
        (!logins.is_empty()).then(|| logins.remove(0))
    }

    /// Forgets those who wait for the node's word no longer.
    pub(crate) fn drop_stale_logins(&mut self, identity: IdentityId) {
        let clients = &self.clients;
        self.identities[identity].logins.retain(|&client| {
            clients
                .get(client)
                .is_some_and(|client| client.phase == Phase::Login)
        });
    }

    /// Passes on to a client what the node asks; from here on the two talk with each other.
    fn relay_challenge(
        &mut self,
        id: UpstreamId,
        client: ClientId,
        request: &Authentication<'_>,
    ) -> Result<(), &'static str> {
        let conn = self.clients[client].conn;
        let awaited = match request {
            Authentication::CleartextPassword => {
                encode_authentication_cleartext(self.conns.write(conn));
                Answer::Cleartext
            }
            Authentication::Md5Password { salt } => {
                encode_authentication_md5(self.conns.write(conn), *salt);
                Answer::Md5
            }
            Authentication::Sasl { mechanisms } => {
                let relayed: Vec<&[u8]> = mechanisms
                    .filter(|name| !name.ends_with(BINDING_SUFFIX))
                    .collect();
                if relayed.is_empty() {
                    let refusal = self.unsupported(id, "SCRAM-SHA-256-PLUS");
                    self.refuse_client(client, &refusal);
                    self.forget_upstream(id);
                    return Err(NO_SECRET);
                }
                encode_authentication_sasl(self.conns.write(conn), &relayed);
                Answer::SaslInitial
            }
            _ => return Err(OUT_OF_TURN),
        };
        self.upstreams[id].challenge = Some(Challenge::Client(client, None));
        self.clients[client].login = Some(Box::new(Login::Relayed(id, Some(awaited))));
        self.read_login(client);
        Ok(())
    }

    /// A client has answered.
    pub(crate) fn answer_node(&mut self, id: UpstreamId, message: &[u8], password: Option<&[u8]>) {
        let Some(upstream) = self.upstreams.get_mut(id) else {
            return;
        };
        // From here on it is the node that is waited for.
        upstream.since = self.now;
        if let (Some(Challenge::Client(_, kept)), Some(password)) =
            (&mut upstream.challenge, password)
        {
            *kept = Some(Password(password.into()));
        }
        self.conns.write(upstream.conn).extend_from_slice(message);
    }

    /// The proxy answers by itself, as far as its secret goes.
    fn answer_challenge(
        &mut self,
        id: UpstreamId,
        request: &Authentication<'_>,
        credential: Credential,
    ) -> Result<(), &'static str> {
        let upstream = &self.upstreams[id];
        let (conn, service, identity) = (upstream.conn, upstream.service, upstream.identity);
        let user = &self.identities[identity].user;
        let answer = match (request, credential) {
            (Authentication::CleartextPassword, Credential::Password(password)) => {
                frontend::encode_password(self.conns.write(conn), &password.0);
                Challenge::Proxy
            }
            (Authentication::Md5Password { salt }, Credential::Password(password)) => {
                let answer = Hash::derive(&password.0, user).answer(*salt);
                frontend::encode_password(self.conns.write(conn), &answer);
                Challenge::Proxy
            }
            (Authentication::Md5Password { salt }, Credential::Hash(hash)) => {
                frontend::encode_password(self.conns.write(conn), &hash.answer(*salt));
                Challenge::Proxy
            }
            (
                Authentication::Sasl { mechanisms },
                Credential::Password(_) | Credential::Keys(_),
            ) if mechanisms.into_iter().any(|name| name == MECHANISM) => {
                let prover = Prover::new(self.random_bytes());
                let first = prover.first_message();
                frontend::encode_sasl_initial(self.conns.write(conn), MECHANISM, &first);
                Challenge::ProxyByScram(Box::new(prover))
            }
            (Authentication::Sasl { mechanisms }, Credential::Password(_))
                if !mechanisms.into_iter().any(|name| name == MECHANISM) =>
            {
                let refusal = self.unsupported(id, "an unknown SASL");
                self.refuse_opening(id, &refusal);
                return Err(NO_SECRET);
            }
            _ => {
                let refusal = Refusal::no_secret(self.name(service), user);
                self.refuse_opening(id, &refusal);
                return Err(NO_SECRET);
            }
        };
        self.upstreams[id].challenge = Some(answer);
        Ok(())
    }

    /// The node's next message of a SASL mechanism.
    fn continue_sasl(
        &mut self,
        id: UpstreamId,
        data: &[u8],
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        match &self.upstreams[id].challenge {
            Some(Challenge::Client(client, _)) => {
                let client = *client;
                self.relay_sasl(client, id, bytes, Some(Answer::SaslResponse))
            }
            Some(Challenge::ProxyByScram(_)) => self.prove(id, data),
            _ => Err(OUT_OF_TURN),
        }
    }

    /// The node's last message of a SASL mechanism.
    fn finish_sasl(
        &mut self,
        id: UpstreamId,
        data: &[u8],
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        match &self.upstreams[id].challenge {
            Some(Challenge::Client(client, _)) => {
                let client = *client;
                self.relay_sasl(client, id, bytes, None)
            }
            Some(Challenge::ProxyByScram(prover)) => {
                prover
                    .verify(data)
                    .map_err(|_| "it did not prove that it knows the password")?;
                self.upstreams[id].challenge = Some(Challenge::Proxy);
                Ok(())
            }
            _ => Err(OUT_OF_TURN),
        }
    }

    /// Passes a mechanism's message on, byte for byte.
    fn relay_sasl(
        &mut self,
        client: ClientId,
        id: UpstreamId,
        bytes: &[u8],
        awaited: Option<Answer>,
    ) -> Result<(), &'static str> {
        let Some(found) = self.clients.get_mut(client) else {
            return Err(OUT_OF_TURN);
        };
        match found.login.as_deref() {
            Some(Login::Relayed(upstream, None)) if *upstream == id => {}
            _ => return Err(OUT_OF_TURN),
        }
        self.conns.write(found.conn).extend_from_slice(bytes);
        found.login = Some(Box::new(Login::Relayed(id, awaited)));
        self.read_login(client);
        Ok(())
    }

    /// Answers the node's SCRAM challenge with keys that are at hand, or derives them once.
    fn prove(&mut self, id: UpstreamId, data: &[u8]) -> Result<(), &'static str> {
        let Some(Challenge::ProxyByScram(prover)) = &mut self.upstreams[id].challenge else {
            return Err(OUT_OF_TURN);
        };
        let challenge = prover
            .decode_challenge(data)
            .map_err(|_| "it sent a SCRAM challenge that is none")?;
        let upstream = &self.upstreams[id];
        let (conn, service, identity) = (upstream.conn, upstream.service, upstream.identity);
        let known = &mut self.identities[identity];
        let keys = match &known.opening {
            Opening::WithSecret(Credential::Password(password)) => {
                if !known.keys.as_ref().is_some_and(|keys| keys.fit(&challenge)) {
                    known.keys = Some(Keys::derive(&password.0, &challenge));
                }
                known.keys.clone()
            }
            Opening::WithSecret(Credential::Keys(keys)) if keys.fit(&challenge) => {
                Some(keys.clone())
            }
            _ => None,
        };
        let Some(keys) = keys else {
            let refusal = Refusal::no_secret(self.name(service), &self.identities[identity].user);
            self.refuse_opening(id, &refusal);
            return Err(NO_SECRET);
        };
        if let Some(Challenge::ProxyByScram(prover)) = &mut self.upstreams[id].challenge {
            let answer = prover.answer(data, &challenge, &keys);
            frontend::encode_sasl_response(self.conns.write(conn), &answer);
        }
        Ok(())
    }

    fn unsupported(&self, id: UpstreamId, method: &str) -> Refusal {
        Refusal::unsupported_authentication(self.name(self.upstreams[id].service), method)
    }

    /// The proxy cannot log in: whoever waits for just that is told, and it is not tried again at
    /// once.
    fn refuse_opening(&mut self, id: UpstreamId, refusal: &Refusal) {
        let identity = self.upstreams[id].identity;
        let mut error = Vec::new();
        refusal.encode(&mut error);
        self.refuse_logins(identity, &error);
        self.end_refused(id, &error);
    }

    /// Closes an upstream that the node does not let in; requests that wait for one of its identity
    /// are told if there is no other.
    fn end_refused(&mut self, id: UpstreamId, error: &[u8]) {
        let identity = self.upstreams[id].identity;
        self.identities[identity].retry_at = crate::time::Instant(self.now.0 + REFUSED_NANOS);
        let lane = self.upstreams[id].lane;
        self.stats.upstreams_failed += 1;
        self.forget_upstream(id);
        self.refuse_all_waiting(identity, error);
        self.place_anew(lane);
    }

    /// The node has answered a login with an error.
    pub(crate) fn handle_login_error(
        &mut self,
        id: UpstreamId,
        fields: &Fields<'_>,
        bytes: &[u8],
    ) -> &'static str {
        const REFUSED: &str = "it refused the login";
        let upstream = &mut self.upstreams[id];
        let (service, identity) = (upstream.service, upstream.identity);
        if let Some(Challenge::Client(client, _)) = upstream.challenge {
            upstream.challenge = None;
            self.stats.upstreams_failed += 1;
            self.forget_upstream(id);
            self.refuse_relayed(client, bytes);
            return REFUSED;
        }
        let is_proxy = upstream.challenge.is_some();
        let is_limit = upstream.is_admitted && !self.has_another(id);
        let is_busy = match fields.sqlstate() {
            b"53300" => !is_limit,
            code => code == b"57P03",
        };
        if is_busy {
            return REFUSED;
        }
        if self.upstreams[id].is_admitted && !self.upstreams[id].is_plain() {
            self.refuse_base(id);
            return REFUSED;
        }
        let is_relay = self.services[service.index()].auth == Auth::Relay;
        if is_proxy && is_relay {
            // The password that a client once gave is not the user's any more. Those who log in now
            // bring their own.
            self.identities[identity].opening = Opening::ByLoginOnly;
            self.identities[identity].keys = None;
        } else {
            self.refuse_logins(identity, bytes);
        }
        self.log_refused(identity, fields);
        self.end_refused(id, bytes);
        REFUSED
    }

    /// Whether the identity of an upstream has others.
    fn has_another(&self, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        let all = &self.connections[upstream.service.index()].upstreams;
        all.iter()
            .any(|&other| other != id && self.upstreams[other].identity == upstream.identity)
    }

    fn log_refused(&mut self, identity: IdentityId, fields: &Fields<'_>) {
        let known = &self.identities[identity];
        let service = known.service;
        // A client that relays its login is told; a secret of the proxy's is the operator's matter.
        let level = match self.services[service.index()].auth {
            Auth::Relay => Level::Debug,
            Auth::Trust | Auth::Users => Level::Warn,
        };
        let text = format!(
            "service \"{}\": the node refused the login of user \"{}\" to database \"{}\": {}",
            self.name(service),
            String::from_utf8_lossy(&known.user),
            String::from_utf8_lossy(&known.database_name),
            String::from_utf8_lossy(fields.message()),
        );
        self.log(level, text);
    }

    /// A client's login has ended with an error, which it is told.
    fn refuse_relayed(&mut self, client: ClientId, error: &[u8]) {
        let Some(found) = self.clients.get_mut(client) else {
            return;
        };
        found.login = None;
        self.stats.logins_refused += 1;
        self.conns.write(found.conn).extend_from_slice(error);
        self.end_client(client);
    }

    /// The node has let a client in that has answered it.
    pub(crate) fn prove_client(&mut self, client: ClientId) {
        if let Some(client) = self.clients.get_mut(client) {
            client.login = Some(Box::new(Login::Proven));
        }
    }

    /// The upstream of a client's login is lost before the login is over: the client is told.
    pub(crate) fn end_relayed(&mut self, id: UpstreamId, why: &str) {
        let Some(upstream) = self.upstreams.get_mut(id) else {
            return;
        };
        let service = upstream.service;
        if let Some(Challenge::Client(client, _)) = upstream.challenge.take() {
            let mut error = Vec::new();
            Refusal::unreachable(self.name(service), why)
                .fatal()
                .encode(&mut error);
            self.refuse_relayed(client, &error);
        }
    }

    /// A client has gone in the middle of its login: so does the upstream that was to be its.
    pub(crate) fn abandon_login(&mut self, login: &Login) {
        if let Login::Relayed(id, _) = *login
            && let Some(upstream) = self.upstreams.get_mut(id)
        {
            upstream.challenge = None;
            self.forget_upstream(id);
        }
    }

    /// An upstream has been on its way for long.
    pub(crate) fn handle_connect_timer(&mut self, id: UpstreamId) {
        let Some(upstream) = self.upstreams.get(id).filter(|it| it.state != State::Ready) else {
            return;
        };
        let (service, since) = (upstream.service, upstream.since);
        let connect_time_max = self.limits.connect_time_max;
        match upstream.challenge {
            // The client has its own deadline, but must not keep others out for so long.
            Some(Challenge::Client(client, _)) if self.awaits_answer(client) => {
                let connections = &self.connections[service.index()];
                let others_wait =
                    !connections.errands.is_empty() || !connections.waiting.is_empty();
                if others_wait && self.services[service.index()].permits.free() == 0 {
                    let refusal = Refusal::login_too_slow(self.name(service));
                    self.refuse_client(client, &refusal);
                    return;
                }
                self.timers
                    .add(self.now + connect_time_max, Timer::Connect(id));
            }
            _ if self.now - since < connect_time_max => {
                self.timers
                    .add(since + connect_time_max, Timer::Connect(id));
            }
            _ => self.fail_upstream(id, "no answer within connect_time_max"),
        }
    }
}

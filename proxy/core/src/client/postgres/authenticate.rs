//! A client proves who it is: to the proxy, or to the node by way of the proxy.
//!
//! Asks clients and reads their answers; what the node is told of them is in `upstream`'s
//! `challenge`. Invariants: only a password message answers, and only when one has been asked for;
//! who is unknown is asked, and refused, like one whose password is wrong.

#[cfg(test)]
mod bounds;
#[cfg(test)]
pub(crate) mod stage;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use manifold_protocols::postgres::authentication::md5::Hash;
use manifold_protocols::postgres::authentication::scram::{
    Exchange, Keys, MECHANISM, Verdict, Verifier,
};
use manifold_protocols::postgres::backend::{
    encode_authentication_md5, encode_authentication_sasl, encode_authentication_sasl_continue,
    encode_authentication_sasl_final,
};
use manifold_protocols::postgres::frame::{HEADER_LEN, decode_frontend_header};
use manifold_protocols::postgres::frontend::{decode_password, decode_sasl_initial};

use crate::auth::{Auth, Credential, Opening, Password, Secret, Users};
use crate::client::postgres::errors::Refusal;
use crate::client::postgres::{Client, Phase};
use crate::ids::{ClientId, IdentityId, ServiceId, UpstreamId};
use crate::shard::Shard;

/// A login under way, beyond the startup packet.
#[derive(Debug)]
pub enum Login {
    /// Checked here against the hash; the salt that was sent.
    Md5(Hash, [u8; 4]),
    /// It has answered whoever asked; nothing more is asked.
    Proven,
    /// The node asks by way of this upstream: the answer that is awaited, none while it is the
    /// node's turn.
    Relayed(UpstreamId, Option<Answer>),
    /// Checked here: the exchange before the client's first message.
    ScramFirst(Box<Exchange>),
    /// Checked here: the exchange before the client's final message.
    ScramFinal(Box<Exchange>),
}

/// The form of an answer that a node awaits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The password itself.
    Cleartext,
    /// The password hashed.
    Md5,
    /// The choice of a mechanism and its first message.
    SaslInitial,
    /// A further message of the mechanism.
    SaslResponse,
}

impl Client {
    /// Whether a password message is awaited.
    pub fn is_asked(&self) -> bool {
        match self.login.as_deref() {
            Some(Login::Md5(..) | Login::ScramFirst(_) | Login::ScramFinal(_)) => true,
            Some(Login::Relayed(_, awaited)) => awaited.is_some(),
            Some(Login::Proven) | None => false,
        }
    }

    /// Whether the client itself has proven who it is.
    pub fn is_proven(&self) -> bool {
        matches!(self.login.as_deref(), Some(Login::Proven))
    }
}

impl Shard {
    /// Bytes that come before the login is over wait, unless a password is awaited.
    pub(crate) fn read_login(&mut self, id: ClientId) {
        while let Some(client) = self.clients.get_mut(id) {
            if client.phase != Phase::Login {
                return;
            }
            if !client.is_asked() {
                if client.input.len() > self.limits.startup_bytes_max {
                    let refusal = Refusal::startup("too much was sent before the login was over");
                    self.refuse_client(id, &refusal);
                } else if self.will_be_asked_in_vain(id) {
                    self.drop_client(id);
                }
                return;
            }
            let bytes = client.input.unparsed();
            if let Some(&tag) = bytes.first().filter(|&&tag| tag != b'p') {
                self.refuse_client(id, &Refusal::no_password(tag));
                return;
            }
            let header = match decode_frontend_header(bytes, self.limits.message_bytes_max) {
                Ok(Some(header)) if header.len <= bytes.len() => header,
                Ok(_) => {
                    if client.is_leaving {
                        // It has sent its last byte, and an answer is not among them.
                        self.drop_client(id);
                    }
                    return;
                }
                Err(error) => {
                    self.refuse_client(id, &Refusal::frame(&error));
                    return;
                }
            };
            let message = bytes[..header.len].to_vec();
            client.input.consume(header.len);
            self.handle_password(id, &message);
        }
    }

    /// Whether a client has sent its last byte, and the node is going to ask it for more.
    fn will_be_asked_in_vain(&self, id: ClientId) -> bool {
        let client = &self.clients[id];
        let is_relay = self.services[client.service.index()].auth == Auth::Relay;
        let opening = &self.identities[client.session().identity].opening;
        client.is_leaving
            && is_relay
            && *opening != Opening::Freely
            && !client.is_proven()
            && client.login.is_none()
            && client.input.unparsed().is_empty()
    }

    /// A whole password message of a client that was asked.
    fn handle_password(&mut self, id: ClientId, message: &[u8]) {
        let Some(login) = self.clients[id].login.take() else {
            return;
        };
        let body = &message[HEADER_LEN..];
        let refusal = match *login {
            Login::Md5(hash, salt) => self.check_md5(id, hash, salt, body),
            Login::ScramFirst(exchange) => self.check_scram_first(id, exchange, body),
            Login::ScramFinal(exchange) => self.check_scram_final(id, *exchange, body),
            Login::Relayed(upstream, Some(awaited)) => {
                self.relay_answer(id, upstream, awaited, message)
            }
            Login::Proven | Login::Relayed(_, None) => Ok(()),
        };
        if let Err(refusal) = refusal {
            self.refuse_client(id, &refusal);
        }
    }

    /// Asks a client for what the users file has of it.
    pub(crate) fn challenge_client(&mut self, id: ClientId) {
        let client = &self.clients[id];
        let (service, conn) = (client.service, client.conn);
        let user = Rc::clone(&self.identities[client.session().identity].user);
        let secret = self.secret_of(service, &user);
        let login = if let Some(Secret::Md5(text)) = &secret
            && let Some(hash) = Hash::decode(text.as_bytes())
        {
            let salt = self.random_bytes();
            encode_authentication_md5(self.conns.write(conn), salt);
            Login::Md5(hash, salt)
        } else {
            let random = self.random_bytes();
            let exchange = self.services[service.index()].users.exchange(&user, random);
            encode_authentication_sasl(self.conns.write(conn), &[MECHANISM]);
            Login::ScramFirst(Box::new(exchange))
        };
        self.clients[id].login = Some(Box::new(login));
        self.read_login(id);
    }

    /// The users file is another one. Whom the proxy logs in at the node it logs in with what the
    /// file has now; who is gone from it keeps the sessions that there are.
    pub(crate) fn take_users(&mut self, service: ServiceId, users: Arc<Users>) {
        self.services[service.index()].users = users;
        let of = self.identities.iter();
        let of = of.filter(|(_, it)| {
            it.service == service && matches!(it.opening, Opening::WithSecret(_))
        });
        let of: Vec<IdentityId> = of.map(|(id, _)| id).collect();
        for id in of {
            let user = Rc::clone(&self.identities[id].user);
            let credential = match self.secret_of(service, &user) {
                Some(Secret::Plain(password)) => Credential::Password(Password(password)),
                Some(Secret::Md5(text)) => match Hash::decode(text.as_bytes()) {
                    Some(hash) => Credential::Hash(hash),
                    None => continue,
                },
                // Only a client that proves itself against a verifier brings what can log in.
                Some(Secret::Scram(_)) | None => continue,
            };
            self.identities[id].set_credential(credential);
        }
    }

    fn secret_of(&self, service: ServiceId, user: &[u8]) -> Option<Secret> {
        self.services[service.index()].users.secret(user).cloned()
    }

    /// Bytes that cannot be foreseen and never repeat.
    pub(crate) fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let word = self.random.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        bytes
    }

    fn check_md5(
        &mut self,
        id: ClientId,
        hash: Hash,
        salt: [u8; 4],
        body: &[u8],
    ) -> Result<(), Refusal> {
        let answer = decode_password(body).map_err(|error| Refusal::message(&error).fatal())?;
        if !hash.verify(salt, answer) {
            return Err(self.wrong_password(id));
        }
        self.accept_client(id, Credential::Hash(hash));
        Ok(())
    }

    fn check_scram_first(
        &mut self,
        id: ClientId,
        mut exchange: Box<Exchange>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let initial =
            decode_sasl_initial(body).map_err(|error| Refusal::message(&error).fatal())?;
        if initial.mechanism != MECHANISM {
            return Err(Refusal::wrong_mechanism());
        }
        let answer = exchange
            .handle_client_first(initial.data.unwrap_or_default())
            .map_err(|error| Refusal::scram(&error))?;
        encode_authentication_sasl_continue(self.conns.write(self.clients[id].conn), &answer);
        self.clients[id].login = Some(Box::new(Login::ScramFinal(exchange)));
        Ok(())
    }

    fn check_scram_final(
        &mut self,
        id: ClientId,
        exchange: Exchange,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let verdict = exchange
            .handle_client_final(body)
            .map_err(|error| Refusal::scram(&error))?;
        let Verdict::Accepted {
            server_final,
            client_key,
        } = verdict
        else {
            return Err(self.wrong_password(id));
        };
        let client = &self.clients[id];
        let (service, conn) = (client.service, client.conn);
        let user = Rc::clone(&self.identities[client.session().identity].user);
        let credential = match self.secret_of(service, &user) {
            Some(Secret::Plain(password)) => Some(Credential::Password(Password(password))),
            Some(Secret::Scram(text)) => Verifier::decode(text.as_bytes())
                .ok()
                .and_then(|verifier| Keys::learned(&verifier, client_key))
                .map(Credential::Keys),
            Some(Secret::Md5(_)) | None => None,
        };
        // None if the file was read anew meanwhile and says otherwise.
        let Some(credential) = credential else {
            return Err(self.wrong_password(id));
        };
        encode_authentication_sasl_final(self.conns.write(conn), &server_final);
        self.accept_client(id, credential);
        Ok(())
    }

    fn wrong_password(&self, id: ClientId) -> Refusal {
        let identity = self.clients[id].session().identity;
        Refusal::wrong_password(&self.identities[identity].user)
    }

    /// The client is who it says; now the node is asked whether it may come in.
    fn accept_client(&mut self, id: ClientId, credential: Credential) {
        self.clients[id].login = Some(Box::new(Login::Proven));
        let identity = self.clients[id].session().identity;
        self.identities[identity].set_credential(credential);
        self.ask_node(id);
    }

    /// Passes a client's answer on to the node, if it has the form that the node asked for.
    fn relay_answer(
        &mut self,
        id: ClientId,
        upstream: UpstreamId,
        awaited: Answer,
        message: &[u8],
    ) -> Result<(), Refusal> {
        // Before anything can fail: whoever ends the client has to find its upstream.
        self.clients[id].login = Some(Box::new(Login::Relayed(upstream, None)));
        let body = &message[HEADER_LEN..];
        let checked = match awaited {
            Answer::Cleartext | Answer::Md5 => decode_password(body).map(Some),
            Answer::SaslInitial => decode_sasl_initial(body).map(|_| None),
            Answer::SaslResponse => Ok(None),
        };
        let password = checked.map_err(|error| Refusal::message(&error).fatal())?;
        let password = password.filter(|_| awaited == Answer::Cleartext);
        self.answer_node(upstream, message, password);
        Ok(())
    }
}

//! How a simulated session begins: startup packet, authentication, the first ReadyForQuery.
//!
//! Knows users and passwords, nothing of statements. Invariant: nothing but this phase's own
//! messages is taken before the login has succeeded.

use core::fmt;
use std::collections::BTreeMap;

use manifold_protocols::postgres::authentication::scram::{Exchange, Verdict, Verifier};

use postgres_protocol::authentication::md5_hash;

use super::database::Database;
use super::report::Report;
use super::session::{Phase, Session};
use crate::simulator::prng::Prng;
use crate::simulator::wire::{Body, Fields, Frame};

/// What a node asks a user for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asks {
    /// Nothing.
    Nothing,
    /// The password as it is.
    Password,
    /// The password, hashed with a salt.
    Md5,
    /// A proof by SCRAM-SHA-256.
    Scram,
}

/// Who may log in: by name, what is asked and the password.
pub type Users = BTreeMap<String, (Asks, String)>;

/// A login under way.
#[derive(Clone)]
pub(super) struct Login {
    users: Users,
    /// What this session's challenges are made from.
    random: u64,
    /// The exchange, once the client was asked for SCRAM.
    exchange: Option<Exchange>,
    startup: Option<BTreeMap<String, String>>,
    /// A cancel request that came instead of a startup packet.
    cancel: Option<(u32, u32)>,
}

/// Few, so that a run does not spend its time on them.
const SCRAM_ITERATIONS: u32 = 2;

const MECHANISM: &str = "SCRAM-SHA-256";
/// The verifier that a node has stored of a user's password.
pub fn verifier_of(user: &str, password: &str) -> Verifier {
    let salt = [b"salt of ", user.as_bytes()].concat();
    Verifier::derive(password.as_bytes(), &salt, SCRAM_ITERATIONS)
}

const PROTOCOL: i32 = 3 << 16;
const CANCEL: i32 = (1234 << 16) | 5678;
const SSL: i32 = (1234 << 16) | 5679;
const GSS: i32 = (1234 << 16) | 5680;

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("startup", &self.startup)
            .finish_non_exhaustive()
    }
}

impl Login {
    pub(super) fn new(users: Users, random: u64) -> Self {
        Self {
            users,
            random,
            exchange: None,
            startup: None,
            cancel: None,
        }
    }

    fn salt(&self) -> [u8; 4] {
        core::array::from_fn(|at| (self.random >> (8 * at)) as u8)
    }

    /// Begins an exchange against the verifier that a node would have stored for a password.
    fn begin_exchange(&mut self, user: &str, password: &str) {
        let mut random = Prng::new(self.random);
        let random = core::array::from_fn(|_| random.next() as u8);
        self.exchange = Some(Exchange::new(verifier_of(user, password), random));
    }

    /// Whether a complete message of this phase lies in `input`.
    pub(super) fn has_message(&self, input: &[u8]) -> bool {
        let at = if self.startup.is_some() { 1 } else { 0 };
        let Some(length) = input.get(at..at + 4) else {
            return false;
        };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        usize::try_from(length).is_ok_and(|length| length < 4 || input.len() >= at + length)
    }
}

impl Session {
    /// Takes one message of the login. Call when `has_message`.
    pub(super) fn take_login_message(&mut self, database: &mut Database) {
        let Phase::Login(login) = &self.phase else {
            return;
        };
        if login.startup.is_some() {
            match crate::simulator::wire::take_frame(&mut self.input) {
                Ok(Some(frame)) => self.take_password(&frame, database),
                _ => self.die(&Report::fatal("08P01", "invalid frame"), database),
            }
            return;
        }
        let length = self
            .input
            .first_chunk()
            .map_or(0, |bytes| i32::from_be_bytes(*bytes));
        let Some(end) = usize::try_from(length)
            .ok()
            .filter(|end| (8..=10_000).contains(end))
        else {
            self.die(
                &Report::fatal("08P01", "invalid length of startup packet"),
                database,
            );
            return;
        };
        let packet: Vec<u8> = self.input.drain(..end).skip(4).collect();
        self.take_startup(&packet, database);
    }

    fn take_startup(&mut self, packet: &[u8], database: &mut Database) {
        let mut fields = Fields(packet);
        match fields.int32() {
            Some(SSL | GSS) => self.output.push(b'N'),
            Some(CANCEL) => {
                let Phase::Login(login) = &mut self.phase else {
                    return;
                };
                if let (Some(pid), Some(secret)) = (fields.int32(), fields.int32()) {
                    login.cancel = Some((pid.cast_unsigned(), secret.cast_unsigned()));
                }
            }
            Some(PROTOCOL) => match pairs(fields) {
                Some(pairs) => self.begin_login(pairs, database),
                None => {
                    self.die(
                        &Report::fatal("08P01", "invalid startup packet layout"),
                        database,
                    );
                }
            },
            _ => self.die(
                &Report::fatal("0A000", "unsupported frontend protocol"),
                database,
            ),
        }
    }

    /// The cancel request of a session that is one, which then is over.
    pub(super) fn take_cancel(&mut self) -> Option<(u32, u32)> {
        let Phase::Login(login) = &mut self.phase else {
            return None;
        };
        let cancel = login.cancel.take()?;
        self.phase = Phase::Ended;
        Some(cancel)
    }

    fn begin_login(&mut self, pairs: BTreeMap<String, String>, database: &mut Database) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        let user = pairs.get("user").cloned().unwrap_or_default();
        let known = login.users.get(&user).cloned();
        login.startup = Some(pairs);
        let Some((asks, password)) = known else {
            let text = format!("role \"{user}\" does not exist");
            self.die(&Report::fatal("28000", text), database);
            return;
        };
        let challenge = match asks {
            Asks::Nothing => {
                self.let_in(database);
                return;
            }
            Asks::Password => Body::default().int32(3),
            Asks::Md5 => Body::default().int32(5).raw(&login.salt()),
            Asks::Scram => {
                login.begin_exchange(&user, &password);
                Body::default().int32(10).text(MECHANISM).raw(&[0])
            }
        };
        challenge.send(&mut self.output, b'R');
    }

    fn take_password(&mut self, frame: &Frame, database: &mut Database) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        let user = login
            .startup
            .as_ref()
            .and_then(|pairs| pairs.get("user"))
            .cloned();
        let user = user.unwrap_or_default();
        let Some((asks, password)) = login.users.get(&user) else {
            return;
        };
        let is_right = match asks {
            Asks::Md5 => {
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), login.salt());
                Fields(&frame.body).text() == Some(&hash)
            }
            Asks::Nothing | Asks::Password => Fields(&frame.body).text() == Some(password),
            Asks::Scram => match self.take_scram(&frame.body) {
                Some(is_right) => is_right,
                None => return,
            },
        };
        if frame.tag == b'p' && is_right {
            self.let_in(database);
        } else {
            let text = format!("password authentication failed for user \"{user}\"");
            self.die(&Report::fatal("28P01", text), database);
        }
    }

    /// Takes a message of an exchange; says whether the client has proven itself once it is over.
    fn take_scram(&mut self, body: &[u8]) -> Option<bool> {
        let Phase::Login(login) = &mut self.phase else {
            return None;
        };
        let mut exchange = login.exchange.take()?;
        let mut fields = Fields(body);
        if let Some(MECHANISM) = fields.text() {
            let first = fields.sized().flatten().unwrap_or_default();
            let Ok(answer) = exchange.handle_client_first(first) else {
                return Some(false);
            };
            login.exchange = Some(exchange);
            Body::default()
                .int32(11)
                .raw(&answer)
                .send(&mut self.output, b'R');
            return None;
        }
        let Ok(Verdict::Accepted { server_final, .. }) = exchange.handle_client_final(body) else {
            return Some(false);
        };
        Body::default()
            .int32(12)
            .raw(&server_final)
            .send(&mut self.output, b'R');
        Some(true)
    }

    fn let_in(&mut self, database: &mut Database) {
        let Phase::Login(login) = &self.phase else {
            return;
        };
        let pairs = login.startup.clone().unwrap_or_default();
        self.user = pairs.get("user").cloned().unwrap_or_default();
        Body::default().int32(0).send(&mut self.output, b'R');
        let name = pairs.get("database").unwrap_or(&self.user);
        if name == "missing" {
            let text = format!("database \"{name}\" does not exist");
            self.die(&Report::fatal("3D000", text), database);
            return;
        }
        for (name, value) in &pairs {
            if matches!(name.as_str(), "user" | "database") {
                continue;
            }
            if let Err(report) = self.settings.start_with(&name.to_ascii_lowercase(), value) {
                self.die(
                    &Report {
                        severity: "FATAL",
                        ..report
                    },
                    database,
                );
                return;
            }
        }
        self.phase = Phase::Ready;
        for (name, value) in self.settings.take_changes() {
            super::report::send_setting(&mut self.output, name, &value);
        }
        let body = Body::default()
            .int32(self.pid.cast_signed())
            .int32(self.secret.cast_signed());
        body.send(&mut self.output, b'K');
        self.send_ready();
    }
}

/// The names and values of a startup packet; `options` is taken apart.
fn pairs(mut fields: Fields<'_>) -> Option<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    loop {
        let name = fields.text()?;
        if name.is_empty() {
            return fields.is_empty().then_some(pairs);
        }
        let value = fields.text()?;
        if name != "options" {
            pairs.insert(name.to_owned(), value.to_owned());
            continue;
        }
        for option in value.split_whitespace().filter(|option| *option != "-c") {
            let (name, value) = option.trim_start_matches("-c").split_once('=')?;
            pairs.insert(name.to_owned(), value.to_owned());
        }
    }
}

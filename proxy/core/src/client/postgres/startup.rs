//! The first bytes of a client: encryption requests, cancel requests, the startup packet.
//!
//! Ends by making the session and handing over to `login`. Invariant: nothing of a client reaches a
//! node before its startup packet is complete and valid.

use std::rc::Rc;

use manifold_protocols::postgres::backend::encode_negotiate_protocol_version;
use manifold_protocols::postgres::options;
use manifold_protocols::postgres::startup::{self, Start, Startup, StartupError};

use crate::client::postgres::errors::Refusal;
use crate::client::postgres::statements::Statements;
use crate::client::postgres::{Client, Phase, Session};
use crate::conns::Owner;
use crate::event::{Peer, Socket};
use crate::fingerprint::APPLICATION_NAME;
use crate::ids::{ClientId, ListenerId, ServiceId};
use crate::proof::Setting;
use crate::shard::{Shard, Timer};

/// What a startup packet asks for.
struct Wanted {
    user: Vec<u8>,
    database: Vec<u8>,
    settings: Vec<Setting>,
    application: Option<Rc<[u8]>>,
    unknown_options: Vec<Vec<u8>>,
}

impl Shard {
    /// A socket has been accepted.
    pub(crate) fn handle_accepted(&mut self, listener: ListenerId, socket: Socket, peer: Peer) {
        let service = self
            .services
            .iter()
            .find(|service| service.listeners.contains(&listener));
        let Some(service) = service.map(|service| service.id) else {
            self.conns
                .operations
                .push_back(crate::event::Operation::Reject { socket });
            return;
        };
        let conn = self.conns.adopt(socket, Owner::Nobody);
        let secret = self.random.secret();
        let client = Client::new(conn, service, peer.is_local(), secret, self.now);
        let id = self.clients.insert(client);
        self.conns.set_owner(conn, Owner::Client(id));
        self.timers
            .add(self.now + self.limits.login_time_max, Timer::Login(id));
        self.stats.clients_accepted += 1;
        self.connections[service.index()].tally.clients_accepted += 1;
        self.stats.clients += 1;
        self.start_ticking();
    }

    /// Reads what has come before the session exists.
    pub(crate) fn read_startup(&mut self, id: ClientId) {
        while let Some(client) = self.clients.get_mut(id) {
            if client.phase != Phase::Startup {
                return;
            }
            let bytes = client.input.unparsed();
            match startup::decode(bytes, self.limits.startup_bytes_max) {
                Ok(None) => return,
                Ok(Some((Startup::Cancel { pid, secret }, len))) => {
                    let secret = <[u8; 4]>::try_from(secret).map(u32::from_be_bytes);
                    client.input.consume(len);
                    match secret {
                        Ok(secret) => self.handle_cancel_request(id, pid, secret),
                        Err(_) => self.end_client(id),
                    }
                    return;
                }
                Ok(Some((Startup::GssEncRequest | Startup::SslRequest, len))) => {
                    client.input.consume(len);
                    // Neither is to be had; the client goes on in the clear or goes away.
                    self.conns.write(client.conn).push(b'N');
                }
                Ok(Some((Startup::Start(start), len))) => {
                    let (minor, wanted) = (start.minor, read_parameters(&start));
                    client.input.consume(len);
                    self.handle_start(id, minor, wanted);
                }
                Err(StartupError::Version { major, minor }) => {
                    self.refuse_client(id, &Refusal::version(major, minor));
                    return;
                }
                Err(error) => {
                    self.refuse_client(id, &Refusal::startup(&error.to_string()));
                    return;
                }
            }
        }
    }

    fn handle_start(&mut self, id: ClientId, minor: u16, wanted: Result<Wanted, Refusal>) {
        let service = self.clients[id].service;
        if self.stats.clients > u64::from(self.limits.clients_max) || self.is_draining {
            let refusal = if self.is_draining {
                Refusal::shutdown()
            } else {
                Refusal::too_many_clients(self.name(service), self.limits.clients_max)
            };
            self.refuse_client(id, &refusal);
            return;
        }
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(refusal) => {
                self.refuse_client(id, &refusal);
                return;
            }
        };
        if minor > 0 || !wanted.unknown_options.is_empty() {
            let options: Vec<&[u8]> = wanted.unknown_options.iter().map(Vec::as_slice).collect();
            encode_negotiate_protocol_version(self.conns.write(self.clients[id].conn), 0, &options);
        }
        self.make_session(id, service, wanted);
        self.begin_login(id);
    }

    fn make_session(&mut self, id: ClientId, service: ServiceId, wanted: Wanted) {
        let identity = self.identity(service, &wanted.user, &wanted.database);
        self.identities[identity].users += 1;
        let fingerprint = self.fingerprints.intern(wanted.settings);
        let session = Session {
            identity,
            database: self.identities[identity].database,
            lane: None,
            fingerprint: Rc::clone(&fingerprint),
            startup: fingerprint,
            application: wanted.application.clone(),
            startup_application: wanted.application,
            statements: Statements::default(),
            has_drawn: false,
            is_raw: false,
            unprepared: Vec::new(),
            touched: Vec::new(),
            told: Vec::new(),
            is_readable: true,
        };
        let client = &mut self.clients[id];
        client.session = Some(Box::new(session));
        client.phase = Phase::Login;
    }
}

/// Sorts the parameters into user, database and settings.
fn read_parameters(start: &Start<'_>) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted {
        user: Vec::new(),
        database: Vec::new(),
        settings: Vec::new(),
        application: None,
        unknown_options: Vec::new(),
    };
    for (name, value) in start.parameters() {
        match name {
            b"user" => wanted.user = value.to_vec(),
            b"database" => wanted.database = value.to_vec(),
            b"replication" => {
                if !matches!(value, b"false" | b"off" | b"no" | b"0") {
                    return Err(Refusal::replication("this one"));
                }
            }
            b"options" => {
                let options =
                    options::decode(value).map_err(|error| Refusal::startup(&error.to_string()))?;
                for (name, value) in options {
                    wanted.set(&name, &value);
                }
            }
            name if name.starts_with(b"_pq_.") => wanted.unknown_options.push(name.to_vec()),
            name => wanted.set(name, value),
        }
    }
    if wanted.user.is_empty() {
        return Err(Refusal::no_user());
    }
    if wanted.database.is_empty() {
        wanted.database = wanted.user.clone();
    }
    Ok(wanted)
}

impl Wanted {
    fn set(&mut self, name: &[u8], value: &[u8]) {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if name == APPLICATION_NAME {
            self.application = Some(clean_application_name(value));
        } else {
            self.settings.push(Setting {
                name: name.into(),
                value: value.into(),
            });
        }
    }
}

/// What PostgreSQL makes of an application_name: at most 63 bytes, other than printable ASCII
/// written as \xHH (`pg_clean_ascii`).
pub fn clean_application_name(value: &[u8]) -> Rc<[u8]> {
    let mut cleaned = Vec::with_capacity(value.len());
    for &byte in &value[..value.len().min(63)] {
        if (b' '..=b'~').contains(&byte) {
            cleaned.push(byte);
        } else {
            cleaned.extend_from_slice(b"?");
        }
    }
    cleaned.into()
}

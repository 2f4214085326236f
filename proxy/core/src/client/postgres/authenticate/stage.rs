//! A shard between clients and a node of the test's own, all in one thread and one buffer each.
//!
//! The node speaks just enough of the protocol to log in and to answer every query with nothing.
//! Knows nothing of the shard's inside but its events and operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifold_protocols::postgres::authentication::md5::Hash;
use manifold_protocols::postgres::authentication::scram::{
    self, Exchange, Keys, MECHANISM, Prover, Verifier,
};
use manifold_protocols::postgres::backend::{
    self, Authentication, ErrorFields, Fields, Message, Severity, Status,
};
use manifold_protocols::postgres::frame::{
    HEADER_LEN, decode_backend_header, decode_frontend_header,
};
use manifold_protocols::postgres::frontend;
use manifold_protocols::postgres::startup::{self, Startup};

use crate::auth::{Auth, Users};
use crate::event::{Address, Event, Failure, Operation, Peer, Socket};
use crate::ids::{ConnId, ListenerId, ServiceId, ShardId};
use crate::limits::Limits;
use crate::permits::Permits;
use crate::proof::{Scope, Statement, Verdict};
use crate::shard::{Settings, Shard};
use crate::time::Instant;
use crate::topology::{Protocol, Service, Target};

/// How the node asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asks {
    Nothing,
    Cleartext,
    Md5,
    Scram,
    /// By SCRAM, and lets in without having proven itself.
    ScramUnproven,
    /// Only with a binding to the channel.
    ScramPlus,
    Ident,
    /// Consents before it was answered.
    TooSoon,
    /// Says nothing.
    Silence,
}

/// A user of the node.
#[derive(Clone, Debug)]
pub struct User {
    pub asks: Asks,
    pub password: &'static str,
    pub verifier: Verifier,
}

/// One connection to the node.
#[derive(Debug, Default)]
pub struct Session {
    pub user: Option<String>,
    pub is_ready: bool,
    pub is_closed: bool,
    has_left: bool,
    /// Queries that it was sent and has not answered.
    unanswered: usize,
    /// Whether its node says that it is a standby.
    is_of_standby: bool,
    /// Where it leads.
    pub address: Option<Address>,
    input: Vec<u8>,
    exchange: Option<Exchange>,
    is_begun: bool,
}

/// One client.
#[derive(Debug, Default)]
pub struct Client {
    conn: Option<ConnId>,
    input: Vec<u8>,
    prover: Option<Prover>,
    user: String,
    password: Option<String>,
    /// What it was asked, in order, by the names of the methods.
    pub asked: Vec<String>,
    /// Every body of a SASL message that it got.
    pub sasl: Vec<Vec<u8>>,
    pub is_ready: bool,
    pub is_closed: bool,
    /// SQLSTATE and message of each error.
    pub errors: Vec<(String, String)>,
    /// How many requests were answered.
    pub answers: usize,
}

/// Everything.
pub struct Stage {
    pub shard: Shard,
    pub now: Instant,
    pub users: BTreeMap<&'static str, User>,
    pub sessions: BTreeMap<ConnId, Session>,
    pub clients: Vec<Client>,
    pub log: Vec<String>,
    /// What every query does.
    pub meaning: Statement,
    /// Whether queries are answered only by `answer_one_each`.
    pub holds_answers: bool,
    /// Whether the node says that it is a standby.
    pub is_standby: bool,
    /// Whether nobody listens.
    pub is_away: bool,
    permits: Arc<Permits>,
}

const SALT: [u8; 4] = [1, 2, 3, 4];

impl Stage {
    /// A shard in front of a node whose users are asked in these ways; the password of each is its
    /// name and " secret".
    pub fn new(
        auth: Auth,
        users: Users,
        connections_max: u32,
        asks: &[(&'static str, Asks)],
    ) -> Self {
        let permits = Arc::new(Permits::new(connections_max));
        let service = Service {
            id: ServiceId(0),
            name: "app".into(),
            listeners: vec![ListenerId(0)],
            target: Target::Address(Address::Unix("node".into())),
            protocol: Protocol::Postgres,
            is_admin: false,
            auth,
            users: Arc::new(users),
            shards: 1,
            permits: Arc::clone(&permits),
            audience: Arc::default(),
            wants_primary: false,
            part_of: None,
            cluster: None,
        };
        let limits = Limits::default();
        let shard = Shard::new(Settings {
            shards: 1,
            id: ShardId(0),
            seed: 5,
            limits,
            services: vec![service],
        });
        let user = |&(name, asks): &(&'static str, Asks)| {
            let password: &'static str = Box::leak(format!("{name} secret").into_boxed_str());
            let verifier = Verifier::derive(password.as_bytes(), b"0123456789abcdef", 10);
            (
                name,
                User {
                    asks,
                    password,
                    verifier,
                },
            )
        };
        Self {
            shard,
            now: Instant(1_000_000_000),
            users: asks.iter().map(user).collect(),
            sessions: BTreeMap::new(),
            clients: Vec::new(),
            log: Vec::new(),
            meaning: Statement::Read,
            holds_answers: false,
            is_standby: false,
            is_away: false,
            permits,
        }
    }

    /// A client of this host logs in; says its place.
    pub fn login(&mut self, user: &str, password: &str) -> usize {
        self.login_from("127.0.0.1:1000", user, Some(password))
    }

    /// A client logs in; without a password it never answers.
    pub fn login_from(&mut self, address: &str, user: &str, password: Option<&str>) -> usize {
        let place = self.clients.len();
        self.clients.push(Client {
            user: user.to_owned(),
            password: password.map(str::to_owned),
            ..Client::default()
        });
        let peer = Peer::Ip(address.parse().unwrap());
        let socket = Socket(place as u64);
        self.shard.handle_event(
            self.now,
            Event::Accepted {
                listener: ListenerId(0),
                socket,
                peer,
            },
        );
        self.run();
        let mut bytes = Vec::new();
        frontend::encode_startup(&mut bytes, 3, 0, &[(b"user", user.as_bytes())]);
        self.send(place, &bytes);
        place
    }

    /// A client sends bytes.
    pub fn send(&mut self, place: usize, bytes: &[u8]) {
        let Some(conn) = self.clients[place].conn else {
            return;
        };
        let mut bytes = bytes.to_vec();
        self.shard.handle_event(
            self.now,
            Event::Received {
                conn,
                bytes: &mut bytes,
            },
        );
        self.run();
    }

    /// A client sends a query.
    pub fn query(&mut self, place: usize) {
        let mut bytes = Vec::new();
        frontend::encode_query(&mut bytes, b"begin");
        self.send(place, &bytes);
    }

    /// A client goes away.
    pub fn leave(&mut self, place: usize) {
        let Some(conn) = self.clients[place].conn else {
            return;
        };
        self.shard.handle_event(self.now, Event::Eof { conn });
        self.run();
    }

    /// The node closes all connections.
    pub fn crash(&mut self) {
        let open = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.is_closed);
        let open: Vec<ConnId> = open.map(|(&conn, _)| conn).collect();
        for conn in open {
            self.shard.handle_event(self.now, Event::Eof { conn });
        }
        self.run();
    }

    /// Time passes.
    pub fn wait(&mut self, millis: u64) {
        let end = Instant(self.now.0 + millis * 1_000_000);
        while let Some(next) = self.shard.poll_timeout().filter(|&next| next <= end) {
            self.now = next.max(self.now);
            self.shard.handle_timeout(self.now);
            self.run();
        }
        self.now = end;
    }

    /// Each connection to the node answers the query that has waited longest.
    pub fn answer_one_each(&mut self) {
        let open = self.sessions.iter_mut();
        let asked = open.filter(|(_, session)| session.unanswered > 0 && !session.is_closed);
        let asked = asked.map(|(&conn, session)| {
            session.unanswered -= 1;
            conn
        });
        for conn in asked.collect::<Vec<_>>() {
            let mut answer = Vec::new();
            backend::encode_command_complete(&mut answer, b"BEGIN");
            backend::encode_ready_for_query(&mut answer, Status::Idle);
            let bytes = answer.as_mut_slice();
            self.shard
                .handle_event(self.now, Event::Received { conn, bytes });
            self.run();
        }
    }

    /// How many connections the node has that are not closed.
    pub fn open(&self) -> usize {
        self.sessions
            .values()
            .filter(|session| !session.is_closed)
            .count()
    }

    /// How many permits are out.
    pub fn held(&self) -> u32 {
        self.permits.connections_max() - self.permits.free()
    }

    /// Passes until nothing is left to do.
    fn run(&mut self) {
        for _ in 0..1_000 {
            self.shard.finish_pass(self.now);
            let mut operations = Vec::new();
            while let Some(operation) = self.shard.poll_operation() {
                operations.push(operation);
            }
            if operations.is_empty() {
                return;
            }
            for operation in operations {
                self.perform(operation);
            }
        }
        panic!("it never comes to rest");
    }

    fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Adopt { conn, socket } => {
                self.clients[socket.0 as usize].conn = Some(conn);
            }
            Operation::Connect { conn, .. } if self.is_away => {
                let failure = Failure::Refused;
                self.shard
                    .handle_event(self.now, Event::Failed { conn, failure });
            }
            Operation::Connect { conn, address } => {
                let session = Session {
                    is_of_standby: self.is_standby,
                    address: Some(address),
                    ..Session::default()
                };
                self.sessions.insert(conn, session);
                self.shard.handle_event(self.now, Event::Connected { conn });
            }
            Operation::Send { conn, buffer } => {
                let sent = buffer.len();
                let bytes = buffer.clone();
                self.shard
                    .handle_event(self.now, Event::Sent { conn, buffer, sent });
                self.deliver(conn, &bytes);
            }
            Operation::Close { conn } => {
                self.place(
                    conn,
                    |session| session.is_closed = true,
                    |client| {
                        client.is_closed = true;
                        client.conn = None;
                    },
                );
                self.shard.handle_event(self.now, Event::Closed { conn });
            }
            Operation::Classify { ticket, .. } => {
                let statements = Box::new([self.meaning.clone()]);
                let verdict = Verdict {
                    statements,
                    scope: Scope::Text,
                    freezes: false,
                };
                let verdict = Arc::new(verdict);
                self.shard
                    .handle_event(self.now, Event::Classified { ticket, verdict });
            }
            Operation::Catalog { database, .. } => {
                let event = Event::CatalogReady {
                    database,
                    understood: true,
                };
                self.shard.handle_event(self.now, event);
            }
            Operation::Log { text, .. } => self.log.push(text),
            _ => {}
        }
    }

    fn place(&mut self, conn: ConnId, node: impl Fn(&mut Session), client: impl Fn(&mut Client)) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            node(session);
        }
        if let Some(found) = self.clients.iter_mut().find(|it| it.conn == Some(conn)) {
            client(found);
        }
    }

    fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut answer = Vec::new();
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.input.extend_from_slice(bytes);
            session.read(&self.users, self.holds_answers, &mut answer);
        } else if let Some(client) = self.clients.iter_mut().find(|it| it.conn == Some(conn)) {
            client.input.extend_from_slice(bytes);
            client.read(&mut answer);
        }
        if self
            .sessions
            .get(&conn)
            .is_some_and(|session| session.has_left)
        {
            self.shard.handle_event(self.now, Event::Eof { conn });
        }
        if !answer.is_empty() {
            self.shard.handle_event(
                self.now,
                Event::Received {
                    conn,
                    bytes: &mut answer,
                },
            );
        }
    }
}

impl Session {
    fn read(
        &mut self,
        users: &BTreeMap<&'static str, User>,
        holds_answers: bool,
        out: &mut Vec<u8>,
    ) {
        let input = core::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        if self.user.is_none() {
            let Ok(Some((Startup::Start(start), len))) = startup::decode(rest, 10_000) else {
                return;
            };
            let name = start
                .parameters()
                .find(|(name, _)| name == b"user")
                .unwrap()
                .1;
            let name = String::from_utf8(name.to_vec()).unwrap();
            rest = &rest[len..];
            match users.get(name.as_str()) {
                Some(user) => self.ask(user.asks, out),
                None => refuse(out, *b"28000", &format!("role \"{name}\" does not exist")),
            }
            self.user = Some(name);
        }
        while let Ok(Some(header)) = decode_frontend_header(rest, 1 << 20) {
            let (message, tail) = rest.split_at(header.len);
            rest = tail;
            match header.tag {
                b'p' => {
                    let user = &users[self.user.as_deref().unwrap()];
                    self.check(user, &message[HEADER_LEN..], out);
                }
                b'X' => self.has_left = true,
                b'Q' if holds_answers => self.unanswered += 1,
                b'Q' => {
                    backend::encode_command_complete(out, b"BEGIN");
                    backend::encode_ready_for_query(out, Status::Idle);
                }
                _ => backend::encode_ready_for_query(out, Status::Idle),
            }
        }
        self.input = rest.to_vec();
    }

    fn ask(&mut self, asks: Asks, out: &mut Vec<u8>) {
        match asks {
            Asks::Nothing => self.let_in(out),
            Asks::Cleartext => backend::encode_authentication_cleartext(out),
            Asks::Md5 => backend::encode_authentication_md5(out, SALT),
            Asks::Scram | Asks::ScramUnproven => {
                let mechanisms: [&[u8]; 2] = [b"SCRAM-SHA-256-PLUS", MECHANISM];
                backend::encode_authentication_sasl(out, &mechanisms);
            }
            Asks::ScramPlus => {
                backend::encode_authentication_sasl(out, &[b"SCRAM-SHA-256-PLUS"]);
            }
            Asks::Ident => out.extend_from_slice(b"R\0\0\0\x08\0\0\0\x07"),
            Asks::TooSoon => {
                backend::encode_authentication_md5(out, SALT);
                self.let_in(out);
            }
            Asks::Silence => {}
        }
    }

    fn check(&mut self, user: &User, body: &[u8], out: &mut Vec<u8>) {
        let name = self.user.clone().unwrap();
        let is_right = match user.asks {
            Asks::Cleartext => frontend::decode_password(body).unwrap() == user.password.as_bytes(),
            Asks::Md5 => Hash::derive(user.password.as_bytes(), name.as_bytes())
                .verify(SALT, frontend::decode_password(body).unwrap()),
            Asks::Scram | Asks::ScramUnproven if !self.is_begun => {
                let initial = frontend::decode_sasl_initial(body).unwrap();
                assert_eq!(initial.mechanism, MECHANISM);
                let mut exchange = Exchange::new(user.verifier.clone(), [7; 18]);
                let answer = exchange.handle_client_first(initial.data.unwrap()).unwrap();
                backend::encode_authentication_sasl_continue(out, &answer);
                self.exchange = Some(exchange);
                self.is_begun = true;
                return;
            }
            Asks::Scram => match self
                .exchange
                .take()
                .unwrap()
                .handle_client_final(body)
                .unwrap()
            {
                scram::Verdict::Accepted { server_final, .. } => {
                    backend::encode_authentication_sasl_final(out, &server_final);
                    true
                }
                scram::Verdict::Rejected => false,
            },
            Asks::ScramUnproven => true,
            _ => panic!("nobody was asked"),
        };
        if is_right {
            self.let_in(out);
        } else {
            refuse(out, *b"28P01", &format!("the node says no to \"{name}\""));
        }
    }

    fn let_in(&mut self, out: &mut Vec<u8>) {
        self.is_ready = true;
        backend::encode_authentication_ok(out);
        backend::encode_parameter_status(out, b"server_version", b"15.0");
        if self.is_of_standby {
            backend::encode_parameter_status(out, b"in_hot_standby", b"on");
        }
        backend::encode_backend_key_data(out, 7, &[0; 4]);
        backend::encode_ready_for_query(out, Status::Idle);
    }
}

fn refuse(out: &mut Vec<u8>, sqlstate: [u8; 5], text: &str) {
    backend::encode_error(out, &ErrorFields::new(Severity::Fatal, sqlstate, text));
}

impl Client {
    fn read(&mut self, out: &mut Vec<u8>) {
        let input = core::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Ok(Some(header)) = decode_backend_header(rest, 1 << 20) {
            let (message, tail) = rest.split_at(header.len);
            rest = tail;
            match backend::decode(header.tag, &message[HEADER_LEN..]).unwrap() {
                Message::Authentication(request) => self.answer(&request, out),
                Message::ErrorResponse(fields) => self.errors.push(words(fields)),
                Message::ReadyForQuery(_) => {
                    self.answers += usize::from(self.is_ready);
                    self.is_ready = true;
                }
                _ => {}
            }
        }
        self.input = rest.to_vec();
    }

    fn answer(&mut self, request: &Authentication<'_>, out: &mut Vec<u8>) {
        let password = self.password.clone();
        match request {
            Authentication::CleartextPassword => {
                self.asked.push("cleartext".to_owned());
                let Some(password) = password else { return };
                frontend::encode_password(out, password.as_bytes());
            }
            Authentication::Md5Password { salt } => {
                self.asked.push("md5".to_owned());
                let Some(password) = password else { return };
                let hash = Hash::derive(password.as_bytes(), self.user.as_bytes());
                frontend::encode_password(out, &hash.answer(*salt));
            }
            Authentication::Sasl { mechanisms } => {
                let names: Vec<String> = mechanisms
                    .map(|name| String::from_utf8_lossy(name).into_owned())
                    .collect();
                self.asked.push(names.join(","));
                if password.is_none() {
                    return;
                }
                let prover = Prover::new([3; 18]);
                frontend::encode_sasl_initial(out, MECHANISM, &prover.first_message());
                self.prover = Some(prover);
            }
            Authentication::SaslContinue(data) => {
                self.sasl.push(data.to_vec());
                let prover = self.prover.as_mut().unwrap();
                let challenge = prover.decode_challenge(data).unwrap();
                let keys = Keys::derive(password.unwrap().as_bytes(), &challenge);
                frontend::encode_sasl_response(out, &prover.answer(data, &challenge, &keys));
            }
            Authentication::SaslFinal(data) => {
                self.sasl.push(data.to_vec());
                self.prover.as_ref().unwrap().verify(data).unwrap();
            }
            Authentication::Ok => {}
            Authentication::Other(_) => panic!("asked for something unknown"),
        }
    }
}

fn words(fields: Fields<'_>) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(fields.sqlstate()), text(fields.message()))
}

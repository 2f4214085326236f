//! A shard between Redis clients and a node that a test plays: events in, operations out.
//!
//! Greetings, questions for permission and RESET on a hub are answered as a node answers them; what
//! else the proxy asks waits until the test says something. Bytes are shown with spaces for line
//! ends. Knows no command.

mod greeting;

use core::net::SocketAddr;

use std::collections::BTreeMap;
use std::sync::Arc;

use manifold_protocols::redis::resp::inline::{write_bulk, write_request};
use manifold_protocols::redis::resp::request::{Arguments, Finder, Found};

use crate::audience::Audience;
use crate::auth::{Auth, Users};
use crate::event::{Address, Event, Failure, Lead, Operation, Peer, Socket};
use crate::ids::{ConnId, ListenerId, ServiceId, ShardId};
use crate::limits::Limits;
use crate::permits::Permits;
use crate::roster::Roster;
use crate::shard::{Settings, Shard};
use crate::time::Instant;
use crate::topology::{Protocol, Service, Target};

use greeting::{Answers, greeting_of, slots_of};

/// One shard, its clients, and its connections to the node in the order in which they were opened.
pub(crate) struct Stage {
    shard: Shard,
    service: Service,
    now: Instant,
    clients: Vec<Side>,
    upstreams: Vec<Side>,
    /// Connections that the proxy does not read.
    paused: Vec<ConnId>,
    /// Sends to clients that do not read, and to connections on which the node does not.
    held: BTreeMap<ConnId, Vec<u8>>,
    /// What every node answers to CLUSTER SLOTS: the last slot of each port, in their order.
    map: Vec<(u16, u16)>,
    /// Nodes that take no connections.
    dead: Vec<u16>,
    /// How often the map has been asked for.
    maps_asked: usize,
    /// Things that nodes were asked.
    asked: usize,
    /// The node has not loaded its data.
    pub is_loading: bool,
    /// Nodes that say that they are replicas.
    pub replicas: Vec<u16>,
    /// What all say instead of their roles, if they do not.
    pub role_refused: &'static str,
    /// What it answers to CLIENT SETNAME.
    pub naming: &'static str,
    /// And to CLIENT INFO.
    pub info: String,
    /// How many threads the node reads with.
    pub threads: u32,
    /// How often the node was asked for its commands, and refused.
    pub commands_asked: usize,
}

/// One connection as the other side sees it.
#[derive(Default)]
struct Side {
    conn: Option<ConnId>,
    /// The port of the node that it leads to.
    port: u16,
    /// What came and nobody has asked about.
    got: Vec<u8>,
    finder: Finder,
    reads: bool,
    /// It has been asked for a subscription.
    is_hub: bool,
    /// When something else than a greeting came last, as a count of such things.
    asked_at: usize,
    /// The next PING ends a greeting.
    is_greeting: bool,
    is_closed: bool,
    /// The node does not read here.
    is_stuck: bool,
}

/// The permits and the audience of a node, for stages that share it.
#[derive(Default)]
pub(crate) struct Shared {
    pub audience: Audience,
}

impl Stage {
    /// A shard with nothing special.
    pub fn new() -> Self {
        Self::with(Limits::default(), 4, &Shared::default())
    }

    /// A shard with these limits, beside others.
    pub fn with(limits: Limits, connections_max: u32, shared: &Shared) -> Self {
        Self::of(limits, connections_max, shared, false)
    }

    /// A shard before a cluster of three nodes, on ports 7001 to 7003, that every client finds on
    /// 127.0.0.1:6380.
    pub fn before_cluster(limits: Limits) -> Self {
        let mut stage = Self::of(limits, 4, &Shared::default(), true);
        stage.map = vec![(5460, 7001), (10_922, 7002), (16_383, 7003)];
        stage
    }

    /// A shard that wants the primary among these ports.
    pub fn before_nodes(ports: &[u16]) -> Self {
        let mut stage = Self::of(Limits::default(), 4, &Shared::default(), false);
        let mut service = stage.service.clone();
        service.target = Target::Name("name".into());
        service.wants_primary = true;
        stage.begin(Limits::default(), service);
        stage.lead(Lead::Among(ports.iter().copied().map(at).collect()));
        stage
    }

    /// Somebody says who leads.
    pub fn lead(&mut self, lead: Lead) {
        let service = ServiceId(0);
        self.handle(Event::Resolved { service, lead });
    }

    fn begin(&mut self, limits: Limits, service: Service) {
        self.service = service.clone();
        self.shard = Shard::new(Settings {
            id: ShardId(0),
            shards: 1,
            seed: 5,
            limits,
            services: vec![service],
        });
    }

    fn of(limits: Limits, connections_max: u32, shared: &Shared, is_cluster: bool) -> Self {
        let announced = Some(SocketAddr::from(([127, 0, 0, 1], 6380)));
        let target = match is_cluster {
            true => Address::Ip(SocketAddr::from(([127, 0, 0, 1], 7001))),
            false => Address::Unix("node".into()),
        };
        let service = Service {
            id: ServiceId(0),
            name: "cache".into(),
            listeners: vec![ListenerId(0)],
            target: Target::Address(target),
            protocol: Protocol::Redis,
            is_admin: false,
            auth: Auth::Relay,
            users: Arc::new(Users::default()),
            shards: 1,
            permits: Arc::new(Permits::new(connections_max)),
            audience: Arc::new(shared.audience.share()),
            wants_primary: false,
            part_of: None,
            cluster: is_cluster.then(|| Arc::new(Roster::new(connections_max, announced))),
        };
        let shard = Shard::new(Settings {
            id: ShardId(0),
            shards: 1,
            seed: 5,
            limits,
            services: vec![service.clone()],
        });
        Self {
            shard,
            service,
            now: Instant(1_000_000_000),
            clients: Vec::new(),
            upstreams: Vec::new(),
            paused: Vec::new(),
            held: BTreeMap::new(),
            map: Vec::new(),
            dead: Vec::new(),
            maps_asked: 0,
            asked: 0,
            is_loading: false,
            replicas: Vec::new(),
            role_refused: "",
            naming: "+OK",
            info: "-NOPERM".into(),
            threads: 1,
            commands_asked: 0,
        }
    }

    /// Slots up to the first number are the node's on the second from now on; and so on.
    pub fn set_map(&mut self, map: &[(u16, u16)]) {
        self.map = map.to_vec();
    }

    /// How often the map has been asked for.
    pub fn maps_asked(&self) -> usize {
        self.maps_asked
    }

    /// A node dies: it closes its connections and takes no others.
    pub fn kill(&mut self, port: u16) {
        self.dead.push(port);
        for place in 0..self.upstreams.len() {
            let side = &self.upstreams[place];
            if side.port == port && side.conn.is_some() {
                self.lose(place);
            }
        }
    }

    /// What the node on a port was asked since it was looked at last, on whatever connection.
    pub fn asked_at(&mut self, port: u16) -> String {
        let places = 0..self.upstreams.len();
        let at_port: Vec<_> = places
            .filter(|&it| self.upstreams[it].port == port)
            .collect();
        let asked = at_port.into_iter().map(|place| self.asked(place));
        let asked: Vec<_> = asked.filter(|asked| !asked.is_empty()).collect();
        asked.join(" | ")
    }

    /// The node on a port says something, on the connection on which it was asked last.
    pub fn say_at(&mut self, port: u16, text: &str) {
        self.say(self.asked_last_at(port), text);
    }

    /// The node on a port refuses, in one line.
    pub fn refuse_at(&mut self, port: u16, line: &str) {
        let line = format!("-{line}\r\n");
        self.say_raw(self.asked_last_at(port), line.as_bytes());
    }

    fn asked_last_at(&self, port: u16) -> usize {
        let asked = |(_, side): &(usize, &Side)| side.port == port && side.conn.is_some();
        let sides = self.upstreams.iter().enumerate().filter(asked);
        let last = sides.max_by_key(|(_, side)| side.asked_at);
        last.expect("it was asked").0
    }

    /// A client comes; says its place.
    pub fn client(&mut self) -> usize {
        let place = self.clients.len();
        self.clients.push(Side {
            reads: true,
            ..Side::default()
        });
        let accepted = Event::Accepted {
            listener: ListenerId(0),
            socket: Socket(place as u64),
            peer: Peer::Unix,
        };
        self.handle(accepted);
        place
    }

    /// A client of RESP3 comes, by way of the node's answer to HELLO.
    pub fn client_of_three(&mut self) -> usize {
        let place = self.client();
        self.send(place, "HELLO 3");
        self.heard(place);
        place
    }

    /// A client sends a command, in words between spaces.
    pub fn send(&mut self, place: usize, words: &str) {
        let words: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        write_request(&mut bytes, words.into_iter());
        let conn = self.clients[place].conn.expect("it is connected");
        let bytes = bytes.as_mut_slice();
        self.handle(Event::Received { conn, bytes });
    }

    /// A client sends bytes, with spaces for line ends.
    pub fn send_raw(&mut self, place: usize, text: &str) {
        let mut bytes = (text.replace(' ', "\r\n") + "\r\n").into_bytes();
        let conn = self.clients[place].conn.expect("it is connected");
        let bytes = bytes.as_mut_slice();
        self.handle(Event::Received { conn, bytes });
    }

    /// A client sends a command; what it gets at once.
    pub fn ask(&mut self, place: usize, words: &str) -> String {
        self.send(place, words);
        self.heard(place)
    }

    /// What a client has got since it was asked last.
    pub fn heard(&mut self, place: usize) -> String {
        shown(&core::mem::take(&mut self.clients[place].got))
    }

    /// Whether a client has got anything since.
    pub fn has_heard(&self, place: usize) -> bool {
        !self.clients[place].got.is_empty()
    }

    /// A client does not read for now.
    pub fn stop_reading(&mut self, place: usize) {
        self.clients[place].reads = false;
    }

    /// A client goes.
    pub fn leave(&mut self, place: usize) {
        let conn = self.clients[place].conn.expect("it is connected");
        self.handle(Event::Eof { conn });
    }

    /// Whether the proxy has closed a client's connection.
    pub fn is_closed(&self, place: usize) -> bool {
        self.clients[place].is_closed
    }

    /// Connections that were ever asked for a subscription.
    pub fn hubs(&self) -> usize {
        self.upstreams.iter().filter(|side| side.is_hub).count()
    }

    /// The newest of them.
    pub fn hub(&self) -> usize {
        let place = self.upstreams.iter().rposition(|side| side.is_hub);
        place.expect("a subscription was asked for")
    }

    /// How many connections the node has had.
    pub fn connections(&self) -> usize {
        self.upstreams.len()
    }

    /// Connections to the node on a port.
    pub fn connections_at(&self, port: u16) -> usize {
        let open = self.upstreams.iter().filter(|side| side.conn.is_some());
        open.filter(|side| side.port == port).count()
    }

    /// On how many connections the node was asked for a value.
    pub fn lanes(&self) -> usize {
        let is_asked = |side: &&Side| side.got.windows(5).any(|part| part == b"\nGET\r");
        self.upstreams.iter().filter(is_asked).count()
    }

    /// The newest connection on which the node was asked something that begins so.
    pub fn on(&mut self, words: &str) -> usize {
        let mut begin = Vec::new();
        for word in words.split(' ') {
            write_bulk(&mut begin, word.as_bytes());
        }
        let asked = |side: &Side| side.got.windows(begin.len()).any(|part| part == begin);
        let place = self.upstreams.iter().rposition(asked);
        place.expect("the node was asked")
    }

    /// What the node was asked on a connection since it was looked at last, greetings aside.
    pub fn asked(&mut self, place: usize) -> String {
        let got = core::mem::take(&mut self.upstreams[place].got);
        let mut rest = &got[..];
        let mut asked = Vec::new();
        while let Ok(Found::Whole { len, .. }) = Finder::default().find(rest, 1 << 20) {
            let words = Arguments::of(&rest[..len]).map(String::from_utf8_lossy);
            asked.push(words.collect::<Vec<_>>().join(" "));
            rest = &rest[len..];
        }
        asked.join("; ")
    }

    /// Every byte that a connection to the node has brought since it was looked at last.
    pub fn brought(&mut self, place: usize) -> String {
        let side = &mut self.upstreams[place];
        side.finder = Finder::default();
        shown(&core::mem::take(&mut side.got))
    }

    /// Whether the proxy has closed a connection to the node.
    pub fn is_gone(&self, place: usize) -> bool {
        self.upstreams[place].is_closed
    }

    /// Whether the proxy reads what a client sends.
    pub fn is_read(&self, place: usize) -> bool {
        let conn = self.clients[place].conn;
        conn.is_some_and(|conn| !self.paused.contains(&conn))
    }

    /// The node does not read on a connection for now.
    pub fn stop_taking(&mut self, place: usize) {
        self.upstreams[place].is_stuck = true;
    }

    /// It reads everything that it was sent, and goes on.
    pub fn take_on(&mut self, place: usize) {
        self.upstreams[place].is_stuck = false;
        let conn = self.upstreams[place].conn.expect("it is connected");
        if let Some(buffer) = self.held.remove(&conn) {
            self.take(conn, buffer);
        }
        self.run();
    }

    /// The node says something, with spaces for line ends.
    pub fn say(&mut self, place: usize, text: &str) {
        let text = text.replace(' ', "\r\n") + "\r\n";
        self.say_raw(place, text.as_bytes());
    }

    /// The node says something.
    pub fn say_raw(&mut self, place: usize, bytes: &[u8]) {
        let conn = self.upstreams[place].conn.expect("it is connected");
        let mut bytes = bytes.to_vec();
        let bytes = bytes.as_mut_slice();
        self.handle(Event::Received { conn, bytes });
    }

    /// The node closes a connection.
    pub fn lose(&mut self, place: usize) {
        let conn = self.upstreams[place].conn.expect("it is connected");
        self.handle(Event::Eof { conn });
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

    fn handle(&mut self, event: Event<'_>) {
        self.shard.handle_event(self.now, event);
        self.run();
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
            Operation::Connect { conn, address } => {
                let port = match address {
                    Address::Ip(address) => address.port(),
                    Address::Unix(_) => 0,
                };
                self.upstreams.push(Side {
                    conn: Some(conn),
                    port,
                    ..Side::default()
                });
                let event = match self.dead.contains(&port) {
                    true => Event::Failed {
                        conn,
                        failure: Failure::Refused,
                    },
                    false => Event::Connected { conn },
                };
                self.shard.handle_event(self.now, event);
            }
            Operation::Send { conn, buffer } => self.take(conn, buffer),
            Operation::Close { conn } => {
                let sides = self.clients.iter_mut().chain(&mut self.upstreams);
                for side in sides.filter(|side| side.conn == Some(conn)) {
                    side.conn = None;
                    side.is_closed = true;
                }
                if let Some(buffer) = self.held.remove(&conn) {
                    let sent = Event::Sent {
                        conn,
                        buffer,
                        sent: 0,
                    };
                    self.shard.handle_event(self.now, sent);
                }
                self.shard.handle_event(self.now, Event::Closed { conn });
            }
            Operation::Pause { conn } => self.paused.push(conn),
            Operation::Resume { conn } => self.paused.retain(|it| *it != conn),
            _ => {}
        }
    }

    /// Something is sent to one side or the other.
    fn take(&mut self, conn: ConnId, buffer: Vec<u8>) {
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|side| side.conn == Some(conn)) {
            if !client.reads {
                self.held.insert(conn, buffer);
                return;
            }
            client.got.extend_from_slice(&buffer);
        }
        let mut stuck = self.upstreams.iter().filter(|side| side.is_stuck);
        if stuck.any(|side| side.conn == Some(conn)) {
            self.held.insert(conn, buffer);
            return;
        }
        let bytes = buffer.clone();
        let sent = buffer.len();
        let event = Event::Sent { conn, buffer, sent };
        self.shard.handle_event(self.now, event);
        let mut upstreams = self.upstreams.iter_mut();
        let Some(upstream) = upstreams.find(|side| side.conn == Some(conn)) else {
            return;
        };
        upstream.got.extend_from_slice(&bytes);
        self.commands_asked += bytes.windows(9).filter(|it| it == b"\nCOMMAND\r").count();
        let ready: &'static [u8] = match self.is_loading {
            true => b"-LOADING not yet\r\n",
            false => b"+PONG\r\n",
        };
        let threads = self.threads.to_string();
        let length = threads.len();
        let answers = Answers {
            ready,
            slots: slots_of(&self.map),
            threads: format!("*2\r\n$10\r\nio-threads\r\n${length}\r\n{threads}\r\n"),
            naming: format!("{}\r\n", self.naming),
            info: format!("{}\r\n", self.info),
            role: match (self.role_refused, self.replicas.contains(&upstream.port)) {
                ("", true) => "*2\r\n$5\r\nslave\r\n:1\r\n",
                ("", false) => "*2\r\n$6\r\nmaster\r\n:1\r\n",
                (refused, _) => refused,
            },
        };
        let (mut greeted, maps_asked) = greeting_of(upstream, &answers);
        self.maps_asked += maps_asked;
        if !upstream.got.is_empty() {
            self.asked += 1;
            upstream.asked_at = self.asked;
        }
        if !greeted.is_empty() {
            let bytes = greeted.as_mut_slice();
            let event = Event::Received { conn, bytes };
            self.shard.handle_event(self.now, event);
        }
    }
}

/// The address of a port.
pub(crate) fn at(port: u16) -> Address {
    Address::Ip(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", " ");
    text.trim_end().to_owned()
}

//! A simulated PostgreSQL node: many sessions over one database, one step at a time.
//!
//! Knows bytes in and bytes out per session, no network and no clock. Used twice: as the node
//! behind the proxy, and with one session as the private connection that a client's replies are
//! compared with. Invariant: what a session does depends on its bytes and the database only.

pub mod database;
mod execute;
pub mod extended;
mod locks;
mod login;
mod messages;
pub mod play;
mod query;
pub mod report;
mod session;
mod settings;
mod transaction;

use std::collections::BTreeMap;

use manifold_core::time::Instant;

pub use database::{Database, Service};
pub use login::{Asks, Users, verifier_of};
pub use session::Session;

pub use super::serves::SessionId;

use super::prng::Prng;
use super::serves::{Serves, Standing};
use login::Login;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What the sessions share.
    pub database: Database,
    /// Who may log in, and how.
    pub users: Users,
    sessions: BTreeMap<SessionId, Session>,
    sessions_made: u64,
    prng: Prng,
}

impl Node {
    /// A node without sessions.
    pub fn new(users: Users, service: Service, mut prng: Prng) -> Self {
        let database = Database::new(service, prng.fork());
        Self {
            database,
            users,
            sessions: BTreeMap::new(),
            sessions_made: 0,
            prng,
        }
    }

    /// A connection is accepted.
    pub fn accept(&mut self) -> SessionId {
        self.sessions_made += 1;
        let id = SessionId(self.sessions_made);
        let pid = 1000 + self.sessions_made as u32;
        let secret = self.prng.next() as u32;
        let login = Login::new(self.users.clone(), self.prng.next());
        self.sessions
            .insert(id, Session::new(id, pid, secret, login));
        id
    }

    /// Bytes arrive for a session.
    pub fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.input.extend(bytes);
        }
    }

    /// The sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// One session.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Takes the bytes that a session wants to send, up to `bytes_max`.
    pub fn take_output(&mut self, id: SessionId, bytes_max: usize) -> Vec<u8> {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Vec::new();
        };
        let count = session.output.len().min(bytes_max);
        session.output.drain(..count).collect()
    }

    /// Does one step of a session.
    pub fn step(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.step(now, &mut self.database);
        if let Some((pid, secret)) = session.take_cancel() {
            self.cancel(pid, secret);
        }
        for (pid, channel, payload) in core::mem::take(&mut self.database.notifications) {
            for session in self.sessions.values_mut() {
                session.notify(pid, &channel, &payload);
            }
        }
    }

    /// A cancel request: a signal to whatever that process does now.
    fn cancel(&mut self, pid: u32, secret: u32) {
        let hits_next = self.prng.chance(500);
        let is_meant = |session: &&mut Session| session.pid == pid && session.secret == secret;
        if let Some(session) = self.sessions.values_mut().find(is_meant) {
            if let Some(token) = session.writing_token() {
                self.database.cancelled.push(token.to_owned());
            }
            session.cancel(hits_next);
        }
    }

    /// A session that has logged in says something out of turn.
    pub fn say(&mut self, id: SessionId, text: &str) {
        if let Some(session) = self
            .sessions
            .get_mut(&id)
            .filter(|session| session.is_logged_in())
        {
            let notice = report::Report {
                severity: "NOTICE",
                code: "00000",
                message: text.into(),
            };
            notice.send(&mut session.output);
        }
    }

    /// The connection of a session is gone, or its process is: nothing of it remains but commits.
    pub fn remove(&mut self, id: SessionId) {
        if let Some(mut session) = self.sessions.remove(&id) {
            session.end(&mut self.database);
        }
    }

    /// Rolls a session's transaction back behind its back: the private connection follows a client
    /// that was told so.
    pub fn lose_transaction(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.roll_back(&mut self.database);
        }
    }

    /// From here on a session's statements get new plans where a node refuses the old ones, or no
    /// longer.
    pub fn renew_plans(&mut self, id: SessionId, renews: bool) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.renews_plans = renews;
        }
    }

    /// Does every step that needs neither bytes nor time, of a node that runs for one client only,
    /// and takes what the session says.
    pub fn run(&mut self, id: SessionId) -> Vec<u8> {
        let now = Instant(u64::MAX);
        let mut said = Vec::new();
        while self
            .sessions
            .get(&id)
            .is_some_and(|session| session.is_ready(now, &self.database))
        {
            self.step(id, now);
            said.append(&mut self.take_output(id, usize::MAX));
        }
        said
    }
}

impl Serves for Node {
    fn accept(&mut self, _door: usize) -> SessionId {
        Self::accept(self)
    }

    fn standing(&self, id: SessionId, now: Instant) -> Option<Standing> {
        let session = self.session(id)?;
        Some(Standing {
            is_ready: session.is_ready(now, &self.database),
            is_busy: session.is_busy(),
            has_ended: session.has_ended(),
            has_output: !session.output.is_empty(),
            is_counted: session.is_logged_in(),
        })
    }

    fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        Self::receive(self, id, bytes);
    }

    fn step(&mut self, id: SessionId, now: Instant) {
        Self::step(self, id, now);
    }

    fn take_output(&mut self, id: SessionId, bytes_max: usize) -> Vec<u8> {
        Self::take_output(self, id, bytes_max)
    }

    fn remove(&mut self, id: SessionId) {
        Self::remove(self, id);
    }

    fn next_time(&self, now: Instant) -> Option<Instant> {
        let times = self.sessions().filter_map(Session::next_time);
        times.filter(|time| *time > now).min()
    }

    fn sessions_made(&self) -> u64 {
        self.sessions_made
    }

    fn committed(&self) -> u64 {
        self.database.ledger.len() as u64
    }

    fn terminate(&mut self, id: SessionId) {
        let session = self.sessions.get_mut(&id);
        if let Some(session) = session.filter(|session| session.is_logged_in()) {
            session.is_terminated = true;
        }
    }

    fn sessions_open(&self) -> usize {
        self.sessions.len()
    }
}

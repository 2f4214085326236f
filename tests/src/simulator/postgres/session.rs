//! One session of a simulated node: takes frames in order and does one step at a time.
//!
//! Knows when things are done; what a statement does is in `execute`, what a message does in
//! `messages`. Invariant: a message begins only when the one before it has ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use manifold_core::time::Instant;

use super::SessionId;
use super::database::Database;
use super::locks::{LockKey, Mode};
use super::login::Login;
use super::query::is_write;
use super::report::{Report, Row, send_notification, send_setting};
use super::settings::Settings;
use super::transaction::{Block, Cursor, Transaction};
use crate::simulator::statement::Sql;
use crate::simulator::wire::Body;

/// Unsent bytes above which a session does nothing more.
const OUTPUT_HIGH: usize = 8192;

/// Where a session stands in its life.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Before the first ReadyForQuery.
    Login(Login),
    /// Taking requests.
    Ready,
    /// Taking COPY data for this statement.
    CopyIn {
        /// Where the COPY came from.
        source: Source,
        /// What came so far.
        data: Vec<u8>,
    },
    /// Over: nothing is read any more.
    Ended,
}

/// Where a statement came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// A Query.
    Query,
    /// An Execute.
    Execute {
        /// Of this portal.
        portal: String,
        /// Its row limit; 0 is none.
        rows_max: usize,
    },
}

/// A statement under way.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub sql: Sql,
    pub token: Option<String>,
    pub source: Source,
    pub until: Instant,
    pub wait: Option<(LockKey, Mode)>,
}

/// A prepared statement.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// `None` is the empty statement.
    pub sql: Option<Sql>,
    /// The columns it was prepared with.
    pub columns: Vec<String>,
    /// The parameter types it was given or found.
    pub types: Vec<i32>,
}

/// A portal.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub sql: Option<Sql>,
    pub columns: Vec<String>,
    pub token: Option<String>,
    /// The rows that were not sent yet, last first, once it has run.
    pub rows: Option<Vec<Row>>,
    pub tag: String,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which one.
    pub id: SessionId,
    /// Its process id.
    pub pid: u32,
    /// What a cancel needs besides.
    pub secret: u32,
    /// Who logged in.
    pub user: String,
    /// Bytes to send.
    pub output: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) phase: Phase,
    pub(super) settings: Settings,
    pub(super) transaction: Transaction,
    pub(super) statements: BTreeMap<String, Prepared>,
    pub(super) portals: BTreeMap<String, Portal>,
    pub(super) temporary: BTreeMap<String, Vec<String>>,
    pub(super) cursors: BTreeMap<String, Cursor>,
    pub(super) channels: BTreeSet<String>,
    pub(super) advisory: BTreeMap<u32, u32>,
    pub(super) task: Option<Task>,
    /// What is left of a Query, and whether it held several statements.
    pub(super) query: Option<(VecDeque<Sql>, bool)>,
    /// After an error in an extended message, until Sync.
    pub(super) is_skipping: bool,
    pub(super) is_cancelled: bool,
    pub(super) is_terminated: bool,
    /// Notifications that wait for the end of the transaction.
    pub(super) notifications: Vec<(u32, String, String)>,
    /// A token whose statement left state that only a private connection may see.
    pub(super) dirty_by: Option<String>,
    /// Plans that no longer fit are made anew rather than refused.
    pub(super) renews_plans: bool,
}

impl Session {
    pub(super) fn new(id: SessionId, pid: u32, secret: u32, login: Login) -> Self {
        Self {
            id,
            pid,
            secret,
            user: String::new(),
            output: Vec::new(),
            input: Vec::new(),
            phase: Phase::Login(login),
            settings: Settings::default(),
            transaction: Transaction::default(),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            temporary: BTreeMap::new(),
            cursors: BTreeMap::new(),
            channels: BTreeSet::new(),
            advisory: BTreeMap::new(),
            task: None,
            query: None,
            is_skipping: false,
            is_cancelled: false,
            is_terminated: false,
            notifications: Vec::new(),
            dirty_by: None,
            renews_plans: false,
        }
    }

    /// Whether the session is over: once its output is sent, the connection closes.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Whether a statement is being run or waits for a lock.
    pub fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    /// Whether the session has logged in.
    pub fn is_logged_in(&self) -> bool {
        !matches!(self.phase, Phase::Login(_)) && !self.user.is_empty()
    }

    /// The token of the statement under way, if it has one and writes.
    pub(super) fn writing_token(&self) -> Option<&str> {
        let task = self.task.as_ref().filter(|task| is_write(&task.sql))?;
        task.token.as_deref()
    }

    /// Whether a step can be done now.
    pub fn is_ready(&self, now: Instant, database: &Database) -> bool {
        if self.has_ended() || self.output.len() > OUTPUT_HIGH {
            return false;
        }
        if self.is_terminated {
            return true;
        }
        match &self.task {
            Some(_) if self.is_cancelled => true,
            Some(task) if task.until > now => false,
            Some(task) => task
                .wait
                .is_none_or(|(key, mode)| database.locks.is_free_for(self.id, key, mode)),
            None => self.is_mid_query() || self.has_message(),
        }
    }

    /// When a step may become possible without anything else happening.
    pub fn next_time(&self) -> Option<Instant> {
        self.task.as_ref().map(|task| task.until)
    }

    /// Whether a Query has more to do without another message.
    fn is_mid_query(&self) -> bool {
        self.query.is_some() && !matches!(self.phase, Phase::CopyIn { .. })
    }

    /// Does one step. Call when `is_ready`.
    pub fn step(&mut self, now: Instant, database: &mut Database) {
        if self.is_terminated {
            let text = "terminating connection due to administrator command";
            self.die(&Report::fatal("57P01", text), database);
        } else if let Some(task) = self.task.take() {
            self.continue_task(task, database);
        } else if self.is_mid_query() {
            self.next_of_query(now, database);
        } else {
            self.take_message(now, database);
        }
        let is_waiting = self.task.is_none() && !self.is_mid_query() && !self.has_message();
        if is_waiting {
            // A cancel that found nothing to stop is forgotten.
            self.is_cancelled = false;
        }
    }

    /// Ends the session with a last word.
    pub(super) fn die(&mut self, report: &Report, database: &mut Database) {
        report.send(&mut self.output);
        self.end(database);
    }

    /// Ends the session: what it held is given back, what it had not committed is gone.
    pub fn end(&mut self, database: &mut Database) {
        self.roll_back(database);
        database.locks.release(self.id, |_| true);
        self.task = None;
        self.query = None;
        self.phase = Phase::Ended;
    }

    /// A cancel signal arrives.
    pub(super) fn cancel(&mut self, hits_next: bool) {
        if self.task.is_some() || (hits_next && (self.query.is_some() || self.has_message())) {
            self.is_cancelled = true;
        }
    }

    /// ReadyForQuery, after everything that is due before it.
    pub(super) fn send_ready(&mut self) {
        for (name, value) in self.settings.take_changes() {
            send_setting(&mut self.output, name, &value);
        }
        if self.private_state().is_none() {
            self.dirty_by = None;
        }
        if self.transaction.block == Block::Idle {
            self.send_notifications();
        }
        Body::default()
            .raw(&[self.status()])
            .send(&mut self.output, b'Z');
    }

    /// What ReadyForQuery says of the transaction.
    pub fn status(&self) -> u8 {
        match self.transaction.block {
            Block::Idle => b'I',
            Block::Implicit | Block::Open => b'T',
            Block::Failed => b'E',
        }
    }

    /// Whether the session listens to a channel.
    pub fn is_listening(&self, channel: &str) -> bool {
        self.channels.contains(channel)
    }

    fn send_notifications(&mut self) {
        for (pid, channel, payload) in core::mem::take(&mut self.notifications) {
            send_notification(&mut self.output, pid.cast_signed(), &channel, &payload);
        }
    }

    /// A notification was committed somewhere.
    pub(super) fn notify(&mut self, pid: u32, channel: &str, payload: &str) {
        if !self.channels.contains(channel) || self.has_ended() {
            return;
        }
        self.notifications
            .push((pid, channel.to_owned(), payload.to_owned()));
        let is_idle = matches!(self.phase, Phase::Ready)
            && self.transaction.block == Block::Idle
            && self.task.is_none()
            && self.query.is_none();
        if is_idle {
            self.send_notifications();
        }
    }

    /// Whether something is left in the session that only its client may see, in a word.
    pub(super) fn private_state(&self) -> Option<&'static str> {
        let held = self.cursors.values().any(|cursor| cursor.hold);
        let states = [
            (!self.temporary.is_empty(), "temporary table"),
            (!self.advisory.is_empty(), "session advisory lock"),
            (!self.channels.is_empty(), "LISTEN"),
            (held, "cursor WITH HOLD"),
        ];
        states
            .iter()
            .find(|(is_there, _)| *is_there)
            .map(|(_, name)| *name)
    }
}

//! A simulated Redis node: connections over shared data, one command at a time.
//!
//! Knows bytes in and bytes out per connection, no network. What a command does by itself is in
//! `data`, what it does to a connection in `connection`; who else is told, in `publish` and here.
//! Invariant: a command is run whole before the next one of anybody begins.

use core::time::Duration;
use std::collections::BTreeMap;

use manifold_core::time::Instant;

use super::cluster::{Cluster, keys_of, slot_of};
use super::data::Data;
use super::log::{Entry, Log, Place, Realm, token_of};
use super::resp::{Taken, Value};
use super::session::{Blocked, Mute, Session};
use super::table::{Row, TABLE};
use crate::simulator::prng::Prng;
use crate::simulator::serves::{Serves, SessionId, Standing};

/// What a node refuses for a while.
#[derive(Clone, Copy, Debug)]
pub struct Moods {
    /// Almost everything, because it has just started.
    pub loading_until: Instant,
    /// Writes, because it is a replica as yet.
    pub readonly_until: Instant,
    /// Almost everything, because a script runs.
    pub busy_until: Instant,
    /// In a thousand commands that need memory, how many find none.
    pub oom: u32,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it has done.
    pub log: Log,
    /// What it refuses.
    pub moods: Moods,
    /// Nobody may do anything without a password.
    pub is_locked: bool,
    /// How many threads it says that it reads with.
    pub threads: u32,
    /// What it is a cluster of, if it is one.
    pub cluster: Option<Cluster>,
    /// Its data.
    pub(super) data: Data,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    sessions_made: u64,
    blocked_ever: u64,
    prng: Prng,
}

impl Node {
    /// A node without connections.
    pub fn new(is_locked: bool, prng: Prng) -> Self {
        Self {
            log: Log::default(),
            moods: Moods {
                loading_until: Instant(0),
                readonly_until: Instant(0),
                busy_until: Instant(0),
                oom: 0,
            },
            is_locked,
            threads: 1,
            cluster: None,
            data: Data::default(),
            sessions: BTreeMap::new(),
            sessions_made: 0,
            blocked_ever: 0,
            prng,
        }
    }

    /// One connection.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Nobody waits any more.
    pub fn release_all(&mut self) {
        let all: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in all {
            if let Some(mut session) = self.sessions.remove(&id) {
                self.unblock(&mut session, &Value::NullList, false);
                self.sessions.insert(id, session);
            }
        }
    }

    /// Who a connection is before it says so.
    pub(super) fn first_user(&self) -> Option<&'static str> {
        (!self.is_locked).then_some("default")
    }

    fn take(&mut self, session: &mut Session, now: Instant, words: &[Vec<u8>]) {
        self.log.begin();
        let token = token_of(words);
        let is_in_multi = session.multi.is_some();
        let is_asking = session.is_asking;
        let has_asked = core::mem::take(&mut session.has_asked);
        let row = TABLE.find(words);
        session.has_asked = row.is_some_and(|row| row.name == "asking");
        let refused = self.refusal(session, now, is_asking, words);
        if let Some(Refused::Elsewhere(error)) = refused {
            match is_asking || has_asked {
                true => self.note_asking(session.door, token.as_ref()),
                false => self.note_elsewhere(session, token.as_ref(), &error),
            }
            return self.redirect(session, token, row, error);
        }
        if let Some(Refused::Here(error)) = refused {
            let is_exec = row.is_some_and(|row| row.name == "exec");
            let error = if is_exec {
                let why = &error;
                let value = Value::Error(format!(
                    "EXECABORT Transaction discarded because of: {}",
                    why.strip_prefix("ERR ").unwrap_or(why)
                ));
                self.end_exec(session, &value);
                value
            } else {
                if let Some(multi) = &mut session.multi {
                    multi.is_dirty = true;
                    multi.tokens.extend(token.clone());
                }
                Value::Error(error)
            };
            self.note(session, token, Place::Alone, words, false, &error);
            return session.say(&error);
        }
        let row = row.expect("what has no row is refused");
        let runs_at_once = ["exec", "discard", "multi", "watch", "quit", "reset"];
        if is_in_multi && !runs_at_once.contains(&&*row.name) {
            let multi = session.multi.as_mut().expect("it is there");
            if let Some(token) = &token {
                let owner = super::log::owner_of(token);
                let other = multi
                    .tokens
                    .iter()
                    .find(|it| super::log::owner_of(it) != owner);
                if let Some(other) = other {
                    self.log.violations.push(format!(
                        "I6: {token} is queued in a transaction together with {other}"
                    ));
                }
                multi.tokens.push(token.clone());
            }
            multi.queue.push(words.to_vec());
            let value = Value::Simple("QUEUED".to_owned());
            self.note(session, token, Place::Queued, words, false, &value);
            return session.say(&value);
        }
        let landing = is_asking.then(|| self.keys_landing(session, &row.name, words));
        let answer = match &*row.name {
            "exec" => Some(self.exec(session, now)),
            name => self.run(session, now, name, words, false),
        };
        if let Some(keys) = landing {
            self.land(session.door, keys);
        }
        if let Some(answer) = answer {
            self.note(session, token, Place::Alone, words, true, &answer);
            session.say(&answer);
        }
        self.tell_watchers(session);
    }

    /// A command is for another node: nobody hears of it but who asked.
    fn redirect(
        &mut self,
        session: &mut Session,
        token: Option<String>,
        row: Option<&Row>,
        why: String,
    ) {
        let value = Value::Error(why);
        if row.is_some_and(|row| row.name == "exec") {
            self.end_exec(session, &value);
        } else if let Some(multi) = &mut session.multi {
            multi.is_dirty = true;
            multi.tokens.extend(token);
        }
        session.say(&value);
    }

    /// Why a command is not run, in a node's words.
    fn refusal(
        &mut self,
        session: &Session,
        now: Instant,
        is_asking: bool,
        words: &[Vec<u8>],
    ) -> Option<Refused> {
        if let Some(why) = self.refusal_to(session, words) {
            return Some(Refused::Here(why));
        }
        let name = &TABLE.find(words)?.name;
        if let Some(why) = self.elsewhere(session, is_asking, name, words) {
            return Some(Refused::Elsewhere(why));
        }
        self.refusal_now(session, now, words).map(Refused::Here)
    }

    /// What a node has against a command or who sends it.
    fn refusal_to(&self, session: &Session, words: &[Vec<u8>]) -> Option<String> {
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        let Some(row) = TABLE.find(words) else {
            let rest: String = words[1..]
                .iter()
                .map(|it| format!("'{}' ", text(it)))
                .collect();
            let name = text(&words[0]);
            return Some(format!(
                "ERR unknown command '{name}', with args beginning with: {rest}"
            ));
        };
        if !row.takes(words.len()) {
            let name = &row.name;
            return Some(format!(
                "ERR wrong number of arguments for '{name}' command"
            ));
        }
        let Some(user) = session.user else {
            return (!row.is("no_auth")).then(|| "NOAUTH Authentication required.".to_owned());
        };
        if user == "ltd" && ["append", "getdel", "spublish"].contains(&&*row.name) {
            let name = &row.name;
            return Some(format!(
                "NOPERM this user has no permissions to run the '{name}' command"
            ));
        }
        None
    }

    /// What a node has against running a command now.
    fn refusal_now(
        &mut self,
        session: &Session,
        now: Instant,
        words: &[Vec<u8>],
    ) -> Option<String> {
        let row = TABLE.find(words)?;
        session.user?;
        if row.is("denyoom") && self.moods.oom > 0 && self.prng.chance(self.moods.oom) {
            let text = "OOM command not allowed when used memory > 'maxmemory'.";
            return Some(text.to_owned());
        }
        let queue = session.multi.iter().flat_map(|multi| &multi.queue);
        let mut queue = queue.filter(|_| row.name == "exec");
        let writes = row.is("write")
            || queue.any(|words| TABLE.find(words).is_some_and(|row| row.is("write")));
        if writes && now < self.moods.readonly_until {
            let text = "READONLY You can't write against a read only replica.";
            return Some(text.to_owned());
        }
        if session.is_listening()
            && session.version == super::resp::Version::Two
            && !is_allowed_while_listening(&row.name)
        {
            return Some(context_error(&row.name));
        }
        if now < self.moods.loading_until && !row.is("loading") {
            return Some("LOADING Redis is loading the dataset in memory".to_owned());
        }
        // What a script does to CLIENT REPLY is left out: who asks could not know what to expect.
        let is_spared = row.is("allow_busy") || row.name == "client|reply";
        if now < self.moods.busy_until && !is_spared {
            let text = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                        SHUTDOWN NOSAVE.";
            return Some(text.to_owned());
        }
        None
    }

    /// Runs a command. None if it has said what there is to say, or waits.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        now: Instant,
        name: &str,
        words: &[Vec<u8>],
        is_in_exec: bool,
    ) -> Option<Value> {
        match name {
            "blpop" | "brpop" => self.pop_or_wait(session, now, name, words, is_in_exec),
            "publish" | "spublish" => Some(self.publish(session, now, words)),
            "wait" => Some(Value::Int(0)),
            "command" => {
                let reply = match self.cluster {
                    Some(_) => &TABLE.reply_of_cluster,
                    None => &TABLE.reply,
                };
                session.output.extend(reply);
                None
            }
            "asking" => {
                session.is_asking = true;
                Some(Value::ok())
            }
            "cluster|slots" => Some(match &self.cluster {
                Some(cluster) => cluster.slots(session.door),
                None => Value::error("ERR This instance has cluster support disabled"),
            }),
            _ if super::connection::knows(name) => self.run_on_connection(session, name, words),
            _ => Some(self.data.run(session.database, name, words)),
        }
    }

    fn pop_or_wait(
        &mut self,
        session: &mut Session,
        now: Instant,
        name: &str,
        words: &[Vec<u8>],
        is_in_exec: bool,
    ) -> Option<Value> {
        let (keys, timeout) = (&words[1..words.len() - 1], &words[words.len() - 1]);
        let timeout = String::from_utf8_lossy(timeout)
            .parse::<f64>()
            .unwrap_or(0.0);
        match self.data.pop_first(session.database, keys, name == "blpop") {
            Ok(Some(value)) | Err(value) => return Some(value),
            Ok(None) if is_in_exec => return Some(Value::NullList),
            Ok(None) => {}
        }
        self.blocked_ever += 1;
        let until = (timeout > 0.0).then(|| now + Duration::from_secs_f64(timeout));
        session.blocked = Some(Blocked {
            words: words.to_vec(),
            until,
            since: self.blocked_ever,
        });
        None
    }

    /// Ends the waiting of a connection.
    pub(super) fn unblock(&mut self, session: &mut Session, answer: &Value, by_request: bool) {
        let Some(blocked) = session.blocked.take() else {
            return;
        };
        self.log.begin();
        let token = token_of(&blocked.words);
        self.note(
            session,
            token.clone(),
            Place::Alone,
            &blocked.words,
            true,
            answer,
        );
        let entries = token.and_then(|token| self.log.entries.get_mut(&token));
        if let Some(entry) = entries.and_then(|entries| entries.last_mut()) {
            entry.was_unblocked = by_request;
        }
        session.say(answer);
    }

    /// Gives elements to those who wait for them.
    fn serve_blocked(&mut self) {
        loop {
            let waiting = self.sessions.values().filter_map(|session| {
                let blocked = session.blocked.as_ref()?;
                Some((blocked.since, session.id))
            });
            let mut waiting: Vec<_> = waiting.collect();
            waiting.sort_unstable();
            let served = waiting.iter().any(|&(_, id)| self.serve_one(id));
            if !served {
                return;
            }
        }
    }

    fn serve_one(&mut self, id: SessionId) -> bool {
        let Some(mut session) = self.sessions.remove(&id) else {
            return false;
        };
        let blocked = session.blocked.as_ref().expect("it waits");
        let words = &blocked.words;
        let is_left = words[0].eq_ignore_ascii_case(b"blpop");
        let is_here = |word: &&Vec<u8>| {
            let key = (session.database, super::log::name_of(word));
            let cluster = self.cluster.as_ref();
            cluster.is_none_or(|it| it.is_at(session.door, &key))
        };
        let keys = words[1..words.len() - 1].iter().filter(is_here);
        let keys: Vec<_> = keys.cloned().collect();
        let popped = self.data.pop_first(session.database, &keys, is_left);
        let found = matches!(popped, Ok(Some(_)));
        if let Ok(Some(value)) = popped {
            self.unblock(&mut session, &value, false);
            self.tell_watchers(&mut session);
        }
        self.sessions.insert(id, session);
        found
    }

    /// Who watches keys that have changed is told so by its next EXEC.
    pub(super) fn tell_watchers(&mut self, running: &mut Session) {
        for key in core::mem::take(&mut self.data.changed) {
            let all = self.sessions.values_mut().chain([&mut *running]);
            for session in all.filter(|session| session.watched.contains(&key)) {
                session.is_touched = true;
            }
            self.log.note_change(key);
        }
    }

    /// What has an order with a command.
    pub(super) fn orders_of(&self, words: &[Vec<u8>]) -> Vec<Vec<u8>> {
        if self.cluster.is_none() {
            return vec![Vec::new()];
        }
        let name = TABLE.find(words).map_or("", |row| &row.name);
        let keys = keys_of(name, words).into_iter();
        keys.map(super::log::name_of).collect()
    }

    /// In which slot a command runs.
    pub(super) fn realm_of(&self, words: &[Vec<u8>]) -> Realm {
        if self.cluster.is_none() {
            return Realm::Node;
        }
        let name = TABLE.find(words).map_or("", |row| &row.name);
        slot_of(name, words).map_or(Realm::Any, Realm::Slot)
    }

    /// Notes an answer, if the request has a token.
    pub(super) fn note(
        &mut self,
        session: &Session,
        token: Option<String>,
        place: Place,
        words: &[Vec<u8>],
        has_run: bool,
        answer: &Value,
    ) {
        let Some(token) = token else { return };
        let row = TABLE.find(words);
        let is_write = row.is_some_and(|row| row.is("write") || row.name.ends_with("publish"));
        let entry = Entry {
            seq: self.log.seq,
            session: session.id,
            user: session.user,
            database: session.database,
            version: session.version,
            place,
            realm: self.realm_of(words),
            orders: match self.cluster {
                // What is refused for its words is so at any node.
                Some(_) if !has_run && place == Place::Alone => Vec::new(),
                _ => self.orders_of(words),
            },
            has_run,
            is_write,
            was_unblocked: false,
            reply: answer.bytes(session.version),
        };
        self.log.note(&token, entry);
    }
}

/// Why a command is not run.
enum Refused {
    /// Something about it, or about this node.
    Here(String),
    /// Its keys are at another node, or at none.
    Elsewhere(String),
}

/// What a connection with subscriptions may do in the old version.
fn is_allowed_while_listening(name: &str) -> bool {
    name.ends_with("subscribe") || ["ping", "quit", "reset"].contains(&name)
}

/// What it is told otherwise.
pub fn context_error(name: &str) -> String {
    format!(
        "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context"
    )
}

impl Serves for Node {
    fn accept(&mut self, door: usize) -> SessionId {
        self.sessions_made += 1;
        let id = SessionId(self.sessions_made);
        self.sessions
            .insert(id, Session::new(id, door, self.first_user()));
        id
    }

    fn standing(&self, id: SessionId, now: Instant) -> Option<Standing> {
        let session = self.sessions.get(&id)?;
        Some(Standing {
            is_ready: session.is_ready(now),
            is_busy: false,
            has_ended: session.has_ended,
            has_output: !session.output.is_empty() && !session.is_killed,
            is_counted: !session.has_ended,
        })
    }

    fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.receive(bytes);
        }
    }

    fn step(&mut self, id: SessionId, now: Instant) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        if session.blocked.is_some() {
            self.unblock(&mut session, &Value::NullList, false);
        } else {
            match session.requests.pop_front() {
                Some(Taken::Request(words)) => {
                    self.take(&mut session, now, &words);
                    // What is asked for in a transaction is all of it.
                    let is_asking = words[0].eq_ignore_ascii_case(b"asking");
                    session.is_asking &= is_asking || session.multi.is_some();
                }
                Some(Taken::Bad(text)) => {
                    session.say(&Value::error(text));
                    session.has_ended = true;
                }
                Some(Taken::Nothing) | None => {}
            }
            session.mute = match session.mute {
                Mute::Next => Mute::This,
                Mute::This => Mute::No,
                mute => mute,
            };
        }
        self.sessions.insert(id, session);
        self.serve_blocked();
    }

    fn take_output(&mut self, id: SessionId, bytes_max: usize) -> Vec<u8> {
        let session = self.sessions.get_mut(&id);
        let Some(session) = session.filter(|it| !it.is_killed) else {
            return Vec::new();
        };
        let count = session.output.len().min(bytes_max);
        session.output.drain(..count).collect()
    }

    fn remove(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    fn next_time(&self, now: Instant) -> Option<Instant> {
        let blocked = self.sessions.values().filter_map(|it| it.blocked.as_ref());
        let times = blocked.filter_map(|blocked| blocked.until);
        let news = self.cluster.as_ref().and_then(Cluster::next_time);
        times.chain(news).filter(|time| *time > now).min()
    }

    fn sessions_open(&self) -> usize {
        self.sessions.len()
    }

    fn sessions_made(&self) -> u64 {
        self.sessions_made
    }

    fn committed(&self) -> u64 {
        self.log.ledger.len() as u64
    }

    fn terminate(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.has_ended = true;
            session.is_killed = true;
        }
    }

    fn tick(&mut self, now: Instant) {
        self.go_on(now);
    }

    fn calm(&mut self, now: Instant) {
        if self.cluster.is_some() {
            self.end_migration(now);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.calm(now);
            self.send_away();
        }
        self.moods = Moods {
            loading_until: now,
            readonly_until: now,
            busy_until: now,
            oom: 0,
        };
    }
}

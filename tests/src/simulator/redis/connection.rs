//! Commands that are about the connection itself: who, where, which version, which name.
//!
//! Knows the users of every simulated node. Invariant: nothing here touches data.

use super::data::DATABASES;
use super::node::Node;
use super::publish::change_of;
use super::resp::{Value, Version};
use super::session::{Multi, Mute, Session};
use crate::simulator::serves::SessionId;

/// The users, and what they know. The first one's counts only where the node is locked.
pub const USERS: [(&str, &str); 3] = [
    ("default", "secret of all"),
    ("app", "secret of app"),
    ("ltd", "secret of ltd"),
];

/// What a wrong password is told.
pub const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// What HELLO says to whoever has not logged in.
pub const HELLO_LOCKED: &str = "NOAUTH HELLO must be called with the client already authenticated, \
    otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client \
    and select the RESP protocol version at the same time";

/// Whether a command is about the connection.
pub(super) fn knows(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "auth",
        "client",
        "config|get",
        "discard",
        "echo",
        "hello",
        "multi",
        "ping",
        "quit",
        "reset",
        "select",
        "unwatch",
        "watch",
    ];
    NAMES.contains(&name) || name.starts_with("client|") || change_of(name).is_some()
}

/// The user that this proves to be.
pub fn user_of(words: &[Vec<u8>], is_locked: bool) -> Option<&'static str> {
    let (name, password) = match words {
        [password] => (&b"default"[..], password),
        [name, password] => (&name[..], password),
        _ => return None,
    };
    let user = USERS.iter().find(|(user, _)| user.as_bytes() == name)?;
    let is_open = user.0 == "default" && !is_locked;
    (is_open || user.1.as_bytes() == password).then_some(user.0)
}

/// The number of a database, or what is wrong with it.
pub fn database_of(word: &[u8], is_cluster: bool) -> Result<u32, &'static str> {
    let number = String::from_utf8_lossy(word).parse::<i64>();
    let number = number.map_err(|_| "ERR value is not an integer or out of range")?;
    if is_cluster && number != 0 {
        return Err("ERR SELECT is not allowed in cluster mode");
    }
    let number = u32::try_from(number).ok().filter(|it| *it < DATABASES);
    number.ok_or("ERR DB index is out of range")
}

/// What HELLO answers.
pub fn greeting(version: Version, number: i64, is_cluster: bool) -> Value {
    let text = |text: &str| Value::bulk(text.as_bytes());
    let proto = if version == Version::Three { 3 } else { 2 };
    Value::Map(vec![
        text("server"),
        text("redis"),
        text("version"),
        text("7.0.15"),
        text("proto"),
        Value::Int(proto),
        text("id"),
        Value::Int(number),
        text("mode"),
        text(if is_cluster { "cluster" } else { "standalone" }),
        text("role"),
        text("master"),
        text("modules"),
        Value::List(Vec::new()),
    ])
}

impl Node {
    /// Runs a command that is about the connection.
    pub(super) fn run_on_connection(
        &mut self,
        session: &mut Session,
        name: &str,
        words: &[Vec<u8>],
    ) -> Option<Value> {
        if change_of(name).is_some() {
            Self::change_topics(session, name, &words[1..]);
            return None;
        }
        Some(match name {
            "ping" => match (words.get(1), session.is_listening(), session.version) {
                (word, true, Version::Two) => {
                    let word = word.map_or(&b""[..], Vec::as_slice);
                    Value::List(vec![Value::bulk(b"pong"), Value::bulk(word)])
                }
                (Some(word), ..) => Value::bulk(word),
                (None, ..) => Value::Simple("PONG".to_owned()),
            },
            "echo" => Value::bulk(&words[1]),
            "config|get" => match &words[2..] {
                [name] if name == b"io-threads" => {
                    let threads = self.threads.to_string();
                    Value::Map(vec![Value::bulk(name), Value::bulk(threads.as_bytes())])
                }
                _ => Value::Map(Vec::new()),
            },
            "select" => match database_of(&words[1], self.cluster.is_some()) {
                Ok(database) => {
                    session.database = database;
                    Value::ok()
                }
                Err(text) => Value::error(text),
            },
            "auth" => match user_of(&words[1..], self.is_locked) {
                Some(user) => {
                    session.user = Some(user);
                    Value::ok()
                }
                None => Value::error(WRONG_PASSWORD),
            },
            "hello" => self.hello(session, words),
            "multi" if session.multi.is_some() => Value::error("ERR MULTI calls can not be nested"),
            "multi" => {
                session.multi = Some(Multi::default());
                Value::ok()
            }
            "discard" if session.multi.is_none() => Value::error("ERR DISCARD without MULTI"),
            "discard" => {
                session.end_transaction();
                Value::ok()
            }
            "watch" if session.multi.is_some() => {
                Value::error("ERR WATCH inside MULTI is not allowed")
            }
            "watch" => {
                let names = words[1..].iter().map(|word| super::log::name_of(word));
                let database = session.database;
                session.watched.extend(names.map(|name| (database, name)));
                Value::ok()
            }
            "unwatch" => {
                session.watched.clear();
                session.is_touched = false;
                Value::ok()
            }
            "reset" => {
                let user = self.first_user();
                session.reset(user);
                Value::Simple("RESET".to_owned())
            }
            "quit" => {
                session.say(&Value::ok());
                session.has_ended = true;
                return None;
            }
            _ => return self.run_client(session, name, words),
        })
    }

    fn hello(&mut self, session: &mut Session, words: &[Vec<u8>]) -> Value {
        let version = match words.get(1).map(|word| &word[..]) {
            None => session.version,
            Some(b"2") => Version::Two,
            Some(b"3") => Version::Three,
            Some(_) => return Value::error("NOPROTO unsupported protocol version"),
        };
        if let Some(login) = words.get(3..5) {
            match user_of(login, self.is_locked) {
                Some(user) => session.user = Some(user),
                None => return Value::error(WRONG_PASSWORD),
            }
        }
        if session.user.is_none() {
            return Value::error(HELLO_LOCKED);
        }
        session.version = version;
        greeting(version, session.id.0 as i64, self.cluster.is_some())
    }

    fn run_client(
        &mut self,
        session: &mut Session,
        name: &str,
        words: &[Vec<u8>],
    ) -> Option<Value> {
        let mode = words.get(2).map(|mode| mode.to_ascii_lowercase());
        Some(match name {
            "client|id" => Value::Int(session.id.0 as i64),
            "client|getname" if session.name.is_empty() => Value::Null,
            "client|getname" => Value::bulk(&session.name),
            "client|setname" => {
                session.name.clone_from(&words[2]);
                Value::ok()
            }
            "client|info" => Value::Text(describe(session)),
            "client|no-evict" => Value::ok(),
            "client|reply" => {
                match mode.as_deref() {
                    Some(b"on") => {
                        session.mute = Mute::No;
                        return Some(Value::ok());
                    }
                    Some(b"off") => session.mute = Mute::All,
                    _ if session.mute != Mute::All => session.mute = Mute::Next,
                    _ => {}
                }
                return None;
            }
            "client|unblock" => self.unblock_other(words),
            other => panic!("{other} is not simulated"),
        })
    }

    fn unblock_other(&mut self, words: &[Vec<u8>]) -> Value {
        let number = String::from_utf8_lossy(&words[2]).parse().unwrap_or(0);
        let id = SessionId(number);
        let Some(mut session) = self.sessions.remove(&id) else {
            return Value::Int(0);
        };
        let was_blocked = session.blocked.is_some();
        let how = words.get(3).map(|how| how.to_ascii_lowercase());
        let answer = match how.as_deref() {
            Some(b"error") => Value::error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            _ => Value::NullList,
        };
        self.unblock(&mut session, &answer, true);
        self.sessions.insert(id, session);
        Value::Int(i64::from(was_blocked))
    }
}

fn describe(session: &Session) -> String {
    let version = if session.version == Version::Three {
        3
    } else {
        2
    };
    format!(
        "id={} addr=127.0.0.1:1 name={} db={} user={} resp={version}\n",
        session.id.0,
        String::from_utf8_lossy(&session.name),
        session.database,
        session.user.unwrap_or("default"),
    )
}

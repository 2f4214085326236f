//! Whether a reply is the one that a session's own connection would have brought.
//!
//! Compares with the log of the node where a request has a token, and with what is known of the
//! session where it has none. Invariant: a reply that nothing explains is a violation.

mod spread;

use super::cluster::keys_of;
use super::connection::{HELLO_LOCKED, WRONG_PASSWORD, database_of, greeting, user_of};
use super::log::{Entry, Exec, Log, Place, name_of, token_of};
use super::model::{Model, Mute};
use super::node::context_error;
use super::publish::change_of;
use super::resp::{Value, Version};
use super::table::TABLE;

/// What a reply is judged by.
#[derive(Debug)]
pub struct Bench<'a> {
    /// What the node has done.
    pub log: &'a Log,
    /// Whether the node refuses things now and then.
    pub is_moody: bool,
    /// Whether it wants a password from everybody.
    pub is_locked: bool,
    /// Whether what a node refuses cannot be asked again: because later requests have been sent, or
    /// because it is not kept.
    pub is_final: bool,
    /// The numbers of those whose waiting somebody wanted to end.
    pub unblocked: &'a std::collections::BTreeSet<i64>,
}

/// A reply: as a value, and as it came.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// What it says.
    pub value: &'a Value,
    /// Its bytes.
    pub bytes: &'a [u8],
}

type Verdict = Result<(), String>;

impl Model {
    /// Whether a request has no reply; it is over then.
    pub fn is_silent(&mut self, words: &[Vec<u8>]) -> bool {
        let is = |place: usize, word: &str| {
            words
                .get(place)
                .is_some_and(|it| it.eq_ignore_ascii_case(word.as_bytes()))
        };
        let is_refused = self.refusal("client|reply", words).is_some();
        if is(0, "client") && is(1, "reply") && !is_refused {
            let was_all = self.mute == Mute::All;
            self.mute = match () {
                () if is(2, "on") => Mute::No,
                () if is(2, "off") => Mute::All,
                () if was_all => Mute::All,
                () => Mute::Next,
            };
            return !is(2, "on");
        }
        match self.mute {
            Mute::No => false,
            Mute::Next => {
                self.mute = Mute::No;
                true
            }
            Mute::All => true,
        }
    }

    /// Judges a reply and takes note of it. Says which token is not to be run, because the node
    /// refused the connection on which it would have been.
    pub fn judge(
        &mut self,
        bench: &Bench<'_>,
        words: &[Vec<u8>],
        reply: Reply<'_>,
    ) -> Result<Option<String>, String> {
        let token = token_of(words);
        let entries = token.as_ref().and_then(|it| bench.log.entries.get(it));
        let is_answer = |entry: &Entry| entry.reply == reply.bytes;
        let is_known = entries.is_some_and(|entries| entries.iter().any(is_answer));
        if token.is_some() && !is_known && self.is_mood(bench, reply.value) {
            let is_divided = self.is_divided(words);
            if let Some(queue) = &mut self.multi {
                queue.push(words.to_vec());
            }
            // Of what is divided, another part may have run.
            return Ok(token.filter(|_| !is_divided));
        }
        self.judge_answer(bench, words, reply).map(|()| None)
    }

    fn judge_answer(&mut self, bench: &Bench<'_>, words: &[Vec<u8>], reply: Reply<'_>) -> Verdict {
        let row = TABLE.find(words);
        let name = row.map_or("", |row| &row.name);
        let token = token_of(words);
        if let Some(expected) = self.refusal(name, words) {
            let verdict = same(&expected, reply, self.version);
            // A node refuses some things for other reasons first.
            if verdict.is_ok() || token.is_none() {
                return verdict;
            }
        }
        let runs_at_once = ["exec", "discard", "multi", "watch", "quit", "reset"];
        if self.multi.is_some() && !runs_at_once.contains(&name) {
            return self.judge_queued(bench, words, token.as_deref(), reply);
        }
        let parts = spread::parts_of(name, words).filter(|_| self.is_spread);
        match (name, token) {
            ("exec", _) => self.judge_exec(bench, reply),
            (_, Some(token)) if parts.is_some() => {
                let parts = parts.expect("it has been divided");
                self.judge_divided(bench, &token, &parts, reply)
            }
            ("watch", Some(_)) if self.is_watching_elsewhere(words, reply.value) => Ok(()),
            ("watch", Some(token)) => {
                let entry = self.judge_token(bench, &token, Place::Alone, reply)?;
                if *reply.value == Value::ok() {
                    let names = words[1..].iter().map(|word| name_of(word));
                    let keys = names.map(|name| ((self.database, name), entry.seq));
                    self.watched.extend(keys.collect::<Vec<_>>());
                }
                Ok(())
            }
            ("publish" | "spublish", Some(token)) => self.judge_publish(bench, &token, reply),
            (_, Some(token)) => {
                let entry = self.judge_token(bench, &token, Place::Alone, reply)?;
                let was_asked = self
                    .number
                    .is_none_or(|number| bench.unblocked.contains(&number));
                if entry.was_unblocked && !was_asked {
                    return Err("I8: was unblocked and nobody asked for that".to_owned());
                }
                Ok(())
            }
            (_, None) if self.is_mood(bench, reply.value) => Ok(()),
            // Nobody may listen there now.
            (_, None) if bench.is_moody && self.is_spread && spread::is_down(reply.value) => Ok(()),
            (name, None) => self.judge_own(bench, name, words, reply),
        }
    }

    /// What is refused whatever the node does.
    fn refusal(&self, name: &str, words: &[Vec<u8>]) -> Option<Value> {
        let row = TABLE.find(words)?;
        let is_bound = self.is_listening()
            && self.version == Version::Two
            && !name.ends_with("subscribe")
            && !["ping", "quit", "reset"].contains(&name);
        let why = if is_bound && !row.takes(words.len()) {
            format!("ERR wrong number of arguments for '{name}' command")
        } else if is_bound {
            context_error(name)
        } else if self.user.is_none()
            && token_of(words).is_none()
            && !["auth", "hello", "reset", "quit"].contains(&name)
        {
            "NOAUTH Authentication required.".to_owned()
        } else {
            return None;
        };
        Some(if name == "exec" {
            let why = why.strip_prefix("ERR ").unwrap_or(&why);
            Value::Error(format!("EXECABORT Transaction discarded because of: {why}"))
        } else {
            Value::Error(why)
        })
    }

    /// Whether a reply says that the node is not in the mood, or does not have all keys now.
    fn is_mood(&self, bench: &Bench<'_>, value: &Value) -> bool {
        let moods = ["LOADING ", "BUSY ", "READONLY "];
        let is = |text: &str| moods.iter().any(|mood| text.starts_with(mood));
        bench.is_moody && matches!(value, Value::Error(text) if is(text))
            || self.is_spread && (spread::is_on_its_way(value) || self.is_locked_out(value))
            || bench.is_moody && bench.is_final && spread::is_down(value)
    }

    fn judge_queued(
        &mut self,
        bench: &Bench<'_>,
        words: &[Vec<u8>],
        token: Option<&str>,
        reply: Reply<'_>,
    ) -> Verdict {
        let is_queued = *reply.value == Value::Simple("QUEUED".to_owned());
        let name = TABLE.find(words).map_or("", |row| &row.name);
        // What names no node is held back until the transaction has one.
        let is_held = self.is_spread && is_queued && keys_of(name, words).is_empty();
        match token.filter(|_| !is_held) {
            Some(token) => {
                let place = if is_queued {
                    Place::Queued
                } else {
                    Place::Alone
                };
                self.judge_token(bench, token, place, reply)?;
            }
            None if is_queued || self.is_mood(bench, reply.value) => {}
            None => return Err(format!("I1: {:?} where QUEUED was due", reply.value)),
        }
        let queue = self.multi.as_mut().expect("a transaction has begun");
        queue.push(words.to_vec());
        Ok(())
    }

    /// Finds the answer to a token in the log.
    fn judge_token<'a>(
        &mut self,
        bench: &Bench<'a>,
        token: &str,
        place: Place,
        reply: Reply<'_>,
    ) -> Result<&'a Entry, String> {
        self.find(bench.log, token, (place, false), |entry| {
            entry.reply == reply.bytes
        })
        .map_err(|why| format!("{why}; it received {:?}", Text(reply.bytes)))
    }

    fn find<'a>(
        &mut self,
        log: &'a Log,
        token: &str,
        (place, is_anywhere): (Place, bool),
        is_equal: impl Fn(&Entry) -> bool,
    ) -> Result<&'a Entry, String> {
        let entries = log.entries.get(token).map_or(&[][..], Vec::as_slice);
        let mut why = format!("I1: the node never answered {token}");
        for entry in entries {
            if !is_equal(entry) {
                why = format!("I1: the node answered {:?} to {token}", Text(&entry.reply));
            } else if entry.place != place {
                why = format!(
                    "I6: {token} was answered as {:?}, not {place:?}",
                    entry.place
                );
            } else if let Err(wrong) = self.fits(entry, is_anywhere) {
                why = format!("I6: {token} {wrong}");
            } else if !self.is_in_order(&entry.orders, entry.seq) {
                why = format!("I13: {token} ran before what its client sent before it");
            } else {
                self.note_run(&entry.orders, entry.seq);
                return Ok(entry);
            }
        }
        Err(why)
    }

    /// Whether something ran as this session would have run it. Messages have nothing to do with
    /// databases, and a number looks the same in both versions.
    fn fits(&self, entry: &Entry, is_anywhere: bool) -> Verdict {
        if is_anywhere && entry.user == self.user {
            return Ok(());
        }
        if entry.database != self.database {
            let (there, here) = (entry.database, self.database);
            return Err(format!("ran in database {there}, not {here}"));
        }
        if entry.user != self.user {
            return Err(format!("ran as {:?}, not {:?}", entry.user, self.user));
        }
        if entry.version != self.version {
            return Err(format!(
                "ran in {:?}, not {:?}",
                entry.version, self.version
            ));
        }
        Ok(())
    }

    /// The count in the reply is the node's, and more where others listen through the same
    /// connection.
    fn judge_publish(&mut self, bench: &Bench<'_>, token: &str, reply: Reply<'_>) -> Verdict {
        let place = (Place::Alone, true);
        let Value::Int(count) = reply.value else {
            let is_equal = |entry: &Entry| entry.reply == reply.bytes;
            return self.find(bench.log, token, place, is_equal).map(|_| ());
        };
        let is_equal = |entry: &Entry| match Value::take(&entry.reply) {
            Ok(Some((Value::Int(own), _))) => own <= *count,
            _ => false,
        };
        self.find(bench.log, token, place, is_equal).map(|_| ())
    }

    fn judge_exec(&mut self, bench: &Bench<'_>, reply: Reply<'_>) -> Verdict {
        let Some(queue) = self.multi.take() else {
            let expected = Value::error("ERR EXEC without MULTI");
            // Refused by its mood, the node puts it into other words.
            let is_refused =
                matches!(reply.value, Value::Error(text) if text.starts_with("EXECABORT"));
            if is_refused && bench.is_moody || self.is_mood(bench, reply.value) {
                return Ok(());
            }
            return same(&expected, reply, self.version);
        };
        let watched = core::mem::take(&mut self.watched);
        let tokens: Vec<String> = queue.iter().filter_map(|words| token_of(words)).collect();
        if tokens.is_empty() {
            return is_end_of(&queue, reply.value);
        }
        if self.is_spread && spread::is_on_its_way(reply.value) {
            let entries = tokens.iter().filter_map(|it| bench.log.entries.get(it));
            let run = entries.flatten().find(|entry| entry.place == Place::Exec);
            return run.map_or(Ok(()), |entry| Err(format!("I4: it was run: {entry:?}")));
        }
        let execs = tokens.first().and_then(|token| bench.log.execs.get(token));
        let fits = |exec: &&Exec| exec.tokens == tokens && exec.reply == reply.bytes;
        let mut execs = execs.into_iter().flatten().map(|exec| &**exec);
        let Some(exec) = execs.clone().rfind(fits) else {
            let known = execs.next_back();
            return Err(format!(
                "I6: EXEC of {tokens:?} received {:?}, the node knows {known:?}",
                Text(reply.bytes)
            ));
        };
        let has_changed = |(key, since): &(_, u64)| bench.log.has_changed(key, *since, exec.seq);
        let changed = watched.iter().find(|one| has_changed(one));
        match (reply.value, changed) {
            (Value::List(values), None) => self.settle_exec(bench, &queue, values, exec),
            (Value::List(_), Some((key, since))) => Err(format!(
                "I6: EXEC at {} went through, though {key:?}, watched since {since}, had changed",
                exec.seq
            )),
            (Value::Null | Value::NullList, None) => {
                Err("I6: EXEC failed, though nothing that was watched had changed".to_owned())
            }
            _ => {
                self.note_run(&exec.orders, exec.seq);
                Ok(())
            }
        }
    }

    /// A transaction went through: what it has done to the session is done.
    fn settle_exec(
        &mut self,
        bench: &Bench<'_>,
        queue: &[Vec<Vec<u8>>],
        values: &[Value],
        exec: &Exec,
    ) -> Verdict {
        for (words, value) in queue.iter().zip(values) {
            let is_select = words[0].eq_ignore_ascii_case(b"select");
            if is_select && *value == Value::ok() {
                self.database = database_of(&words[1], self.is_spread).unwrap_or(self.database);
            }
            let Some(token) = token_of(words) else {
                continue;
            };
            let entries = bench.log.entries.get(&token);
            let mut entries = entries.into_iter().flatten();
            let entry = entries.find(|it| it.place == Place::Exec && it.seq == exec.seq);
            let entry = entry.ok_or_else(|| format!("I6: {token} did not run with its EXEC"))?;
            self.fits(entry, false)
                .map_err(|why| format!("I6: {token} {why}"))?;
        }
        self.note_run(&exec.orders, exec.seq);
        Ok(())
    }

    /// A request without a token.
    fn judge_own(
        &mut self,
        bench: &Bench<'_>,
        name: &str,
        words: &[Vec<u8>],
        reply: Reply<'_>,
    ) -> Verdict {
        let version = self.version;
        let expected = match name {
            "ping" if self.is_listening() && version == Version::Two => {
                let word = words.get(1).map_or(&b""[..], Vec::as_slice);
                Value::List(vec![Value::bulk(b"pong"), Value::bulk(word)])
            }
            "ping" if words.len() == 1 => Value::Simple("PONG".to_owned()),
            "ping" | "echo" => Value::bulk(&words[1]),
            "select" => match database_of(&words[1], self.is_spread) {
                Ok(database) => {
                    self.database = database;
                    Value::ok()
                }
                Err(text) => Value::error(text),
            },
            "auth" => match user_of(&words[1..], bench.is_locked) {
                Some(user) => {
                    self.user = Some(user);
                    Value::ok()
                }
                None => Value::error(WRONG_PASSWORD),
            },
            "hello" => return self.judge_hello(bench, words, reply),
            "reset" => {
                self.reset(bench.is_locked);
                Value::Simple("RESET".to_owned())
            }
            "multi" if self.multi.is_some() => Value::error("ERR MULTI calls can not be nested"),
            "multi" => {
                self.multi = Some(Vec::new());
                Value::ok()
            }
            "discard" => match self.multi.take() {
                Some(_) => {
                    self.watched.clear();
                    Value::ok()
                }
                None => Value::error("ERR DISCARD without MULTI"),
            },
            "unwatch" => {
                self.watched.clear();
                Value::ok()
            }
            "wait" => Value::Int(0),
            "quit" | "client|reply" | "client|no-evict" => Value::ok(),
            "client|setname" => {
                self.name.clone_from(&words[2]);
                Value::ok()
            }
            "client|getname" if self.name.is_empty() => Value::Null,
            "client|getname" => Value::bulk(&self.name),
            "client|id" => match (reply.value, self.number) {
                (Value::Int(number), None) => {
                    self.number = Some(*number);
                    return Ok(());
                }
                (_, number) => Value::Int(number.unwrap_or(0)),
            },
            "client|unblock" => match reply.value {
                Value::Int(0 | 1) => return Ok(()),
                _ => Value::Int(0),
            },
            _ => return Err(format!("I1: {:?} came", Text(reply.bytes))),
        };
        let version = if name == "reset" {
            Version::Two
        } else {
            version
        };
        same(&expected, reply, version)
    }

    fn judge_hello(&mut self, bench: &Bench<'_>, words: &[Vec<u8>], reply: Reply<'_>) -> Verdict {
        let version = match words.get(1).map(|word| &word[..]) {
            Some(b"2") => Version::Two,
            Some(b"3") => Version::Three,
            _ => self.version,
        };
        let login = words.get(3..5);
        let user = login.map(|login| user_of(login, bench.is_locked));
        if user == Some(None) {
            return same(&Value::error(WRONG_PASSWORD), reply, self.version);
        }
        let Some(user) = user.flatten().or(self.user) else {
            return same(&Value::error(HELLO_LOCKED), reply, self.version);
        };
        let fields = match reply.value {
            Value::List(fields) | Value::Map(fields) => &fields[..],
            _ => &[],
        };
        let number = match (fields.get(7), self.number) {
            (Some(Value::Int(number)), None) => *number,
            (_, number) => number.unwrap_or(0),
        };
        same(&greeting(version, number, self.is_spread), reply, version)?;
        self.number = Some(number);
        self.user = Some(user);
        self.version = version;
        Ok(())
    }

    /// One confirmation of a request about subscriptions: says whether there was something to
    /// confirm.
    pub fn judge_confirmation(
        &mut self,
        log: &Log,
        words: &[Vec<u8>],
        sent_at: u64,
        reply: Reply<'_>,
    ) -> Verdict {
        let verb = String::from_utf8_lossy(&words[0]).to_ascii_lowercase();
        let (kind, is_end) = change_of(&verb).expect("it is about subscriptions");
        let (Value::Push(parts) | Value::List(parts)) = reply.value else {
            return Err(format!(
                "I1: {:?} where a confirmation was due",
                reply.value
            ));
        };
        let name = parts.get(1).and_then(Value::as_bulk).map(<[u8]>::to_vec);
        if let Some(name) = &name {
            if !words[1..].is_empty() && !words[1..].contains(name) {
                return Err(format!(
                    "I1: {:?} confirms what nobody asked",
                    Text(reply.bytes)
                ));
            }
            if is_end {
                if let Some(missing) = self.missing(log, (kind, name), sent_at) {
                    return Err(format!("I14: {missing}"));
                }
                self.topics[kind].remove(name);
            } else {
                let heard = self.topics[kind].entry(name.clone()).or_default();
                if heard.since == 0 {
                    heard.since = log.seq;
                }
            }
        }
        let topic = name.map_or(Value::Null, Value::Bulk);
        let count = Value::Int(self.topic_count(kind));
        let expected = Value::Push(vec![Value::bulk(verb.as_bytes()), topic, count]);
        same(&expected, reply, self.version)
    }
}

/// Whether this may answer an EXEC of which the node's log knows nothing.
fn is_end_of(queue: &[Vec<Vec<u8>>], value: &Value) -> Verdict {
    match value {
        Value::List(values) if values.len() == queue.len() => Ok(()),
        Value::Error(text) if text.starts_with("EXECABORT") => Ok(()),
        Value::Null | Value::NullList => Ok(()),
        other => Err(format!("I6: EXEC received {other:?}")),
    }
}

fn same(expected: &Value, reply: Reply<'_>, version: Version) -> Verdict {
    let bytes = expected.bytes(version);
    if bytes == reply.bytes {
        return Ok(());
    }
    let (bytes, came) = (Text(&bytes), Text(reply.bytes));
    Err(format!("I1: expected {bytes:?}, received {came:?}"))
}

/// Bytes as people read them.
pub struct Text<'a>(pub &'a [u8]);

impl core::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let few = &self.0[..self.0.len().min(200)];
        write!(f, "\"{}\"", few.escape_ascii())
    }
}

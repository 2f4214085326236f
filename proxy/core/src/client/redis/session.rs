//! What the proxy itself keeps for a session: names, its number, and where it wants to be.
//!
//! A session that gives another user, database or version moves to another pool, and it has moved
//! when the node has said yes on an upstream of that pool. Invariant: nobody uses a user's
//! upstreams before the node has accepted the secret that this very session showed.

use std::rc::Rc;

use manifold_protocols::redis::command::{ClientCommand, SessionCommand};
use manifold_protocols::redis::resp::inline::{write_bulk, write_request};
use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::request::Arguments;

use crate::client::redis::others::Inquiry;
use crate::client::redis::pump::Turn;
use crate::client::redis::subscribe::{Change, Subscriptions};
use crate::client::redis::telling::{Tales, null};
use crate::client::redis::tracking::Redirect;
use crate::client::redis::{Mute, Waiting, errors};
use crate::ids::{ClientId, PoolId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Effect;
use crate::upstream::redis::pool::{Key, Lane, Login, Version};
use crate::upstream::redis::replies::Outcome;

/// What a session has set.
#[derive(Debug, Default)]
pub struct Session {
    /// CLIENT SETNAME.
    pub name: Box<[u8]>,
    /// CLIENT SETINFO LIB-NAME.
    pub library: Box<[u8]>,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: Box<[u8]>,
    /// Where it wants to be.
    pub pending: Option<Move>,
    /// Where its invalidations go.
    pub redirect: Option<Redirect>,
    /// What it wants to know of others.
    pub inquiry: Option<Box<Inquiry>>,
    /// The first words of a message that has been passed on while it came.
    pub publishing: Option<Box<[u8]>>,
    /// What its transaction will tell of the connection.
    pub tales: Option<Box<Tales>>,
    /// What it listens to, if to anything.
    pub subscriptions: Option<Box<Subscriptions>>,
}

/// A session on its way to another pool.
#[derive(Debug)]
pub struct Move {
    /// Where to; the session is counted there already.
    pool: PoolId,
    /// How long the request is that asked for it.
    len: usize,
    /// What the node is asked when an upstream is there.
    question: Question,
    /// The name that it gives itself when it has come.
    name: Option<Box<[u8]>>,
}

impl Move {
    /// Where to.
    pub(crate) fn pool(&self) -> PoolId {
        self.pool
    }
}

#[derive(Debug)]
struct Question {
    request: Vec<u8>,
    effect: Effect,
}

/// What HELLO asks for.
#[derive(Debug, Default)]
struct Hello {
    version: Option<Version>,
    login: Option<Rc<Login>>,
    /// Given before a login: it counts whatever becomes of the rest.
    early_name: Option<Box<[u8]>>,
    name: Option<Box<[u8]>>,
}

const OK: &[u8] = b"+OK\r\n";

impl Redis {
    /// A request that is the session's own business.
    pub(crate) fn take_session(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        command: SessionCommand,
    ) -> Turn {
        let client = &self.clients[id];
        let request = client.input.unparsed()[..len].to_vec();
        let words: Vec<&[u8]> = Arguments::of(&request).collect();
        if matches!(command, SessionCommand::Client(_) | SessionCommand::Select)
            && self.is_unknown(id)
        {
            if self.nodes[client.service.index()].lock.is_none() {
                return self.await_lane(reach, id);
            }
            if let Some(text) = self.turn_away(id, &words) {
                self.answer(reach, id, len, &text);
                return Turn::Next;
            }
        }
        if let Some(turn) = self.ask_permission(reach, id, command, &words) {
            return turn;
        }
        if let Some(change) = Change::of(command) {
            return self.take_subscription(reach, id, len, change, &words);
        }
        match command {
            SessionCommand::Select => self.select(reach, id, len, &words),
            SessionCommand::Auth => self.authenticate(reach, id, len, &words),
            SessionCommand::Hello => self.hello(reach, id, len, &words),
            SessionCommand::Reset if words.len() > 1 => {
                self.answer(reach, id, len, &errors::arity("reset"));
                Turn::Next
            }
            SessionCommand::Reset => self.reset(reach, id, len),
            SessionCommand::Quit => self.quit(reach, id),
            SessionCommand::Client(command) => self.take_client(reach, id, len, command, &words),
            _ => self.deny(reach, id, len),
        }
    }

    /// Whether the session has not said who it is, where the node asks for that or may do so. What
    /// the nodes of a cluster ask for is found out by each of them.
    fn is_unknown(&self, id: ClientId) -> bool {
        let node = &self.nodes[self.clients[id].service.index()];
        let is_locked = node.lock.unwrap_or(node.cluster.is_none());
        is_locked && self.key_of(id).login.is_none()
    }

    /// The next request is looked at when the session's pool has an upstream.
    pub(crate) fn await_lane(&mut self, reach: &mut Reach<'_>, id: ClientId) -> Turn {
        let client = &mut self.clients[id];
        client.wait_for(Waiting::Lane(Lane::Fast), reach.now);
        let pool = client.pool;
        let pipes = &mut self.pools[pool].lanes[Lane::Fast as usize];
        pipes.waiting.push_back(id);
        self.list_pool(pool);
        Turn::Wait
    }

    fn select(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize, words: &[&[u8]]) -> Turn {
        let [_, database] = words else {
            self.answer(reach, id, len, &errors::arity("select"));
            return Turn::Next;
        };
        let database = match read_database(database) {
            Ok(database) => database,
            // A node looks at who asks first.
            Err(_) if self.is_stranger(id) => {
                self.answer(reach, id, len, errors::LOCKED);
                return Turn::Next;
            }
            Err(text) => {
                self.answer(reach, id, len, &errors::of_node(text));
                return Turn::Next;
            }
        };
        let key = Key {
            database,
            ..self.key_of(id).clone()
        };
        // Asked again where it is so already: whether this user may do it is for the node to say.
        let question = Question {
            request: words_of(words),
            effect: Effect::Select(database),
        };
        self.begin_move(reach, id, len, &key, question, None)
    }

    fn authenticate(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        words: &[&[u8]],
    ) -> Turn {
        let (user, password): (&[u8], &[u8]) = match words {
            [_, password] => (b"", password),
            [_, user, password] => (user, password),
            [_] => {
                self.answer(reach, id, len, &errors::arity("auth"));
                return Turn::Next;
            }
            _ => {
                self.answer(reach, id, len, &errors::of_node("ERR syntax error"));
                return Turn::Next;
            }
        };
        if self.is_too_long_for_stranger(id, user, password) {
            self.answer(reach, id, len, &errors::wrong_password());
            return Turn::Next;
        }
        let login = Login {
            user: user.into(),
            password: password.into(),
        };
        let key = Key {
            login: Some(Rc::new(login)),
            ..self.key_of(id).clone()
        };
        let question = Question {
            request: words_of(words),
            effect: Effect::Auth,
        };
        self.begin_move(reach, id, len, &key, question, None)
    }

    fn hello(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize, words: &[&[u8]]) -> Turn {
        let mut hello = Hello::default();
        let read = hello.read(words);
        if let Some(name) = hello.early_name.take() {
            self.clients[id].session.get_or_insert_default().name = name;
        }
        if let Err(text) = read {
            self.answer(reach, id, len, &text);
            return Turn::Next;
        }
        if let Some(login) = &hello.login
            && self.is_too_long_for_stranger(id, &login.user, &login.password)
        {
            self.answer(reach, id, len, &errors::wrong_password());
            return Turn::Next;
        }
        let key = self.key_of(id);
        let key = Key {
            version: hello.version.unwrap_or(key.version),
            login: hello.login.clone().or(key.login.clone()),
            ..key.clone()
        };
        let version: &[u8] = match hello.version {
            None => b"",
            Some(Version::Two) => b"2",
            Some(Version::Three) => b"3",
        };
        let mut asked: Vec<&[u8]> = vec![b"HELLO"];
        if !version.is_empty() {
            asked.push(version);
        }
        if let Some(login) = &hello.login {
            asked.extend([&b"AUTH"[..], &login.user, &login.password]);
        }
        let question = Question {
            request: words_of(&asked),
            effect: Effect::Hello,
        };
        self.begin_move(reach, id, len, &key, question, hello.name)
    }

    /// The session wants to be in the pool with this key.
    fn begin_move(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        key: &Key,
        question: Question,
        name: Option<Box<[u8]>>,
    ) -> Turn {
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        client.wait_for(Waiting::Move, reach.now);
        let lease = client.lease;
        let pool = self.pool(key);
        self.enter_pool(pool);
        let session = self.clients[id].session.get_or_insert_default();
        session.pending = Some(Move {
            pool,
            len,
            question,
            name,
        });
        match lease {
            Some(lease) => self.arrive(reach, id, lease.upstream),
            None => {
                self.pools[pool].movers.push_back(id);
                self.list_pool(pool);
            }
        }
        Turn::Wait
    }

    /// An upstream is there for a session on the move.
    pub(crate) fn arrive(&mut self, reach: &mut Reach<'_>, id: ClientId, target: UpstreamId) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let Some(pending) = client.session.as_mut().and_then(|it| it.pending.as_mut()) else {
            return;
        };
        let len = pending.len;
        let request = core::mem::take(&mut pending.question.request);
        let effect = pending.question.effect;
        self.send_instead(reach, id, target, len, &request, effect);
    }

    /// The node has answered what a move had to ask.
    pub(crate) fn settle_move(&mut self, reach: &mut Reach<'_>, id: ClientId, outcome: Outcome) {
        self.end_move(reach, id, outcome == Outcome::Done);
    }

    /// A move was asked for on an upstream that is lost.
    pub(crate) fn fail_move(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        self.end_move(reach, id, false);
    }

    /// The node does not let a session into a pool.
    pub(crate) fn refuse_move(&mut self, reach: &mut Reach<'_>, id: ClientId, reply: &[u8]) {
        let Some(client) = self.clients.get(id) else {
            return;
        };
        let pending = client.session.as_ref().and_then(|it| it.pending.as_ref());
        let Some(len) = pending.map(|pending| pending.len) else {
            return;
        };
        self.end_move(reach, id, false);
        self.answer(reach, id, len, reply);
    }

    /// A session has come to where it wanted to be, or stays where it was.
    fn end_move(&mut self, reach: &mut Reach<'_>, id: ClientId, has_come: bool) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let Some(session) = client.session.as_mut() else {
            return;
        };
        let Some(pending) = session.pending.take() else {
            return;
        };
        if let Some(name) = pending.name.filter(|_| has_come) {
            session.name = name;
        }
        client.waiting = Waiting::No;
        self.clients_to_pump.push_back(id);
        let to = pending.pool;
        // Whoever was refused is not to be taken there when there is room.
        self.pools[to].movers.retain(|&one| one != id);
        if !has_come {
            self.leave_pool(to);
            return;
        }
        self.drop_branches(reach, id);
        let key = self.pools[to].key.clone();
        self.shift(id, &key);
        self.leave_pool(to);
    }

    /// The client says good-bye. It is answered when it has had all that was published before.
    fn quit(&mut self, reach: &mut Reach<'_>, id: ClientId) -> Turn {
        let client = &mut self.clients[id];
        if client.is_subscribed() && !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        if self.leave_all(reach, id) {
            return Turn::Wait;
        }
        let client = &mut self.clients[id];
        let rest = client.input.unparsed().len();
        client.is_leaving = true;
        self.answer(reach, id, rest, OK);
        Turn::Wait
    }

    /// Everything is as it was when the client came.
    fn reset(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize) -> Turn {
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        if self.leave_all(reach, id) {
            return Turn::Wait;
        }
        let client = &mut self.clients[id];
        client.mute = Mute::No;
        if let Some(session) = &mut client.session {
            session.name = Box::default();
        }
        let key = Key::initial(client.service);
        self.end_lease(reach, id);
        self.drop_branches(reach, id);
        let to = self.pool(&key);
        self.enter_pool(to);
        let from = core::mem::replace(&mut self.clients[id].pool, to);
        self.leave_pool(from);
        self.answer(reach, id, len, b"+RESET\r\n");
        Turn::Next
    }

    fn take_client(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        command: ClientCommand,
        words: &[&[u8]],
    ) -> Turn {
        let version = self.key_of(id).version;
        let client = &mut self.clients[id];
        let mut reply = Vec::new();
        match (command, words) {
            (ClientCommand::Id, [_, _]) => {
                reply.push(b':');
                number::write(&mut reply, client.number);
                reply.extend_from_slice(b"\r\n");
            }
            (ClientCommand::GetName, [_, _]) => match &client.session {
                Some(session) if !session.name.is_empty() => {
                    write_bulk(&mut reply, &session.name);
                }
                _ => reply.extend_from_slice(null(version)),
            },
            (ClientCommand::SetName, [_, _, name]) => {
                if is_printable(name) {
                    client.session.get_or_insert_default().name = (*name).into();
                    reply.extend_from_slice(OK);
                } else {
                    reply = errors::of_node(NAME_ERROR);
                }
            }
            (ClientCommand::SetInfo, [_, _, field, value]) => reply = client.set_info(field, value),
            (ClientCommand::Reply, [_, _, mode]) => return self.set_mute(reach, id, len, mode),
            (ClientCommand::NoEvict | ClientCommand::NoTouch, [_, _, mode]) => {
                let is_mode = [&b"on"[..], b"off"]
                    .iter()
                    .any(|it| mode.eq_ignore_ascii_case(it));
                reply = if is_mode {
                    OK.to_vec()
                } else {
                    errors::of_node("ERR syntax error")
                };
            }
            (ClientCommand::GetRedir, [_, _]) => reply.extend_from_slice(b":-1\r\n"),
            (ClientCommand::Info, [_, _]) => reply = self.describe_one(reach, id),
            (ClientCommand::List, _) => return self.list(reach, id, len, &words[2..]),
            (ClientCommand::Kill, [_, _, _, ..]) => return self.kill(reach, id, len, &words[2..]),
            (ClientCommand::Unblock, [_, _, _] | [_, _, _, _]) => {
                return self.unblock(reach, id, len, words);
            }
            (ClientCommand::MaintNotifications, _) => {
                let text = "ERR unknown subcommand '";
                reply = errors::quoting(text, words[1], "'. Try CLIENT HELP.");
            }
            _ => reply = errors::arity(&command_name(words)),
        }
        self.answer(reach, id, len, &reply);
        Turn::Next
    }

    fn set_mute(&mut self, reach: &mut Reach<'_>, id: ClientId, len: usize, mode: &[u8]) -> Turn {
        let client = &mut self.clients[id];
        let mode = mode.to_ascii_lowercase();
        match &*mode {
            b"on" => {
                client.mute = Mute::No;
                self.answer(reach, id, len, OK);
            }
            b"off" => {
                client.mute = Mute::All;
                self.answer(reach, id, len, b"");
            }
            b"skip" => {
                // This one is not answered, and the next is not.
                let is_mute = client.mute == Mute::All;
                self.answer(reach, id, len, b"");
                if !is_mute {
                    self.clients[id].mute = Mute::Next;
                }
            }
            _ => self.answer(reach, id, len, &errors::of_node("ERR syntax error")),
        }
        Turn::Next
    }

    /// What a session has in common with others.
    pub(crate) fn key_of(&self, id: ClientId) -> &Key {
        &self.pools[self.clients[id].pool].key
    }
}

impl super::Client {
    fn set_info(&mut self, field: &[u8], value: &[u8]) -> Vec<u8> {
        let is_library = field.eq_ignore_ascii_case(b"lib-name");
        if !is_library && !field.eq_ignore_ascii_case(b"lib-ver") {
            return errors::quoting("ERR Unrecognized option '", field, "'");
        }
        if !is_printable(value) {
            let field = if is_library { "lib-name" } else { "lib-ver" };
            return errors::of_node(format_args!(
                "ERR {field} cannot contain spaces, newlines or special characters."
            ));
        }
        let session = self.session.get_or_insert_default();
        if is_library {
            session.library = value.into();
        } else {
            session.library_version = value.into();
        }
        OK.to_vec()
    }
}

const NAME_ERROR: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Reads the number of a database as a node does; the error is the node's own.
fn read_database(word: &[u8]) -> Result<u32, &'static str> {
    let number = number::parse(word).ok_or("ERR value is not an integer or out of range")?;
    let number = i32::try_from(number)
        .map_err(|_| "ERR value is out of range, value must between -2147483648 and 2147483647")?;
    u32::try_from(number).map_err(|_| "ERR DB index is out of range")
}

impl Hello {
    /// Reads the words of HELLO as a node does; the error is the node's own.
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Vec<u8>> {
        let Some(version) = words.get(1) else {
            return Ok(());
        };
        self.version = match number::parse(version) {
            Some(2) => Some(Version::Two),
            Some(3) => Some(Version::Three),
            Some(_) => return Err(errors::of_node("NOPROTO unsupported protocol version")),
            None => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(errors::of_node(text));
            }
        };
        let mut rest = &words[2..];
        while let [option, following @ ..] = rest {
            rest = match following {
                [user, password, rest @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                    self.login = Some(Rc::new(Login {
                        user: (*user).into(),
                        password: (*password).into(),
                    }));
                    rest
                }
                [name, rest @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                    if !is_printable(name) {
                        return Err(errors::of_node(NAME_ERROR));
                    }
                    match self.login {
                        Some(_) => self.name = Some((*name).into()),
                        None => self.early_name = Some((*name).into()),
                    }
                    rest
                }
                _ => {
                    let text = "ERR Syntax error in HELLO option '";
                    return Err(errors::quoting(text, option, "'"));
                }
            };
        }
        Ok(())
    }
}

/// What a node takes for a name: no spaces, nothing that does not print.
fn is_printable(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn words_of(words: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    write_request(&mut request, words.iter().copied());
    request
}

fn command_name(words: &[&[u8]]) -> String {
    let names = words
        .iter()
        .take(2)
        .map(|word| word.escape_ascii().to_string());
    names.collect::<Vec<_>>().join("|").to_ascii_lowercase()
}

//! CLIENT LIST, KILL and UNBLOCK: questions about all sessions of a service, whichever shard has
//! them.
//!
//! The shard of the one who asks puts together what the others say; one that does not answer in
//! time is left out. Invariant: a session sees and touches only those of its own service.

use core::net::SocketAddr;
use core::time::Duration;

use manifold_protocols::redis::resp::inline::write_request;
use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::request::Found;

use crate::client::redis::pump::Turn;
use crate::client::redis::{Waiting, errors};
use crate::event::{Message, Operation};
use crate::ids::{ClientId, ServiceId, ShardId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Effect;
use crate::upstream::redis::pool::Lane;

/// What a session wants to know or to happen.
#[derive(Clone, Debug)]
pub enum Question {
    /// A line for each of these sessions.
    List(Wanted),
    /// These sessions end.
    Kill(Filter),
    /// Where at the node the session of this number is blocked.
    Blocked(u64),
    /// Which connection at the node the session of this number has alone.
    Upstream(u64),
}

/// Which sessions CLIENT LIST means.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// All.
    All,
    /// Those of a kind.
    Of(Kind),
    /// Those with one of these numbers.
    Numbers(Vec<i64>),
}

/// What one shard says to it.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// Lines by the numbers of their sessions.
    lines: Vec<(u64, String)>,
    /// How many sessions have ended.
    ended: usize,
    /// The connection that was asked for, as the node knows it.
    at_node: Option<AtNode>,
}

/// A connection as a node knows it.
#[derive(Clone, Copy, Debug)]
pub struct AtNode {
    /// Its number there.
    pub number: u64,
    /// Which node, where there are several.
    pub node: Option<SocketAddr>,
}

/// A question under way.
#[derive(Debug)]
pub struct Inquiry {
    purpose: Purpose,
    /// Shards that have not answered.
    left: u32,
    finding: Finding,
}

/// What an answer is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// CLIENT LIST.
    List,
    /// CLIENT TRACKING with REDIRECT.
    Redirect {
        number: u64,
    },
    /// KILL with an address alone says OK or that there is none; the other form counts.
    Kill {
        is_old: bool,
        ends_itself: bool,
    },
    Unblock {
        how: &'static [u8],
    },
}

/// What a session is, as TYPE has it in CLIENT LIST and CLIENT KILL.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An ordinary client.
    Normal,
    /// One that reads a stream, as replicas do.
    Stream,
    /// One that listens to channels.
    PubSub,
    /// What no session is.
    None,
}

/// Which sessions CLIENT KILL means.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By its number.
    pub number: Option<u64>,
    /// By where it connects from.
    pub address: Option<String>,
    /// By its user.
    pub user: Option<Vec<u8>>,
    /// By what they are.
    pub kind: Option<Kind>,
    /// But not the one that asks.
    pub spares_itself: bool,
}

/// How long other shards may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Redis {
    /// CLIENT LIST.
    pub(crate) fn list(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        options: &[&[u8]],
    ) -> Turn {
        match read_wanted(options) {
            Ok(wanted) => self.inquire(reach, id, &Question::List(wanted), Purpose::List),
            Err(text) => {
                self.answer(reach, id, len, &text);
                Turn::Next
            }
        }
    }

    /// CLIENT KILL.
    pub(crate) fn kill(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        options: &[&[u8]],
    ) -> Turn {
        match read_filter(options) {
            Ok((filter, is_old)) => {
                let ends_itself = !filter.spares_itself && self.fits(id, &filter);
                let purpose = Purpose::Kill {
                    is_old,
                    ends_itself,
                };
                self.inquire(reach, id, &Question::Kill(filter), purpose)
            }
            Err(text) => {
                self.answer(reach, id, len, &text);
                Turn::Next
            }
        }
    }

    /// CLIENT UNBLOCK: the node is asked for the connection that the blocked session has alone.
    pub(crate) fn unblock(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        words: &[&[u8]],
    ) -> Turn {
        let how: &'static [u8] = match words.get(3).map(|how| how.to_ascii_lowercase()) {
            None => b"TIMEOUT",
            Some(how) if how == b"timeout" => b"TIMEOUT",
            Some(how) if how == b"error" => b"ERROR",
            Some(_) => {
                let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
                self.answer(reach, id, len, &errors::of_node(text));
                return Turn::Next;
            }
        };
        let Some(number) = number::parse(words[2]) else {
            let text = "ERR value is not an integer or out of range";
            self.answer(reach, id, len, &errors::of_node(text));
            return Turn::Next;
        };
        let question = Question::Blocked(number as u64);
        self.inquire(reach, id, &question, Purpose::Unblock { how })
    }

    /// Asks all shards; goes on with `conclude`.
    pub(crate) fn inquire(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        question: &Question,
        purpose: Purpose,
    ) -> Turn {
        let client = &mut self.clients[id];
        if !client.is_settled() {
            client.waiting = Waiting::Itself;
            return Turn::Wait;
        }
        client.wait_for(Waiting::Others, reach.now);
        let service = client.service;
        let finding = self.find_out(reach, service, question, Some(id));
        let inquiry = Inquiry {
            purpose,
            left: reach.shards - 1,
            finding,
        };
        let session = self.clients[id].session.get_or_insert_default();
        session.inquiry = Some(Box::new(inquiry));
        let others = (0..reach.shards)
            .map(ShardId)
            .filter(|&it| it != reach.shard);
        for shard in others {
            let message = Message::SessionsAsked {
                service,
                question: question.clone(),
                shard: reach.shard,
                client: id,
            };
            let operation = Operation::ToShard { shard, message };
            reach.conns.operations.push_back(operation);
        }
        if reach.shards > 1 {
            self.inquirers.push(id);
            return Turn::Wait;
        }
        self.conclude(reach, id);
        match self.clients.get(id) {
            Some(client) if client.waiting == Waiting::No => Turn::Next,
            _ => Turn::Wait,
        }
    }

    /// What the sessions of this shard have to do with a question.
    pub(crate) fn find_out(
        &mut self,
        reach: &mut Reach<'_>,
        service: ServiceId,
        question: &Question,
        asker: Option<ClientId>,
    ) -> Finding {
        let mut finding = Finding::default();
        let sessions: Vec<_> = self.sessions_of(service).collect();
        for one in sessions {
            let number = self.clients[one].number;
            match question {
                Question::List(wanted) => {
                    let is_wanted = match wanted {
                        Wanted::All => true,
                        Wanted::Of(kind) => *kind == self.kind_of(one),
                        Wanted::Numbers(numbers) => numbers.contains(&(number as i64)),
                    };
                    if is_wanted {
                        let mut line = String::new();
                        self.describe(reach, one, "client|list", &mut line);
                        finding.lines.push((number, line));
                    }
                }
                Question::Kill(filter) if !self.fits(one, filter) => {}
                Question::Kill(filter) if asker == Some(one) => {
                    finding.ended += usize::from(!filter.spares_itself);
                }
                Question::Kill(_) => {
                    finding.ended += 1;
                    self.drop_client(reach, one);
                }
                Question::Blocked(wanted) if number == *wanted => {
                    finding.at_node = self.blocked_at(reach, one);
                }
                Question::Upstream(wanted) if number == *wanted => {
                    let lease = self.clients[one].lease;
                    let number = lease.and_then(|it| self.upstreams[it.upstream].number);
                    finding.at_node = number.map(|number| AtNode { number, node: None });
                }
                Question::Blocked(_) | Question::Upstream(_) => {}
            }
        }
        finding
    }

    /// Another shard asks.
    pub(crate) fn handle_asked(
        &mut self,
        reach: &mut Reach<'_>,
        service: ServiceId,
        question: &Question,
        (shard, client): (ShardId, ClientId),
    ) {
        let finding = self.find_out(reach, service, question, None);
        let message = Message::SessionsTold { client, finding };
        let operation = Operation::ToShard { shard, message };
        reach.conns.operations.push_back(operation);
    }

    /// Another shard has answered.
    pub(crate) fn handle_told(&mut self, reach: &mut Reach<'_>, id: ClientId, found: Finding) {
        let inquiry = self.clients.get_mut(id).and_then(|it| it.session.as_mut());
        let Some(inquiry) = inquiry.and_then(|session| session.inquiry.as_mut()) else {
            return;
        };
        inquiry.finding.lines.extend(found.lines);
        inquiry.finding.ended += found.ended;
        inquiry.finding.at_node = inquiry.finding.at_node.or(found.at_node);
        inquiry.left -= 1;
        if inquiry.left == 0 {
            self.conclude(reach, id);
        }
    }

    /// Those who have waited for other shards for long get what there is.
    pub(crate) fn end_inquiries(&mut self, reach: &mut Reach<'_>) {
        for id in core::mem::take(&mut self.inquirers) {
            match self.clients.get(id) {
                Some(client) if client.waiting != Waiting::Others => {}
                Some(client) if reach.now - client.since >= PATIENCE => self.conclude(reach, id),
                Some(_) => self.inquirers.push(id),
                None => {}
            }
        }
    }

    /// Answers with what has been found out.
    fn conclude(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let client = &mut self.clients[id];
        client.waiting = Waiting::No;
        let inquiry = client.session.as_mut().and_then(|it| it.inquiry.take());
        let unparsed = client.input.unparsed();
        let found = client.finder.find(unparsed, self.bulk_bytes_max);
        let (Some(inquiry), Ok(Found::Whole { mut len, .. })) = (inquiry, found) else {
            return;
        };
        let mut finding = inquiry.finding;
        let reply = match inquiry.purpose {
            Purpose::List => {
                finding.lines.sort_unstable_by_key(|(number, _)| *number);
                let text: String = finding.lines.into_iter().map(|(_, line)| line).collect();
                self.verbatim(id, &text)
            }
            Purpose::Kill {
                is_old,
                ends_itself,
            } => {
                let client = &mut self.clients[id];
                if ends_itself {
                    // Nothing that it has sent behind this is looked at.
                    client.is_leaving = true;
                    len = client.input.unparsed().len();
                }
                match (is_old, finding.ended) {
                    (true, 0) => errors::of_node("ERR No such client"),
                    (true, _) => b"+OK\r\n".to_vec(),
                    (false, count) => format!(":{count}\r\n").into_bytes(),
                }
            }
            Purpose::Redirect { number } => {
                let at_node = finding.at_node.map(|it| it.number);
                self.rewrite_redirect(id, len, number, at_node);
                self.clients_to_pump.push_back(id);
                return;
            }
            Purpose::Unblock { how } => match finding.at_node {
                Some(it) => return self.unblock_at(reach, id, len, it, how),
                None => b":0\r\n".to_vec(),
            },
        };
        self.answer(reach, id, len, &reply);
        self.clients_to_pump.push_back(id);
    }

    fn unblock_at(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
        blocked: AtNode,
        how: &[u8],
    ) {
        let number = blocked.number.to_string();
        let words: [&[u8]; 4] = [b"CLIENT", b"UNBLOCK", number.as_bytes(), how];
        let mut request = Vec::new();
        write_request(&mut request, words.into_iter());
        if let Some(node) = blocked.node {
            self.clients_to_pump.push_back(id);
            return self.send_to_node(reach, id, len, &request, node);
        }
        let pool = self.clients[id].pool;
        self.clients_to_pump.push_back(id);
        let target = match self.clients[id].lease {
            Some(lease) => Some(lease.upstream),
            None => self.pick(reach, pool, Lane::Fast),
        };
        let Some(target) = target else {
            // It asks again when there is room.
            self.clients[id].wait_for(Waiting::Lane(Lane::Fast), reach.now);
            self.pools[pool].lanes[Lane::Fast as usize]
                .waiting
                .push_back(id);
            self.list_pool(pool);
            return;
        };
        self.send_instead(reach, id, target, len, &request, Effect::Write);
    }
}

const SYNTAX: &str = "ERR syntax error";

/// Reads what follows CLIENT LIST: the numbers that are wanted, or all.
fn read_wanted(options: &[&[u8]]) -> Result<Wanted, Vec<u8>> {
    match options {
        [] => Ok(Wanted::All),
        [option, kind] if option.eq_ignore_ascii_case(b"type") => {
            match &*kind.to_ascii_lowercase() {
                b"normal" => Ok(Wanted::Of(Kind::Normal)),
                b"pubsub" => Ok(Wanted::Of(Kind::PubSub)),
                b"replica" | b"slave" => Ok(Wanted::Of(Kind::Stream)),
                b"master" => Ok(Wanted::Of(Kind::None)),
                _ => Err(unknown_kind(kind)),
            }
        }
        [option, numbers @ ..] if option.eq_ignore_ascii_case(b"id") && !numbers.is_empty() => {
            let numbers: Option<Vec<i64>> = numbers.iter().map(|it| number::parse(it)).collect();
            let numbers = numbers.map(Wanted::Numbers);
            numbers.ok_or_else(|| errors::of_node("ERR Invalid client ID"))
        }
        _ => Err(errors::of_node(SYNTAX)),
    }
}

fn unknown_kind(kind: &[u8]) -> Vec<u8> {
    errors::quoting("ERR Unknown client type '", kind, "'")
}

/// Reads what follows CLIENT KILL, and whether it is the old form, an address alone.
fn read_filter(options: &[&[u8]]) -> Result<(Filter, bool), Vec<u8>> {
    let mut filter = Filter::default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let [address] = options {
        filter.address = Some(text(address));
        return Ok((filter, true));
    }
    filter.spares_itself = true;
    for pair in options.chunks(2) {
        let [option, value] = pair else {
            return Err(errors::of_node(SYNTAX));
        };
        match &*option.to_ascii_lowercase() {
            b"id" => {
                let number = number::parse(value).filter(|number| *number > 0);
                let text = "ERR client-id should be greater than 0";
                let number = number.ok_or_else(|| errors::of_node(text))?;
                filter.number = Some(number as u64);
            }
            b"addr" => filter.address = Some(text(value)),
            b"user" => filter.user = Some(value.to_vec()),
            b"type" => match &*value.to_ascii_lowercase() {
                b"normal" => filter.kind = Some(Kind::Normal),
                b"replica" | b"slave" => filter.kind = Some(Kind::Stream),
                b"pubsub" => filter.kind = Some(Kind::PubSub),
                b"master" => filter.kind = Some(Kind::None),
                _ => return Err(unknown_kind(value)),
            },
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.spares_itself = true,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.spares_itself = false,
            _ => return Err(errors::of_node(SYNTAX)),
        }
    }
    Ok((filter, false))
}

//! What the next request of a client is and what it asks for.
//!
//! Reads bytes and the session's names and changes neither, so that a request that has to wait can
//! be looked at again. Invariant: nothing of a request is sent before all of it has been validated
//! (except on a lease, where messages go one by one).

use core::ops::Range;
use std::collections::VecDeque;
use std::rc::Rc;

use manifold_protocols::postgres::backend::Status;
use manifold_protocols::postgres::frame::{FrameError, HEADER_LEN};
use manifold_protocols::postgres::frontend::{self, Message, TargetKind};

use crate::client::postgres::framing::{ends_request, frame};
use crate::client::postgres::statements::Statement;
use crate::client::postgres::transaction::Standing;
use crate::client::postgres::{Client, Until};
use crate::event::Operation;
use crate::identity::{Catalog, Database};
use crate::ids::{ClientId, DatabaseId};
use crate::library::Library;
use crate::profile::{Class, Profile};
use crate::proof::Reason;
use crate::shard::Shard;
use crate::stats::Stats;
use crate::texts::{Lookup, Text, Texts};
use crate::upstream::postgres::pipe::{Part, Resetting, SessionChange};
use crate::upstream::schedule::Demand;

/// One message of a request, with what its names mean.
#[derive(Debug)]
pub struct Piece {
    /// Its type byte.
    pub tag: u8,
    /// Where it lies in the client's unparsed bytes.
    pub range: Range<usize>,
    /// The statement it names or makes.
    pub statement: Named,
}

/// What a message's statement name means.
#[derive(Debug)]
pub enum Named {
    /// The message is malformed inside: the node is to say so.
    Bad,
    /// The message names no statement.
    None,
    /// A statement of ours; for a Parse, the one it makes.
    Known(Rc<Statement>),
    /// On this lease the upstream knows the client's own names; the statement, if we know it too.
    Raw(Option<Rc<Statement>>),
    /// A Parse of a name that is taken: the node is to say so.
    Taken,
    /// Nobody knows the name: the node is to say so.
    Unknown,
}

/// A request that is complete and may be sent.
#[derive(Debug)]
pub struct Examined {
    /// How many of the unparsed bytes it is made of.
    pub len: usize,
    /// What it asks of an upstream.
    pub demand: Demand,
    /// Why the client keeps the upstream afterwards, if it does.
    pub keeps: Option<Reason>,
    /// Whether the catalog may be another afterwards.
    pub defines: bool,
    /// Whether it may commit before an error ends it.
    pub commits_early: bool,
    /// What it does to the session's settings, if it does nothing else.
    pub change: Option<Box<SessionChange>>,
    /// Settings that may change among other things: the node has to be asked afterwards.
    pub touched: Vec<Box<str>>,
    /// Whether the upstream has no statements any more afterwards.
    pub clears: bool,
    /// Whether it sets a setting.
    pub sets: bool,
    /// Settings that it takes back to what the session began with, or sets after that.
    pub resetting: Vec<Resetting>,
    /// What it runs, for the history.
    pub text: Option<Rc<Text>>,
    /// What the only message, a simple Query, does.
    pub simple: Option<Rc<Profile>>,
    /// How many statements it runs.
    pub runs: u32,
    /// Whether it may draw from a sequence.
    pub draws: bool,
    /// Whether its last message ends a request.
    pub is_closed: bool,
    /// The class it asks for as a part of a transaction that is sent as a whole.
    pub class_inside: Class,
    /// Whether it leaves a transaction open.
    pub standing: Standing,
    /// What it is of a transaction that is sent as a whole, if it is.
    pub part: Option<Part>,
    /// How many of the scratch list's pieces are its own.
    pub pieces: usize,
}

/// What was found at the front of the unparsed bytes.
#[derive(Debug)]
pub enum Found {
    /// The client broke the protocol, by framing.
    BadFrame(FrameError),
    /// More bytes are needed.
    Incomplete,
    /// The catalog has to be read first.
    NoCatalog,
    /// A request; its pieces are in the shard's scratch list, and in another are the other parts of
    /// the transaction that it begins, if that is sent as a whole.
    Request(Examined),
    /// The client says good-bye.
    Terminate,
    /// More than `request_bytes_max`: to be streamed on a lease.
    TooLarge,
    /// A text has to be classified first.
    Unclassified,
}

/// How much of the client's bytes is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Whatever messages are complete, up to the end of a request: the client has a lease.
    Messages,
    /// A whole request.
    Request,
}

/// A request waits for verdicts at most so often, and twice for each of its messages (its shape,
/// then the text itself).
const ASKS_MAX: u32 = 64;

impl Shard {
    /// Looks at the front of a client's unparsed bytes.
    pub(crate) fn examine(&mut self, id: ClientId, scope: Scope) -> Found {
        let framed = frame(&mut self.clients[id], scope, &self.limits);
        let (len, has_flush) = match framed {
            Ok(framed) => framed,
            Err(found) => return found,
        };
        let client = &self.clients[id];
        let database = client.session().database;
        self.pieces.clear();
        self.parts.clear();
        let mut examiner = Examiner {
            id,
            client,
            database_id: database,
            database: &self.databases[database.index()],
            texts: &mut self.texts,
            library: &mut self.library,
            pieces: &mut self.pieces,
            parts: &mut self.parts,
            operations: &mut self.conns.operations,
            stats: &mut self.stats,
            found: Examined::new(len),
        };
        if has_flush {
            examiner.found.ask(Class::Exclusive, false);
        }
        match examiner.examine_all(0) {
            Ok(()) => {
                if scope == Scope::Request && examiner.found.standing.has_begun() {
                    examiner.examine_transaction(&self.limits);
                }
                Found::Request(examiner.found)
            }
            Err(Stop::NoCatalog) => Found::NoCatalog,
            Err(Stop::Unclassified) => Found::Unclassified,
        }
    }
}

/// Why a request cannot be sent yet, or ever.
pub(super) enum Stop {
    NoCatalog,
    Unclassified,
}

/// Everything that looking at one request needs.
pub(super) struct Examiner<'a> {
    id: ClientId,
    pub(super) client: &'a Client,
    database_id: DatabaseId,
    database: &'a Database,
    texts: &'a mut Texts,
    library: &'a mut Library,
    pub(super) pieces: &'a mut Vec<Piece>,
    pub(super) parts: &'a mut Vec<Examined>,
    operations: &'a mut VecDeque<Operation>,
    stats: &'a mut Stats,
    pub(super) found: Examined,
}

impl Examiner<'_> {
    /// Looks at the messages of the request that begins here.
    pub(super) fn examine_all(&mut self, from: usize) -> Result<(), Stop> {
        let (mut at, end) = (from, from + self.found.len);
        while at < end {
            at = self.examine_message(at)?;
        }
        if self.found.simple.is_some() && self.found.pieces > 1 {
            self.found.simple = None;
        }
        Ok(())
    }

    /// Looks at one message and says where the next begins.
    fn examine_message(&mut self, at: usize) -> Result<usize, Stop> {
        let client = self.client;
        let bytes = &client.input.unparsed()[at..];
        let tag = bytes[0];
        let len = 1 + u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
        let Ok(message) = frontend::decode(tag, &bytes[HEADER_LEN..len]) else {
            // On a lease it harms nobody else, and the node says what is wrong in its own words.
            self.found.ask(Class::Exclusive, true);
            self.found.is_closed = ends_request(tag);
            self.push(tag, at..at + len, Named::Bad);
            return Ok(at + len);
        };
        let mut statement = Named::None;
        match message {
            Message::Bind(bind) => {
                self.ask_if(!bind.portal.is_empty());
                statement = self.find(bind.statement);
                if matches!(statement, Named::Raw(None)) {
                    self.found.defines = true;
                    self.found.commits_early = true;
                    self.found.ask(Class::Exclusive, true);
                }
                if let Named::Known(known) | Named::Raw(Some(known)) = &statement {
                    let known = Rc::clone(known);
                    match known.meaning.known(self.database.epoch) {
                        Some(profile) => self.found.add(&profile, Rc::clone(&known.meaning)),
                        None => drop(self.run(&known.text)?),
                    }
                }
            }
            Message::Close(target) | Message::Describe(target)
                if target.kind == TargetKind::Statement =>
            {
                statement = self.find(target.name);
            }
            Message::Execute(execute) => {
                self.ask_if(!execute.portal.is_empty() || execute.rows_max != 0);
            }
            Message::FunctionCall(_) => {
                self.found.ask(Class::Exclusive, true);
                self.found.keeps = Reason::worst(self.found.keeps, Some(Reason::Object));
                self.found.commits_early = true;
            }
            Message::Parse(parse) => statement = self.parse(&parse)?,
            Message::Query(text) => {
                // A Query behind messages without Sync joins their transaction (F2).
                self.ask_if(self.found.pieces > 0);
                let profile = self.run(text)?;
                self.found.simple = Some(profile);
            }
            _ => {}
        }
        self.found.is_closed = ends_request(tag);
        self.push(tag, at..at + len, statement);
        Ok(at + len)
    }

    fn push(&mut self, tag: u8, range: Range<usize>, statement: Named) {
        self.found.pieces += 1;
        self.pieces.push(Piece {
            tag,
            range,
            statement,
        });
    }

    fn ask_if(&mut self, needs_lease: bool) {
        if needs_lease {
            self.found.ask(Class::Exclusive, false);
        }
    }

    /// A Parse makes a statement, the same one for everybody who could have made it.
    fn parse(&mut self, parse: &frontend::Parse<'_>) -> Result<Named, Stop> {
        let is_raw = self.client.session().is_raw;
        if !is_raw && !parse.name.is_empty() && !matches!(self.find(parse.name), Named::Unknown) {
            return Ok(Named::Taken);
        }
        let (meaning, profile) = self.judge(parse.text)?;
        if profile.keeps.is_some() {
            // Names have to be the client's own before the first message of the request is sent.
            self.found.keeps = Reason::worst(self.found.keeps, profile.keeps);
            self.found.ask(Class::Exclusive, true);
        }
        let session = self.client.session();
        // Inside a transaction settings may hold that no fingerprint knows, and literals freeze;
        // and tables may have changed for nobody else.
        let lease = self.client.lease;
        let is_inside = lease.is_some() || self.client.is_inside || self.found.standing.has_begun();
        let is_own = profile.verdict.freezes
            || lease.is_some_and(|lease| lease.defines.is_some())
            || (is_inside && parse.text.contains(&b'\''));
        let statement = if is_own {
            self.library.make(parse.text, parse.types, &meaning)
        } else {
            let fingerprint = session.fingerprint.number;
            let (database, epoch) = (self.database_id, self.database.epoch);
            let (text, types) = (parse.text, parse.types);
            self.library
                .find_or_make(database, epoch, fingerprint, text, types, &meaning)
        };
        Ok(if is_raw {
            Named::Raw(Some(statement))
        } else {
            Named::Known(statement)
        })
    }

    /// The statement of a client's name, after the messages before this one.
    fn find(&self, name: &[u8]) -> Named {
        let is_raw = self.client.session().is_raw;
        match self.find_known(name) {
            found if is_raw => Named::Raw(found),
            Some(statement) => Named::Known(statement),
            None => Named::Unknown,
        }
    }

    fn find_known(&self, name: &[u8]) -> Option<Rc<Statement>> {
        let unparsed = self.client.input.unparsed();
        for piece in self.pieces.iter().rev() {
            let body = &unparsed[piece.range.start + HEADER_LEN..piece.range.end];
            match (piece.tag, &piece.statement) {
                (b'P', Named::Known(statement) | Named::Raw(Some(statement)))
                    if c_string(body) == name =>
                {
                    return Some(Rc::clone(statement));
                }
                (b'C', Named::Known(_) | Named::Raw(_)) if c_string(&body[1..]) == name => {
                    return None;
                }
                (b'Q', _) if name.is_empty() => return None,
                _ => {}
            }
        }
        self.client.session().statements.find(name).cloned()
    }

    /// A text is going to be run.
    fn run(&mut self, text: &[u8]) -> Result<Rc<Profile>, Stop> {
        let (meaning, profile) = self.judge(text)?;
        self.found.add(&profile, meaning);
        Ok(profile)
    }

    /// Whether the catalog condemns a text that it may only not know yet: a table or a function
    /// may have been made a moment ago, by whomever. Before a session is given an upstream for good
    /// the catalog is compared with the node's once more.
    fn is_doubtful(&self, profile: &Profile) -> bool {
        let rests_on_catalog = matches!(
            profile.keeps,
            Some(Reason::Object | Reason::Relation | Reason::Trigger)
        );
        let is_kept = matches!(
            self.client.lease.map(|lease| lease.until),
            Some(Until::Session(_))
        );
        let is_confirmed =
            (self.client.doubts_since).is_some_and(|since| since <= self.database.confirmed_at);
        rests_on_catalog && !is_kept && !is_confirmed
    }

    /// What a text does, or who has to be asked first.
    fn judge(&mut self, text: &[u8]) -> Result<(Rc<Text>, Rc<Profile>), Stop> {
        if !self.client.session().is_readable && !is_plain(text) {
            return Ok(Text::opaque(Reason::Unrecognised, self.database.epoch));
        }
        // The catalog cannot be read in a failed transaction or in the middle of a request, which
        // may hold the last upstream: better a lease than a wait for oneself.
        let is_barred = self.client.status == Status::Failed
            || self.client.lease.is_some_and(|lease| lease.is_open);
        if self.database.catalog != Catalog::Known {
            if is_barred {
                return Ok(Text::opaque(Reason::CatalogUnknown, self.database.epoch));
            }
            return Err(Stop::NoCatalog);
        }
        match self
            .texts
            .look_up(self.database_id, self.database.epoch, text)
        {
            Lookup::Known(_, profile) if !is_barred && self.is_doubtful(&profile) => {
                Err(Stop::NoCatalog)
            }
            Lookup::Known(text, profile) => Ok((text, profile)),
            // Its texts push each other out of the cache: it would ask for ever.
            Lookup::Unknown { .. }
                if self.client.asks > ASKS_MAX + 2 * self.pieces.len() as u32 =>
            {
                Ok(Text::opaque(Reason::Complexity, self.database.epoch))
            }
            Lookup::Unknown { text: place, ask } => {
                place.add_waiting(self.id);
                if let Some(ticket) = ask {
                    self.stats.texts_classified += 1;
                    self.operations.push_back(Operation::Classify {
                        ticket,
                        database: self.database_id,
                        text: text.into(),
                    });
                }
                Err(Stop::Unclassified)
            }
        }
    }
}

/// Whether a text means the same whatever the encoding and the rules for strings.
fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .all(|&byte| byte.is_ascii() && !matches!(byte, b'\'' | b'\\' | b'"' | b'$'))
}

/// The bytes before the first NUL.
fn c_string(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..end]
}

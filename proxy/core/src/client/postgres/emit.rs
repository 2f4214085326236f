//! Puts a request onto an upstream: names rewritten, statements prepared where they are missing,
//! and for every message the step that says what must come back.
//!
//! Knows no scheduling: the upstream has been chosen. Invariant: bytes and steps are appended
//! together, so that the pipe always tells what the bytes will bring.

use std::rc::Rc;

use manifold_protocols::postgres::backend::Status;
use manifold_protocols::postgres::frame::HEADER_LEN;
use manifold_protocols::postgres::frontend::{self, Message, TargetKind};

use crate::client::postgres::Client;
use crate::client::postgres::examine::{Examined, Named, Piece};
use crate::client::postgres::statements::{Change, Statement, Statements};
use crate::ids::{ClientId, UpstreamId};
use crate::library::{NAME_PREFIX, NEVER_GIVEN};
use crate::shard::Shard;
use crate::time::Instant;
use crate::upstream::postgres::pipe::{Expectation, Part, Step};
use crate::upstream::postgres::{Prepared, Upstream};

impl Shard {
    /// Makes sure that an upstream has a statement before the message that is written next.
    pub(crate) fn ensure_prepared(&mut self, target: UpstreamId, statement: &Rc<Statement>) {
        let upstream = &mut self.upstreams[target];
        let mut emitter = Emitter {
            out: self.conns.write(upstream.conn),
            unparsed: &[],
            statements: &mut Statements::default(),
            unprepared: &mut Vec::new(),
            upstream,
            statements_max: self.limits.upstream_statements_max,
            prepared_count: 0,
            may_have_failed: false,
            is_in_doubt: false,
            is_closed: false,
            is_synced: false,
        };
        emitter.ensure(statement);
        self.stats.statements_prepared += emitter.prepared_count;
    }

    /// Sends a request (or, on a lease, messages) of a client to an upstream.
    pub(crate) fn emit(&mut self, id: ClientId, target: UpstreamId, mut found: Examined) {
        let client = &mut self.clients[id];
        let upstream = &mut self.upstreams[target];
        let is_leased = client.lease.is_some();
        let is_open = client.lease.is_some_and(|lease| lease.is_open);
        if !is_open && self.pieces.iter().all(|piece| is_copied(piece.tag)) {
            return self.emit_copied(id, target, found.len);
        }
        // A whole request that begins a lease can still be sent again; what follows cannot.
        let is_begun = client.lease.is_some_and(|lease| lease.is_begun);
        let is_kept = !is_begun && found.is_closed;
        let is_barring = found.clears || found.sets || !found.resetting.is_empty();
        if is_open {
            let last = upstream.pipe.back_mut();
            found.join(last.expect("an open request is in the pipe"));
        } else {
            let begins_at = self.conns.written_total(upstream.conn);
            let mut expectation = found.expectation(id, client, self.now, begins_at);
            expectation.len = if is_kept { found.len } else { 0 };
            let tally = &mut self.connections[client.service.index()].tally;
            tally.requests_leased += u64::from(is_leased);
            upstream.push(expectation);
            upstream.has_served = true;
            client.in_flight += 1;
            client.upstream = Some(target);
        }
        let session = client
            .session
            .as_deref_mut()
            .expect("a client with requests is logged in");
        session.has_drawn |= found.draws && client.status != Status::Failed;
        // What is prepared next must not be given a plan of before; under its own names it is not.
        client.is_barred |= is_barring || found.defines && !session.is_raw;
        let mut emitter = Emitter {
            out: self.conns.write(upstream.conn),
            unparsed: client.input.unparsed(),
            statements: &mut session.statements,
            unprepared: &mut session.unprepared,
            upstream,
            statements_max: self.limits.upstream_statements_max,
            prepared_count: 0,
            may_have_failed: (is_leased || client.is_inside)
                && (client.in_flight > 1 || client.status == Status::Failed),
            is_in_doubt: false,
            is_closed: false,
            is_synced: false,
        };
        for piece in self.pieces.drain(..) {
            emitter.emit_piece(&piece);
        }
        let (is_closed, is_synced) = (emitter.is_closed, emitter.is_synced);
        client.is_barred |= emitter.is_in_doubt || !emitter.upstream.preparing_late.is_empty();
        self.stats.statements_prepared += emitter.prepared_count;
        if let Some(lease) = &mut client.lease {
            lease.is_open = !is_closed;
            lease.is_begun = true;
        } else {
            assert!(is_closed, "without a lease only whole requests are sent");
        }
        client.input.pass(found.len, is_kept);
        client.is_inside |= found.part.is_some();
        // A request of our own would run inside the client's transaction.
        if (is_synced && found.part.is_none()) || found.part == Some(Part::Last) {
            self.tidy(target);
        }
        if !is_closed {
            self.make_up_if_awaited(target);
        }
    }
}

/// Whether a message of this type is data that is copied, or its end.
pub fn is_copied(tag: u8) -> bool {
    matches!(tag, b'c' | b'd' | b'f')
}

impl Shard {
    /// Data for a copy that the request before has begun: it is answered with that.
    fn emit_copied(&mut self, id: ClientId, target: UpstreamId, len: usize) {
        let client = &mut self.clients[id];
        let upstream = &mut self.upstreams[target];
        let out = self.conns.write(upstream.conn);
        out.extend_from_slice(&client.input.unparsed()[..len]);
        for piece in self.pieces.drain(..) {
            if piece.tag != b'd' {
                upstream.is_copying = false;
                upstream.steps.push_back(Step::CopyEnd);
            }
        }
        client.input.consume(len);
    }
}

impl Examined {
    /// Goes on with a request that has begun.
    fn join(&mut self, open: &mut Expectation) {
        open.writes |= self.demand.writes;
        open.commits_early |= self.commits_early;
        open.defines |= self.defines;
        open.clears |= self.clears;
        open.resetting.append(&mut self.resetting);
        if self.runs > 0 {
            open.change = self.change.take();
            open.text = open.text.take().or(self.text.take());
        }
    }

    /// What is to be expected of a request that begins.
    fn expectation(
        &mut self,
        id: ClientId,
        client: &Client,
        now: Instant,
        begins_at: u64,
    ) -> Expectation {
        let mut expectation = Expectation::of_client(id, now, begins_at);
        expectation.is_leased = client.lease.is_some();
        expectation.part = self.part.filter(|_| !expectation.is_leased);
        expectation.is_inside = client.is_inside;
        let text = self.text.take();
        expectation.expected_nanos = text.as_ref().map_or(0, |text| text.history.nanos.get());
        expectation.text = text;
        expectation.writes = self.demand.writes;
        expectation.commits_early = self.commits_early;
        expectation.defines = self.defines;
        expectation.clears = self.clears;
        expectation.change = self.change.take();
        expectation.resetting = core::mem::take(&mut self.resetting);
        expectation
    }
}

/// What writing one request needs.
struct Emitter<'a> {
    out: &'a mut Vec<u8>,
    unparsed: &'a [u8],
    statements: &'a mut Statements,
    unprepared: &'a mut Vec<Box<[u8]>>,
    upstream: &'a mut Upstream,
    statements_max: usize,
    prepared_count: u64,
    /// The transaction on the lease may have failed by now.
    may_have_failed: bool,
    /// Whether the client has a name that it gave is for the node to say.
    is_in_doubt: bool,
    is_closed: bool,
    is_synced: bool,
}

impl Emitter<'_> {
    fn emit_piece(&mut self, piece: &Piece) {
        let bytes = &self.unparsed[piece.range.clone()];
        if self.upstream.is_skipping {
            // The node skips everything up to Sync, a Query included (F1).
            if piece.tag != b'S' {
                return;
            }
            self.upstream.is_skipping = false;
        }
        let body = &bytes[HEADER_LEN..];
        if matches!(piece.statement, Named::Bad) {
            return self.pass_bad(piece.tag, bytes);
        }
        let message = frontend::decode(piece.tag, body).expect("a message that was examined");
        match (message, &piece.statement) {
            (Message::Bind(bind), Named::Known(statement)) => {
                self.ensure(statement);
                frontend::encode_bind(self.out, bind.portal, &statement.name, bind.rest);
                self.step(Step::Bind);
            }
            (Message::Close(target), Named::Known(_)) => {
                self.statements.push(Change::Close(target.name.into()));
                self.step(Step::CloseKnown);
            }
            (Message::Describe(target), Named::Known(statement)) => {
                self.ensure(statement);
                frontend::encode_describe(self.out, target.kind, &statement.name);
                self.step(Step::DescribeStatement);
            }
            (Message::Parse(parse), Named::Known(statement)) => {
                self.parse(parse.name, statement);
            }
            (Message::Parse(parse), Named::Raw(Some(statement))) => {
                let change = Change::Parse(parse.name.into(), Rc::clone(statement));
                self.statements.push(change);
                self.out.extend_from_slice(bytes);
                self.step(Step::ParseCheck);
            }
            (Message::Bind(bind), Named::Raw(Some(statement))) => {
                self.prepare_late(bind.statement, statement);
                self.pass(&message, bytes);
            }
            (Message::Describe(target), Named::Raw(Some(statement))) => {
                self.prepare_late(target.name, statement);
                self.pass(&message, bytes);
            }
            (Message::Close(target), Named::Raw(_)) => {
                self.statements.push(Change::Close(target.name.into()));
                self.out.extend_from_slice(bytes);
                self.step(Step::CloseRaw);
            }
            (Message::Parse(parse), _) => {
                self.provoke(parse.name);
                self.out.extend_from_slice(bytes);
                self.step(Step::Never);
            }
            (Message::Bind(bind), Named::Unknown) => {
                let name = self.unknown(bind.statement);
                frontend::encode_bind(self.out, bind.portal, name, bind.rest);
                self.step(Step::Bind);
            }
            (Message::Describe(target), Named::Unknown) => {
                let name = self.unknown(target.name);
                frontend::encode_describe(self.out, target.kind, name);
                self.step(Step::DescribeStatement);
            }
            (message, _) => self.pass(&message, bytes),
        }
    }

    /// Makes sure that the node does not know a name that the client does not: what others have
    /// left unnamed is closed, and a name of ours becomes one that was never given.
    fn unknown<'n>(&mut self, name: &'n [u8]) -> &'n [u8] {
        if name.is_empty() {
            frontend::encode_close(self.out, TargetKind::Statement, name);
            self.step(Step::CloseOurs);
        }
        if name.starts_with(NAME_PREFIX) {
            return NEVER_GIVEN;
        }
        name
    }

    /// A malformed message goes on, for the node to refuse.
    fn pass_bad(&mut self, tag: u8, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        let step = match tag {
            b'F' => Step::Function,
            // A Sync that is refused ends the request all the same.
            b'Q' | b'S' => Step::Query,
            _ => Step::Never,
        };
        self.is_closed = step.is_last();
        self.step(step);
    }

    /// A message goes on as it is.
    fn pass(&mut self, message: &Message<'_>, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        let step = match message {
            Message::Bind(_) => Step::Bind,
            Message::Close(_) => Step::Close,
            Message::Describe(target) if target.kind == TargetKind::Statement => {
                Step::DescribeStatement
            }
            Message::Describe(_) => Step::Describe,
            Message::Execute(_) => Step::Execute,
            Message::FunctionCall(_) => Step::Function,
            Message::Query(_) => {
                if self.statements.has_unnamed() {
                    self.statements.push(Change::Close(Box::default()));
                    let last = self
                        .upstream
                        .pipe
                        .back_mut()
                        .expect("the request just begun");
                    last.drops_unnamed = true;
                }
                Step::Query
            }
            // While data is copied in the node ignores Sync.
            Message::Sync if self.upstream.is_copying => return,
            Message::Sync => Step::Sync,
            Message::CopyDone | Message::CopyFail(_) => {
                self.upstream.is_copying = false;
                Step::CopyEnd
            }
            _ => return,
        };
        self.is_closed = step.is_last();
        self.is_synced = step == Step::Sync;
        self.step(step);
    }

    fn step(&mut self, step: Step) {
        self.upstream.steps.push_back(step);
    }

    /// A client's own Parse.
    fn parse(&mut self, name: &[u8], statement: &Rc<Statement>) {
        self.statements
            .push(Change::Parse(name.into(), Rc::clone(statement)));
        if self.upstream.has(statement) {
            if self.may_have_failed {
                frontend::encode_parse(self.out, b"", &statement.text, &statement.types);
                self.step(Step::ParseCheck);
                // If it is refused, the next use finds no statement of that name.
                self.is_in_doubt |= !name.is_empty();
            } else {
                self.step(Step::ParseKnown);
            }
        } else {
            self.prepare(statement, Step::Parse);
        }
    }

    /// Makes sure that the upstream has a statement when the next message is processed.
    fn ensure(&mut self, statement: &Rc<Statement>) {
        if !self.upstream.has(statement) {
            self.prepare(statement, Step::ParseOurs);
        }
    }

    fn prepare(&mut self, statement: &Rc<Statement>, step: Step) {
        if self.upstream.prepared.len() >= self.statements_max {
            self.evict();
        }
        frontend::encode_parse(self.out, &statement.name, &statement.text, &statement.types);
        self.step(step);
        let request = self.upstream.requests;
        let prepared = Prepared {
            used: 0,
            request,
            preparing: Some(request),
        };
        self.upstream.prepared.insert(statement.number, prepared);
        self.upstream.preparing.push_back(statement.number);
        self.upstream.touch(statement.number);
        self.prepared_count += 1;
    }

    /// A statement that could not be prepared when the lease began is prepared ahead of its use:
    /// the node says what is wrong with it, or all is well again. What comes next waits for that:
    /// if it is refused once more, the next use has to prepare it again.
    fn prepare_late(&mut self, name: &[u8], statement: &Statement) {
        let Some(at) = self.unprepared.iter().position(|it| **it == *name) else {
            return;
        };
        let name = self.unprepared.swap_remove(at);
        frontend::encode_parse(self.out, &name, &statement.text, &statement.types);
        self.step(Step::ParseLate);
        self.upstream.preparing_late.push_back(name);
    }

    /// Closes the statement that has not been used for longest, in a request of its own so that the
    /// Close cannot be skipped. What this very request uses stays.
    fn evict(&mut self) {
        let request = self.upstream.requests;
        let confirmed =
            self.upstream.prepared.iter().filter(|(_, prepared)| {
                prepared.preparing.is_none() && prepared.request != request
            });
        let Some((&number, _)) = confirmed.min_by_key(|(_, prepared)| prepared.used) else {
            return;
        };
        self.upstream.prepared.remove(&number);
        let name = [NAME_PREFIX, number.to_string().as_bytes()].concat();
        self.upstream.close_later(&name);
    }

    /// Lets the node say that a name is taken, in its own words: prepares an empty statement under
    /// the client's name first.
    fn provoke(&mut self, name: &[u8]) {
        frontend::encode_parse(self.out, name, b"", &[0, 0]);
        self.step(Step::ParseProvoking);
        self.upstream.close_later(name);
    }
}

impl Upstream {
    /// Notes that a statement is to be closed after the request at hand.
    fn close_later(&mut self, name: &[u8]) {
        self.tidying.push(name.into());
    }

    /// Whether it has a statement, and if so notes its use. One that was going to be closed after
    /// the request at hand stays.
    fn has(&mut self, statement: &Statement) -> bool {
        let mut tidying = self.tidying.iter();
        if let Some(at) = tidying.position(|name| *name == statement.name) {
            self.tidying.swap_remove(at);
            let kept = Prepared {
                used: 0,
                request: self.requests,
                preparing: None,
            };
            self.prepared.insert(statement.number, kept);
        }
        let has = self.prepared.contains_key(&statement.number);
        self.touch(statement.number);
        has
    }
}

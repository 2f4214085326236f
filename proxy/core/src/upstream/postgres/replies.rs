//! What comes back from a node: matched with what is expected, and passed on.
//!
//! Reads upstream bytes and writes client output; decides nothing about scheduling. Invariants: not
//! one byte of a reply is passed on before the end of the reply before it has been checked; any
//! disagreement with the expected steps ends the upstream and is never repaired.

use core::ops::Range;

use manifold_protocols::postgres::backend::{
    Fields, Status, decode_ready, encode_close_complete, encode_parse_complete,
};
use manifold_protocols::postgres::frame::{HEADER_LEN, decode_backend_header};

use crate::ids::{ConnId, UpstreamId};
use crate::planted::Bug;
use crate::shard::Shard;
use crate::upstream::postgres::pipe::{Requester, Step};
use crate::upstream::postgres::{State, Upstream};

/// How PostgreSQL says that a prepared statement no longer fits its tables (`plancache.c`).
const STALE_PLAN: &[u8] = b"cached plan must not change result type";

/// How it begins to say that a function was compiled for columns of other types (`pl_exec.c`,
/// `execExprInterp.c`: "type of parameter 1 (bigint) does not match that when preparing the plan
/// (integer)").
const STALE_FUNCTION: &[u8] = b"type of parameter ";

/// Why an upstream cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// The node said FATAL to the request at the head.
    Fatal,
    /// What came was not what had to come.
    Mismatch,
    /// It has statements that no longer fit; what is in flight is made anew elsewhere.
    Healed,
    /// It was closed while its bytes were being read.
    Gone,
    /// The login failed, for this reason.
    Login(&'static str),
}

/// Where the reply of the head goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sink {
    Client(ConnId),
    Discard,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It goes to the client.
    Pass,
    /// It was for us.
    Swallow,
    /// It goes to the client, and the request is answered.
    End(Status),
}

impl Shard {
    /// Bytes of a node.
    pub(crate) fn handle_replies(&mut self, id: UpstreamId, bytes: &[u8]) {
        let upstream = &mut self.upstreams[id];
        if upstream.is_retired {
            // Whatever it still says, nobody waits for it.
            return;
        }
        let result = if upstream.carry.is_empty() {
            self.read_replies(id, bytes).map(|done| (done, None))
        } else {
            let mut carry = core::mem::take(&mut upstream.carry);
            carry.extend_from_slice(bytes);
            self.read_replies(id, &carry)
                .map(|done| (done, Some(carry)))
        };
        match result {
            Ok((done, None)) => self.carry_over(id, &bytes[done..]),
            Ok((done, Some(carry))) => {
                self.carry_over(id, &carry[done..]);
                self.conns.pool.give(carry);
            }
            Err(broken) => self.handle_broken(id, broken),
        }
    }

    /// Keeps the beginning of a message whose end has not arrived.
    fn carry_over(&mut self, id: UpstreamId, rest: &[u8]) {
        if let Some(upstream) = self.upstreams.get_mut(id)
            && !rest.is_empty()
        {
            let mut carry = self.conns.pool.take();
            carry.extend_from_slice(rest);
            upstream.carry = carry;
        }
    }

    /// Reads messages until one is incomplete; says how many bytes are done with.
    fn read_replies(&mut self, id: UpstreamId, bytes: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        // What has been read and is to be passed on together.
        let mut run = 0..0;
        loop {
            let upstream = self.upstreams.get_mut(id).ok_or(Broken::Gone)?;
            if upstream.passing > 0 {
                let len = upstream.passing.min(bytes.len() - at);
                upstream.passing -= len;
                at += len;
                run.end = at;
            }
            let header = decode_backend_header(&bytes[at..], usize::MAX);
            let Some(header) = header.map_err(|_| Broken::Mismatch)? else {
                break;
            };
            let arrived = bytes.len() - at;
            let is_whole = header.len <= arrived;
            if matches!(header.tag, b'D' | b'd') && upstream.state == State::Ready {
                check_row(upstream, header.tag)?;
                if !upstream.is_chores() {
                    upstream.passing = header.len - header.len.min(arrived);
                    at += header.len.min(arrived);
                    run.end = at;
                    continue;
                }
            }
            if !is_whole {
                if header.len > self.limits.node_message_bytes_max {
                    return Err(Broken::Mismatch);
                }
                break;
            }
            let message = at..at + header.len;
            at = message.end;
            if upstream.state != State::Ready {
                let whole = &bytes[message.clone()];
                self.handle_login_message(id, header.tag, whole, &whole[HEADER_LEN..])
                    .map_err(Broken::Login)?;
                run = at..at;
                continue;
            }
            self.read_message(id, bytes, message, &mut run)?;
        }
        self.pass_on(id, &bytes[run]);
        Ok(at)
    }

    /// One whole message of a ready upstream.
    fn read_message(
        &mut self,
        id: UpstreamId,
        bytes: &[u8],
        message: Range<usize>,
        run: &mut Range<usize>,
    ) -> Result<(), Broken> {
        let tag = bytes[message.start];
        let body = &bytes[message.start + HEADER_LEN..message.end];
        let upstream = &mut self.upstreams[id];
        upstream.drop_copy_ends();
        let is_reply = !matches!(tag, b'A' | b'N' | b'S');
        if is_reply && upstream.steps.front().is_some_and(|step| step.is_made_up()) && tag != b'E' {
            self.pass_on(id, &bytes[run.clone()]);
            *run = message.start..message.start;
            self.make_up(id);
        } else if tag == b'E' {
            if self.is_of_stale_memory(id, body) {
                return Err(Broken::Healed);
            }
            // What we answer ourselves happened before what failed.
            self.pass_on(id, &bytes[run.clone()]);
            *run = message.start..message.start;
            self.make_up(id);
        }
        let fate = self.match_message(id, tag, body)?;
        if fate == Fate::Pass
            && tag == b'E'
            && let Some(renamed) = self.rename_statement(id, body)
        {
            self.pass_on(id, &bytes[run.clone()]);
            self.pass_on(id, &renamed);
            *run = message.end..message.end;
            return Ok(());
        }
        match fate {
            Fate::Pass => run.end = message.end,
            Fate::Swallow => {
                self.pass_on(id, &bytes[run.clone()]);
                *run = message.end..message.end;
            }
            Fate::End(status) => {
                self.check_end(id, status)?;
                self.pass_on(id, &bytes[run.clone()]);
                // What the client is told of its settings comes before the end of the reply.
                self.complete_request(id, status);
                self.pass_on(id, &bytes[message.clone()]);
                *run = message.end..message.end;
                self.handle_answered(id, status);
                if self.upstreams.get(id).is_none() {
                    return Err(Broken::Gone);
                }
            }
        }
        Ok(())
    }

    /// Gives bytes of the head's reply to whoever asked.
    fn pass_on(&mut self, id: UpstreamId, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Sink::Client(conn) = self.sink(id) else {
            self.stats.replies_discarded += 1;
            return;
        };
        let delivered_at = self.conns.written_total(conn);
        self.conns.write(conn).extend_from_slice(bytes);
        if let Some(head) = self.upstreams[id].pipe.front_mut() {
            if !head.is_delivered {
                head.delivered_at = Some(delivered_at);
            }
            head.is_delivered = true;
            head.reply_bytes += bytes.len() as u64;
        }
        self.limit_output(id, conn);
    }

    fn sink(&self, id: UpstreamId) -> Sink {
        let upstream = &self.upstreams[id];
        let client = match upstream.pipe.front() {
            Some(_) if self.planted.is(Bug::SwapReplies) && upstream.pipe.len() > 1 => {
                upstream.pipe[1].client()
            }
            Some(head) => head.client(),
            None => upstream.holder,
        };
        match client.and_then(|client| self.clients.get(client)) {
            Some(client) => Sink::Client(client.conn),
            None => Sink::Discard,
        }
    }

    /// A client that does not read must not fill the memory: on its own upstream reading pauses, on
    /// a shared one the client is closed and the rest of its reply discarded.
    fn limit_output(&mut self, id: UpstreamId, conn: ConnId) {
        let unsent = self.conns.unsent(conn);
        if unsent <= self.limits.output_high {
            return;
        }
        let upstream = &self.upstreams[id];
        let is_alone = upstream.holder.is_some() || upstream.tail.is_some();
        if is_alone
            && unsent > self.limits.reply_bytes_max / 4
            && upstream
                .pipe
                .iter()
                .all(|one| one.client() == upstream.pipe[0].client())
        {
            self.conns.pause(upstream.conn);
            self.upstreams[id].is_paused = true;
            return;
        }
        if unsent > self.limits.reply_bytes_max
            && let crate::conns::Owner::Client(client) = self.conns.owner(conn)
        {
            self.end_client(client);
        }
    }

    /// Answers ourselves what has to be answered before the next message of the node.
    pub(super) fn make_up(&mut self, id: UpstreamId) {
        loop {
            let upstream = &mut self.upstreams[id];
            let Some(&step) = upstream.steps.front().filter(|step| step.is_made_up()) else {
                return;
            };
            upstream.steps.pop_front();
            let Sink::Client(conn) = self.sink(id) else {
                continue;
            };
            let out = self.conns.write(conn);
            match step {
                Step::ParseKnown => encode_parse_complete(out),
                _ => encode_close_complete(out),
            }
            let head = self.upstreams[id]
                .pipe
                .front_mut()
                .expect("a step belongs to a request");
            head.is_delivered = true;
            self.confirm_change(id);
        }
    }

    /// What a message of the node means, given what is expected.
    fn match_message(&mut self, id: UpstreamId, tag: u8, body: &[u8]) -> Result<Fate, Broken> {
        match tag {
            b'A' => return self.handle_notification(id),
            b'E' => return self.handle_error(id, body),
            b'N' => return Ok(self.upstreams[id].fate_of_notice()),
            b'S' => return self.handle_parameter_status(id, body),
            b'Z' => return self.handle_ready_for_query(id, body),
            _ => {}
        }
        let upstream = &mut self.upstreams[id];
        upstream.drop_copy_ends();
        let Some(&step) = upstream.steps.front() else {
            return Err(Broken::Mismatch);
        };
        match (step, tag) {
            (Step::Bind, b'2') | (Step::Close, b'3') | (Step::Describe, b'T' | b'n') => {
                upstream.steps.pop_front();
                Ok(Fate::Pass)
            }
            (Step::ParseRaw, b'1') => {
                upstream.steps.pop_front();
                Ok(Fate::Pass)
            }
            (Step::CloseOurs, b'3') | (Step::ParseProvoking, b'1') => {
                upstream.steps.pop_front();
                Ok(Fate::Swallow)
            }
            (Step::ParseLate, b'1') => {
                upstream.steps.pop_front();
                upstream.preparing_late.pop_front();
                Ok(Fate::Swallow)
            }
            (Step::DescribeStatement, b't') => {
                upstream.steps[0] = Step::Describe;
                Ok(Fate::Pass)
            }
            (Step::Execute, b'C' | b'I' | b's') => {
                upstream.steps.pop_front();
                upstream.complete_head();
                Ok(Fate::Pass)
            }
            (Step::Execute | Step::Query, b'G') => self.begin_copy_in(id),
            (Step::Execute | Step::Query, b'H' | b'W' | b'c') => upstream.begin_copy(tag),
            (Step::Function, b'V') => Ok(Fate::Pass),
            (Step::ParseCheck, b'1') | (Step::CloseRaw, b'3') => {
                upstream.steps.pop_front();
                self.confirm_change(id);
                Ok(Fate::Pass)
            }
            (Step::ParseOurs, b'1') => {
                upstream.steps.pop_front();
                upstream.confirm_prepared();
                Ok(Fate::Swallow)
            }
            (Step::Parse, b'1') => {
                upstream.steps.pop_front();
                upstream.confirm_prepared();
                self.confirm_change(id);
                Ok(Fate::Pass)
            }
            (Step::Query, b'T' | b'D' | b'C' | b'I' | b'd') => {
                if tag == b'C' {
                    upstream.complete_head();
                }
                self.handle_chore_message(id, tag, body)
            }
            _ => Err(Broken::Mismatch),
        }
    }

    /// The node takes data now. A Sync that was sent before the end of the data ends nothing.
    fn begin_copy_in(&mut self, id: UpstreamId) -> Result<Fate, Broken> {
        let upstream = &mut self.upstreams[id];
        let fate = upstream.begin_copy(b'G')?;
        let holder = upstream.holder.and_then(|holder| self.clients.get(holder));
        if holder.is_none() {
            self.abandon(id);
            return Err(Broken::Gone);
        }
        loop {
            let upstream = &mut self.upstreams[id];
            match upstream.steps.get(1) {
                Some(Step::CopyEnd) => return Ok(fate),
                Some(Step::Sync) => {
                    upstream.steps.remove(1);
                    self.merge_skipped_request(id);
                }
                Some(_) => return Ok(fate),
                None => {
                    upstream.is_copying = true;
                    // Its holder may have sent its last byte already.
                    self.clients_to_pump.extend(upstream.holder);
                    return Ok(fate);
                }
            }
        }
    }

    /// A client's Parse or Close has happened.
    fn confirm_change(&mut self, id: UpstreamId) {
        let Some(head) = self.upstreams[id].pipe.front_mut() else {
            return;
        };
        head.has_confirmed = true;
        if let Some(client) = head.client().and_then(|it| self.clients.get_mut(it)) {
            client.session_mut().statements.confirm();
        }
    }

    /// A client's Parse or Close has not happened.
    fn refuse_change(&mut self, id: UpstreamId, was_tried: bool) {
        let client = self.upstreams[id]
            .pipe
            .front()
            .and_then(|head| head.client());
        if let Some(client) = client.and_then(|client| self.clients.get_mut(client)) {
            client.session_mut().statements.refuse(was_tried);
        }
    }

    /// Whether a request failed only because of what the upstream remembers of its tables from
    /// before they were changed, where a private connection would remember nothing. The request
    /// is then made anew elsewhere.
    fn is_of_stale_memory(&self, id: UpstreamId, body: &[u8]) -> bool {
        let Ok(fields) = Fields::decode(body) else {
            return false;
        };
        let says = |words: &[u8]| fields.message().starts_with(words);
        match fields.sqlstate() {
            b"0A000" if says(STALE_PLAN) => self.is_of_stale_plan(id),
            b"42804" if says(STALE_FUNCTION) => self.is_of_stale_function(id),
            _ => false,
        }
    }

    /// The only request of a client that can be sent again has called a function that somebody else
    /// may have called on this upstream before. It is rolled back; but had a statement of it been
    /// completed before, that might have been a COMMIT.
    fn is_of_stale_function(&self, id: UpstreamId) -> bool {
        let Some(head) = self.upstreams[id].pipe.front() else {
            return false;
        };
        let client = head.client().and_then(|client| self.clients.get(client));
        let is_whole = head.len > 0 && !head.is_delivered;
        let is_rolled_back = !head.is_completed && !head.commits_early && !head.is_inside;
        is_whole
            && is_rolled_back
            && client.is_some_and(|client| client.in_flight == 1 && client.retries == 0)
    }

    /// A client prepared and ran, in one request, a statement that the upstream has had since
    /// before a change of its tables.
    fn is_of_stale_plan(&self, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        let Some(head) = upstream.pipe.front() else {
            return false;
        };
        let is_own = upstream.steps.front() == Some(&Step::ParseKnown)
            || upstream
                .steps
                .iter()
                .take_while(|step| !step.is_last())
                .any(|step| step.is_made_up());
        let Some(client) = head.client().and_then(|client| self.clients.get(client)) else {
            return false;
        };
        is_own
            && !head.is_delivered
            && !head.is_leased
            && head.part.is_none()
            && !head.is_inside
            && client.in_flight == 1
            && client.retries == 0
    }

    /// An ErrorResponse: the rest of the request will not be answered.
    fn handle_error(&mut self, id: UpstreamId, body: &[u8]) -> Result<Fate, Broken> {
        let fields = Fields::decode(body).map_err(|_| Broken::Mismatch)?;
        let upstream = &mut self.upstreams[id];
        if fields.is_fatal() {
            upstream.last_words = Some(body.into());
            return Err(Broken::Fatal);
        }
        let Some(head) = upstream.pipe.front_mut() else {
            return Err(Broken::Mismatch);
        };
        head.is_failed = true;
        let is_chore = matches!(head.owner, Requester::Chore(_));
        if is_chore {
            self.handle_chore_error(id, body);
        }
        self.upstreams[id].drop_copy_ends();
        self.upstreams[id].is_copying = false;
        match self.upstreams[id].steps.front() {
            // In the simple protocol the ReadyForQuery follows at once.
            Some(Step::Query | Step::Function) => {}
            _ => self.skip_to_sync(id),
        }
        Ok(if is_chore { Fate::Swallow } else { Fate::Pass })
    }

    /// The node skips everything up to Sync, a Query included (F1).
    fn skip_to_sync(&mut self, id: UpstreamId) {
        let mut was_tried = true;
        loop {
            let upstream = &mut self.upstreams[id];
            match upstream.steps.front() {
                Some(Step::Sync) => return,
                Some(&step) => {
                    upstream.steps.pop_front();
                    if step.prepares() {
                        upstream.refuse_prepared();
                    }
                    if step == Step::ParseLate {
                        self.refuse_late(id);
                    }
                    if step.has_change() {
                        self.refuse_change(id, was_tried);
                    }
                    if step.is_last() {
                        self.merge_skipped_request(id);
                    }
                    was_tried = false;
                }
                None => {
                    upstream.is_skipping = true;
                    return;
                }
            }
        }
    }

    /// A statement could not be prepared ahead of its use: the next use tries again.
    fn refuse_late(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let name = upstream.preparing_late.pop_front();
        let holder = upstream.holder.and_then(|it| self.clients.get_mut(it));
        if let Some(holder) = holder {
            holder.session_mut().unprepared.extend(name);
        }
    }

    /// A Query that is skipped ends nothing: what follows it belongs to the failed request.
    fn merge_skipped_request(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let holder = upstream.holder;
        if upstream.pipe.len() > 1 {
            let next = upstream.pipe.remove(1).expect("there are two");
            upstream.expected_nanos -= u64::from(next.expected_nanos);
            upstream.pipe[0].len += next.len;
            if let Some(client) = holder.and_then(|holder| self.clients.get_mut(holder)) {
                client.in_flight -= 1;
            }
        } else if let Some(client) = holder.and_then(|holder| self.clients.get_mut(holder))
            && let Some(lease) = &mut client.lease
        {
            lease.is_open = true;
        }
    }

    fn handle_notification(&mut self, id: UpstreamId) -> Result<Fate, Broken> {
        let upstream = &mut self.upstreams[id];
        if upstream.holder.is_some() {
            return Ok(Fate::Pass);
        }
        // Somebody listens here who should not: whoever it is, the session is not clean.
        upstream.is_draining = true;
        Ok(Fate::Swallow)
    }

    fn handle_ready_for_query(&mut self, id: UpstreamId, body: &[u8]) -> Result<Fate, Broken> {
        let status = decode_ready(body).map_err(|_| Broken::Mismatch)?;
        let upstream = &mut self.upstreams[id];
        upstream.drop_copy_ends();
        upstream.is_copying = false;
        match upstream.steps.pop_front() {
            Some(Step::Sync | Step::Query) => {}
            Some(Step::Function) => {}
            _ => return Err(Broken::Mismatch),
        }
        Ok(Fate::End(status))
    }

    /// The end of a request that promised to leave no transaction open (R3).
    fn check_end(&mut self, id: UpstreamId, status: Status) -> Result<(), Broken> {
        let upstream = &self.upstreams[id];
        let head = upstream.pipe.front().ok_or(Broken::Mismatch)?;
        if head.is_leased
            || head.part.is_some()
            || status == Status::Idle
            || upstream.holder.is_some()
            || upstream.is_soiled
        {
            return Ok(());
        }
        Err(Broken::Mismatch)
    }
}

/// Whether a row may come now.
fn check_row(upstream: &Upstream, tag: u8) -> Result<(), Broken> {
    match (upstream.steps.front(), tag) {
        (Some(Step::Query | Step::Execute), _) => Ok(()),
        _ => Err(Broken::Mismatch),
    }
}

//! Messages that are too large to be held: they go on to the client's lease as they arrive.
//!
//! Looks at a message's names and nothing else of it. Invariant: from the first byte of such a
//! message to its last, nothing else is written to the upstream.

use manifold_protocols::postgres::frame::{HEADER_LEN, decode_frontend_header};

use crate::client::postgres::Until;
use crate::client::postgres::pump::Progress;
use crate::ids::{ClientId, UpstreamId};
use crate::proof::Reason;
use crate::shard::Shard;
use crate::upstream::postgres::pipe::{Expectation, Step};

impl Shard {
    /// A message that is too large to be held goes on as it arrives. Its statement, if it has one,
    /// is not looked at: the session keeps its upstream.
    pub(super) fn begin_stream(&mut self, id: ClientId, target: UpstreamId) -> Progress {
        let client = &mut self.clients[id];
        let unparsed = client.input.unparsed();
        let header = decode_frontend_header(unparsed, self.limits.message_bytes_max);
        let Ok(Some(header)) = header else {
            return Progress::Stop;
        };
        let is_open = client.lease.is_some_and(|lease| lease.is_open);
        let step = match header.tag {
            b'd' => None,
            b'Q' => Some(Step::Query),
            b'F' => Some(Step::Function),
            b'B' => Some(Step::Bind),
            b'P' => Some(Step::ParseRaw),
            _ => None,
        };
        let Some(names) = names_end(header.tag, &unparsed[HEADER_LEN..]) else {
            return Progress::Stop;
        };
        if !is_open {
            self.begin_streamed_request(id, target, header.tag);
        }
        let prefix = self.stream_prefix(id, target, header.tag, names);
        let client = &mut self.clients[id];
        let lease = client
            .lease
            .as_mut()
            .expect("messages are streamed on a lease");
        lease.is_open = !step.is_some_and(Step::is_last);
        lease.is_begun = true;
        if matches!(header.tag, b'Q' | b'P' | b'F') && lease.until == Until::Idle {
            lease.until = Until::Session(Reason::Complexity);
            self.count_session_lease(id, Reason::Complexity);
        }
        let client = &mut self.clients[id];
        let upstream = &mut self.upstreams[target];
        upstream.residue = upstream.residue.max(Reason::Complexity.residue());
        upstream.steps.extend(step);
        let out = self.conns.write(upstream.conn);
        let rest = header.len - HEADER_LEN - names;
        out.push(header.tag);
        out.extend_from_slice(&((4 + prefix.len() + rest) as u32).to_be_bytes());
        out.extend_from_slice(&prefix);
        client.input.consume(HEADER_LEN + names);
        client.streaming = rest;
        Progress::Next
    }

    /// Puts a request into the pipe that is streamed, of which nothing can be known or kept.
    fn begin_streamed_request(&mut self, id: ClientId, target: UpstreamId, tag: u8) {
        let upstream = &mut self.upstreams[target];
        let begins_at = self.conns.written_total(upstream.conn);
        let mut expectation = Expectation::of_client(id, self.now, begins_at);
        expectation.writes = true;
        expectation.commits_early = true;
        expectation.is_leased = true;
        expectation.defines = matches!(tag, b'Q' | b'P' | b'F');
        upstream.push(expectation);
        self.tally_of(id).requests_leased += 1;
        self.clients[id].in_flight += 1;
    }

    /// What a streamed message begins with, its names rewritten.
    fn stream_prefix(
        &mut self,
        id: ClientId,
        target: UpstreamId,
        tag: u8,
        names: usize,
    ) -> Vec<u8> {
        let client = &mut self.clients[id];
        let names = client.input.unparsed()[HEADER_LEN..HEADER_LEN + names].to_vec();
        let session = client
            .session
            .as_deref_mut()
            .expect("a client with requests is logged in");
        match tag {
            b'P' => {
                session.statements.forget(&names[..names.len() - 1]);
                names
            }
            b'B' => {
                let mut parts = names.split(|&byte| byte == 0);
                let portal = parts.next().unwrap_or_default();
                let name = parts.next().unwrap_or_default();
                let Some(statement) = session.statements.find(name).cloned() else {
                    return names;
                };
                self.ensure_prepared(target, &statement);
                [portal, b"\0", &statement.name, b"\0"].concat()
            }
            _ => names,
        }
    }

    /// Passes on what has arrived of the message being streamed.
    pub(super) fn stream(&mut self, id: ClientId, target: UpstreamId) -> Progress {
        let client = &mut self.clients[id];
        let unparsed = client.input.unparsed();
        let len = unparsed.len().min(client.streaming);
        let out = self.conns.write(self.upstreams[target].conn);
        out.extend_from_slice(&unparsed[..len]);
        client.streaming -= len;
        client.input.consume(len);
        Progress::Next
    }
}

/// How many bytes the names at the front of a message's body take, if they have arrived.
fn names_end(tag: u8, body: &[u8]) -> Option<usize> {
    let names = match tag {
        b'B' => 2,
        b'P' => 1,
        _ => return Some(0),
    };
    let mut nuls = body.iter().enumerate().filter(|(_, byte)| **byte == 0);
    nuls.nth(names - 1).map(|(at, _)| at + 1)
}

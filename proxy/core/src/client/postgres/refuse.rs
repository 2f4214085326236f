//! Requests that are answered with an error of our own and never sent.
//!
//! Knows the client's unparsed bytes and names; knows no upstream. Invariant: after the error the
//! client stands where a node's error would have left it: the unnamed statement is gone after a
//! Query, and what follows messages without a Sync is dropped up to the Sync.

use manifold_protocols::postgres::backend::{Status, encode_ready_for_query};
use manifold_protocols::postgres::frame::{FrameError, HEADER_LEN, decode_frontend_header};

use crate::client::postgres::errors::Refusal;
use crate::ids::ClientId;
use crate::shard::Shard;

impl Shard {
    /// Answers the messages at the front of a client's unparsed bytes with an error.
    pub(crate) fn refuse_request(&mut self, id: ClientId, len: usize, refusal: &Refusal) {
        let client = &mut self.clients[id];
        let request = &client.input.unparsed()[..len];
        let (is_query, is_closed) = (request[0] == b'Q', is_closed(request));
        client.input.consume(len);
        client.scanned = 0;
        if is_query {
            client.session_mut().statements.forget(b"");
        }
        refusal.encode(self.conns.write(client.conn));
        self.stats.requests_local += 1;
        if is_closed {
            self.end_refused_request(id);
        } else {
            self.clients[id].skipping = Some(0);
        }
    }

    /// Tells a client about an error of its own making and that it may go on.
    pub(crate) fn answer_error(&mut self, id: ClientId, refusal: &Refusal) {
        let client = &mut self.clients[id];
        let out = self.conns.write(client.conn);
        refusal.encode(out);
        encode_ready_for_query(out, Status::Idle);
        client.status = Status::Idle;
        self.stats.requests_local += 1;
    }

    fn end_refused_request(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        client.skipping = None;
        client.status = Status::Idle;
        encode_ready_for_query(self.conns.write(client.conn), Status::Idle);
    }

    /// Drops messages up to the next Sync. Says whether it has come; an error is that of a client
    /// that does not keep to the protocol, and Terminate is left where it is.
    pub(crate) fn skip_to_clients_sync(
        &mut self,
        id: ClientId,
        rest: usize,
    ) -> Result<bool, FrameError> {
        let client = &mut self.clients[id];
        let arrived = client.input.unparsed().len().min(rest);
        client.input.consume(arrived);
        client.skipping = Some(rest - arrived);
        if rest > arrived {
            return Ok(false);
        }
        loop {
            let unparsed = client.input.unparsed();
            let header = decode_frontend_header(unparsed, self.limits.message_bytes_max)?;
            let Some(header) = header.filter(|it| it.tag != b'X') else {
                return Ok(false);
            };
            let arrived = unparsed.len().min(header.len);
            client.input.consume(arrived);
            client.skipping = Some(header.len - arrived);
            if header.len > arrived {
                return Ok(false);
            }
            if header.tag == b'S' {
                self.end_refused_request(id);
                return Ok(true);
            }
        }
    }
}

/// Whether the last of these whole messages ends a request.
fn is_closed(mut request: &[u8]) -> bool {
    let mut last = 0;
    while let [tag, a, b, c, d, ..] = *request {
        last = tag;
        let len = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
        request = request.get(len.max(HEADER_LEN)..).unwrap_or_default();
    }
    matches!(last, b'Q' | b'S' | b'F')
}

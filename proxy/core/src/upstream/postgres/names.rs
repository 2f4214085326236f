//! Errors that name a statement of ours, put into the client's words.
//!
//! Knows names and the layout of one message. Invariant: only a name that stands for one of the
//! client's own statements is replaced.

use crate::ids::UpstreamId;
use crate::library::NAME_PREFIX;
use crate::shard::Shard;

impl Shard {
    /// The ErrorResponse with this body, for the client at the head, if its words name a statement
    /// by the name that it has on upstreams.
    pub(super) fn rename_statement(&self, id: UpstreamId, body: &[u8]) -> Option<Vec<u8>> {
        let at = find(body, NAME_PREFIX)?;
        let (before, rest) = body.split_at(at);
        let digits = &rest[NAME_PREFIX.len()..];
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        let (digits, after) = digits.split_at(end);
        let number = core::str::from_utf8(digits).ok()?.parse().ok()?;
        let client = self.upstreams[id].pipe.front()?.client()?;
        let session = self.clients.get(client)?.session();
        let name = session.statements.name_of(number)?;
        let len = 4 + before.len() + name.len() + after.len();
        let mut message = vec![b'E'];
        message.extend_from_slice(&u32::try_from(len).ok()?.to_be_bytes());
        message.extend_from_slice(before);
        message.extend_from_slice(name);
        message.extend_from_slice(after);
        Some(message)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

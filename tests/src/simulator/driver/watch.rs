//! Counts requests and replies on a connection to a node, from outside the core.
//!
//! Knows frames, nothing of what they mean beyond the tags that ask for and give a ReadyForQuery.
//! Invariant: what is asked for is counted when its last byte is handed to the driver.

/// Finds the tags in a stream that comes in pieces.
#[derive(Clone, Debug, Default)]
struct Tags {
    /// The header of the message under way.
    header: Vec<u8>,
    /// Bytes of the body that are still to come.
    body_left: usize,
    /// Bytes at the beginning without a tag, once their length is known.
    has_begun: bool,
}

/// The requests in flight on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    asked: Tags,
    answered: Tags,
    asked_count: u64,
    answered_count: u64,
    /// The first bytes that were sent.
    first: Vec<u8>,
}

/// The length and the code of a cancel request.
const CANCEL: [u8; 8] = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e];

impl Watch {
    /// Bytes go to the node; the first packet has no tag.
    pub(super) fn see_sent(&mut self, bytes: &[u8]) {
        let missing = CANCEL.len().saturating_sub(self.first.len());
        self.first.extend(bytes.iter().take(missing));
        let asks = |tag| matches!(tag, b'Q' | b'S' | b'F');
        self.asked_count += self.asked.count(bytes, true, asks);
    }

    /// Bytes come from the node.
    pub(super) fn see_received(&mut self, bytes: &[u8]) {
        self.answered_count += self.answered.count(bytes, false, |tag| tag == b'Z');
    }

    /// Whether the connection is for a cancel.
    pub(super) fn is_cancel(&self) -> bool {
        self.first == CANCEL
    }

    /// Requests whose reply is not complete. The first ReadyForQuery answers the login.
    pub(super) fn depth(&self) -> u64 {
        let answered = self.answered_count.saturating_sub(1);
        self.asked_count.saturating_sub(answered)
    }
}

impl Tags {
    fn count(&mut self, bytes: &[u8], skips_first: bool, is_wanted: impl Fn(u8) -> bool) -> u64 {
        let mut found = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.body_left > 0 {
                let skipped = self.body_left.min(rest.len());
                self.body_left -= skipped;
                rest = &rest[skipped..];
                continue;
            }
            self.header.push(rest[0]);
            rest = &rest[1..];
            let has_tag = self.has_begun || !skips_first;
            let Some(length) = self
                .header
                .get(usize::from(has_tag)..)
                .and_then(|it| it.first_chunk())
            else {
                continue;
            };
            self.body_left = (u32::from_be_bytes(*length) as usize).saturating_sub(4);
            found += u64::from(has_tag && is_wanted(self.header[0]));
            self.has_begun = true;
            self.header.clear();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_requests_and_replies_in_any_pieces() {
        let mut watch = Watch::default();
        let sent = [
            &b"\0\0\0\x08\0\x03\0\0"[..],
            b"P\0\0\0\x05x",
            b"S\0\0\0\x04",
            b"Q\0\0\0\x06a\0",
        ];
        sent.concat()
            .chunks(3)
            .for_each(|piece| watch.see_sent(piece));
        assert_eq!(watch.depth(), 2);
        for _ in 0..2 {
            b"D\0\0\0\x05ZZ\0\0\0\x05I"
                .chunks(2)
                .for_each(|piece| watch.see_received(piece));
        }
        assert_eq!(watch.depth(), 1);
    }
}

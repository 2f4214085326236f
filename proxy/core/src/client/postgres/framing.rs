//! How many of a client's bytes belong together: a whole request, or the messages that are there.
//!
//! Reads headers only. Invariant: no byte is looked at twice while a request arrives.

use manifold_protocols::postgres::frame::{FrameError, decode_frontend_header};

use crate::client::postgres::Client;
use crate::client::postgres::examine::{Found, Scope};
use crate::limits::Limits;

/// Finds out how many unparsed bytes belong together, and whether a Flush is among them.
pub(super) fn frame(
    client: &mut Client,
    scope: Scope,
    limits: &Limits,
) -> Result<(usize, bool), Found> {
    let mut at = if scope == Scope::Request {
        client.scanned
    } else {
        0
    };
    let bytes = client.input.unparsed();
    let mut has_flush = false;
    loop {
        let header = match decode_frontend_header(&bytes[at..], limits.message_bytes_max) {
            Ok(header) => header,
            Err(_) if at > 0 && scope == Scope::Messages => return Ok((at, has_flush)),
            Err(error) => return Err(Found::BadFrame(error)),
        };
        let whole = header.filter(|header| at + header.len <= bytes.len());
        let Some(header) = whole else {
            let expected = header.map_or(at, |header| at + header.len);
            // Where messages are sent one by one, none is looked at twice anyway.
            client.scanned = if scope == Scope::Request { at } else { 0 };
            return match scope {
                Scope::Messages if at > 0 => Ok((at, has_flush)),
                Scope::Request if expected > limits.request_bytes_max => Err(Found::TooLarge),
                Scope::Messages if expected > limits.request_bytes_max => Err(Found::TooLarge),
                _ => Err(Found::Incomplete),
            };
        };
        match header.tag {
            // What was not closed by a Sync before it is rolled back by the node, too.
            b'X' if at == 0 || scope == Scope::Request => return Err(Found::Terminate),
            b'X' => return Ok((at, has_flush)),
            b'p' => return Err(Found::BadFrame(FrameError::UnknownTag(b'p'))),
            _ => {}
        }
        at += header.len;
        // What follows copied data may have to wait for the catalog, which is not read before the
        // data has ended.
        let ends_data = scope == Scope::Messages && matches!(header.tag, b'c' | b'f');
        if ends_request(header.tag) || ends_data {
            client.scanned = 0;
            return Ok((at, has_flush));
        }
        if header.tag == b'H' {
            has_flush = true;
            if scope == Scope::Request {
                client.scanned = 0;
                return Ok((at, true));
            }
        }
        if at > limits.request_bytes_max {
            client.scanned = 0;
            return if scope == Scope::Messages {
                Ok((at, has_flush))
            } else {
                Err(Found::TooLarge)
            };
        }
    }
}

/// The length of the request at the front of a client's unparsed bytes, if it is complete.
pub fn frame_request(client: &mut Client, limits: &Limits) -> Option<usize> {
    frame(client, Scope::Request, limits)
        .ok()
        .map(|(len, _)| len)
}

/// The length of the request that begins at a place behind the first one, if it is complete there
/// and of an ordinary kind.
pub(super) fn frame_behind(bytes: &[u8], from: usize, limits: &Limits) -> Option<usize> {
    let mut at = from;
    loop {
        let header = decode_frontend_header(&bytes[at..], limits.message_bytes_max).ok()??;
        at += header.len;
        if at > bytes.len() || matches!(header.tag, b'H' | b'X' | b'p') {
            return None;
        }
        if ends_request(header.tag) {
            return Some(at - from);
        }
    }
}

/// Whether a message of this type ends a request.
pub(super) fn ends_request(tag: u8) -> bool {
    matches!(tag, b'Q' | b'S' | b'F')
}

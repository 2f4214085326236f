//! CLIENT TRACKING: a session that tracks keys has an upstream alone, and may have what it learns
//! sent to another session.
//!
//! That other session listens to invalidations on an upstream alone, too, so that the node can be
//! told which connection is meant. Clients know sessions by the proxy's numbers and the node knows
//! its own: both are put for each other here. Invariant: a node is never given a number that means
//! somebody else there.

use manifold_protocols::redis::resp::inline::write_request;
use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::request::Arguments;

use crate::client::redis::Client;
use crate::client::redis::others::{Purpose, Question};
use crate::client::redis::pump::Turn;
use crate::ids::ClientId;
use crate::reach::Reach;
use crate::redis::Redis;

/// The channel on which a node says what is no longer valid.
pub(crate) const INVALIDATIONS: &[u8] = b"__redis__:invalidate";

/// A number that no connection has.
const NOBODY: u64 = i64::MAX as u64;

/// Where a session's invalidations go.
#[derive(Clone, Copy, Debug)]
pub struct Redirect {
    /// The session, by the proxy's number.
    number: u64,
    /// Its connection, by the node's number.
    at_node: u64,
    /// The request that is to be sent next has the node's number.
    is_written: bool,
}

impl Redis {
    /// Puts the node's number into a request that has the proxy's. None if there is nothing to do.
    pub(crate) fn redirect(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        len: usize,
    ) -> Option<Turn> {
        let client = &mut self.clients[id];
        let number = wanted(&client.input.unparsed()[..len])?;
        if let Some(redirect) = client.redirect_mut()
            && core::mem::take(&mut redirect.is_written)
        {
            return None;
        }
        let question = Question::Upstream(number);
        Some(self.inquire(reach, id, &question, Purpose::Redirect { number }))
    }

    /// It is known where the session of a number is.
    pub(crate) fn rewrite_redirect(
        &mut self,
        id: ClientId,
        len: usize,
        number: u64,
        at_node: Option<u64>,
    ) {
        let client = &mut self.clients[id];
        let at_node = at_node.unwrap_or(NOBODY);
        let digits = at_node.to_string();
        let request = &client.input.unparsed()[..len];
        let mut words: Vec<&[u8]> = Arguments::of(request).collect();
        if let Some(place) = place_of_number(&words) {
            words[place] = digits.as_bytes();
        }
        let mut written = Vec::new();
        write_request(&mut written, words.into_iter());
        client.input.rewrite(len, &written);
        client.session.get_or_insert_default().redirect = Some(Redirect {
            number,
            at_node,
            is_written: true,
        });
    }
}

/// Puts the proxy's number into what a node says of where a client's invalidations go.
pub(crate) fn rename(client: &Client, reply: &mut Vec<u8>) {
    let session = client.session.as_ref();
    let Some(redirect) = session.and_then(|session| session.redirect) else {
        return;
    };
    let said = format!(":{}\r\n", redirect.at_node).into_bytes();
    let meant = format!(":{}\r\n", redirect.number).into_bytes();
    if let Some(at) = reply.windows(said.len()).position(|bytes| bytes == said) {
        reply.splice(at..at + said.len(), meant);
    }
}

impl Client {
    fn redirect_mut(&mut self) -> Option<&mut Redirect> {
        self.session.as_mut()?.redirect.as_mut()
    }
}

/// The number behind REDIRECT in a CLIENT TRACKING.
fn wanted(request: &[u8]) -> Option<u64> {
    let words: Vec<&[u8]> = Arguments::of(request).collect();
    let place = place_of_number(&words)?;
    number::parse(words[place]).and_then(|number| u64::try_from(number).ok())
}

fn place_of_number(words: &[&[u8]]) -> Option<usize> {
    let is_tracking = words.get(1)?.eq_ignore_ascii_case(b"tracking");
    let option = words
        .iter()
        .position(|word| word.eq_ignore_ascii_case(b"redirect"))?;
    (is_tracking && option > 1 && option + 1 < words.len()).then_some(option + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_number_behind_redirect() {
        let request = |words: &[&[u8]]| {
            let mut request = Vec::new();
            write_request(&mut request, words.iter().copied());
            request
        };
        let tracking = request(&[b"client", b"tracking", b"on", b"bcast", b"redirect", b"5"]);
        assert_eq!(wanted(&tracking), Some(5));
        let plain = request(&[b"CLIENT", b"TRACKING", b"on"]);
        assert_eq!(wanted(&plain), None);
        let cut = request(&[b"CLIENT", b"TRACKING", b"on", b"REDIRECT"]);
        assert_eq!(wanted(&cut), None);
    }
}

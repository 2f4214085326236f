//! What a played node says to greetings and questions, and of itself.
//!
//! Knows no test. Invariant: what is answered here is taken out of what the test sees.

use manifold_protocols::redis::resp::request::{Arguments, Found};

use super::Side;
use crate::client::redis::permission::NOWHERE;

/// What a node says at the beginning, and of itself.
pub(super) struct Answers {
    /// To the end of a greeting.
    pub ready: &'static [u8],
    pub slots: Vec<u8>,
    pub threads: String,
    pub naming: String,
    pub info: String,
    pub role: &'static str,
}

/// Takes greetings and questions for permission out of what the node was asked, and answers them;
/// and questions for the map, which are counted.
pub(super) fn greeting_of(upstream: &mut Side, said: &Answers) -> (Vec<u8>, usize) {
    let mut answers = Vec::new();
    let mut maps_asked = 0;
    let mut at = 0;
    while let Ok(Found::Whole { len, .. }) = upstream.finder.find(&upstream.got[at..], 1 << 20) {
        let request = &upstream.got[at..at + len];
        let name = Arguments::of(request).next();
        let is_question = Arguments::of(request).any(|word| word == NOWHERE);
        upstream.is_hub |= !is_question && name.is_some_and(|name| name.ends_with(b"subscribe"));
        let is_end = upstream.is_greeting && name == Some(b"PING");
        upstream.is_greeting = name == Some(b"CLIENT");
        let answer: &[u8] = match name {
            _ if is_question => b"+OK\r\n",
            Some(b"PING") if is_end => said.ready,
            Some(b"HELLO") => b"%2\r\n$2\r\nid\r\n:7\r\n$5\r\nproto\r\n:3\r\n",
            Some(b"CLIENT") if Arguments::of(request).nth(1) == Some(b"INFO") => {
                said.info.as_bytes()
            }
            Some(b"CLIENT") => said.naming.as_bytes(),
            Some(b"ROLE") => said.role.as_bytes(),
            Some(b"AUTH" | b"SELECT") => b"+OK\r\n",
            Some(b"COMMAND") => b"-ERR not here\r\n",
            Some(b"RESET") if upstream.is_hub => b"+RESET\r\n",
            Some(b"CONFIG") => said.threads.as_bytes(),
            Some(b"CLUSTER") => {
                maps_asked += 1;
                &said.slots
            }
            _ => b"",
        };
        if answer.is_empty() {
            at += len;
        } else {
            upstream.got.drain(at..at + len);
            answers.extend_from_slice(answer);
        }
    }
    (answers, maps_asked)
}

/// What a node answers to CLUSTER SLOTS.
pub(super) fn slots_of(map: &[(u16, u16)]) -> Vec<u8> {
    let mut slots = format!("*{}\r\n", map.len());
    let mut first = 0;
    for (last, port) in map {
        let range = format!("*3\r\n:{first}\r\n:{last}\r\n");
        let node = format!("*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$2\r\nid\r\n");
        slots += &(range + &node);
        first = last + 1;
    }
    slots.into_bytes()
}

//! What a transaction tells its session of the connection that it is on, which is not the client's.
//!
//! CLIENT ID, GETNAME, INFO and HELLO are queued and judged by the node like anything else; where
//! their answers stand in EXEC's reply, the session's own number and name are put in, as it comes.
//! Knows no request. Invariant: as many elements go out as came in, and all others unchanged.

use std::collections::VecDeque;

use manifold_protocols::redis::command::{ClientCommand, SessionCommand};
use manifold_protocols::redis::resp::inline::write_bulk;
use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::reply::Finder;

use crate::client::redis::Client;
use crate::ids::ClientId;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Effect;
use crate::upstream::redis::connect::NAME;
use crate::upstream::redis::lease::rename;
use crate::upstream::redis::pool::Version;
use crate::upstream::redis::replies::Outcome;

/// What an element of EXEC's reply tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tale {
    /// The number of the connection.
    Number,
    /// Its name.
    Name,
    /// A line about it.
    Line,
    /// What HELLO says, its number among other things.
    Hello,
}

/// The elements of one EXEC's reply that tell of the connection.
#[derive(Debug, Default)]
pub struct Tales {
    /// What the node has queued for the transaction.
    queued: u32,
    /// Their places, in order.
    places: VecDeque<(u32, Tale)>,
    /// The place of the element at hand.
    at: u32,
    /// Whether the line before the first element has gone by.
    is_open: bool,
    finder: Finder,
    /// What has come of the element at hand, if that is one of them.
    kept: Vec<u8>,
}

/// How often one transaction may ask about its connection.
pub(crate) const TALES_MAX: usize = 1024;

impl Tale {
    /// What a command will tell, if it is one of these.
    pub(crate) fn of(command: SessionCommand) -> Option<Self> {
        match command {
            SessionCommand::Client(ClientCommand::Id) => Some(Self::Number),
            SessionCommand::Client(ClientCommand::GetName) => Some(Self::Name),
            SessionCommand::Client(ClientCommand::Info) => Some(Self::Line),
            SessionCommand::Hello => Some(Self::Hello),
            _ => None,
        }
    }
}

impl Tales {
    /// The node has queued something.
    fn queue(&mut self, tale: Option<Tale>) {
        self.places.extend(tale.map(|tale| (self.queued, tale)));
        self.queued += 1;
    }

    /// How much that was.
    pub(crate) fn queued(&self) -> u32 {
        self.queued
    }

    /// How many there will be.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Takes a piece of the reply in; what goes out for it. No more than `kept_max` bytes are kept
    /// of an element: what is longer is the session's own doing, and goes on as it is.
    fn retell(
        &mut self,
        mut piece: &[u8],
        kept_max: usize,
        tell: impl Fn(Tale, Vec<u8>) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.is_open {
            let end = piece.iter().position(|&byte| byte == b'\n');
            let (line, rest) = piece.split_at(end.map_or(piece.len(), |end| end + 1));
            out.extend_from_slice(line);
            self.is_open = end.is_some();
            piece = rest;
        }
        while !piece.is_empty() {
            let next = self.places.front().filter(|(place, _)| *place == self.at);
            // Of an aborted transaction nothing is told, and the reply is over with its line.
            let Ok(found) = self.finder.find(piece) else {
                out.extend_from_slice(piece);
                return out;
            };
            let (bytes, rest) = piece.split_at(found.len);
            piece = rest;
            let next = next.copied();
            match next {
                Some(_) => self.kept.extend_from_slice(bytes),
                None => out.extend_from_slice(bytes),
            }
            if self.kept.len() > kept_max {
                out.append(&mut self.kept);
                self.places.pop_front();
            }
            if found.is_end {
                self.at += 1;
                if let Some((_, tale)) = next.filter(|_| !self.kept.is_empty()) {
                    self.places.pop_front();
                    out.extend(tell(tale, core::mem::take(&mut self.kept)));
                }
            }
        }
        out
    }
}

impl Redis {
    /// Whether the reply to a session's EXEC tells of its connection.
    pub(crate) fn has_tales(&self, id: ClientId) -> bool {
        let session = self.clients.get(id).and_then(|it| it.session.as_ref());
        let tales = session.and_then(|session| session.tales.as_ref());
        tales.is_some_and(|tales| tales.count() > 0)
    }

    /// A request of a session on a lease has been answered: what the node has queued is counted.
    pub(crate) fn note_queued(&mut self, id: ClientId, effect: Effect, outcome: Outcome) {
        let client = &mut self.clients[id];
        let is_multi = client.lease.is_some_and(|lease| lease.is_multi);
        let is_begun = effect == Effect::Multi;
        if client.branch.is_some() || !is_multi && !is_begun {
            return;
        }
        let session = client.session.get_or_insert_default();
        match (effect, outcome) {
            (Effect::Multi, Outcome::Done) => session.tales = Some(Box::default()),
            (Effect::Exec | Effect::Discard, Outcome::Done | Outcome::Aborted) => {
                session.tales = None;
            }
            // Between MULTI and EXEC a node says to whatever it does not refuse that it is queued.
            (effect, Outcome::Done) if is_multi => {
                let tale = match effect {
                    Effect::Tell(tale) => Some(tale),
                    _ => None,
                };
                session.tales.get_or_insert_default().queue(tale);
            }
            _ => {}
        }
    }

    /// A piece of EXEC's reply, as it is for the session.
    pub(crate) fn retell(&mut self, reach: &Reach<'_>, id: ClientId, piece: &[u8]) -> Vec<u8> {
        let session = self.clients.get_mut(id).and_then(|it| it.session.as_mut());
        let Some(place) = session.and_then(|session| session.tales.as_mut()) else {
            return piece.to_vec();
        };
        // How much was queued is a part of what is told.
        let rest = Tales {
            queued: place.queued,
            ..Tales::default()
        };
        let mut tales = core::mem::replace(&mut **place, rest);
        let kept_max = reach.limits.node_message_bytes_max;
        let tell = |tale, element| self.tell(reach, id, tale, element);
        let out = tales.retell(piece, kept_max, tell);
        let session = self.clients[id].session.get_or_insert_default();
        session.tales = Some(Box::new(tales));
        out
    }

    fn tell(&self, reach: &Reach<'_>, id: ClientId, tale: Tale, mut element: Vec<u8>) -> Vec<u8> {
        if matches!(element.first(), None | Some(b'-' | b'!')) {
            return element;
        }
        let client = &self.clients[id];
        match tale {
            Tale::Number => {
                element.clear();
                element.push(b':');
                number::write(&mut element, client.number);
                element.extend_from_slice(b"\r\n");
            }
            Tale::Hello => rename(&mut element, client.number),
            Tale::Name => {
                let mut ours = Vec::new();
                write_bulk(&mut ours, NAME);
                if element == ours {
                    return self.name_of(client, id);
                }
            }
            Tale::Line => return self.retell_line(reach, id, &element),
        }
        element
    }

    /// The name that a session had before its transaction.
    fn name_of(&self, client: &Client, id: ClientId) -> Vec<u8> {
        let mut reply = Vec::new();
        match client.session.as_ref().filter(|it| !it.name.is_empty()) {
            Some(session) => write_bulk(&mut reply, &session.name),
            None => reply.extend_from_slice(null(self.key_of(id).version)),
        }
        reply
    }

    /// The session's own line, with what the transaction has made of it so far.
    fn retell_line(&self, reach: &Reach<'_>, id: ClientId, element: &[u8]) -> Vec<u8> {
        let mut line = String::new();
        self.describe(reach, id, "exec", &mut line);
        let field = |name: &str| {
            let mut fields = element.split(|byte| b" \r\n".contains(byte));
            fields.find_map(|field| field.strip_prefix(name.as_bytes()))
        };
        let told = |field_at_hand: &str| {
            let (name, _) = field_at_hand.split_once('=')?;
            let name = format!("{name}=");
            let told = field(&name)?;
            let is_state = matches!(&*name, "db=" | "resp=" | "user=" | "name=");
            let is_new = is_state && told != NAME;
            is_new.then(|| name + &told.escape_ascii().to_string())
        };
        let fields = line.trim_end().split(' ');
        let fields = fields.map(|field| told(field).unwrap_or_else(|| field.to_owned()));
        let text = fields.collect::<Vec<_>>().join(" ") + "\n";
        let mut reply = Vec::new();
        match element.first() {
            Some(b'=') => reply = format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes(),
            _ => write_bulk(&mut reply, text.as_bytes()),
        }
        reply
    }
}

/// What a node says where there is no text.
pub(super) fn null(version: Version) -> &'static [u8] {
    match version {
        Version::Two => b"$-1\r\n",
        Version::Three => b"_\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retold(pieces: &[&str], kept_max: usize) -> String {
        let mut tales = Tales::default();
        for tale in [None, Some(Tale::Number), None, Some(Tale::Name), None] {
            tales.queue(tale);
        }
        let tell = |tale, element: Vec<u8>| {
            let element = element.escape_ascii().to_string();
            format!("<{tale:?} {element}>").into_bytes()
        };
        let pieces = pieces.iter().map(|piece| piece.replace(' ', "\r\n"));
        let out = pieces.map(|piece| tales.retell(piece.as_bytes(), kept_max, tell));
        let out: Vec<_> = out.flatten().collect();
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn changes_what_tells_of_the_connection_however_it_comes() {
        let reply = "*5 *2 :1 :2 :7 $3 abc $-1 +OK ";
        let wanted = r"*5 *2 :1 :2 <Number :7\r\n>$3 abc <Name $-1\r\n>+OK ";
        assert_eq!(retold(&[reply], 100), wanted);
        let bytes: Vec<_> = (0..reply.len()).map(|at| &reply[at..=at]).collect();
        // A line end in halves would be two spaces.
        let halves: Vec<_> = bytes.iter().map(|it| &**it).collect();
        assert_eq!(retold(&halves, 100), wanted);
    }

    #[test]
    fn passes_on_what_is_too_long_to_be_kept_and_what_was_aborted() {
        let reply = "*4 :1 $20 xxxxxxxxxxxxxxxxxxxx :3 $1 a ";
        let wanted = r"*4 :1 $20 xxxxxxxxxxxxxxxxxxxx :3 <Name $1\r\na\r\n>";
        assert_eq!(retold(&[reply], 10), wanted);
        assert_eq!(retold(&["*-1 "], 10), "*-1 ");
        assert_eq!(retold(&["_ "], 10), "_ ");
    }
}

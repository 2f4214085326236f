//! What is answered at length: it is not shared, so that nobody waits for the transfer and a client
//! that takes it slowly can make its node wait.
//!
//! What a request will be answered with is known from the last time only, by its first two words; a
//! read that turns out to be long on a lane is asked anew on an upstream alone, and what the lane
//! has for it is dropped. Knows no command. Invariant: nothing is asked anew of which anything was
//! delivered.

use core::hash::BuildHasher;

use foldhash::quality::FixedState;

use manifold_protocols::redis::resp::number;
use manifold_protocols::redis::resp::request::Arguments;

use crate::client::redis::Waiting;
use crate::ids::{ClientId, UpstreamId};
use crate::limits::Limits;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::Post;
use crate::upstream::redis::{Effect, Upstream, Whose};

/// Questions that are remembered for a node; of two with the same place, the later one.
const PLACES: usize = 1024;

/// Questions of a node that were answered at length when they were asked last.
#[derive(Debug)]
pub(crate) struct Heavy {
    hasher: FixedState,
    /// None as long as there was no such question. Zero is nothing.
    places: Vec<u64>,
}

impl Heavy {
    /// Of a node of which nothing is known; clients cannot know the seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            places: Vec::new(),
        }
    }

    fn has(&self, request: &[u8]) -> bool {
        if self.places.is_empty() {
            return false;
        }
        let mark = self.mark(request);
        self.places[place_of(mark)] == mark
    }

    fn note(&mut self, request: &[u8]) {
        let mark = self.mark(request);
        self.places.resize(PLACES, 0);
        self.places[place_of(mark)] = mark;
    }

    fn forget(&mut self, request: &[u8]) {
        if self.has(request) {
            let mark = self.mark(request);
            self.places[place_of(mark)] = 0;
        }
    }

    fn mark(&self, request: &[u8]) -> u64 {
        let mut words = Arguments::of(request);
        let pair = (words.next(), words.next());
        self.hasher.hash_one(pair) | 1 << 63
    }
}

fn place_of(mark: u64) -> usize {
    mark as usize % PLACES
}

/// A reply above this is long.
fn is_long(len: usize, limits: &Limits) -> bool {
    len > limits.reply_bytes_max / 4
}

/// How long the reply is that begins so, if it is a string and says so here.
fn length_of(piece: &[u8]) -> Option<usize> {
    let rest = piece.strip_prefix(b"$").or(piece.strip_prefix(b"="))?;
    let end = rest.iter().take(20).position(|&byte| byte == b'\r')?;
    usize::try_from(number::parse(&rest[..end])?).ok()
}

impl Redis {
    /// Whether the next `len` bytes of a client ask what was answered at length before.
    pub(crate) fn is_heavy(&self, id: ClientId, len: usize, effect: Effect) -> bool {
        let client = &self.clients[id];
        let heavy = &self.nodes[client.service.index()].heavy;
        let is_plain = matches!(effect, Effect::Read | Effect::Write);
        is_plain && heavy.has(&client.input.unparsed()[..len])
    }

    /// A piece of a reply is about to be passed on.
    pub(crate) fn weigh(
        &mut self,
        reach: &mut Reach<'_>,
        id: UpstreamId,
        piece: &[u8],
        is_end: bool,
    ) {
        let upstream = &mut self.upstreams[id];
        let before = upstream.passed;
        let passed = before + piece.len();
        upstream.passed = if is_end { 0 } else { passed };
        let is_too_much = passed > reach.limits.reply_bytes_max;
        let is_announced = || length_of(piece).is_some_and(|len| is_long(len, reach.limits));
        let is_lease = upstream.post == Post::Lease;
        if before == 0 && (!is_end || is_too_much) && is_announced() && self.ask_alone(reach, id) {
            return;
        }
        if is_long(passed, reach.limits) {
            if !is_long(before, reach.limits) {
                self.note_weight(id, true);
            }
        } else if is_end && is_lease {
            self.note_weight(id, false);
        }
    }

    /// Remembers whether what is being answered is answered at length.
    fn note_weight(&mut self, id: UpstreamId, is_heavy: bool) {
        let head = self.upstreams[id].pipe.front();
        let Some((head, (client, at, len))) = head.and_then(|it| Some((it, it.whose.place()?)))
        else {
            return;
        };
        if !matches!(head.effect, Effect::Read | Effect::Write) {
            return;
        }
        let Some(client) = self.clients.get(client).filter(|_| len > 0) else {
            return;
        };
        let request = client.input.kept(at, len);
        let heavy = &mut self.nodes[client.service.index()].heavy;
        match is_heavy {
            true => heavy.note(request),
            false => heavy.forget(request),
        }
    }

    /// The long reply that begins on a lane is dropped, and asked for on an upstream alone, as is
    /// all that its client has asked behind it, if all of that can be. Says whether it is.
    fn ask_alone(&mut self, reach: &mut Reach<'_>, id: UpstreamId) -> bool {
        let upstream = &self.upstreams[id];
        let head = upstream.pipe.front().map(|head| head.whose);
        let Some(Whose::Client { id: client, .. }) = head else {
            return false;
        };
        if !matches!(upstream.post, Post::Lane(_)) || !self.may_ask_anew(client, upstream) {
            return false;
        }
        self.note_weight(id, true);
        let upstream = &mut self.upstreams[id];
        for asked in &mut upstream.pipe {
            if asked.whose.is_of(client) {
                asked.whose = Whose::Nobody;
            }
        }
        let client_of = &mut self.clients[client];
        reach.stats.requests_retried += u64::from(client_of.unanswered());
        client_of.route = None;
        client_of.taken = client_of.answered;
        client_of.input.rewind();
        client_of.finder = Default::default();
        self.wake(client);
        true
    }

    /// Whether all that a client has under way are reads in this pipe, so that they could be made
    /// anew, in their order.
    fn may_ask_anew(&self, id: ClientId, upstream: &Upstream) -> bool {
        let Some(client) = self.clients.get(id) else {
            return false;
        };
        let is_free = client.branch.is_none() && client.lease.is_none() && client.resends == 0;
        let may_go_on = matches!(client.waiting, Waiting::No | Waiting::Itself);
        let pipe = upstream.pipe.iter();
        let mut asked = pipe.filter(|asked| asked.whose.is_of(id));
        let are_all_here = asked.clone().count() == client.unanswered() as usize;
        let are_reads = asked.all(|asked| asked.effect == Effect::Read && asked.whose.is_wanted());
        is_free && may_go_on && are_all_here && are_reads && !client.is_amid
    }
}

impl Whose {
    /// The client and where its request is in its input.
    fn place(&self) -> Option<(ClientId, u64, usize)> {
        match *self {
            Self::Client { id, at, len, .. } => Some((id, at, len as usize)),
            Self::Own(_) | Self::Nobody => None,
        }
    }

    fn is_of(&self, client: ClientId) -> bool {
        matches!(self, Self::Client { id, .. } if *id == client)
    }

    fn is_wanted(&self) -> bool {
        matches!(self, Self::Client { is_mute: false, .. })
    }
}

//! Statement texts that a shard has met, with what they do and how they behaved.
//!
//! Looks texts up by shape (literals replaced) or, where literals matter, by themselves. Knows
//! neither clients' names nor upstreams. Invariant: a verdict is used only in the epoch of the
//! catalog in which it was made.

use core::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use manifold_protocols::postgres::sql::shape::{Outcome, shape};

use crate::ids::{ClientId, DatabaseId};
use crate::map::{FastMap, fast_map};
use crate::profile::Profile;
use crate::proof::{Reason, Scope, Verdict};

/// A text, or all texts of one shape.
#[derive(Debug)]
pub struct Text {
    state: RefCell<State>,
    /// How requests with this text behaved.
    pub history: History,
}

#[derive(Debug)]
enum State {
    /// Never asked.
    New,
    /// Asked; these clients wait for the answer.
    Pending { waiting: Vec<ClientId> },
    /// Answered for all texts of the shape.
    Known { profile: Rc<Profile>, epoch: u32 },
    /// Literals matter: look at the text itself.
    PerText { epoch: u32 },
}

/// What was learned from replies, as moving averages.
#[derive(Debug, Default)]
pub struct History {
    /// Replies seen.
    pub count: Cell<u32>,
    /// Nanoseconds at the node, averaged; zero before the first reply.
    pub nanos: Cell<u32>,
    /// Bytes of a reply, averaged.
    pub bytes: Cell<u32>,
    /// Until when (in replies still to come) it counts as slow after having been slow once.
    pub slow: Cell<u16>,
}

impl History {
    /// Takes in one reply that took `nanos` at the node and was `bytes` long.
    pub fn record(&self, nanos: u64, bytes: u64) {
        let nanos = u32::try_from(nanos).unwrap_or(u32::MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.count.get() == 0 {
            self.nanos.set(nanos);
            self.bytes.set(bytes);
        } else {
            self.nanos.set(average(self.nanos.get(), nanos));
            self.bytes.set(average(self.bytes.get(), bytes));
        }
        self.count.set(self.count.get().saturating_add(1));
    }
}

/// Texts that take longer than this at the node are Tail.
pub const SLOW_NANOS: u32 = 5_000_000;

impl History {
    /// It was ended because it took longer than `nanos`: slow, whatever it was before.
    pub fn note_slow(&self, nanos: u64) {
        let nanos = u32::try_from(nanos).unwrap_or(u32::MAX).max(2 * SLOW_NANOS);
        self.nanos.set(self.nanos.get().max(nanos));
        self.count.set(self.count.get().max(1));
    }
}

/// A moving average over about eight values.
fn average(old: u32, new: u32) -> u32 {
    ((u64::from(old) * 7 + u64::from(new)) / 8) as u32
}

/// What is known of a text right now.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// This.
    Known(Rc<Text>, Rc<Profile>),
    /// Nothing yet: ask, unless somebody has asked already.
    Unknown {
        /// Where the answer will be.
        text: Rc<Text>,
        /// The ticket to ask with, unless somebody has asked.
        ask: Option<u64>,
    },
}

/// Texts by shape and by themselves.
#[derive(Debug)]
pub struct Texts {
    seed: u64,
    /// Two generations: what is found in `old` moves to `young`; when `young` is full, `old` goes.
    young: FastMap<Box<[u8]>, Rc<Text>>,
    old: FastMap<Box<[u8]>, Rc<Text>>,
    young_bytes: usize,
    texts_max: usize,
    bytes_max: usize,
    /// Which text each question is about.
    asked: FastMap<u64, Question>,
    next_ticket: u64,
    /// Where keys are built, so that looking one up allocates nothing.
    key: Vec<u8>,
}

#[derive(Debug)]
struct Question {
    text: Rc<Text>,
    epoch: u32,
    is_shape: bool,
}

/// Texts are remembered at least so many, whatever the limit says.
const TEXTS_MIN: usize = 32;

/// What a key begins with, after the database: the rest is a shape or a text.
const SHAPE: u8 = b's';
const ITSELF: u8 = b't';

impl Texts {
    /// No texts, at most `texts_max` of them with `bytes_max` bytes together.
    pub fn new(seed: u64, texts_max: usize, bytes_max: usize) -> Self {
        Self {
            seed,
            young: fast_map(seed),
            old: fast_map(seed),
            young_bytes: 0,
            // Fewer than one request may need would push each other out while it waits.
            texts_max: texts_max.max(TEXTS_MIN),
            bytes_max,
            asked: fast_map(seed),
            next_ticket: 0,
            key: Vec::new(),
        }
    }

    /// What `text` does in `database`, whose catalog is in its `epoch`.
    pub fn look_up(&mut self, database: DatabaseId, epoch: u32, text: &[u8]) -> Lookup {
        self.begin_key(database, SHAPE);
        if shape(text, &mut self.key) == Outcome::Shaped
            && let Some(found) = self.look_up_key(epoch)
        {
            return found;
        }
        self.begin_key(database, ITSELF);
        self.key.extend_from_slice(text);
        self.look_up_key(epoch)
            .expect("what is looked up by itself is not referred to itself")
    }

    fn begin_key(&mut self, database: DatabaseId, kind: u8) {
        self.key.clear();
        self.key.push(kind);
        self.key.extend_from_slice(&database.0.to_le_bytes());
    }

    /// `None` if the text itself has to be looked at.
    fn look_up_key(&mut self, epoch: u32) -> Option<Lookup> {
        let text = self.find_or_insert();
        let mut state = text.state.borrow_mut();
        match &*state {
            State::Known {
                profile,
                epoch: known,
            } if *known == epoch => {
                let profile = Rc::clone(profile);
                drop(state);
                return Some(Lookup::Known(text, profile));
            }
            State::PerText { epoch: known } if *known == epoch => return None,
            State::Pending { .. } => {
                drop(state);
                return Some(Lookup::Unknown { text, ask: None });
            }
            _ => {
                *state = State::Pending {
                    waiting: Vec::new(),
                }
            }
        }
        drop(state);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let is_shape = self.key[0] == SHAPE;
        self.asked.insert(
            ticket,
            Question {
                text: Rc::clone(&text),
                epoch,
                is_shape,
            },
        );
        Some(Lookup::Unknown {
            text,
            ask: Some(ticket),
        })
    }

    fn find_or_insert(&mut self) -> Rc<Text> {
        if let Some(text) = self.young.get(&*self.key) {
            return Rc::clone(text);
        }
        let text = match self.old.get(&*self.key) {
            Some(text) => Rc::clone(text),
            None => Rc::new(Text {
                state: RefCell::new(State::New),
                history: History::default(),
            }),
        };
        self.make_room();
        self.young
            .insert(self.key.as_slice().into(), Rc::clone(&text));
        text
    }

    /// Lets the older generation go when the younger is full.
    fn make_room(&mut self) {
        self.young_bytes += self.key.len();
        if self.young.len() * 2 >= self.texts_max || self.young_bytes * 2 > self.bytes_max {
            self.old = core::mem::replace(&mut self.young, fast_map(self.seed));
            self.young_bytes = self.key.len();
        }
    }

    /// Takes an answer in and says who waited for it.
    pub fn handle_classified(&mut self, ticket: u64, verdict: &Arc<Verdict>) -> Vec<ClientId> {
        let Some(question) = self.asked.remove(&ticket) else {
            return Vec::new();
        };
        let epoch = question.epoch;
        let state = if question.is_shape && verdict.scope == Scope::Text {
            State::PerText { epoch }
        } else {
            State::Known {
                profile: Rc::new(Profile::new(verdict)),
                epoch,
            }
        };
        match question.text.state.replace(state) {
            State::Pending { waiting } => waiting,
            _ => Vec::new(),
        }
    }
}

impl Text {
    /// What it does, if that is known in this epoch of the catalog.
    pub fn known(&self, epoch: u32) -> Option<Rc<Profile>> {
        match &*self.state.borrow() {
            State::Known {
                profile,
                epoch: known,
            } if *known == epoch => Some(Rc::clone(profile)),
            _ => None,
        }
    }

    /// Remembers who waits for the answer.
    pub fn add_waiting(&self, client: ClientId) {
        if let State::Pending { waiting } = &mut *self.state.borrow_mut() {
            waiting.push(client);
        }
    }

    /// A text of which nothing will be asked, and why.
    pub fn opaque(reason: Reason, epoch: u32) -> (Rc<Self>, Rc<Profile>) {
        let profile = Rc::new(Profile::new(&Arc::new(Verdict::opaque(reason))));
        let state = State::Known {
            profile: Rc::clone(&profile),
            epoch,
        };
        (
            Rc::new(Self {
                state: RefCell::new(state),
                history: History::default(),
            }),
            profile,
        )
    }
}

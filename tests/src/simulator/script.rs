//! What a simulated client does: episodes of requests, drawn from its own stream of numbers.
//!
//! Knows the language, not the replies. Invariants: every token is used once; shared locks are
//! taken in one order (advisory, board, rows upwards), so that clients alone never deadlock.

mod episodes;

use std::collections::VecDeque;

use super::prng::Prng;
use super::request::{Messages, Unit};

/// How likely each kind of episode is; a zero leaves it out of the run.
#[derive(Clone, Debug)]
pub struct Taste {
    /// By place in [`episodes::KINDS`].
    pub weights: Vec<u32>,
    /// How statements are sent: simple, extended with literals, with parameters, named.
    pub ways: [u32; 4],
    /// Milliseconds that slow statements may take.
    pub slow_ms_max: u32,
    /// Rows that big statements may give.
    pub big_rows_max: u32,
    /// Whether some begin with a RESET that only the node sees. Where logins leave the proxy no
    /// secret it cannot open the connection on which that goes back to the client's own values.
    pub hides: bool,
}

impl Taste {
    /// A random taste: each kind is left out half of the time.
    pub fn draw(prng: &mut Prng) -> Self {
        let mut weights: Vec<u32> = (0..episodes::KINDS.len())
            .map(|_| {
                if prng.chance(500) {
                    prng.between(1, 10) as u32
                } else {
                    0
                }
            })
            .collect();
        weights[0] = prng.between(1, 20) as u32;
        let mut ways = [0; 4].map(|_: u32| prng.below(4) as u32);
        ways[prng.below(4) as usize] += 1;
        let slow_ms_max = *prng.pick(&[1, 20, 200]);
        let big_rows_max = *prng.pick(&[3, 30, 300]);
        Self {
            weights,
            ways,
            slow_ms_max,
            big_rows_max,
            hides: true,
        }
    }

    /// Leaves a kind of episode out.
    pub fn without(&mut self, name: &str) {
        for (place, (kind, _)) in episodes::KINDS.iter().enumerate() {
            if *kind == name {
                self.weights[place] = 0;
            }
        }
    }
}

/// A client's requests to come.
#[derive(Clone, Debug)]
pub struct Script {
    client: String,
    taste: Taste,
    prng: Prng,
    tokens_made: u32,
    names_made: u32,
    episodes_left: u32,
    /// Statements that the client has prepared: name and text.
    prepared: Vec<(String, String)>,
    ready: VecDeque<Unit>,
    is_over: bool,
}

/// How one statement is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Simple,
    Literal,
    Parameter,
    Named,
}

const WAYS: [Way; 4] = [Way::Simple, Way::Literal, Way::Parameter, Way::Named];

impl Script {
    /// The script of a client for so many episodes.
    pub fn new(client: String, taste: Taste, episodes: u32, prng: Prng) -> Self {
        let mut script = Self {
            client,
            taste,
            prng,
            tokens_made: 0,
            names_made: 0,
            episodes_left: episodes,
            prepared: Vec::new(),
            ready: VecDeque::new(),
            is_over: false,
        };
        if script.prng.chance(60) && script.taste.hides {
            episodes::hide(&mut script);
        }
        script
    }

    /// The next request; `None` after the last one.
    pub fn next_unit(&mut self) -> Option<Unit> {
        while self.ready.is_empty() && !self.is_over {
            if self.episodes_left == 0 {
                self.push_last();
            } else {
                self.episodes_left -= 1;
                let kind = self.prng.weighted(&self.taste.weights);
                (episodes::KINDS[kind].1)(self);
            }
        }
        self.ready.pop_front()
    }

    /// Goes to the end at once.
    pub fn hurry(&mut self) {
        self.episodes_left = 0;
    }

    fn push_last(&mut self) {
        self.is_over = true;
        let bytes = Messages::default().bare(b'X').0;
        let unit = Unit {
            name: "terminate",
            parts: vec![bytes],
            is_last: true,
            ..Unit::default()
        };
        self.ready.push_back(unit);
    }

    fn token(&mut self) -> String {
        self.tokens_made += 1;
        format!("{}-{}", self.client, self.tokens_made)
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names_made += 1;
        format!("{prefix}{}", self.names_made)
    }

    fn push(&mut self, name: &'static str, messages: Messages, tokens: Vec<String>) {
        let parts = vec![messages.0];
        self.ready.push_back(Unit {
            name,
            parts,
            tokens,
            ..Unit::default()
        });
    }

    /// A statement without a token, simple or extended.
    fn push_plain(&mut self, name: &'static str, text: &str) {
        let messages = match self.way() {
            Way::Simple => Messages::default().query(text),
            _ => extended(Messages::default().parse("", text).bind("", "", &[])).sync(),
        };
        self.push(name, messages, Vec::new());
    }

    /// A statement with a token; `text` is given what stands for it.
    fn push_token(&mut self, name: &'static str, text: impl Fn(&str) -> String) {
        let token = self.token();
        let messages = self.with_token(&token, text);
        self.push(name, messages, vec![token]);
    }

    fn with_token(&mut self, token: &str, text: impl Fn(&str) -> String) -> Messages {
        let literal = text(&format!("'{token}'"));
        let open = text("$1");
        let messages = Messages::default();
        match self.way() {
            Way::Simple => messages.query(&literal),
            Way::Literal => extended(messages.parse("", &literal).bind("", "", &[])).sync(),
            Way::Parameter => extended(messages.parse("", &open).bind("", "", &[token])).sync(),
            Way::Named => {
                let known = self.prepared.iter().find(|(_, text)| *text == open);
                if let Some((name, _)) = known {
                    return extended(messages.bind("", name, &[token])).sync();
                }
                let name = self.name("s");
                self.prepared.push((name.clone(), open.clone()));
                extended(messages.parse(&name, &open).bind("", &name, &[token])).sync()
            }
        }
    }

    fn way(&mut self) -> Way {
        WAYS[self.prng.weighted(&self.taste.ways)]
    }
}

/// Describe and Execute of the unnamed portal.
fn extended(messages: Messages) -> Messages {
    messages.describe(b'P', "").execute("", 0)
}

//! What a simulated Redis client does: episodes of requests, drawn from its own stream of numbers.
//!
//! Knows no replies. Invariants: every token is used once; whoever mutes its replies asks for them
//! again before it does anything but write.

mod episodes;

use std::collections::VecDeque;

use super::cluster::TAGS;
use super::connection::USERS;
use crate::simulator::prng::Prng;

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Its words.
    pub words: Vec<Vec<u8>>,
    /// The next one goes out with it.
    pub is_followed: bool,
    /// Nothing follows it.
    pub is_last: bool,
    /// Bytes that are no request.
    pub garbage: Option<Vec<u8>>,
}

/// How likely each kind of episode is; a zero leaves it out of the run.
#[derive(Clone, Debug)]
pub struct Taste {
    /// By place in [`episodes::KINDS`].
    weights: Vec<u32>,
    /// Databases that are used.
    databases: u64,
    /// In a thousand strings, how many are large.
    large: u32,
    /// Whether replies may be muted.
    pub mutes: bool,
    /// Whether everybody has to log in.
    is_locked: bool,
    /// Whether keys are of several slots.
    pub is_spread: bool,
}

impl Taste {
    /// A random taste: each kind is left out half of the time.
    pub fn draw(prng: &mut Prng, is_locked: bool) -> Self {
        let kinds = 0..episodes::KINDS.len();
        let mut weights: Vec<u32> = kinds
            .map(|_| {
                if prng.chance(500) {
                    prng.between(1, 10) as u32
                } else {
                    0
                }
            })
            .collect();
        weights[0] = prng.between(1, 20) as u32;
        Self {
            weights,
            databases: *prng.pick(&[1, 2, 3]),
            // Whoever has not logged in may not send much.
            large: *prng.pick(if is_locked { &[0] } else { &[0, 0, 0, 20] }),
            mutes: true,
            is_locked,
            is_spread: false,
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
    episodes_left: u32,
    ready: VecDeque<Unit>,
    /// What stands in braces in its keys now.
    tag: &'static str,
    /// Its keys are of one slot until the episode is over.
    is_bound: bool,
}

impl Script {
    /// The script of a client for so many episodes.
    pub fn new(client: String, taste: Taste, episodes: u32, prng: Prng) -> Self {
        let mut script = Self {
            client,
            taste,
            prng,
            tokens_made: 0,
            episodes_left: episodes,
            ready: VecDeque::new(),
            tag: TAGS[0],
            is_bound: false,
        };
        script.log_in();
        if script.prng.chance(300) {
            script.push(&["HELLO", "3"]);
        }
        script
    }

    /// The next request; `None` after the last one.
    pub fn next_unit(&mut self) -> Option<Unit> {
        while self.ready.is_empty() && self.episodes_left > 0 {
            self.episodes_left -= 1;
            let kind = self.prng.weighted(&self.taste.weights);
            self.is_bound = false;
            self.turn();
            (episodes::KINDS[kind])(self);
        }
        self.ready.pop_front()
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.ready.is_empty() && self.episodes_left == 0
    }

    /// Goes to the end at once.
    pub fn hurry(&mut self) {
        self.episodes_left = 0;
    }

    /// Whoever has to log in does so.
    fn log_in(&mut self) {
        if self.taste.is_locked && self.prng.chance(950) {
            let (user, password) = *self.prng.pick(&USERS);
            if user == "default" {
                self.push(&["AUTH", password]);
            } else {
                self.push(&["AUTH", user, password]);
            }
        }
    }

    fn push(&mut self, words: &[&str]) {
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        self.ready.push_back(Unit {
            words: words.collect(),
            ..Unit::default()
        });
    }

    fn token(&mut self) -> String {
        self.tokens_made += 1;
        format!("{}-{}", self.client, self.tokens_made)
    }

    /// A word with its token, and with the tag of its slot: `%` stands for that of the episode, `&`
    /// for another one's, whose keys are not all at the same node.
    fn spell(&mut self, word: &str, token: &str) -> String {
        let word = word.replace('@', token);
        let tag = match word.as_bytes().first() {
            Some(b'%') => self.tag,
            Some(b'&') if self.is_bound || !self.taste.is_spread => self.tag,
            Some(b'&') => *self.prng.pick(&TAGS),
            _ => return word,
        };
        match self.taste.is_spread {
            false => word[1..].to_owned(),
            true if word.starts_with('&') => format!("{{{tag}}}{}#{token}", &word[1..]),
            true => format!("{{{tag}}}{}", &word[1..]),
        }
    }

    /// Goes to another slot, where that is possible.
    fn turn(&mut self) {
        if self.taste.is_spread && !self.is_bound {
            self.tag = *self.prng.pick::<&'static str>(&TAGS);
        }
    }

    /// A request whose words may hold `@`, which stands for its token.
    fn push_token(&mut self, words: &[&str]) {
        let token = self.token();
        let words: Vec<String> = words.iter().map(|it| self.spell(it, &token)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.push(&words);
    }

    /// The units from this place on go out at once, up to the last one.
    fn join(&mut self, from: usize) {
        let count = self.ready.len().saturating_sub(from + 1);
        let units = self.ready.iter_mut().skip(from).take(count);
        units.for_each(|unit| unit.is_followed = true);
    }

    /// A key for strings: its own, or one of everybody's.
    fn key(&mut self) -> String {
        match self.prng.below(3) {
            0 => format!("%{}:{}", self.client, self.prng.below(2)),
            _ => format!("%s{}", self.prng.below(3)),
        }
    }
}

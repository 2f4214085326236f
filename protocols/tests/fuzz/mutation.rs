//! Random changes of an input.
//!
//! Holds the source of randomness and the changes. It must not know the decoders. Its invariant:
//! the same seed and corpus give the same bytes.

use super::corpus::Corpus;

/// Bytes that mean something in one of the formats.
const MARKS: &[u8] = b"\0\x01\x04\x7f\x80\xff'\"$\\-/*,=;:\n eEuU&BCDEFHPQSXcdfpRKZTG019.";

/// How long an input may become, in bytes.
const LEN_MAX: usize = 8192;

/// SplitMix64: small, and good enough to choose bytes with.
pub struct Prng {
    state: u64,
}

impl Prng {
    /// A source that gives the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// One of the items, of which there is at least one.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// An input of the corpus with some changes. With `has_frames` half of the inputs keep the framing
/// of messages intact, so that the changes reach the decoders of bodies.
pub fn mutate(corpus: &Corpus, has_frames: bool, prng: &mut Prng) -> Vec<u8> {
    let (_, input) = prng.choose(corpus.inputs());
    let (_, other) = prng.choose(corpus.inputs());
    if has_frames && prng.below(2) == 0 {
        return mutate_body(input, other, prng);
    }
    let mut bytes = input.clone();
    change(&mut bytes, other, prng);
    bytes
}

/// Changes the body of one message and adapts its length.
fn mutate_body(input: &[u8], other: &[u8], prng: &mut Prng) -> Vec<u8> {
    let mut frames = frames(input);
    let index = prng.below(frames.len());
    let (tag, body) = &mut frames[index];
    if prng.below(8) == 0 {
        *tag = *prng.choose(MARKS);
    }
    change(body, other, prng);
    let mut bytes = Vec::new();
    for (tag, body) in frames {
        bytes.push(tag);
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(&body);
    }
    bytes
}

/// The messages of an unchanged input: tags and bodies.
fn frames(mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [tag, a, b, c, d, rest @ ..] = input {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        frames.push((*tag, rest[..len].to_vec()));
        input = &rest[len..];
    }
    frames
}

fn change(bytes: &mut Vec<u8>, other: &[u8], prng: &mut Prng) {
    for _ in 0..=prng.below(6) {
        change_once(bytes, other, prng);
    }
    bytes.truncate(LEN_MAX);
}

fn change_once(bytes: &mut Vec<u8>, other: &[u8], prng: &mut Prng) {
    let at = prng.below(bytes.len() + 1);
    let end = (at + prng.below(16)).min(bytes.len());
    match prng.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << prng.below(8),
        1 if at < bytes.len() => bytes[at] = *prng.choose(MARKS),
        2 if at < bytes.len() => {
            bytes[at] = bytes[at].wrapping_add(*prng.choose(&[1, 2, 254, 255]))
        }
        3 => bytes.insert(at, *prng.choose(MARKS)),
        4 => drop(bytes.drain(at..end)),
        5 => bytes.truncate(at),
        6 => {
            let copied = bytes[at..end].to_vec();
            let to = prng.below(bytes.len() + 1);
            bytes.splice(to..to, copied);
        }
        7 => {
            let from = prng.below(other.len());
            let to = (from + prng.below(32)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        8 if at + 4 <= bytes.len() => {
            let word = *prng.choose(&[0_u32, 1, 3, 4, 5, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
            bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        _ => {}
    }
}

//! The trace of a run: a hash of everything that happened, and the text of it where it is wanted.
//!
//! Invariant: two runs with the same hash have taken the same steps.

use manifold_core::time::Instant;

/// A trace.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    /// Steps noted.
    pub steps: u64,
    /// Whether each step is also printed.
    is_printed: bool,
}

impl Trace {
    /// An empty trace.
    pub fn new(is_printed: bool) -> Self {
        Self {
            is_printed,
            ..Self::default()
        }
    }

    /// Notes a step by its bytes.
    pub fn note(&mut self, now: Instant, what: &[u8], text: impl FnOnce() -> String) {
        self.steps += 1;
        self.mix(now.0);
        for chunk in what.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(what.len() as u64);
        if self.is_printed {
            println!("{:>12.3} µs  {}", now.0 as f64 / 1000.0, text());
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .rotate_left(29);
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

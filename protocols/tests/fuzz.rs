//! Throws mutated bytes at every decoder, for some seconds.
//!
//! Goal: no input makes a decoder panic, read beyond its input, or accept what its encoder would
//! not have written. Method: inputs that are known to be good, kept in `corpus`, are changed at
//! random and given to a decoder with checks of its own (`fuzz/targets.rs`). Time comes from
//! `MANIFOLD_FUZZ_SECONDS` (5). A failure prints the input and the seed of that one try;
//! `MANIFOLD_FUZZ_SEED` set to it runs that try alone.
//!
//! It must not depend on the order of files or on anything but seed and corpus.
// The bans are for the crate; a fuzzer needs files and a clock.
#![allow(clippy::disallowed_methods)]

#[path = "fuzz/corpus.rs"]
mod corpus;
#[path = "fuzz/mutation.rs"]
mod mutation;
#[path = "fuzz/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime};

use corpus::Corpus;
use mutation::Prng;
use targets::{TARGETS, Target};

#[test]
fn accepts_corpus_when_unchanged() {
    for target in TARGETS {
        for (name, input) in Corpus::read(target.name).inputs() {
            let accepted = (target.run)(input);
            assert!(
                accepted > 0,
                "nothing of {}/{name} was accepted",
                target.name
            );
        }
    }
}

#[test]
fn survives_inputs_when_mutated() {
    let corpora = TARGETS.map(|target| (target, Corpus::read(target.name)));
    if let Some(seed) = number("MANIFOLD_FUZZ_SEED") {
        attempt(&corpora, seed);
        return;
    }
    let end = Instant::now() + Duration::from_secs(number("MANIFOLD_FUZZ_SECONDS").unwrap_or(5));
    let first_seed = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_nanos() as u64);
    let mut attempts = 0_u64;
    let mut accepted = 0_usize;
    while Instant::now() < end || attempts < 1_000 {
        accepted += attempt(&corpora, first_seed.wrapping_add(attempts));
        attempts += 1;
    }
    println!("{attempts} inputs from seed {first_seed}, {accepted} parts of them accepted");
    assert!(accepted > 0, "mutation left nothing that a decoder accepts");
}

fn attempt(corpora: &[(Target, Corpus)], seed: u64) -> usize {
    let mut prng = Prng::new(seed);
    let (target, corpus) = prng.choose(corpora);
    let input = mutation::mutate(corpus, target.has_frames, &mut prng);
    catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).unwrap_or_else(|panic| {
        eprintln!(
            "{} failed; run again with MANIFOLD_FUZZ_SEED={seed}",
            target.name
        );
        eprintln!("input: {}", input.escape_ascii());
        resume_unwind(panic)
    })
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

//! Seeds of the simulator as tests.
//!
//! The clients connected directly to the node test the simulator itself: whatever the checker says
//! there is a fault of its own. Behind shards it tests the core. More seeds:
//! `cargo run --release -p manifold-tests --bin simulate -- --seeds 1000`.

use manifold_tests::simulator::{Report, Setup, simulate};

/// Runs seeds and adds their reports up.
fn run(seeds: impl Iterator<Item = u64>, setup: impl Fn(u64) -> Setup) -> Report {
    let mut total = Report::default();
    for seed in seeds {
        let report = simulate(seed, setup(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        total.answered += report.answered;
        total.excused += report.excused;
        total.committed += report.committed;
    }
    total
}

#[test]
fn holds_invariants_when_clients_are_connected_directly() {
    let total = run(0..40, |_| Setup::DIRECT);
    assert!(
        total.answered > 1_000,
        "only {} requests were answered",
        total.answered
    );
    assert!(
        total.committed > 100,
        "only {} tokens were committed",
        total.committed
    );
    assert!(total.excused > 0, "no fault reached a client");
}

#[test]
fn repeats_every_step_when_seed_is_equal() {
    // A failure is as repeatable as a success.
    let run = |seed, setup| simulate(seed, setup).map_err(|failure| failure.to_string());
    for seed in [3, 14, 159] {
        for setup in [Setup::DIRECT, Setup::of(seed)] {
            assert_eq!(run(seed, setup), run(seed, setup));
        }
    }
    let [one, two] = [3, 4].map(|seed| simulate(seed, Setup::DIRECT).unwrap().hash);
    assert_ne!(one, two);
}

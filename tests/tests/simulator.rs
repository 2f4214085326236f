//! Seeds of the simulator as tests.
//!
//! The clients connected directly to the node test the simulator itself: whatever the checker says
//! there is a fault of its own.

use manifold_tests::simulator::{Between, simulate};

#[test]
fn holds_invariants_when_clients_are_connected_directly() {
    let mut answered = 0;
    let mut excused = 0;
    for seed in 0..40 {
        let report = simulate(seed, Between::Nothing, false).unwrap_or_else(|failure| {
            panic!("{failure}: simulate --seed {seed} --shards 0 --trace");
        });
        answered += report.answered;
        excused += report.excused;
    }
    assert!(answered > 1_000, "only {answered} requests were answered");
    assert!(excused > 0, "no fault reached a client");
}

#[test]
fn repeats_every_step_when_seed_is_equal() {
    for seed in [3, 14, 159] {
        let one = simulate(seed, Between::Nothing, false).expect("the seed holds");
        let two = simulate(seed, Between::Nothing, false).expect("the seed holds");
        assert_eq!(one, two);
    }
    let other = simulate(4, Between::Nothing, false).expect("the seed holds");
    assert_ne!(
        other.hash,
        simulate(3, Between::Nothing, false)
            .expect("the seed holds")
            .hash
    );
}

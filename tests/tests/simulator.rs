//! Seeds of the simulator as tests.
//!
//! The clients connected directly to the node test the simulator itself: whatever the checker says
//! there is a fault of its own. Behind shards it tests the core. More seeds:
//! `cargo run --release -p manifold-tests --bin simulate -- --seeds 1000`.

use manifold_tests::simulator::{Protocol, Report, Setup, simulate};

/// Runs seeds and adds their reports up.
fn run(seeds: impl Iterator<Item = u64>, setup: impl Fn(u64) -> Setup) -> Report {
    let mut total = Report::default();
    for seed in seeds {
        let report = simulate(seed, setup(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        total.answered += report.answered;
        total.excused += report.excused;
        total.committed += report.committed;
        total.heard += report.heard;
    }
    total
}

#[test]
fn holds_invariants_when_redis_clients_are_connected_directly() {
    let total = run(0..100, |_| Setup::DIRECT.with(Protocol::Redis));
    assert!(
        total.answered > 5_000,
        "only {} requests were answered",
        total.answered
    );
    assert!(total.heard > 20, "only {} messages came", total.heard);
}

#[test]
fn holds_invariants_when_redis_clients_share_connections() {
    let total = run(0..60, |seed| Setup::of(seed).with(Protocol::Redis));
    assert!(
        total.committed > 500,
        "only {} tokens were written",
        total.committed
    );
    assert!(total.excused > 0, "no fault reached a client");
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
        for setup in [Setup::DIRECT, Setup::mild(seed), Setup::of(seed)] {
            for setup in [setup, setup.with(Protocol::Redis)] {
                assert_eq!(run(seed, setup), run(seed, setup));
            }
        }
    }
    let [one, two] = [3, 4].map(|seed| simulate(seed, Setup::DIRECT).unwrap().hash);
    assert_ne!(one, two);
}

/// A seed that failed once, before connections fell silent and cancels came in storms.
fn check(seed: u64) {
    run([seed].into_iter(), Setup::mild);
}

#[test]
fn plans_a_statement_anew_when_it_follows_ddl_of_its_client() {
    check(9);
}

#[test]
fn reports_startup_values_when_reset_follows_what_opaque_text_set() {
    check(32);
}

#[test]
fn answers_in_order_when_a_wait_ends_behind_requests_in_flight() {
    check(186);
}

#[test]
fn skips_to_sync_when_messages_with_flush_are_refused() {
    check(913);
}

#[test]
fn spares_later_requests_when_a_cancel_is_slow() {
    check(183);
}

#[test]
fn spares_later_requests_when_a_cancel_crosses_shards() {
    check(764);
}

#[test]
fn shares_no_upstream_when_settings_are_tried_on_it() {
    check(565);
}

#[test]
fn wipes_session_when_client_of_a_set_has_gone() {
    check(86);
}

#[test]
fn names_statements_as_the_client_does_when_the_node_refuses_them() {
    check(298);
}

#[test]
fn finds_no_unnamed_statement_when_it_is_another_clients() {
    check(103);
}

#[test]
fn keeps_statement_when_the_request_that_evicts_it_uses_it() {
    check(193);
}

#[test]
fn keeps_unnamed_statement_when_a_leased_session_is_asked_its_settings() {
    check(350);
}

#[test]
fn delivers_last_replies_when_a_client_has_closed_its_half() {
    check(835);
}

#[test]
fn answers_last_requests_when_a_client_leaves_while_statements_are_prepared() {
    check(36);
}

#[test]
fn ends_connections_when_accepting_has_stopped() {
    check(143);
}

#[test]
fn passes_copied_data_on_when_what_follows_it_waits_for_the_catalog() {
    check(1190);
}

#[test]
fn tells_one_error_when_a_failed_request_loses_its_upstream() {
    check(1307);
}

#[test]
fn opens_no_upstream_when_only_reserved_ones_are_left() {
    check(210);
}

#[test]
fn prepares_a_statement_again_when_a_failed_transaction_refused_it() {
    check(10_600);
}

/// A seed that failed once with silence and storms.
fn check_harsh(seed: u64) {
    run([seed].into_iter(), Setup::of);
}

#[test]
fn sends_nothing_again_when_a_part_was_answered_here() {
    check_harsh(10_569);
}

#[test]
fn finds_no_statement_that_a_failed_transaction_refused_when_it_is_used_at_once() {
    check_harsh(170);
}

//! Bugs planted in the core, one after the other: the checker has to find each of them.
//!
//! A simulator that finds nothing proves nothing. A bug counts as found when a seed fails with it
//! that holds without it.

use manifold_tests::simulator::{Bug, Protocol, catch};

/// Seeds within which a bug has to be found.
const SEEDS: u64 = 400;

fn check(bug: Bug) {
    let failure = catch(Protocol::Postgres, bug, 0, SEEDS);
    let failure = failure.unwrap_or_else(|| panic!("{bug:?} was not found within {SEEDS} seeds"));
    println!("{bug:?}: {failure}");
}

fn check_redis(bug: Bug) {
    let failure = catch(Protocol::Redis, bug, 0, SEEDS);
    let failure = failure.unwrap_or_else(|| panic!("{bug:?} was not found within {SEEDS} seeds"));
    println!("{bug:?}: {failure}");
}

#[test]
fn finds_redis_client_that_is_taken_out_of_pipe_too_early() {
    check_redis(Bug::ForgetDiscard);
}

#[test]
fn finds_redis_cluster_node_that_is_not_told_to_look_for_a_key() {
    check_redis(Bug::ForgetAsking);
}

#[test]
fn finds_redis_request_that_overtakes_one_on_its_way_from_node_to_node() {
    check_redis(Bug::OvertakeStray);
}

#[test]
fn finds_redis_lease_that_is_given_back_without_reset() {
    check_redis(Bug::ForgetReset);
}

#[test]
fn finds_redis_session_that_moves_without_select() {
    check_redis(Bug::ForgetSelect);
}

#[test]
fn finds_redis_subscription_that_is_not_restored() {
    check_redis(Bug::ForgetTopic);
}

#[test]
fn finds_redis_write_that_is_run_twice() {
    check_redis(Bug::RetryWrite);
}

#[test]
fn finds_redis_transaction_that_others_come_between() {
    check_redis(Bug::SplitUnit);
}

#[test]
fn finds_redis_replies_that_are_swapped() {
    check_redis(Bug::SwapReplies);
}

#[test]
fn finds_cancel_that_is_believed_without_its_secret() {
    check(Bug::BelieveCancel);
}

#[test]
fn finds_client_that_is_taken_out_of_pipe_too_early() {
    check(Bug::ForgetDiscard);
}

#[test]
fn finds_session_that_is_not_wiped() {
    check(Bug::ForgetReset);
}

#[test]
fn finds_requests_that_follow_one_that_is_being_cancelled() {
    check(Bug::ForgetFence);
}

#[test]
fn finds_silent_upstream_that_is_not_given_up() {
    check(Bug::ForgetSilent);
}

#[test]
fn finds_settings_that_are_not_sent() {
    check(Bug::ForgetSwitch);
}

#[test]
fn finds_id_that_names_its_successor() {
    check(Bug::ReuseSlotWithoutGeneration);
}

#[test]
fn finds_write_that_is_run_twice() {
    check(Bug::RetryWrite);
}

#[test]
fn finds_lease_that_is_shared() {
    check(Bug::ShareLease);
}

#[test]
fn finds_replies_that_are_swapped() {
    check(Bug::SwapReplies);
}

#[test]
fn knows_every_bug_that_can_be_planted() {
    assert_eq!(Bug::ALL.len(), 15, "a new bug needs a test here");
}

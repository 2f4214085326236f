//! What every Redis client does: the same bytes come back as without the proxy.
//!
//! Every kind of command, in both versions of the protocol, in one piece and in many.

use manifold_tests::harness::resp::commands;
use manifold_tests::harness::{compare_both, compare_redis};

#[test]
fn answers_commands_on_strings_and_hashes_as_the_node_does() {
    compare_both(|_, one| {
        one.ask_all(&["PING", "PING hello", "ECHO hello", "SET a 1", "GET a"]);
    });
}

#[test]
fn answers_many_requests_of_one_write_in_order() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.say(&commands(&["SET a 1", "INCR a", "GET a", "KEYS *"]), 4);
    });
}

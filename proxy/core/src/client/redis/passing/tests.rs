//! Requests above a bound of a few bytes, in pieces, and replies above another.
//!
//! Invariant: each test plays the node itself and says what it was given.

use crate::limits::Limits;
use crate::redis::stage::{Shared, Stage};

/// A shard on which a request is big above 60 bytes, and a reply above 25.
fn stage() -> Stage {
    let limits = Limits {
        request_bytes_max: 60,
        reply_bytes_max: 100,
        input_high: 100,
        upstream_output_high: 100,
        ..Limits::default()
    };
    Stage::with(limits, 4, &Shared::default())
}

#[test]
fn passes_a_big_request_on_while_it_comes() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 k $80 0123456789");
    let lease = stage.on("SET k");
    assert_eq!(stage.brought(lease), "*3 $3 SET $1 k $80 0123456789");
    let other = stage.client();
    stage.send(other, "GET n");
    let lane = stage.on("GET n");
    assert_ne!(lane, lease, "nobody stands behind what has not come");
    stage.say(lane, "$1 7");
    assert_eq!(stage.heard(other), "$1 7");
    // Behind it comes the next one, which waits for its turn on the same connection.
    let rest = "x".repeat(68);
    stage.send_raw(client, &format!("{rest} *2 $3 GET $1 k"));
    assert_eq!(stage.brought(lease), format!("{rest} *2 $3 GET $1 k"));
    stage.say(lease, "+OK");
    stage.say(lease, "$1 v");
    assert_eq!(stage.heard(client), "+OK $1 v");
    // The lease is over: the next one is shared.
    stage.send(client, "GET m");
    assert_eq!(stage.on("GET m"), lane);
}

/// Limits by which a request is big above 60 bytes, and too big to be kept above 200.
fn narrow() -> Limits {
    Limits {
        request_bytes_max: 60,
        whole_bytes_max: 200,
        ..Limits::default()
    }
}

#[test]
fn refuses_what_is_too_big_to_be_kept_whole() {
    let mut stage = Stage::with(narrow(), 4, &Shared::default());
    let client = stage.client();
    let value = "x".repeat(148);
    // As much as there may be.
    stage.send(client, &format!("BLPOP {value} 0"));
    let lease = stage.on("BLPOP");
    stage.asked(lease);
    stage.say(lease, ":0");
    assert_eq!(stage.heard(client), ":0");
    stage.send_raw(client, "*3 $10 MANIFOLDED $1 c $5000 0123456789");
    let heard = stage.heard(client);
    assert!(heard.contains("whole_bytes_max"), "{heard}");
    // The rest of it is nothing anybody asked for.
    let rest = "x".repeat(4_988);
    stage.send_raw(client, &format!("{rest} *2 $3 GET $1 n"));
    let lane = stage.on("GET n");
    assert_eq!(stage.asked(lane), "GET n");
    stage.say(lane, "$1 7");
    assert_eq!(stage.heard(client), "$1 7");
}

#[test]
fn passes_a_big_message_on_and_counts_who_hears_it() {
    let mut stage = Stage::with(narrow(), 4, &Shared::default());
    for name in ["a", "a", "b"] {
        let one = stage.client();
        stage.send(one, &format!("SUBSCRIBE {name}"));
        if !stage.has_heard(one) {
            stage.say(stage.hub(), &format!(">3 $9 subscribe $1 {name} :1"));
        }
    }
    let client = stage.client();
    stage.send_raw(client, "*3 $7 PUBLISH $1 a $5000 0123456789");
    let lease = stage.on("PUBLISH a");
    assert_eq!(stage.brought(lease), "*3 $7 PUBLISH $1 a $5000 0123456789");
    let rest = "x".repeat(4_988);
    stage.send_raw(client, &format!("{rest} *3 $7 PUBLISH $1 b $80 0123456789"));
    assert_eq!(
        stage.brought(lease),
        rest,
        "the next one waits for its reply"
    );
    stage.say(lease, ":1");
    assert_eq!(
        stage.heard(client),
        ":2",
        "two hear it by way of one connection"
    );
    let lease = stage.on("PUBLISH b");
    stage.send_raw(client, &"x".repeat(68));
    stage.say(lease, ":1");
    assert_eq!(stage.heard(client), ":1");
}

#[test]
fn refuses_many_small_words_as_soon_as_they_are_too_many() {
    let mut stage = Stage::with(narrow(), 4, &Shared::default());
    let client = stage.client();
    let words = "$1 c ".repeat(100);
    stage.send_raw(client, &format!("*1000 $9 SUBSCRIBE {}", words.trim_end()));
    let heard = stage.heard(client);
    assert!(heard.contains("whole_bytes_max"), "{heard}");
}

#[test]
fn fails_the_transaction_of_a_request_that_is_too_big_to_be_kept() {
    let mut stage = Stage::with(narrow(), 4, &Shared::default());
    let client = stage.client();
    stage.send(client, "MULTI");
    let lease = stage.on("MULTI");
    stage.say(lease, "+OK");
    stage.heard(client);
    stage.send_raw(client, "*3 $10 MANIFOLDED $1 c $5000 0123456789");
    assert_eq!(stage.asked(lease), "MULTI; MANIFOLD-DENIED");
    let heard = stage.heard(client);
    assert!(heard.contains("whole_bytes_max"), "{heard}");
}

#[test]
fn passes_a_big_request_on_to_the_node_of_its_key() {
    let mut stage = Stage::before_cluster(narrow());
    let client = stage.client();
    stage.send(client, "GET c");
    stage.send_raw(client, "*3 $3 SET $1 b $5000 0123456789");
    stage.say_at(7002, "$1 c");
    let lease = stage.on("SET b");
    assert_eq!(stage.brought(lease), "*3 $3 SET $1 b $5000 0123456789");
    let rest = "x".repeat(4_988);
    stage.send_raw(client, &format!("{rest} *2 $3 GET $1 b"));
    assert_eq!(stage.brought(lease), format!("{rest} *2 $3 GET $1 b"));
    stage.say(lease, "+OK");
    stage.say(lease, "$1 7");
    assert_eq!(stage.heard(client), "$1 c +OK $1 7");
}

#[test]
fn pauses_the_client_while_the_node_of_its_key_takes_no_more() {
    let limits = Limits {
        input_high: 100,
        upstream_output_high: 100,
        ..narrow()
    };
    let mut stage = Stage::before_cluster(limits);
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 b $1000 0123456789");
    let lease = stage.on("SET b");
    stage.brought(lease);
    stage.stop_taking(lease);
    let pieces = vec!["x".repeat(98); 7];
    for piece in &pieces {
        stage.send_raw(client, piece);
    }
    assert!(
        !stage.is_read(client),
        "what it sends would fill the memory"
    );
    stage.take_on(lease);
    assert_eq!(stage.brought(lease), pieces.join(" "));
    assert!(stage.is_read(client));
}

#[test]
fn says_so_when_the_slot_of_a_big_request_has_moved() {
    let mut stage = Stage::before_cluster(narrow());
    let client = stage.client();
    for refusal in ["MOVED 3300 127.0.0.1:7002", "ASK 3300 127.0.0.1:7003"] {
        let value = "x".repeat(998);
        stage.send_raw(client, &format!("*3 $3 SET $1 b $1000 {value}"));
        let lease = stage.on("SET b");
        stage.send_raw(client, "");
        stage.brought(lease);
        stage.say_raw(lease, format!("-{refusal}\r\n").as_bytes());
        let heard = stage.heard(client);
        assert!(heard.contains("another node"), "{heard}");
    }
    stage.send(client, "GET b");
    assert_eq!(stage.asked_at(7002), "GET b", "the map knows it now");
}

#[test]
fn sends_what_comes_back_around_a_big_request_that_waits() {
    let mut stage = Stage::before_cluster(narrow());
    for _ in 0..2 {
        let other = stage.client();
        stage.send(other, "BLPOP c 0");
    }
    let blocked = stage.on("BLPOP c 0");
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 c $80 0123456789");
    let rest = "x".repeat(68);
    stage.send_raw(client, &format!("{rest} *2 $3 GET $1 b"));
    stage.send(client, "INCR c");
    assert_eq!(stage.asked_at(7001), "GET b");
    stage.refuse_at(7001, "ASK 3300 127.0.0.1:7002");
    stage.asked(blocked);
    stage.say(blocked, "*-1");
    let asked = stage.on("SET c");
    let big = format!("SET c 0123456789\r\n{rest}");
    assert_eq!(stage.asked(asked), format!("{big}; ASKING; GET b; INCR c"));
}

#[test]
fn says_what_became_of_a_big_request_whose_node_is_lost() {
    let mut stage = Stage::before_cluster(narrow());
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 b $5000 0123456789");
    let lease = stage.on("SET b");
    stage.lose(lease);
    let heard = stage.heard(client);
    assert!(heard.contains("has not been executed"), "{heard}");
    let rest = "x".repeat(4_988);
    stage.send_raw(client, &format!("{rest} *2 $3 GET $1 b"));
    assert_eq!(stage.asked_at(7001), "GET b");
    stage.say_at(7001, "$1 7");
    assert_eq!(stage.heard(client), "$1 7");
}

#[test]
fn refuses_what_is_too_big_to_be_kept_for_a_cluster() {
    let mut stage = Stage::before_cluster(narrow());
    let client = stage.client();
    stage.send(client, "GET b");
    stage.send_raw(client, "*3 $4 MSET $1 b $5000 0123456789");
    let heard = stage.heard(client);
    assert_eq!(heard, "", "it is not its turn");
    assert_eq!(stage.asked_at(7001), "GET b");
    stage.say_at(7001, "$1 7");
    let heard = stage.heard(client);
    assert!(heard.starts_with("$1 7 -ERR") && heard.contains("whole_bytes_max"));
    stage.send_raw(client, &format!("{} *1 $5 MULTI", "x".repeat(4_988)));
    assert_eq!(stage.heard(client), "+OK");
    stage.send(client, "SET b 1");
    stage.asked_at(7001);
    stage.say_at(7001, "+OK");
    assert_eq!(stage.asked_at(7001), "SET b 1");
    stage.say_at(7001, "+QUEUED");
    stage.heard(client);
    stage.send_raw(client, "*3 $4 MSET $1 b $5000 0123456789");
    assert_eq!(stage.asked_at(7001), "MANIFOLD-DENIED");
    let heard = stage.heard(client);
    assert!(heard.contains("whole_bytes_max"), "{heard}");
}

#[test]
fn sends_a_big_request_behind_what_came_before_it() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "INCR n");
    stage.send_raw(client, "*3 $3 SET $1 k $80 0123456789");
    let lane = stage.on("INCR n");
    assert_eq!(stage.brought(lane), "*2 $4 INCR $1 n");
    stage.say(lane, ":1");
    assert_eq!(stage.heard(client), ":1");
    let lease = stage.on("SET k");
    assert_ne!(lane, lease);
}

#[test]
fn closes_the_upstream_when_the_client_dies_amid_its_request() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 k $80 0123456789");
    let lease = stage.on("SET k");
    stage.leave(client);
    assert!(stage.is_gone(lease), "nobody else may go on there");
    assert!(stage.is_closed(client));
}

#[test]
fn pauses_the_client_while_the_node_takes_no_more() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 k $1000 0123456789");
    let lease = stage.on("SET k");
    stage.brought(lease);
    stage.stop_taking(lease);
    let pieces = vec!["x".repeat(98); 4];
    for piece in &pieces {
        stage.send_raw(client, piece);
    }
    assert!(
        !stage.is_read(client),
        "what it sends would fill the memory"
    );
    stage.take_on(lease);
    assert_eq!(stage.brought(lease), pieces.join(" "));
    assert!(stage.is_read(client));
}

#[test]
fn says_what_became_of_a_big_request_whose_upstream_is_lost() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 k $80 0123456789");
    let lease = stage.on("SET k");
    stage.lose(lease);
    let heard = stage.heard(client);
    assert!(heard.contains("has not been executed"), "{heard}");
    // The rest of it is nothing anybody asked for.
    let rest = "x".repeat(68);
    stage.send_raw(client, &format!("{rest} *2 $3 GET $1 n"));
    let lane = stage.on("GET n");
    assert_eq!(stage.asked(lane), "GET n");
    stage.say(lane, "$1 7");
    assert_eq!(stage.heard(client), "$1 7");
}

#[test]
fn sends_a_big_request_never_again() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, &format!("*3 $3 SET $1 k $80 {}", "x".repeat(70)));
    let lease = stage.on("SET k");
    stage.send_raw(client, "12345678");
    stage.brought(lease);
    stage.lose(lease);
    let heard = stage.heard(client);
    assert!(heard.contains("may have been executed"), "{heard}");
}

#[test]
fn ends_with_the_client_that_the_node_refuses_amid_its_request() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 k $80 0123456789");
    let lease = stage.on("SET k");
    stage.say_raw(lease, b"-ERR Protocol error: invalid bulk length\r\n");
    assert!(stage.heard(client).starts_with("-ERR Protocol error"));
    assert!(stage.is_gone(lease) && stage.is_closed(client));
}

#[test]
fn refuses_what_is_malformed_amid_a_big_request() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, &format!("*5 $4 MSET $1 k $80 {}", "x".repeat(80)));
    let lease = stage.on("MSET k");
    stage.send_raw(client, ":1");
    let heard = stage.heard(client);
    assert_eq!(heard, "-ERR Protocol error: expected '$', got ':'");
    assert!(stage.is_gone(lease) && stage.is_closed(client));
}

#[test]
fn answers_a_big_request_that_waits_for_too_long() {
    let limits = Limits {
        request_bytes_max: 60,
        ..Limits::default()
    };
    let mut stage = Stage::with(limits, 2, &Shared::default());
    let blocker = stage.client();
    stage.send(blocker, "BLPOP q 0");
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 k $80 0123456789");
    stage.wait(125_000);
    let heard = stage.heard(client);
    assert!(heard.contains("queue_wait_max"), "{heard}");
    let rest = "x".repeat(68);
    stage.send_raw(client, &format!("{rest} *2 $3 GET $1 n"));
    let lane = stage.on("GET n");
    assert_eq!(stage.asked(lane), "GET n");
}

#[test]
fn waits_for_nobody_amid_a_request_while_others_wait() {
    let limits = Limits {
        request_bytes_max: 60,
        ..Limits::default()
    };
    let mut stage = Stage::with(limits, 2, &Shared::default());
    let client = stage.client();
    stage.send_raw(client, "*3 $3 SET $1 k $80 0123456789");
    stage.wait(60_000);
    let other = stage.client();
    stage.send(other, "BLPOP q 0");
    assert!(!stage.is_closed(client));
    stage.wait(61_000);
    assert!(stage.is_closed(client));
    let lease = stage.on("BLPOP q");
    assert_eq!(stage.asked(lease), "BLPOP q 0");
}

#[test]
fn keeps_whole_what_has_to_be_seen_whole() {
    let mut stage = stage();
    let client = stage.client();
    let message = "x".repeat(80);
    stage.send_raw(
        client,
        &format!("*3 $7 PUBLISH $1 c $80 {}", &message[..20]),
    );
    stage.send_raw(client, &message[..58]);
    let lane = stage.on("PUBLISH c");
    assert!(stage.asked(lane).starts_with("PUBLISH c"));
}

#[test]
fn asks_alone_for_what_is_answered_at_length() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "GET k");
    let lane = stage.on("GET k");
    stage.asked(lane);
    stage.say_raw(lane, b"$40\r\n0123456789");
    let lease = stage.on("GET k");
    assert_ne!(lane, lease);
    assert_eq!(stage.asked(lease), "GET k");
    assert_eq!(
        stage.heard(client),
        "",
        "what the lane has for it is dropped"
    );
    let other = stage.client();
    stage.send(other, "GET n");
    stage.say_raw(lane, &[&[b'x'; 30][..], b"\r\n$1\r\n7\r\n"].concat());
    assert_eq!(stage.heard(other), "$1 7");
    let value = format!("$40 {}", "y".repeat(40));
    stage.say(lease, &value);
    assert_eq!(stage.heard(client), value);
    // It is known from now on, to everybody.
    stage.asked(lane);
    stage.send(other, "GET k");
    assert_eq!(stage.asked(lane), "");
    assert_eq!(stage.asked(lease), "GET k");
    stage.say(lease, "$1 v");
    assert_eq!(stage.heard(other), "$1 v");
    // And forgotten when the answer is short.
    stage.send(other, "GET k");
    assert_eq!(stage.asked(lane), "GET k");
}

#[test]
fn asks_alone_for_what_came_at_once_and_is_too_long() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "GET k");
    let lane = stage.on("GET k");
    stage.asked(lane);
    let value = format!("$120 {}", "y".repeat(120));
    stage.say(lane, &value);
    assert!(!stage.is_closed(client));
    let lease = stage.on("GET k");
    assert_eq!(stage.asked(lease), "GET k");
    stage.say(lease, &value);
    assert_eq!(stage.heard(client), value);
}

#[test]
fn asks_anew_for_the_reads_behind_what_is_answered_at_length() {
    let mut stage = stage();
    let client = stage.client();
    for words in ["INCR n", "GET k", "GET n", "GET m"] {
        stage.send(client, words);
    }
    let lane = stage.on("GET k");
    assert_eq!(stage.asked(lane), "INCR n; GET k; GET n; GET m");
    stage.say_raw(lane, b":1\r\n$40\r\n0123456789");
    assert_eq!(stage.heard(client), ":1");
    let lease = stage.on("GET k");
    assert_ne!(lane, lease);
    assert_eq!(stage.asked(lease), "GET k; GET n; GET m");
    stage.say_raw(
        lane,
        &[&[b'x'; 30][..], b"\r\n$1\r\n1\r\n$1\r\n2\r\n"].concat(),
    );
    assert_eq!(stage.heard(client), "", "that is dropped");
    let reply = format!("$40 {} $1 3 $1 4", "y".repeat(40));
    stage.say(lease, &reply);
    assert_eq!(stage.heard(client), reply);
}

#[test]
fn asks_nothing_anew_behind_which_something_was_written() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "GET k");
    stage.send(client, "INCR n");
    let lane = stage.on("INCR n");
    assert_eq!(stage.asked(lane), "GET k; INCR n");
    stage.say_raw(lane, b"$40\r\n0123456789");
    assert_eq!(stage.heard(client), "$40 0123456789");
}

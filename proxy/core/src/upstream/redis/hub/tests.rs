//! The hub between subscribers and a node that the test plays.

use crate::limits::Limits;
use crate::redis::stage::{Shared, Stage};

/// A subscriber of a channel whose subscription the node has just confirmed.
fn subscriber_of_a(stage: &mut Stage) -> usize {
    let client = stage.client();
    stage.send(client, "SUBSCRIBE a");
    if !stage.has_heard(client) {
        stage.say(stage.hub(), ">3 $9 subscribe $1 a :1");
        stage.asked(stage.hub());
    }
    assert_eq!(stage.heard(client), "*3 $9 subscribe $1 a :1");
    client
}

const MESSAGE: &str = ">3 $7 message $1 a $2 hi";

#[test]
fn asks_the_node_once_when_many_subscribe() {
    let mut stage = Stage::new();
    let one = stage.client();
    stage.send(one, "SUBSCRIBE a");
    assert_eq!(stage.heard(one), "");
    assert_eq!(stage.asked(stage.hub()), "subscribe a");
    stage.say(stage.hub(), ">3 $9 subscribe $1 a :1");
    assert_eq!(stage.heard(one), "*3 $9 subscribe $1 a :1");
    let other = stage.client();
    assert_eq!(stage.ask(other, "SUBSCRIBE a"), "*3 $9 subscribe $1 a :1");
    assert_eq!(stage.asked(stage.hub()), "");
    stage.send(other, "SUBSCRIBE a b");
    assert_eq!(stage.asked(stage.hub()), "subscribe b");
    stage.say(stage.hub(), ">3 $9 subscribe $1 b :2");
    assert_eq!(
        stage.heard(other),
        "*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2"
    );
    assert_eq!(stage.hubs(), 1);
}

#[test]
fn copies_a_message_to_each_in_its_version() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    let other = stage.client_of_three();
    let heard = stage.ask(other, "SUBSCRIBE a");
    assert_eq!(heard, ">3 $9 subscribe $1 a :1");
    stage.say(stage.hub(), MESSAGE);
    assert_eq!(stage.heard(one), "*3 $7 message $1 a $2 hi");
    assert_eq!(stage.heard(other), MESSAGE);
}

#[test]
fn ends_at_the_node_when_the_last_one_leaves() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    let other = subscriber_of_a(&mut stage);
    let ended = "*3 $11 unsubscribe $1 a :0";
    let hub = stage.hub();
    assert_eq!(stage.ask(one, "UNSUBSCRIBE a"), "");
    assert_eq!(stage.asked(hub), "PING");
    stage.say(hub, MESSAGE);
    stage.say(hub, "+PONG");
    let message = "*3 $7 message $1 a $2 hi";
    assert_eq!(stage.heard(other), message);
    let both = format!("{message} {ended}");
    assert_eq!(stage.heard(one), both, "what was on its way comes before");
    assert_eq!(stage.asked(stage.hub()), "");
    assert_eq!(stage.ask(other, "UNSUBSCRIBE"), "");
    assert_eq!(stage.asked(stage.hub()), "unsubscribe a");
    stage.say(stage.hub(), MESSAGE);
    stage.say(stage.hub(), ">3 $11 unsubscribe $1 a :0");
    assert_eq!(
        stage.heard(other),
        format!("*3 $7 message $1 a $2 hi {ended}")
    );
    assert_eq!(stage.heard(one), "");
}

#[test]
fn says_goodbye_when_all_has_come_that_was_on_its_way() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    let other = subscriber_of_a(&mut stage);
    assert_eq!(stage.ask(one, "QUIT"), "");
    let hub = stage.hub();
    assert_eq!(stage.asked(hub), "PING");
    stage.say(hub, MESSAGE);
    stage.say(hub, "+PONG");
    assert_eq!(stage.heard(one), "*3 $7 message $1 a $2 hi +OK");
    let said = stage.ask(other, "QUIT");
    assert_eq!(said, "*3 $7 message $1 a $2 hi");
    assert_eq!(stage.asked(hub), "unsubscribe a");
    stage.say(hub, ">3 $11 unsubscribe $1 a :0");
    assert_eq!(stage.heard(other), "+OK");
}

#[test]
fn ends_at_the_node_when_the_last_one_is_gone() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    stage.leave(one);
    assert_eq!(stage.asked(stage.hub()), "unsubscribe a");
    // Somebody else comes before the node has answered.
    let other = stage.client();
    assert_eq!(stage.ask(other, "SUBSCRIBE a"), "");
    assert_eq!(stage.asked(stage.hub()), "subscribe a");
    stage.say(stage.hub(), MESSAGE);
    stage.say(stage.hub(), ">3 $11 unsubscribe $1 a :0");
    assert_eq!(stage.heard(other), "");
    stage.say(stage.hub(), ">3 $9 subscribe $1 a :1");
    stage.say(stage.hub(), MESSAGE);
    assert_eq!(
        stage.heard(other),
        "*3 $9 subscribe $1 a :1 *3 $7 message $1 a $2 hi"
    );
}

#[test]
fn lets_nobody_in_before_reset_has_ended_what_was() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    assert_eq!(stage.ask(one, "RESET"), "");
    assert_eq!(stage.asked(stage.hub()), "unsubscribe a");
    stage.say(stage.hub(), ">3 $11 unsubscribe $1 a :0");
    assert_eq!(stage.heard(one), "+RESET");
}

#[test]
fn puts_no_message_inside_of_a_reply() {
    let mut stage = Stage::new();
    subscriber_of_a(&mut stage);
    let one = stage.client_of_three();
    stage.ask(one, "SUBSCRIBE a");
    stage.send(one, "GET k");
    let lane = stage.on("GET");
    assert_eq!(stage.asked(lane), "GET k");
    stage.say_raw(lane, b"$5\r\nhe");
    stage.say(stage.hub(), MESSAGE);
    assert_eq!(stage.heard(one), "$5 he");
    stage.say_raw(lane, b"llo\r\n");
    assert_eq!(stage.heard(one), format!("llo {MESSAGE}"));
}

#[test]
fn counts_every_subscriber_of_all_shards() {
    let shared = Shared::default();
    let mut stage = Stage::with(Limits::default(), 4, &shared);
    let mut other = Stage::with(Limits::default(), 4, &shared);
    for _ in 0..3 {
        subscriber_of_a(&mut stage);
        subscriber_of_a(&mut other);
    }
    let one = stage.client();
    stage.send(one, "PUBLISH a m");
    let lane = stage.on("PUBLISH");
    assert_eq!(stage.asked(lane), "PUBLISH a m");
    // The node sees two subscribers of six.
    stage.say(lane, ":2");
    assert_eq!(stage.heard(one), ":6");
    stage.send(one, "PUBSUB NUMSUB a b");
    let lane = stage.on("PUBSUB");
    stage.say(lane, "*4 $1 a :2 $1 b :0");
    assert_eq!(stage.heard(one), "*4 $1 a :6 $1 b :0");
    // What its node does not hold is not counted.
    stage.lose(stage.hub());
    stage.send(one, "PUBLISH a m");
    let lane = stage.on("PUBLISH");
    stage.say(lane, ":1");
    assert_eq!(stage.heard(one), ":3");
}

#[test]
fn keeps_message_and_reply_in_order_when_it_hears_itself() {
    let mut stage = Stage::new();
    let one = stage.client_of_three();
    stage.send(one, "SUBSCRIBE a");
    let hub = stage.hub();
    assert_eq!(stage.asked(hub), "subscribe a");
    stage.say(hub, ">3 $9 subscribe $1 a :1");
    stage.heard(one);
    stage.send(one, "PUBLISH a hi");
    assert_eq!(stage.asked(hub), "PUBLISH a hi");
    stage.say(hub, &format!("{MESSAGE} :1"));
    assert_eq!(stage.heard(one), format!("{MESSAGE} :1"));
    // What it does not hear goes where everything goes.
    stage.send(one, "PUBLISH b hi");
    assert_eq!(stage.asked(hub), "");
}

#[test]
fn subscribes_anew_when_the_node_was_lost() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    let other = subscriber_of_a(&mut stage);
    stage.lose(stage.hub());
    assert_eq!(stage.hubs(), 2);
    assert_eq!(stage.asked(stage.hub()), "subscribe a");
    stage.say(stage.hub(), ">3 $9 subscribe $1 a :1");
    stage.say(stage.hub(), MESSAGE);
    for client in [one, other] {
        assert_eq!(stage.heard(client), "*3 $7 message $1 a $2 hi");
    }
    assert_eq!(stage.asked(stage.hub()), "");
}

#[test]
fn answers_who_waited_when_the_node_was_lost() {
    let mut stage = Stage::new();
    let last = subscriber_of_a(&mut stage);
    stage.send(last, "UNSUBSCRIBE");
    let one = stage.client();
    stage.send(one, "PSUBSCRIBE *");
    assert_eq!(stage.asked(stage.hub()), "unsubscribe a; psubscribe *");
    stage.lose(stage.hub());
    assert_eq!(stage.heard(last), "*3 $11 unsubscribe $1 a :0");
    assert_eq!(stage.asked(stage.hub()), "psubscribe *");
    stage.say(stage.hub(), ">3 $10 psubscribe $1 * :1");
    assert_eq!(stage.heard(one), "*3 $10 psubscribe $1 * :1");
}

#[test]
fn ends_a_topic_whose_last_one_left_while_it_was_asked_for_anew() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    stage.lose(stage.hub());
    assert_eq!(stage.asked(stage.hub()), "subscribe a");
    stage.leave(one);
    stage.say(stage.hub(), ">3 $9 subscribe $1 a :1");
    assert_eq!(stage.asked(stage.hub()), "unsubscribe a");
}

#[test]
fn closes_whom_the_node_does_not_let_listen_any_more() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    let other = stage.client();
    stage.send(other, "SUBSCRIBE b");
    stage.say(stage.hub(), ">3 $9 subscribe $1 b :2");
    stage.lose(stage.hub());
    let asked = stage.asked(stage.hub());
    for ask in asked.split("; ") {
        match ask {
            "subscribe a" => stage.say_raw(stage.hub(), b"-NOPERM no\r\n"),
            _ => stage.say(stage.hub(), ">3 $9 subscribe $1 b :1"),
        }
    }
    assert!(stage.is_closed(one));
    assert!(!stage.is_closed(other));
}

#[test]
fn tells_only_the_one_who_asked_when_the_node_refuses() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    let other = stage.client();
    stage.send(other, "SUBSCRIBE a secret");
    assert_eq!(stage.asked(stage.hub()), "subscribe secret");
    stage.say_raw(stage.hub(), b"-NOPERM no\r\n");
    assert_eq!(stage.heard(other), "-NOPERM no");
    assert_eq!(stage.ask(other, "UNSUBSCRIBE"), "*3 $11 unsubscribe $-1 :0");
    stage.say(stage.hub(), MESSAGE);
    assert_eq!(stage.heard(other), "");
    assert_eq!(stage.heard(one), "*3 $7 message $1 a $2 hi");
    assert_eq!(stage.asked(stage.hub()), "");
}

#[test]
fn begins_anew_for_a_user_who_may_not_end_a_subscription() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    let other = stage.client();
    stage.send(other, "SUBSCRIBE b");
    stage.say(stage.hub(), ">3 $9 subscribe $1 b :2");
    stage.heard(other);
    stage.asked(stage.hub());
    stage.send(one, "RESET");
    assert_eq!(stage.asked(stage.hub()), "unsubscribe a");
    stage.say_raw(stage.hub(), b"-NOPERM no\r\n");
    assert_eq!(stage.heard(one), "", "the node still holds it");
    stage.wait(60);
    assert_eq!(stage.heard(one), "+RESET");
    assert_eq!(stage.asked(stage.hub()), "subscribe b");
    stage.say(stage.hub(), ">3 $9 subscribe $1 b :1");
    stage.say(stage.hub(), ">3 $7 message $1 b $2 hi");
    assert_eq!(stage.heard(other), "*3 $7 message $1 b $2 hi");
    stage.wait(200);
    assert_eq!(stage.asked(stage.hub()), "", "nothing is left to end");
    assert_eq!(stage.hubs(), 1);
}

#[test]
fn goes_on_after_reset_when_the_node_is_lost_before_it_has_ended_anything() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    stage.send(one, "RESET");
    stage.say_raw(stage.hub(), b"-NOPERM no\r\n");
    assert_eq!(stage.heard(one), "");
    stage.lose(stage.hub());
    assert_eq!(stage.heard(one), "+RESET");
    stage.wait(200);
    assert_eq!(stage.hubs(), 1);
}

fn narrow() -> Limits {
    Limits {
        subscriber_bytes_max: 100,
        ..Limits::default()
    }
}

#[test]
fn closes_a_subscriber_that_does_not_read_and_no_other() {
    let mut stage = Stage::with(narrow(), 4, &Shared::default());
    let slow = subscriber_of_a(&mut stage);
    let other = subscriber_of_a(&mut stage);
    stage.stop_reading(slow);
    for _ in 0..4 {
        stage.say(stage.hub(), MESSAGE);
        assert_eq!(stage.heard(other), "*3 $7 message $1 a $2 hi");
    }
    assert!(stage.is_closed(slow));
    assert!(!stage.is_closed(other));
    assert_eq!(stage.asked(stage.hub()), "");
}

#[test]
fn drops_a_message_that_nobody_could_take_and_who_should_have_had_it() {
    let mut stage = Stage::with(narrow(), 4, &Shared::default());
    let one = subscriber_of_a(&mut stage);
    let other = stage.client();
    stage.send(other, "SUBSCRIBE b");
    stage.say(stage.hub(), ">3 $9 subscribe $1 b :2");
    stage.heard(other);
    stage.say_raw(stage.hub(), b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$200\r\n");
    for _ in 0..4 {
        stage.say_raw(stage.hub(), &[b'x'; 50]);
    }
    stage.say_raw(stage.hub(), b"\r\n");
    stage.say(stage.hub(), ">3 $7 message $1 b $2 hi");
    assert!(stage.is_closed(one));
    assert_eq!(stage.heard(other), "*3 $7 message $1 b $2 hi");
    assert_eq!(stage.hubs(), 1);
}

#[test]
fn believes_no_confirmation_that_nobody_asked_for() {
    let mut stage = Stage::new();
    let one = subscriber_of_a(&mut stage);
    stage.say(stage.hub(), ">3 $9 subscribe $1 b :1");
    assert_eq!(stage.hubs(), 2);
    assert_eq!(stage.asked(stage.hub()), "subscribe a");
    assert!(!stage.is_closed(one));
}

#[test]
fn says_what_is_missing_when_there_is_one_connection() {
    let mut stage = Stage::with(Limits::default(), 1, &Shared::default());
    let one = stage.client();
    let heard = stage.ask(one, "SUBSCRIBE a");
    assert!(heard.contains("connections_max"), "{heard}");
}

#[test]
fn waits_for_the_node_no_longer_than_may_be() {
    let mut stage = Stage::with(Limits::default(), 2, &Shared::default());
    let one = subscriber_of_a(&mut stage);
    let other = stage.client();
    // The user's own hub would take the last connection.
    stage.send(other, "GET k");
    let lane = stage.on("GET");
    stage.say(lane, "$-1");
    stage.heard(other);
    let limit = Limits::default().queue_wait_max.as_millis() as u64;
    stage.send(other, "AUTH user secret");
    stage.wait(limit + 200);
    stage.heard(other);
    stage.send(other, "SUBSCRIBE a");
    stage.wait(limit + 200);
    let heard = stage.heard(other);
    assert!(heard.contains("queue_wait_max"), "{heard}");
    assert!(!stage.is_closed(one));
}

#[test]
fn sends_a_big_message_to_itself_where_it_comes_from_too() {
    let mut stage = Stage::new();
    let one = stage.client_of_three();
    stage.ask(one, "SUBSCRIBE a");
    stage.say(stage.hub(), ">3 $9 subscribe $1 a :1");
    stage.asked(stage.hub());
    stage.send(one, &format!("PUBLISH a {}", "x".repeat(100_000)));
    assert!(stage.asked(stage.hub()).starts_with("PUBLISH a xxx"));
}

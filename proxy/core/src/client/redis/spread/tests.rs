//! Sessions before a cluster that the test plays: `b` and `hello` are in slots of the node on port
//! 7001, `c` of 7002, `a` and `foo` of 7003.

use crate::limits::Limits;
use crate::redis::stage::Stage;

fn stage() -> Stage {
    Stage::before_cluster(Limits::default())
}

#[test]
fn sends_each_key_to_its_node_and_answers_in_order() {
    let mut stage = stage();
    let client = stage.client();
    for words in ["SET a 1", "SET b 2", "SET c 3", "GET a"] {
        stage.send(client, words);
    }
    assert_eq!(stage.asked_at(7003), "SET a 1; GET a");
    assert_eq!(stage.asked_at(7001), "SET b 2");
    assert_eq!(stage.asked_at(7002), "SET c 3");
    stage.say_at(7002, ":3");
    stage.say_at(7001, ":2");
    assert_eq!(stage.heard(client), "", "the first is not answered yet");
    stage.say_at(7003, ":1 :4");
    assert_eq!(stage.heard(client), ":1 :2 :3 :4");
}

#[test]
fn sends_what_has_moved_to_the_other_node_before_what_follows() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET b 1");
    stage.send(client, "SET b 2");
    assert_eq!(stage.asked_at(7001), "SET b 1; SET b 2");
    stage.set_map(&[(3299, 7001), (10_922, 7002), (16_383, 7003)]);
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    stage.send(client, "SET b 3");
    assert_eq!(stage.asked_at(7002), "SET b 1", "the second is on its way");
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    assert_eq!(stage.asked_at(7002), "SET b 2");
    assert_eq!(stage.heard(client), "");
    stage.say_at(7002, ":1 :2");
    assert_eq!(stage.heard(client), ":1 :2");
    assert_eq!(stage.asked_at(7002), "SET b 3", "what came later waits");
    stage.say_at(7002, ":3");
    assert_eq!(stage.ask(client, "SET b 4"), ":3");
    assert_eq!(stage.asked_at(7002), "SET b 4", "it is known now");
    assert_eq!(stage.asked_at(7001), "");
}

#[test]
fn asks_the_node_that_a_slot_is_on_its_way_to_this_once() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET b 1");
    stage.asked_at(7001);
    stage.refuse_at(7001, "ASK 3300 127.0.0.1:7003");
    assert_eq!(stage.asked_at(7003), "ASKING; SET b 1");
    stage.send(client, "SET b 2");
    stage.send(client, "GET c");
    assert_eq!(stage.asked_at(7001), "", "nothing overtakes it");
    stage.say_at(7003, "+OK :1");
    assert_eq!(stage.heard(client), ":1");
    assert_eq!(stage.asked_at(7001), "SET b 2", "the slot is still there");
    assert_eq!(stage.asked_at(7002), "GET c");
}

#[test]
fn sends_one_request_at_a_time_to_a_slot_that_is_on_its_way() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET b 1");
    stage.asked_at(7001);
    stage.refuse_at(7001, "ASK 3300 127.0.0.1:7003");
    stage.say_at(7003, "+OK :1");
    stage.send(client, "SET b 2");
    stage.send(client, "SET b 3");
    assert_eq!(stage.asked_at(7001), "SET b 2");
    stage.say_at(7001, ":2");
    assert_eq!(stage.asked_at(7001), "SET b 3");
    stage.say_at(7001, ":3");
    // After a while it is taken for settled.
    stage.wait(3_000);
    stage.send(client, "SET b 4");
    stage.send(client, "SET b 5");
    assert_eq!(stage.asked_at(7001), "SET b 4; SET b 5");
}

#[test]
fn tries_again_for_a_while_where_keys_are_on_their_way() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SUNION {b}1 {b}2");
    let text = "TRYAGAIN Multiple keys request during rehashing of slot";
    for turn in 0..16 {
        assert_eq!(stage.asked_at(7001), "SUNION {b}1 {b}2", "turn {turn}");
        assert_eq!(stage.heard(client), "");
        stage.refuse_at(7001, text);
        stage.wait(70);
    }
    assert_eq!(stage.heard(client), format!("-{text}"));
    stage.send(client, "SUNION {b}1 {b}2");
    stage.asked_at(7001);
    stage.refuse_at(7001, text);
    stage.wait(70);
    stage.say_at(7001, "*0");
    assert_eq!(stage.heard(client), "*0");
}

#[test]
fn waits_for_a_cluster_that_is_down_as_long_as_for_anything() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET b 1");
    for _ in 0..100 {
        assert_eq!(stage.asked_at(7001), "SET b 1");
        stage.refuse_at(7001, "CLUSTERDOWN The cluster is down");
        assert_eq!(stage.heard(client), "");
        stage.wait(500);
    }
    stage.wait(120_000);
    stage.refuse_at(7001, "CLUSTERDOWN The cluster is down");
    assert_eq!(stage.heard(client), "-CLUSTERDOWN The cluster is down");
}

#[test]
fn goes_to_the_new_primary_when_the_old_one_is_demoted() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET b 1");
    stage.set_map(&[(5460, 7004), (10_922, 7002), (16_383, 7003)]);
    let mut asked = 0;
    while stage.asked_at(7001) == "SET b 1" {
        asked += 1;
        stage.refuse_at(
            7001,
            "READONLY You can't write against a read only replica.",
        );
        stage.wait(40);
    }
    assert!((1..8).contains(&asked), "it was asked {asked} times");
    assert_eq!(stage.asked_at(7004), "SET b 1");
    stage.say_at(7004, "+OK");
    assert_eq!(stage.heard(client), "+OK");
}

#[test]
fn takes_reads_and_what_was_not_sent_to_the_new_primary_when_one_dies() {
    let mut stage = stage();
    let [one, other, third] = [stage.client(), stage.client(), stage.client()];
    stage.send(one, "SET b 1");
    stage.send(other, "GET b");
    assert_eq!(stage.asked_at(7001), "SET b 1 | GET b");
    stage.kill(7001);
    let heard = stage.heard(one);
    assert!(heard.contains("may have been executed"), "{heard}");
    stage.send(third, "SET b 3");
    stage.wait(1_000);
    assert_eq!(stage.heard(other), "");
    assert_eq!(stage.heard(third), "");
    stage.set_map(&[(5460, 7004), (10_922, 7002), (16_383, 7003)]);
    stage.wait(1_000);
    let asked = stage.asked_at(7004);
    assert!(
        asked.contains("GET b") && asked.contains("SET b 3"),
        "{asked}"
    );
}

#[test]
fn asks_for_the_map_once_however_many_say_that_it_is_wrong() {
    let mut stage = stage();
    let clients: Vec<_> = (0..20).map(|_| stage.client()).collect();
    for &client in &clients {
        stage.send(client, "SET b 1");
    }
    let before = stage.maps_asked();
    for _ in &clients {
        stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    }
    stage.say_at(7002, "+OK ".repeat(20).trim_end());
    stage.wait(150);
    assert_eq!(stage.maps_asked(), before + 1);
    stage.wait(10_000);
    assert_eq!(
        stage.maps_asked(),
        before + 1,
        "nothing is wrong with it now"
    );
    stage.wait(30_000);
    assert_eq!(
        stage.maps_asked(),
        before + 2,
        "now and then it is asked for"
    );
}

#[test]
fn puts_what_several_nodes_say_into_one_reply() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "MGET a b {a}2");
    assert_eq!(stage.asked_at(7003), "MGET a {a}2");
    assert_eq!(stage.asked_at(7001), "MGET b");
    stage.say_at(7003, "*2 $1 1 $1 3");
    assert_eq!(stage.heard(client), "");
    stage.say_at(7001, "*1 $1 2");
    assert_eq!(stage.heard(client), "*3 $1 1 $1 2 $1 3");
    stage.send(client, "DBSIZE");
    for port in [7001, 7002, 7003] {
        assert_eq!(stage.asked_at(port), "DBSIZE");
        stage.say_at(port, ":5");
    }
    assert_eq!(stage.heard(client), ":15");
    stage.send(client, "DEL a b");
    stage.asked_at(7003);
    stage.say_at(7003, ":1");
    stage.refuse_at(7001, "NOPERM no");
    assert_eq!(stage.heard(client), "-NOPERM no");
}

#[test]
fn sends_a_transaction_whose_slot_has_moved_as_a_whole() {
    let mut stage = stage();
    let client = stage.client();
    let unit = "*1 $5 MULTI *3 $3 SET $1 b $1 1 *1 $4 EXEC";
    stage.send_raw(client, unit);
    assert_eq!(stage.asked_at(7001), "MULTI; SET b 1; EXEC");
    stage.say_at(7001, "+OK");
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    stage.refuse_at(
        7001,
        "EXECABORT Transaction discarded because of previous errors.",
    );
    assert_eq!(stage.heard(client), "");
    assert_eq!(stage.asked_at(7002), "MULTI; SET b 1; EXEC");
    stage.say_at(7002, "+OK +QUEUED *1 +OK");
    assert_eq!(stage.heard(client), "+OK +QUEUED *1 +OK");
    // One that has failed on its own is the client's business.
    stage.send_raw(client, unit);
    stage.asked_at(7002);
    stage.say_at(7002, "+OK");
    stage.refuse_at(7002, "OOM no");
    stage.refuse_at(7002, "EXECABORT no");
    assert_eq!(stage.heard(client), "+OK -OOM no -EXECABORT no");
}

#[test]
fn sends_a_discarded_transaction_whose_slot_has_moved_as_a_whole() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, "*1 $5 MULTI *3 $3 SET $1 b $1 1 *1 $7 DISCARD");
    assert_eq!(stage.asked_at(7001), "MULTI; SET b 1; DISCARD");
    stage.say_at(7001, "+OK");
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    stage.say_at(7001, "+OK");
    assert_eq!(stage.heard(client), "");
    assert_eq!(stage.asked_at(7002), "MULTI; SET b 1; DISCARD");
    stage.say_at(7002, "+OK +QUEUED +OK");
    assert_eq!(stage.heard(client), "+OK +QUEUED +OK");
}

#[test]
fn sends_a_transaction_as_one_piece_behind_one_in_pieces() {
    let mut stage = stage();
    let client = stage.client();
    assert_eq!(stage.ask(client, "MULTI"), "+OK");
    stage.send(client, "SET b 1");
    stage.say_at(7001, "+OK");
    assert_eq!(stage.asked_at(7001), "MULTI; SET b 1");
    stage.say_at(7001, "+QUEUED");
    stage.send_raw(
        client,
        "*1 $4 EXEC *1 $5 MULTI *3 $3 SET $1 b $1 2 *1 $4 EXEC",
    );
    assert_eq!(stage.asked_at(7001), "EXEC; MULTI; SET b 2; EXEC");
    stage.say_at(7001, "*1 +OK +OK +QUEUED");
    stage.say_at(7001, "*1 +OK");
    assert_eq!(stage.heard(client), "+QUEUED *1 +OK +OK +QUEUED *1 +OK");
}

#[test]
fn begins_a_transaction_only_when_what_was_asked_before_has_landed() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "WATCH b");
    stage.asked_at(7001);
    stage.refuse_at(7001, "ASK 3300 127.0.0.1:7002");
    assert_eq!(stage.asked_at(7002), "ASKING; WATCH b");
    stage.say_at(7002, "+OK +OK");
    stage.send(client, "GET b");
    stage.send(client, "MULTI");
    assert_eq!(stage.asked_at(7002), "", "it would overtake GET");
    assert_eq!(stage.asked_at(7001), "GET b");
    stage.refuse_at(7001, "ASK 3300 127.0.0.1:7002");
    assert_eq!(stage.asked_at(7002), "ASKING; GET b");
    stage.say_at(7002, "+OK $1 1");
    assert_eq!(stage.asked_at(7002), "MULTI");
}

#[test]
fn sends_what_was_lost_before_what_has_waited_behind_it() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "GET b");
    let lane = stage.on("GET b");
    assert_eq!(stage.asked(lane), "GET b");
    stage.send(client, "BLPOP b 0");
    stage.wait(100);
    stage.lose(lane);
    stage.wait(1_000);
    let asked = stage.asked_at(7001);
    assert!(asked.starts_with("GET b"), "{asked}");
}

#[test]
fn puts_no_half_reply_into_one_of_several_nodes() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "DEL b c");
    stage.say_at(7002, ":1");
    let lane = stage.on("DEL b");
    stage.say_raw(lane, b":1");
    stage.lose(lane);
    let heard = stage.heard(client);
    assert!(heard.starts_with("-ERR service"), "{heard}");
}

#[test]
fn tells_nothing_behind_a_reply_that_will_not_come() {
    let mut stage = stage();
    let client = stage.client();
    assert_eq!(stage.ask(client, "MULTI"), "+OK");
    stage.send(client, "SET b 1");
    stage.say_at(7001, "+OK");
    let lease = stage.on("SET b 1");
    stage.say(lease, "+QUEUED");
    stage.heard(client);
    stage.send(client, "GET b");
    stage.send(client, "DISCARD");
    stage.send(client, "GET c");
    stage.say_at(7002, "$1 1");
    stage.lose(lease);
    assert_eq!(stage.heard(client), "", "it would be taken for another");
    assert!(stage.is_closed(client));
}

#[test]
fn ends_watching_where_the_keys_have_gone() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "WATCH b");
    stage.send(client, "UNWATCH");
    assert_eq!(stage.asked_at(7001), "WATCH b");
    stage.refuse_at(7001, "ASK 3300 127.0.0.1:7002");
    assert_eq!(stage.asked_at(7002), "ASKING; WATCH b");
    stage.say_at(7002, "+OK +OK");
    assert_eq!(stage.asked_at(7001), "");
    assert_eq!(stage.asked_at(7002), "UNWATCH");
}

#[test]
fn runs_nothing_after_what_came_later() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET b 1");
    stage.send(client, "SET b 2");
    assert_eq!(stage.asked_at(7001), "SET b 1; SET b 2");
    stage.refuse_at(7001, "CLUSTERDOWN The cluster is down");
    stage.wait(500);
    assert_eq!(stage.asked_at(7001), "", "the second may be run");
    stage.say_at(7001, "+OK");
    assert_eq!(
        stage.heard(client),
        "-CLUSTERDOWN The cluster is down +OK",
        "the first would undo it"
    );
}

#[test]
fn counts_what_leads_to_a_node_whatever_it_is_for() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SUBSCRIBE news");
    stage.wait(100);
    for number in 0..20 {
        let other = stage.client();
        stage.send(other, &format!("BLPOP {{b}}{number} 0"));
    }
    stage.wait(1_000);
    for port in [7001, 7002, 7003] {
        let open = stage.connections_at(port);
        assert!(open <= 4, "{open} connections to {port}, limit 4");
    }
}

#[test]
fn holds_a_transaction_back_until_its_first_key_says_where_it_is() {
    let mut stage = stage();
    let client = stage.client();
    assert_eq!(stage.ask(client, "MULTI"), "+OK");
    assert_eq!(stage.ask(client, "PUBLISH x y"), "+QUEUED");
    for port in [7001, 7002, 7003] {
        assert_eq!(stage.asked_at(port), "");
    }
    stage.send(client, "SET c 1");
    assert_eq!(stage.asked_at(7002), "MULTI");
    stage.say_at(7002, "+OK");
    assert_eq!(stage.asked_at(7002), "PUBLISH x y; SET c 1");
    stage.say_at(7002, "+QUEUED +QUEUED");
    assert_eq!(stage.heard(client), "+QUEUED");
    stage.send(client, "EXEC");
    stage.say_at(7002, "*2 :0 +OK");
    assert_eq!(stage.heard(client), "*2 :0 +OK");
    stage.send(client, "SET b 1");
    assert_eq!(stage.asked_at(7001), "SET b 1");
}

#[test]
fn keeps_what_was_asked_before_out_of_a_transaction() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET c 1");
    stage.send(client, "MULTI");
    stage.send(client, "SET b 2");
    assert_eq!(stage.asked_at(7002), "SET c 1");
    assert_eq!(stage.asked_at(7001), "", "what comes back would be queued");
    stage.refuse_at(7002, "MOVED 7365 127.0.0.1:7001");
    assert_eq!(stage.asked_at(7001), "SET c 1");
    stage.say_at(7001, ":1");
    assert_eq!(stage.asked_at(7001), "MULTI");
    assert_eq!(stage.heard(client), ":1 +OK");
}

#[test]
fn closes_a_session_whose_transaction_the_node_does_not_begin() {
    let mut stage = stage();
    let client = stage.client();
    assert_eq!(stage.ask(client, "MULTI"), "+OK");
    stage.send(client, "SET c 1");
    stage.refuse_at(7002, "NOPERM no");
    assert_eq!(stage.asked_at(7002), "MULTI", "what follows would be run");
    assert!(stage.is_closed(client));
}

#[test]
fn leads_a_scan_from_node_to_node() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SCAN 0 COUNT 5");
    assert_eq!(stage.asked_at(7001), "SCAN 0 COUNT 5");
    stage.say_at(7001, "*2 $1 7 *0");
    let cursor = (7 << 14).to_string();
    assert_eq!(stage.heard(client), format!("*2 $6 {cursor} *0"));
    stage.send(client, &format!("SCAN {cursor} COUNT 5"));
    assert_eq!(stage.asked_at(7001), "SCAN 7 COUNT 5");
    stage.say_at(7001, "*2 $1 0 *0");
    assert_eq!(stage.heard(client), "*2 $4 5461 *0");
    stage.send(client, "SCAN 5461");
    assert_eq!(stage.asked_at(7002), "SCAN 0");
    stage.say_at(7002, "*2 $1 0 *0");
    assert_eq!(stage.heard(client), "*2 $5 10923 *0");
    stage.send(client, "SCAN 10923");
    assert_eq!(stage.asked_at(7003), "SCAN 0");
    stage.say_at(7003, "*2 $1 0 *0");
    assert_eq!(stage.heard(client), "*2 $1 0 *0");
}

#[test]
fn asks_the_new_node_for_a_channel_that_the_old_one_has_ended() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SSUBSCRIBE b");
    assert_eq!(stage.asked_at(7001), "ssubscribe b");
    stage.say_at(7001, ">3 $10 ssubscribe $1 b :1");
    assert_eq!(stage.heard(client), "*3 $10 ssubscribe $1 b :1");
    stage.set_map(&[(3299, 7001), (10_922, 7002), (16_383, 7003)]);
    stage.say_at(7001, ">3 $12 sunsubscribe $1 b :0");
    stage.wait(500);
    assert_eq!(stage.asked_at(7002), "ssubscribe b");
    stage.say_at(7002, ">3 $10 ssubscribe $1 b :1");
    assert_eq!(stage.heard(client), "", "it does not notice");
    stage.say_at(7002, ">3 $8 smessage $1 b $2 hi");
    assert_eq!(stage.heard(client), "*3 $8 smessage $1 b $2 hi");
    stage.send(client, "SUNSUBSCRIBE b");
    assert_eq!(stage.asked_at(7002), "sunsubscribe b; PING");
}

#[test]
fn takes_nobody_along_to_another_node_who_is_leaving() {
    let mut stage = stage();
    let clients = [stage.client(), stage.client()];
    for client in clients {
        stage.send(client, "SSUBSCRIBE b");
        if !stage.has_heard(client) {
            stage.say_at(7001, ">3 $10 ssubscribe $1 b :1");
        }
        stage.heard(client);
    }
    let [one, other] = clients;
    stage.asked_at(7001);
    stage.send(one, "SUNSUBSCRIBE b");
    assert_eq!(stage.asked_at(7001), "PING");
    let lost = stage.hub();
    stage.set_map(&[(3299, 7001), (10_922, 7002), (16_383, 7003)]);
    stage.say(lost, ">3 $12 sunsubscribe $1 b :0");
    stage.wait(1_100);
    stage.say(lost, "+PONG");
    assert_eq!(stage.heard(one), "*3 $12 sunsubscribe $1 b :0");
    let hub = stage.on("ssubscribe b");
    stage.say(hub, ">3 $10 ssubscribe $1 b :1 >3 $8 smessage $1 b $1 m");
    assert_eq!(stage.heard(other), "*3 $8 smessage $1 b $1 m");
    assert_eq!(stage.heard(one), "");
}

#[test]
fn takes_no_answer_for_another_when_a_node_ends_a_channel_by_itself() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SSUBSCRIBE b");
    stage.say_at(7001, ">3 $10 ssubscribe $1 b :1");
    stage.heard(client);
    stage.asked_at(7001);
    stage.send(client, "SUNSUBSCRIBE b");
    stage.say_at(7001, ">3 $12 sunsubscribe $1 b :0");
    assert_eq!(stage.heard(client), "*3 $12 sunsubscribe $1 b :0");
    stage.send(client, "SSUBSCRIBE hello");
    let asked = "sunsubscribe b; PING; ssubscribe hello";
    assert_eq!(stage.asked_at(7001), asked);
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    stage.say_at(7001, "+PONG >3 $10 ssubscribe $5 hello :1");
    assert_eq!(stage.heard(client), "*3 $10 ssubscribe $5 hello :1");
}

#[test]
fn tells_that_a_node_is_no_cluster() {
    let mut stage = stage();
    stage.set_map(&[]);
    let client = stage.client();
    stage.send(client, "SET b 1");
    assert_eq!(stage.heard(client), "");
    stage.set_map(&[(5460, 7001), (10_922, 7002), (16_383, 7003)]);
    stage.wait(500);
    assert_eq!(stage.asked_at(7001), "SET b 1", "there is one now");
}

#[test]
fn waits_for_its_own_request_at_the_old_node_when_another_session_learns_of_the_new() {
    let mut stage = stage();
    let [one, other] = [stage.client(), stage.client()];
    stage.send(one, "SET b 1");
    stage.send(other, "SET b 2");
    stage.asked_at(7001);
    stage.set_map(&[(3299, 7001), (10_922, 7002), (16_383, 7003)]);
    stage.send(one, "GET a");
    stage.say_at(7003, "$1 x");
    assert_eq!(stage.asked_at(7003), "GET a");
    // The first has not been answered yet, and the map changes under it.
    stage.wait(31_000);
    stage.send(one, "SET b 3");
    assert_eq!(stage.asked_at(7002), "", "it would overtake the first");
    stage.say_at(7001, "+OK +OK");
    assert_eq!(stage.heard(one), "+OK $1 x");
    assert_eq!(stage.asked_at(7002), "SET b 3");
}

#[test]
fn holds_back_what_follows_a_request_that_is_tried_again() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SUNIONSTORE {b}1 {b}2");
    stage.asked_at(7001);
    stage.refuse_at(
        7001,
        "TRYAGAIN Multiple keys request during rehashing of slot",
    );
    stage.send(client, "SMEMBERS {b}1");
    assert_eq!(stage.asked_at(7001), "", "neither is due");
    stage.wait(20);
    assert_eq!(stage.asked_at(7001), "SUNIONSTORE {b}1 {b}2");
    stage.say_at(7001, ":0");
    assert_eq!(stage.asked_at(7001), "SMEMBERS {b}1");
}

#[test]
fn holds_back_what_stands_behind_several_keys_before_a_node_refuses_them() {
    let mut stage = stage();
    let client = stage.client();
    let unit = "*1 $5 MULTI *3 $3 SET $4 {b}3 $1 1 *3 $3 SET $4 {b}4 $1 2 *1 $4 EXEC";
    let refusal = "TRYAGAIN Multiple keys request during rehashing of slot";
    stage.send(client, "SUNIONSTORE {b}1 {b}2");
    stage.send(client, "GET c");
    stage.send(client, "DEL {b}1 a {b}5");
    stage.send_raw(client, unit);
    stage.send(client, "SADD {b}1 x");
    stage.send(client, "DBSIZE");
    assert_eq!(stage.asked_at(7002), "GET c", "it is of another slot");
    stage.say_at(7002, "$1 c");
    assert_eq!(stage.asked_at(7001), "SUNIONSTORE {b}1 {b}2");
    for _ in 0..2 {
        stage.refuse_at(7001, refusal);
        stage.wait(70);
        assert_eq!(stage.asked_at(7001), "SUNIONSTORE {b}1 {b}2");
    }
    stage.say_at(7001, ":0");
    assert_eq!(stage.asked_at(7003), "DEL a");
    stage.say_at(7003, ":1");
    assert_eq!(stage.asked_at(7001), "DEL {b}1 {b}5");
    stage.refuse_at(7001, refusal);
    stage.wait(70);
    assert_eq!(stage.asked_at(7001), "DEL {b}1 {b}5");
    stage.say_at(7001, ":2");
    let asked = "MULTI; SET {b}3 1; SET {b}4 2; EXEC";
    assert_eq!(stage.asked_at(7001), asked);
    stage.say_at(7001, "+OK +QUEUED +QUEUED *2 +OK +OK");
    assert_eq!(stage.asked_at(7001), "SADD {b}1 x; DBSIZE");
}

#[test]
fn leaves_to_a_node_at_which_it_watches_what_any_node_answers() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "WATCH b");
    stage.say_at(7001, "+OK");
    assert_eq!(stage.asked_at(7001), "WATCH b");
    stage.send(client, "GET b");
    stage.send(client, "select 1");
    assert_eq!(stage.asked_at(7001), "GET b; select 1");
    stage.say_at(7001, "$1 1 -ERR");
    assert_eq!(stage.heard(client), "+OK $1 1 -ERR");
}

#[test]
fn watches_only_when_no_transaction_may_come_back() {
    let mut stage = stage();
    let client = stage.client();
    stage.send_raw(client, "*1 $5 MULTI *3 $3 SET $1 c $1 2 *1 $4 EXEC");
    stage.send(client, "WATCH b");
    assert_eq!(stage.asked_at(7002), "MULTI; SET c 2; EXEC");
    assert_eq!(stage.asked_at(7001), "", "EXEC would end it");
    stage.say_at(7002, "+OK");
    stage.refuse_at(7002, "MOVED 7365 127.0.0.1:7001");
    stage.refuse_at(7002, "EXECABORT");
    assert_eq!(stage.asked_at(7001), "MULTI; SET c 2; EXEC");
    stage.say_at(7001, "+OK +QUEUED *1 +OK");
    assert_eq!(stage.asked_at(7001), "WATCH b");
}

#[test]
fn begins_no_transaction_before_all_its_keys_are_watched() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "WATCH {b}1 {b}2");
    stage.send(client, "MULTI");
    assert_eq!(stage.asked_at(7001), "WATCH {b}1 {b}2");
    stage.refuse_at(
        7001,
        "TRYAGAIN Multiple keys request during rehashing of slot",
    );
    stage.wait(20);
    assert_eq!(stage.asked_at(7001), "WATCH {b}1 {b}2");
    stage.say_at(7001, "+OK");
    assert_eq!(stage.asked_at(7001), "MULTI");
}

#[test]
fn follows_no_script_to_a_stranger() {
    let mut stage = stage();
    let [client, other] = [stage.client(), stage.client()];
    stage.send(client, "EVAL x 1 b");
    stage.asked_at(7001);
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:6666");
    stage.wait(20);
    assert_eq!(stage.asked_at(6666), "");
    assert_eq!(stage.asked_at(7001), "EVAL x 1 b");
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    assert_eq!(stage.asked_at(7002), "EVAL x 1 b");
    stage.send(other, "SET b 1");
    assert_eq!(
        stage.asked_at(7001),
        "SET b 1",
        "others are led by nodes alone"
    );
}

#[test]
fn gives_up_a_node_that_is_silent_after_another_has_taken_over() {
    let mut stage = stage();
    let [one, other] = [stage.client(), stage.client()];
    stage.send(one, "SET b 1");
    stage.send(other, "GET b");
    stage.asked_at(7001);
    stage.wait(1_000);
    stage.set_map(&[(5460, 7004), (10_922, 7002), (16_383, 7003)]);
    stage.wait(4_000);
    let heard = stage.heard(one);
    assert!(heard.contains("may have been executed"), "{heard}");
    assert_eq!(stage.asked_at(7004), "GET b");
}

#[test]
fn waits_for_a_node_that_takes_its_time_and_has_its_slots() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "EVAL x 1 b");
    stage.wait(60_000);
    assert_eq!(stage.asked_at(7001), "EVAL x 1 b");
    stage.say_at(7001, ":1");
    assert_eq!(stage.heard(client), ":1");
}

#[test]
fn asks_again_where_it_was_sent_however_often_that_was() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SET b 1");
    stage.asked_at(7001);
    for _ in 0..10 {
        stage.refuse_at(7001, "CLUSTERDOWN The cluster is down");
        stage.wait(100);
        assert_eq!(stage.asked_at(7001), "SET b 1");
    }
    stage.refuse_at(7001, "ASK 3300 127.0.0.1:7003");
    stage.wait(100);
    assert_eq!(stage.asked_at(7003), "ASKING; SET b 1");
    stage.say_at(7003, "+OK :1");
    assert_eq!(stage.heard(client), ":1");
}

#[test]
fn asks_the_old_node_who_has_a_channel_that_the_map_does_not_know_to_be_gone() {
    let mut stage = stage();
    let client = stage.client();
    stage.send(client, "SSUBSCRIBE b");
    assert_eq!(stage.asked_at(7001), "ssubscribe b");
    stage.say_at(7001, ">3 $10 ssubscribe $1 b :1");
    assert_eq!(stage.heard(client), "*3 $10 ssubscribe $1 b :1");
    stage.say_at(7001, ">3 $12 sunsubscribe $1 b :0");
    stage.wait(500);
    assert_eq!(stage.asked_at(7001), "ssubscribe b");
    stage.refuse_at(7001, "CLUSTERDOWN The cluster is down");
    assert!(!stage.is_closed(client), "it may come back");
    stage.wait(500);
    assert_eq!(stage.asked_at(7001), "ssubscribe b");
    stage.refuse_at(7001, "MOVED 3300 127.0.0.1:7002");
    assert_eq!(stage.asked_at(7002), "ssubscribe b");
    stage.say_at(7002, ">3 $10 ssubscribe $1 b :1");
    assert_eq!(stage.heard(client), "", "it does not notice");
}

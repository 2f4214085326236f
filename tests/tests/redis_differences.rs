//! What random sessions beside private connections once found (tests/src/differential): each test
//! is the shortest script that had it.

use manifold_tests::harness::resp::{commands, request};
use manifold_tests::harness::{
    Driver, Duet, Proxy, ProxyOptions, RedisNode, RedisOptions, Resp, compare_both, compare_redis,
};

/// Users that may not do what the proxy itself does for sessions.
fn forbidden() -> Duet {
    Duet::with(&[
        "user quiet on >quiet ~* &* +@all -client",
        "user deaf on >deaf ~* &* +@all -unsubscribe -punsubscribe",
    ])
}

#[test]
fn forbids_what_the_node_forbids_where_the_proxy_answers() {
    forbidden().play(|scene| {
        for hello in ["HELLO 2", "HELLO 3"] {
            let mut one = scene.client("quiet");
            one.ask_all(&[hello, "AUTH quiet quiet"]);
            one.ask_all(&[
                "CLIENT SETNAME me",
                "CLIENT GETNAME",
                "CLIENT ID",
                "CLIENT ID extra",
                "CLIENT LIST",
                "CLIENT KILL TYPE normal",
                "CLIENT KILL ADDR",
                "CLIENT UNBLOCK 1",
                "CLIENT REPLY OFF",
                "CLIENT NO-EVICT on",
                "CLIENT GETREDIR",
                "GET a",
            ]);
            let mut two = scene.client("deaf");
            two.ask_all(&[hello, "AUTH deaf deaf", "SUBSCRIBE a", "PSUBSCRIBE b"]);
            two.ask_all(&[
                "UNSUBSCRIBE a",
                "UNSUBSCRIBE",
                "PUNSUBSCRIBE b",
                "SUNSUBSCRIBE c",
            ]);
        }
    });
}

#[test]
fn ends_by_reset_what_its_user_may_not_end() {
    forbidden().play(|scene| {
        let mut counter = scene.client("counter");
        for hello in ["HELLO 2", "HELLO 3"] {
            let mut one = scene.client("deaf");
            let mut other = scene.client("deaf too");
            for client in [&mut one, &mut other] {
                client.ask_all(&[hello, "AUTH deaf deaf", "SUBSCRIBE a", "PSUBSCRIBE b*"]);
            }
            counter.ask_all(&["PUBLISH a x", "PUBSUB NUMSUB a", "PUBSUB NUMPAT"]);
            for client in [&mut one, &mut other] {
                client.hear();
            }
            one.ask_all(&["RESET", "GET k"]);
            counter.ask_all(&["PUBLISH a x", "PUBSUB NUMSUB a", "PUBSUB NUMPAT"]);
            other.hear();
            other.ask_all(&["RESET", "GET k"]);
            counter.ask_all(&["PUBLISH a x", "PUBSUB NUMSUB a", "PUBSUB NUMPAT"]);
            counter.ask("PUBSUB CHANNELS");
            let mut again = scene.client("deaf again");
            again.ask_all(&[hello, "AUTH deaf deaf", "SUBSCRIBE a"]);
            counter.ask("PUBLISH a x");
            again.hear();
            again.resp.end_sending();
            again.hear_end();
        }
    });
}

#[test]
fn says_errors_about_clients_as_the_node_does() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask_all(&[
            "CLIENT KILL USER nobody",
            "CLIENT KILL USER default ID 999999",
        ]);
        let odd: &[u8] = b"a\r\n\xff'b\0c";
        one.ask_of(&[b"CLIENT", b"LIST", b"TYPE", odd]);
        one.ask_of(&[b"CLIENT", b"KILL", b"TYPE", odd]);
        one.ask_of(&[b"HELLO", b"3", odd]);
        one.ask_of(&[b"CLIENT", b"KILL", b"ID", odd]);
    });
}

#[test]
fn takes_no_more_from_strangers_than_the_node_does() {
    let locked = Duet {
        node: RedisOptions::with_password("secret"),
        ..Duet::default()
    };
    let long = vec![b'x'; 20_000];
    locked.play(|scene| {
        // Knows the password; nothing that strangers do is to be felt here.
        let mut known = scene.client("known");
        known.ask_all(&["AUTH secret", "SET a 1"]);
        let words: Vec<&[u8]> = vec![b"DEL"; 11];
        let many = request(&words);
        for bytes in [
            &many,
            &request(&[b"GET", &long]),
            &request(&[b"AUTH", &long]),
        ] {
            let mut stranger = scene.client("stranger");
            stranger.begin(bytes);
            stranger.hear_end();
        }
        let mut stranger = scene.client("stranger");
        let together = [commands(&["MULTI"]), many, commands(&["EXEC"])].concat();
        stranger.begin(&together);
        stranger.hear();
        stranger.hear_end();
        let mut stranger = scene.client("stranger");
        stranger.ask_all(&["SELECT abc", "SELECT 99", "CLIENT ID extra", "CLIENT ID"]);
        stranger.ask_all(&["UNSUBSCRIBE a", "CLIENT KILL TYPE x"]);
        known.ask_all(&["GET a"]);
        known.ask_of(&[b"AUTH", &long]);
        known.ask_of(&[b"HELLO", b"3", b"AUTH", b"default", &long]);
        known.ask("GET a");
    });
}

#[test]
fn keeps_what_follows_a_transaction_apart_from_it() {
    compare_both(|_, one| {
        // The node has begun the transaction when what ends it comes together with what follows.
        one.ask_all(&["MULTI", "SET a 1"]);
        one.begin(&commands(&[
            "EXEC",
            "CLIENT REPLY OFF",
            "GET a",
            "CLIENT REPLY ON",
        ]));
        one.hear();
        one.hear();
        one.ask_all(&["MULTI", "SELECT 1"]);
        one.say(
            &commands(&["EXEC", "SET a 2", "MULTI", "INCR a", "EXEC", "GET a"]),
            6,
        );
        one.ask_all(&["MULTI", "GET a"]);
        one.say(&commands(&["EXEC", "SELECT 0", "GET a"]), 3);
        one.ask_all(&["MULTI", "GET a"]);
        one.say(
            &commands(&["EXEC", "SUBSCRIBE c", "UNSUBSCRIBE c", "GET a"]),
            4,
        );
    });
}

#[test]
fn answers_everything_that_a_half_closed_client_has_asked() {
    compare_redis(|scene| {
        scene
            .client("one")
            .ask(&format!("SETRANGE big {} x", 800_000));
        let mut two = scene.client("two");
        two.begin(&commands(&[
            "CLIENT LIST TYPE master",
            "CLIENT GETNAME",
            "GET a",
        ]));
        two.resp.end_sending();
        two.hear_end();
    });
}

#[test]
fn answers_half_closed_clients_after_big_replies() {
    compare_redis(|scene| {
        scene
            .client("one")
            .ask(&format!("SETRANGE big {} x", 4_000_000));
        let mut two = scene.client("two");
        let lines = ["GET big", "GET big", "GET big", "WAIT 0 1", "ECHO end"];
        two.begin(&commands(&lines));
        std::thread::sleep(std::time::Duration::from_millis(300));
        if scene.is_proxied {
            // A node drops what it has not sent when somebody leaves; the proxy does not.
            two.resp.end_sending();
        }
        for _ in lines {
            two.hear();
        }
    });
}

#[test]
fn keeps_the_order_of_own_messages_after_a_refusal() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask_all(&["HELLO 3", "READONLY", "SUBSCRIBE a"]);
        one.say(&commands(&["PUBLISH a x"]), 2);
        one.ask_all(&["CLIENT TRACKING ON", "GET k"]);
        one.say(&commands(&["PUBLISH a y"]), 2);
    });
}

#[test]
fn knows_no_commands_of_two_words_in_one() {
    compare_both(|_, one| {
        one.ask_all(&["client|id", "SUBSCRIBE a", "client|id", "UNSUBSCRIBE a"]);
    });
}

#[test]
fn reads_again_however_many_reads_are_lost_together() {
    let lasting = RedisOptions::with(&["appendonly yes", "appendfsync always"]);
    for driver in Driver::ALL {
        let node = RedisNode::start(&lasting);
        node.direct().ask("SET a 1");
        let options = ProxyOptions {
            driver,
            connections_max: 8,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before_redis(&node, &options);
        let mut one = Resp::open(proxy.address()).expect("accepted");
        one.ask("GET a");
        node.freeze();
        one.send(&commands(&["GET a"; 20]));
        std::thread::sleep(std::time::Duration::from_millis(100));
        node.crash();
        node.launch();
        let replies = one.replies(20);
        assert_eq!(replies, vec![b"$1\r\n1\r\n".to_vec(); 20]);
    }
}

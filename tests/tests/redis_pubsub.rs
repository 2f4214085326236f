//! Publish and subscribe: each client sees what it would see with a connection of its own, while
//! the node sees one subscription for all of them.
//!
//! Scripts are compared byte by byte with a direct connection; what only the proxy has (one
//! subscription for many, several shards, a lost node, a slow subscriber) is asserted.

use std::time::{Duration, Instant};

use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::resp::{Resp, command, request};
use manifold_tests::harness::{
    Driver, Duet, Proxy, ProxyOptions, RedisNode, RedisOptions, compare_both, compare_redis,
};

const MOMENT: Duration = Duration::from_millis(50);

#[test]
fn confirms_each_name_with_the_sessions_own_count() {
    compare_both(|scene, one| {
        one.say(&command("SUBSCRIBE a b a"), 3);
        one.say(&command("PSUBSCRIBE x* y?"), 2);
        one.say(&command("SSUBSCRIBE s a"), 2);
        one.say(&command("UNSUBSCRIBE q b"), 2);
        one.say(&command("PUNSUBSCRIBE"), 2);
        one.ask("UNSUBSCRIBE");
        one.ask("UNSUBSCRIBE");
        one.ask("PUNSUBSCRIBE zz");
        one.say(&command("SUNSUBSCRIBE s a q"), 3);
        one.ask("SUNSUBSCRIBE");
        one.ask_all(&["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"]);
        one.ask_of(&[b"SUBSCRIBE", b""]);
        one.ask_of(&[b"SUBSCRIBE", b"\0\r\n$9\xff"]);
        let mut other = scene.client("other");
        other.ask_of(&[b"PUBLISH", b"\0\r\n$9\xff", b"\r\n"]);
        one.hear();
        one.ask("RESET");
        other.ask_of(&[b"PUBLISH", b"", b"m"]);
    });
}

#[test]
fn lets_a_subscriber_of_the_old_protocol_do_what_a_node_lets_it() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask("SUBSCRIBE a");
        one.ask_all(&[
            "PING",
            "PING hello",
            "PING a b",
            "GET",
            "GET x",
            "set x 1",
            "FOO bar",
            "CLIENT ID",
            "CLIENT",
            "CLIENT NOSUCH",
            "CONFIG GET maxmemory",
            "HELLO 3",
            "AUTH x",
            "SELECT 1",
            "MULTI",
            "EXEC",
            "EXEC x",
            "WATCH x",
            "BLPOP q 0",
            "PUBLISH a m",
            "UNSUBSCRIBE a",
            "GET x",
        ]);
        one.ask("PSUBSCRIBE *");
        one.ask_all(&["GET x", "RESET", "GET x", "SSUBSCRIBE s", "GET x"]);
        one.begin(b"QUIT\r\n");
        one.hear_end();
    });
}

#[test]
fn lets_a_subscriber_of_the_new_protocol_do_everything() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        let mut other = scene.client("other");
        one.ask("HELLO 3");
        one.ask("SUBSCRIBE a");
        one.ask_all(&["PING", "SET x 1", "SELECT 1", "GET x", "CLIENT GETNAME"]);
        other.ask("PUBLISH a first");
        one.hear();
        // It hears itself, in the node's order.
        one.say(&command("PUBLISH a second"), 2);
        one.ask_all(&["MULTI", "SET x 2"]);
        other.ask("PUBLISH a third");
        one.hear();
        one.ask("EXEC");
        one.ask_all(&["WATCH x", "MULTI"]);
        other.ask("PUBLISH a fourth");
        one.hear();
        one.ask("DISCARD");
        one.begin(&command("BLPOP q 0"));
        scene.await_blocked(1);
        other.ask("PUBLISH a fifth");
        one.hear();
        other.ask_all(&["SELECT 1", "RPUSH q v"]);
        one.hear();
        one.ask("HELLO 2");
        other.ask("PUBLISH a sixth");
        one.hear();
        one.ask_all(&["GET x", "PING", "UNSUBSCRIBE", "GET x"]);
    });
}

#[test]
fn counts_subscribers_as_a_node_counts_connections() {
    compare_redis(|scene| {
        let mut asker = scene.client("asker");
        let mut subscribers: Vec<_> = (0..5).map(|_| scene.client("subscriber")).collect();
        for (place, one) in subscribers.iter_mut().enumerate() {
            one.ask("SUBSCRIBE news");
            one.ask("PSUBSCRIBE n*");
            if place > 1 {
                one.ask("PSUBSCRIBE *");
                one.ask("SSUBSCRIBE news");
            }
        }
        let questions = [
            "PUBLISH news m",
            "PUBLISH nothing m",
            "PUBLISH other m",
            "SPUBLISH news m",
            "SPUBLISH other m",
            "PUBSUB NUMSUB news other news",
            "PUBSUB SHARDNUMSUB news other",
            "PUBSUB NUMSUB",
            "PUBSUB NUMPAT",
            "PUBSUB CHANNELS",
            "PUBSUB CHANNELS x*",
            "PUBSUB SHARDCHANNELS",
            "PUBLISH news",
            "PUBSUB NUMSUBS x",
        ];
        asker.ask_all(&questions);
        for (place, one) in subscribers.iter_mut().enumerate() {
            // news by two or three ways, nothing by one or two, other by none or one, and one of the
            // shard.
            let messages = if place > 1 { 3 + 2 + 1 + 1 } else { 2 + 1 };
            let mut heard: Vec<_> = (0..messages).map(|_| one.resp.reply()).collect();
            heard.sort();
            scene.note(&format!("{heard:?}"));
        }
        for one in subscribers.drain(..3) {
            drop(one);
        }
        let left = wait_for(Duration::from_secs(10), || {
            (scene.node.direct().ask("PUBSUB NUMPAT") == b":2\r\n").then_some(())
        });
        assert!(left.is_some(), "their patterns are still there");
        std::thread::sleep(MOMENT);
        asker.ask_all(&questions);
        drop(subscribers);
        let left = wait_for(Duration::from_secs(10), || {
            (scene.node.direct().ask("PUBSUB NUMPAT") == b":0\r\n").then_some(())
        });
        assert!(left.is_some(), "their patterns are still there");
        asker.ask_all(&questions);
    });
}

#[test]
fn counts_itself_when_it_publishes_behind_its_subscription() {
    compare_both(|scene, one| {
        one.ask("SUBSCRIBE a");
        let mut other = scene.client("other");
        for _ in 0..20 {
            other.ask("PUBLISH a m");
            one.hear();
            one.ask("UNSUBSCRIBE");
            other.ask("PUBLISH a m");
            one.ask("PSUBSCRIBE *");
            other.ask("PUBLISH a m");
            one.hear();
            one.ask("RESET");
            other.ask("PUBLISH a m");
            one.ask("SUBSCRIBE a");
        }
    });
}

#[test]
fn matches_patterns_as_a_node_does() {
    compare_redis(|scene| {
        let mut other = scene.client("other");
        // Two of each, so that the proxy has to count.
        let mut two = [scene.client("one"), scene.client("two")];
        let patterns = [
            "h?llo",
            "h[ae]llo",
            "h[^e]llo",
            "h[b-a]llo",
            "*a*b",
            "\\*",
            "[a",
            "a\\",
            "[^]x",
            "**",
        ];
        for pattern in patterns {
            for one in &mut two {
                one.ask(&format!("PSUBSCRIBE {pattern}"));
            }
            let channels = [
                "hello", "hallo", "hbllo", "xaxb", "*", "a", "a\\", "^x", "ax",
            ];
            for channel in channels {
                other.ask(&format!("PUBLISH {channel} m"));
            }
            other.ask_of(&[b"PUBLISH", b"", b"m"]);
            for one in &mut two {
                let messages = one.resp.during(MOMENT);
                scene.note(&messages.escape_ascii().to_string());
                one.ask("RESET");
            }
        }
    });
}

#[test]
fn mutes_no_message_and_no_confirmation() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        let mut other = scene.client("other");
        one.begin(&command("CLIENT REPLY OFF"));
        one.ask("SUBSCRIBE a");
        other.ask("PUBLISH a m");
        one.hear();
        one.begin(&command("PING"));
        one.ask("UNSUBSCRIBE a");
        one.ask("CLIENT REPLY ON");
        one.begin(&command("CLIENT REPLY SKIP"));
        one.ask("SUBSCRIBE a");
        one.ask("PING");
    });
}

#[test]
fn keeps_replies_and_messages_in_order_when_all_is_sent_at_once() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        let lines = [
            "HELLO 3",
            "SET k v",
            "GET k",
            "SUBSCRIBE a b",
            "PUBLISH a 1",
            "GET k",
            "PUBLISH b 2",
            "UNSUBSCRIBE a",
            "PUBLISH a 3",
            "GET k",
        ];
        let all: Vec<u8> = lines.iter().flat_map(|line| command(line)).collect();
        one.say(&all, lines.len() + 1 + 2);
    });
}

#[test]
fn hears_of_changed_keys() {
    let duet = Duet::with(&["notify-keyspace-events KEA"]);
    duet.play(|scene| {
        let mut one = scene.client("one");
        let mut other = scene.client("other");
        one.ask("PSUBSCRIBE __key*@3__:*");
        other.ask_all(&["SET k v", "SELECT 3", "SET k v", "DEL k", "LPUSH l 1 2"]);
        for _ in 0..6 {
            one.hear();
        }
        // Set, to expire, and expired.
        other.ask("SET k v PX 30");
        for _ in 0..6 {
            one.hear();
        }
        one.hear_nothing(MOMENT);
    });
}

#[test]
fn keeps_to_the_channels_of_each_user() {
    let duet = Duet::with(&[
        "user one on >secret resetchannels &one &both +@all",
        "user two on >secret resetchannels &two &both +@all",
    ]);
    duet.play(|scene| {
        let mut clients = ["one", "two"].map(|name| (name, scene.client(name)));
        for (name, client) in &mut clients {
            client.ask(&format!("AUTH {name} secret"));
            client.ask("SUBSCRIBE one two");
            client.ask("PSUBSCRIBE *");
            client.ask("PSUBSCRIBE both");
            client.ask(&format!("SUBSCRIBE {name}"));
        }
        let mut other = scene.client("other");
        other.ask_all(&["PUBLISH one m", "PUBLISH two m", "PUBLISH both m"]);
        for (_, client) in &mut clients {
            client.hear();
            client.hear();
            client.ask("RESET");
            client.ask("SUBSCRIBE one");
        }
    });
    let duet = Duet {
        node: RedisOptions::with_password("secret"),
        ..Duet::default()
    };
    duet.play(|scene| {
        let mut one = scene.client("one");
        one.ask_all(&["SUBSCRIBE a", "GET x", "AUTH secret", "SUBSCRIBE a"]);
    });
}

#[test]
fn passes_large_messages_whole() {
    compare_both(|scene, one| {
        let mut other = scene.client("other");
        one.ask("SUBSCRIBE a");
        for len in [0, 1, 1_000, 70_000, 3_000_000] {
            let text: Vec<u8> = (0..len).map(|place| (place % 251) as u8).collect();
            other.ask_of(&[b"PUBLISH", b"a", &text]);
            one.hear();
        }
        one.hear_nothing(MOMENT);
    });
}

/// A node, a proxy before it with so many shards, and the proxy's driver's name.
fn stages<'a>(shards: u32, limits: &'a [&'a str]) -> impl Iterator<Item = (RedisNode, Proxy)> + 'a {
    Driver::ALL.into_iter().map(move |driver| {
        let node = RedisNode::plain();
        let options = ProxyOptions {
            driver,
            shards,
            connections_max: 4 * shards,
            limits: limits.iter().map(|line| (*line).to_owned()).collect(),
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before_redis(&node, &options);
        (node, proxy)
    })
}

fn subscribers(proxy: &Proxy, count: usize) -> Vec<Resp> {
    let subscribe = |_| {
        let mut one = Resp::open(proxy.address()).expect("clients are accepted");
        one.expect("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
        one
    };
    (0..count).map(subscribe).collect()
}

const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n";

#[test]
fn holds_one_subscription_for_all_subscribers_of_a_shard() {
    for shards in [1, 2] {
        for (node, proxy) in stages(shards, &[]) {
            let mut all = subscribers(&proxy, 40);
            let mut direct = node.direct();
            let seen = direct.ask("PUBSUB NUMSUB a");
            let seen = String::from_utf8_lossy(&seen).into_owned();
            let held: u32 = seen.rsplit(':').next().unwrap().trim().parse().unwrap();
            assert!((1..=shards).contains(&held), "the node sees {seen}");
            let mut other = Resp::open(proxy.address()).expect("clients are accepted");
            for _ in 0..10 {
                other.expect("PUBLISH a m", ":40\r\n");
                other.expect("PUBSUB NUMSUB a", "*2\r\n$1\r\na\r\n:40\r\n");
                for one in &mut all {
                    assert_eq!(one.reply(), MESSAGE);
                }
            }
            drop(all);
            let ended = wait_for(Duration::from_secs(10), || {
                (direct.ask("PUBSUB CHANNELS") == b"*0\r\n").then_some(())
            });
            assert!(ended.is_some(), "the node still has a subscription");
            other.expect("PUBLISH a m", ":0\r\n");
        }
    }
}

#[test]
fn subscribes_anew_when_the_node_was_away() {
    for (node, proxy) in stages(1, &[]) {
        let mut all = subscribers(&proxy, 3);
        all[0].ask("PSUBSCRIBE b*");
        node.crash();
        node.launch();
        let mut direct = node.direct();
        let restored = wait_for(Duration::from_secs(20), || {
            let channels = direct.ask("PUBSUB NUMSUB a");
            let patterns = direct.ask("PUBSUB NUMPAT");
            (channels.ends_with(b":1\r\n") && patterns == b":1\r\n").then_some(())
        });
        assert!(restored.is_some(), "nobody has subscribed again");
        direct.expect("PUBLISH a m", ":1\r\n");
        for one in &mut all {
            assert_eq!(one.reply(), MESSAGE);
            assert_eq!(one.ask("PING"), b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        }
        // It may count late, but it counts.
        let mut other = Resp::open(proxy.address()).expect("clients are accepted");
        other.expect("PUBLISH a m", ":3\r\n");
    }
}

#[test]
fn closes_a_subscriber_that_does_not_read_and_no_other() {
    for (_node, proxy) in stages(1, &["subscriber_bytes_max = \"1MiB\""]) {
        let mut all = subscribers(&proxy, 3);
        let slow = all.pop().expect("three");
        let mut other = Resp::open(proxy.address()).expect("clients are accepted");
        let text = vec![b'x'; 100_000];
        let start = Instant::now();
        let mut counted = b":3\r\n".to_vec();
        while counted == b":3\r\n" {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it is never closed"
            );
            counted = other.ask_of(&[b"PUBLISH", b"a", &text]);
            for one in &mut all {
                assert!(one.reply().len() > text.len());
            }
        }
        assert_eq!(counted, b":2\r\n");
        let log = proxy.log();
        assert!(log.contains("subscriber_bytes_max"), "{log}");
        drop(slow);
        // What nobody may be owed is dropped, and with it those who should have had it.
        let mut bystander = Resp::open(proxy.address()).expect("clients are accepted");
        bystander.ask("SUBSCRIBE b");
        other.send(&request(&[b"PUBLISH", b"a", &vec![b'x'; 2 << 20]]));
        other.reply();
        for one in &mut all {
            assert!(one.has_ended(Duration::from_secs(10)));
        }
        other.expect("PUBLISH b m", ":1\r\n");
        assert!(bystander.reply().ends_with(b"$1\r\nm\r\n"));
    }
}

#[test]
fn shows_who_listens_to_whom_asks_for_it() {
    compare_redis(|scene| {
        let mut one = scene.client("one");
        one.ask("CLIENT SETNAME listener");
        one.say(&command("SUBSCRIBE a b"), 2);
        one.ask("PSUBSCRIBE *");
        let mut other = scene.client("other");
        other.ask("CLIENT SETNAME asker");
        for kind in ["normal", "pubsub", "replica"] {
            let list = other.resp.ask(&format!("CLIENT LIST TYPE {kind}"));
            let list = String::from_utf8_lossy(&list).into_owned();
            for line in list.lines().filter(|line| line.starts_with("id=")) {
                let wanted = ["name=", "flags=", "sub=", "psub="];
                let mut fields = line
                    .split(' ')
                    .filter(|field| wanted.iter().any(|name| field.starts_with(name)));
                let fields: Vec<_> = fields.by_ref().collect();
                scene.note(&format!("{kind}: {}", fields.join(" ")));
            }
        }
        other.ask("CLIENT KILL TYPE pubsub");
        one.hear_end();
    });
}

#[test]
fn refuses_to_subscribe_inside_of_a_transaction() {
    for (_node, proxy) in stages(1, &[]) {
        let mut one = Resp::open(proxy.address()).expect("clients are accepted");
        one.expect("MULTI", "+OK\r\n");
        one.expect("SET k v", "+QUEUED\r\n");
        let refused = one.ask("SUBSCRIBE a");
        assert!(refused.starts_with(b"-ERR service \"test\": SUBSCRIBE"));
        let aborted = one.ask("EXEC");
        assert!(aborted.starts_with(b"-EXECABORT"));
        one.expect("GET k", "$-1\r\n");
        one.expect("PUBSUB CHANNELS", "*0\r\n");
    }
}

//! A Redis Cluster behind one address: seen by clients as one plain Redis.
//!
//! A real cluster of three primaries on loopback. Tests of one cluster use names of their own.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::resp::{bulk, command, commands, shown};
use manifold_tests::harness::{Driver, Proxy, ProxyOptions, RedisCluster, RedisNode, Resp};

/// A cluster that stays as it is, for all tests that do not change it.
fn steady() -> &'static RedisCluster {
    static STEADY: OnceLock<RedisCluster> = OnceLock::new();
    STEADY.get_or_init(|| RedisCluster::start(0, &[]))
}

fn options(driver: Driver) -> ProxyOptions {
    ProxyOptions {
        driver,
        connections_max: 8,
        service: vec!["admin = \"allow\"".to_owned()],
        ..ProxyOptions::default()
    }
}

fn before(cluster: &RedisCluster, driver: Driver) -> Proxy {
    Proxy::start_before(&cluster.upstream(), &options(driver))
}

/// Nothing went wrong that no client saw.
fn check(proxy: &Proxy) {
    let log = proxy.log();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(proxy.counter("manifold_mismatches_total"), 0, "{log}");
}

#[test]
fn finds_the_node_of_every_key() {
    for driver in Driver::ALL {
        let proxy = before(steady(), driver);
        let mut client = Resp::open(proxy.address()).expect("accepted");
        for key in 0..100 {
            client.expect(&format!("SET find{key} {key}"), "+OK\r\n");
        }
        for key in 0..100 {
            let value = bulk(&key.to_string());
            client.expect(&format!("GET find{key}"), &value);
            let mut direct = steady().direct_to(&format!("find{key}"));
            direct.expect(&format!("GET find{key}"), &value);
        }
        check(&proxy);
    }
}

/// A client of each proxy, one on each driver.
fn everywhere(script: impl Fn(&Proxy, &str)) {
    for driver in Driver::ALL {
        let proxy = before(steady(), driver);
        script(&proxy, &driver.name().replace(' ', ""));
        check(&proxy);
    }
}

fn open(proxy: &Proxy) -> Resp {
    Resp::open(proxy.address()).expect("accepted")
}

#[test]
fn answers_a_pipeline_in_its_order_whichever_node_has_the_keys() {
    everywhere(|proxy, on| {
        let mut client = open(proxy);
        let mut sent = Vec::new();
        for key in 0..500 {
            sent.extend(command(&format!("SET order{on}{key} {key}")));
            sent.extend(command(&format!("GET order{on}{key}")));
            sent.extend(command("PING"));
        }
        client.send(&sent);
        for key in 0..500 {
            assert_eq!(client.reply(), b"+OK\r\n");
            assert_eq!(
                shown(&client.reply()),
                shown(bulk(&key.to_string()).as_bytes())
            );
            assert_eq!(client.reply(), b"+PONG\r\n");
        }
    });
}

#[test]
fn divides_commands_where_that_may_be_done() {
    everywhere(|proxy, on| {
        let mut client = open(proxy);
        let key = |n: usize| format!("split{on}{n}");
        let keys = (0..30).map(key).collect::<Vec<_>>().join(" ");
        let pairs = (0..30).map(|n| format!("{} v{n}", key(n)));
        let pairs = pairs.collect::<Vec<_>>().join(" ");
        client.expect(&format!("MSET {pairs}"), "+OK\r\n");
        let values: String = (0..30).map(|n| bulk(&format!("v{n}"))).collect();
        client.expect(&format!("MGET {keys}"), &format!("*30\r\n{values}"));
        client.expect(&format!("EXISTS {keys} split{on}none"), ":30\r\n");
        client.expect(&format!("TOUCH {keys}"), ":30\r\n");
        client.expect(&format!("UNLINK {} {}", key(0), key(1)), ":2\r\n");
        client.expect(&format!("DEL {keys}"), ":28\r\n");
        client.expect(
            &format!("MGET {} {}", key(0), key(1)),
            "*2\r\n$-1\r\n$-1\r\n",
        );
        for whole in [
            "RENAME split1 split2",
            "MSETNX split1 a split2 b",
            "SUNION split1 split2",
        ] {
            let refusal = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
            client.expect(whole, refusal);
        }
        client.expect(
            "DEL",
            "-ERR wrong number of arguments for 'del' command\r\n",
        );
        client.expect("SELECT 0", "+OK\r\n");
        client.expect("SELECT 1", "-ERR SELECT is not allowed in cluster mode\r\n");
        client.expect(
            "NONSENSE",
            "-ERR unknown command 'NONSENSE', with args beginning with: \r\n",
        );
    });
}

#[test]
fn asks_all_nodes_where_the_answer_is_theirs_together() {
    let cluster = RedisCluster::start(0, &[]);
    for driver in Driver::ALL {
        let proxy = before(&cluster, driver);
        let mut client = open(&proxy);
        client.expect("FLUSHALL", "+OK\r\n");
        client.expect("RANDOMKEY", "$-1\r\n");
        client.expect("SET only 1", "+OK\r\n");
        client.expect("RANDOMKEY", &bulk("only"));
        for key in 0..60 {
            client.expect(&format!("SET k{key} x"), "+OK\r\n");
        }
        client.expect("DBSIZE", ":61\r\n");
        assert_eq!(texts(&client.ask("KEYS k*")).len(), 60);
        let mut cursor = "0".to_owned();
        let mut found = BTreeSet::new();
        loop {
            let reply = texts(&client.ask(&format!("SCAN {cursor} COUNT 7 MATCH k*")));
            found.extend(reply[1..].iter().cloned());
            cursor.clone_from(&reply[0]);
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), 60);
        client.expect("SCAN x", "-ERR invalid cursor\r\n");
        let sha = texts(&client.ask_of(&[b"SCRIPT", b"LOAD", b"return KEYS[1]"])).remove(0);
        client.expect(
            &format!("SCRIPT EXISTS {sha} nothing"),
            "*2\r\n:1\r\n:0\r\n",
        );
        for key in ["a", "b", "c"] {
            client.expect(&format!("EVALSHA {sha} 1 {key}"), &bulk(key));
        }
        client.expect("SCRIPT FLUSH", "+OK\r\n");
        client.expect(&format!("SCRIPT EXISTS {sha}"), "*1\r\n:0\r\n");
        client.expect("WAIT 0 10", ":0\r\n");
        client.expect("FLUSHALL", "+OK\r\n");
        client.expect("DBSIZE", ":0\r\n");
        check(&proxy);
    }
}

/// The texts of a list of them.
fn texts(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(reply);
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    let texts = lines.filter(|line| !line.starts_with(['*', '$']));
    texts.map(str::to_owned).collect()
}

#[test]
fn runs_transactions_at_the_node_of_their_keys() {
    everywhere(|proxy, on| {
        let mut client = open(proxy);
        for tag in 0..10 {
            let (one, two) = (format!("{{t{on}{tag}}}a"), format!("{{t{on}{tag}}}b"));
            // As one piece.
            client.send(&commands(&[
                "MULTI",
                &format!("SET {one} 1"),
                &format!("INCR {one}"),
                "EXEC",
            ]));
            assert_eq!(client.replies(3).concat(), b"+OK\r\n+QUEUED\r\n+QUEUED\r\n");
            assert_eq!(client.reply(), b"*2\r\n+OK\r\n:2\r\n");
            // Step by step, with something before the first key.
            client.expect("MULTI", "+OK\r\n");
            client.expect("PING", "+QUEUED\r\n");
            client.expect(&format!("INCR {one}"), "+QUEUED\r\n");
            client.expect(&format!("SET {two} x"), "+QUEUED\r\n");
            client.expect("EXEC", "*3\r\n+PONG\r\n:3\r\n+OK\r\n");
            client.expect("MULTI", "+OK\r\n");
            client.expect(&format!("INCR {one}"), "+QUEUED\r\n");
            client.expect("DISCARD", "+OK\r\n");
            client.expect(&format!("GET {one}"), &bulk("3"));
            // Watched keys.
            client.expect(&format!("WATCH {one}"), "+OK\r\n");
            client.expect(&format!("GET {one}"), &bulk("3"));
            let mut other = open(proxy);
            other.expect(&format!("SET {one} 9"), "+OK\r\n");
            client.expect("MULTI", "+OK\r\n");
            client.expect(&format!("INCR {one}"), "+QUEUED\r\n");
            client.expect("EXEC", "*-1\r\n");
            client.expect(&format!("WATCH {one}"), "+OK\r\n");
            client.expect("MULTI", "+OK\r\n");
            client.expect(&format!("INCR {one}"), "+QUEUED\r\n");
            client.expect("EXEC", "*1\r\n:10\r\n");
        }
        client.expect("EXEC", "-ERR EXEC without MULTI\r\n");
    });
}

#[test]
fn refuses_transactions_over_several_slots() {
    everywhere(|proxy, on| {
        let mut client = open(proxy);
        let refusal = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
        let key = |n: usize| format!("cross{on}{n}");
        client.send(&commands(&[
            "MULTI",
            &format!("SET {} 1", key(0)),
            &format!("SET {} 1", key(1)),
            "EXEC",
        ]));
        assert_eq!(client.replies(3).concat(), b"+OK\r\n+QUEUED\r\n+QUEUED\r\n");
        assert_eq!(shown(&client.reply()), shown(refusal.as_bytes()));
        client.expect("MULTI", "+OK\r\n");
        client.expect(&format!("SET {} 1", key(0)), "+QUEUED\r\n");
        client.expect(&format!("SET {} 1", key(1)), "+QUEUED\r\n");
        client.expect("EXEC", refusal);
        client.expect(&format!("EXISTS {} {}", key(0), key(1)), ":0\r\n");
        client.expect("MULTI", "+OK\r\n");
        client.expect(
            "NONSENSE",
            "-ERR unknown command 'NONSENSE', with args beginning with: \r\n",
        );
        client.expect(&format!("SET {} 1", key(0)), "+QUEUED\r\n");
        let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
        client.expect("EXEC", aborted);
        client.expect("MULTI", "+OK\r\n");
        client.expect("EXEC", "*0\r\n");
        client.expect(&format!("GET {}", key(0)), "$-1\r\n");
    });
}

#[test]
fn lets_nobody_wait_behind_who_blocks() {
    everywhere(|proxy, on| {
        let mut waiting = open(proxy);
        let mut client = open(proxy);
        for n in 0..6 {
            waiting.send(&command(&format!("BLPOP block{on}{n} 30")));
            client.expect(&format!("SET block-other{on} 1"), "+OK\r\n");
            client.expect(&format!("RPUSH block{on}{n} v"), ":1\r\n");
            let popped = format!("*2\r\n{}{}", bulk(&format!("block{on}{n}")), bulk("v"));
            assert_eq!(shown(&waiting.reply()), shown(popped.as_bytes()));
        }
        let refusal = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
        client.expect("BLPOP block1 block2 1", refusal);
        let number = String::from_utf8(waiting.ask("CLIENT ID")).expect("a number");
        let number = number.trim_start_matches(':').trim();
        for n in 0..3 {
            waiting.send(&command(&format!("BLPOP block{on}{n} 30")));
            let unblocked = wait_for(Duration::from_secs(30), || {
                let reply = client.ask(&format!("CLIENT UNBLOCK {number}"));
                (reply == b":1\r\n").then_some(())
            });
            assert!(unblocked.is_some(), "it is not found where it is blocked");
            assert_eq!(waiting.reply(), b"*-1\r\n");
        }
    });
}

#[test]
fn tells_clients_that_the_proxy_has_all_slots() {
    everywhere(|proxy, _| {
        let mut client = open(proxy);
        let slots = String::from_utf8(client.ask("CLUSTER SLOTS")).expect("text");
        let place = format!("*4\r\n$9\r\n127.0.0.1\r\n:{}\r\n$40\r\n", proxy.port());
        let begin = format!("*1\r\n*3\r\n:0\r\n:16383\r\n{place}");
        assert!(slots.starts_with(&begin), "{slots}");
        client.expect("CLUSTER KEYSLOT foo", ":12182\r\n");
        client.expect("READONLY", "+OK\r\n");
        client.expect("ASKING", "+OK\r\n");
        client.expect("READWRITE", "+OK\r\n");
        let nodes = String::from_utf8(client.ask("CLUSTER NODES")).expect("text");
        assert!(
            nodes.contains("myself,master - 0 0 1 connected 0-16383"),
            "{nodes}"
        );
        let info = String::from_utf8(client.ask("CLUSTER INFO")).expect("text");
        assert!(info.contains("cluster_state:ok\r\n"), "{info}");
        assert!(
            client
                .ask("CLUSTER SHARDS")
                .starts_with(b"*1\r\n*4\r\n$5\r\nslots")
        );
    });
}

/// Clients that count up keys of their own as long as `during` runs. Says what each key has to hold,
/// at least and at most, and asserts on the way that nothing is seen twice or goes back.
fn under_load(
    proxy: &Proxy,
    clients: usize,
    keys: usize,
    may_fail: fn(&str) -> bool,
    during: impl FnOnce(&AtomicU64),
) -> Vec<(String, u64, u64)> {
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        let count = |client: usize| {
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                let mut resp = open(proxy);
                let mut known: Vec<_> = (0..keys)
                    .map(|key| (format!("load{client}-{key}"), 0_u64, 0_u64))
                    .collect();
                while !stop.load(Ordering::Relaxed) {
                    let mut sent = Vec::new();
                    for (name, ..) in &known {
                        sent.extend(command(&format!("INCR {name}")));
                        sent.extend(command(&format!("GET {name}")));
                    }
                    resp.send(&sent);
                    for (name, least, most) in &mut known {
                        let (reply, read) = (resp.reply(), resp.reply());
                        *most += 1;
                        if reply.starts_with(b"-") {
                            assert!(may_fail(&shown(&reply)), "{name}: {}", shown(&reply));
                        } else {
                            let value = number(&reply);
                            assert!(
                                *least < value && value <= *most,
                                "{name}: {value} after {least}, of at most {most}"
                            );
                            *least = value;
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        assert!(!read.starts_with(b"-"), "{name}: {}", shown(&read));
                    }
                }
                known
            })
        };
        let all: Vec<_> = (0..clients).map(count).collect();
        during(&done);
        stop.store(true, Ordering::Relaxed);
        let all = all.into_iter().map(|one| {
            one.join()
                .unwrap_or_else(|_| panic!("{}", proxy.counters()))
        });
        all.flatten().collect()
    })
}

/// The number that a reply is.
fn number(reply: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(reply);
    text.trim_start_matches(':')
        .trim()
        .parse()
        .expect("a number")
}

/// Waits until so many more commands have been answered.
fn wait_for_more(done: &AtomicU64, more: u64) {
    let goal = done.load(Ordering::Relaxed) + more;
    let reached = wait_for(Duration::from_secs(60), || {
        (done.load(Ordering::Relaxed) >= goal).then_some(())
    });
    assert!(reached.is_some(), "the clients make no progress");
}

/// What a key holds now.
fn value_of(resp: &mut Resp, key: &str) -> u64 {
    let reply = String::from_utf8(resp.ask(&format!("GET {key}"))).expect("text");
    let (_, digits) = reply.split_once("\r\n").expect("a bulk");
    digits.trim().parse().unwrap_or(0)
}

#[test]
fn loses_and_doubles_nothing_while_slots_go_from_node_to_node() {
    let cluster = RedisCluster::start(0, &[]);
    for driver in Driver::ALL {
        let proxy = before(&cluster, driver);
        let mut client = open(&proxy);
        client.expect("FLUSHALL", "+OK\r\n");
        let counted = under_load(
            &proxy,
            4,
            8,
            |_| false,
            |done| {
                wait_for_more(done, 100);
                for key in 0..8 {
                    let slot = cluster.slot(&format!("load{}-{key}", key % 4));
                    let to = (cluster.owner(slot) + 1) % 3;
                    let from = cluster.begin_move(slot, to);
                    // Keys are created and asked for at both of them meanwhile.
                    wait_for_more(done, 100);
                    cluster.finish_move(slot, from, to);
                    wait_for_more(done, 50);
                }
            },
        );
        for (key, least, most) in counted {
            assert_eq!(
                value_of(&mut client, &key),
                most,
                "{key} of at least {least}"
            );
        }
        check(&proxy);
    }
}

/// A primary goes while clients count: whatever they were told holds afterwards.
fn fails_over(driver: Driver, lose: fn(&RedisNode)) {
    let cluster = RedisCluster::start(1, &[]);
    let proxy = before(&cluster, driver);
    let mut client = open(&proxy);
    let unknown = |error: &str| error.contains("may have been executed");
    let counted = under_load(&proxy, 4, 6, unknown, |done| {
        wait_for_more(done, 200);
        lose(&cluster.nodes[0]);
        cluster.wait_for_primary(3);
        wait_for_more(done, 200);
    });
    for (key, least, most) in counted {
        let value = value_of(&mut client, &key);
        assert!(
            least <= value && value <= most,
            "{key}: {value} after {least}, of at most {most}"
        );
    }
    check(&proxy);
}

#[test]
fn waits_for_the_new_primary_when_one_dies() {
    thread::scope(|scope| {
        for driver in Driver::ALL {
            scope.spawn(move || fails_over(driver, RedisNode::crash));
        }
    });
}

#[test]
fn waits_for_the_new_primary_when_one_hangs() {
    fails_over(Driver::ALL[0], RedisNode::freeze);
}

#[test]
fn publishes_to_everybody_whichever_node_they_listen_at() {
    everywhere(|proxy, on| {
        let mut listener = open(proxy);
        let mut publisher = open(proxy);
        listener.expect(
            &format!("SUBSCRIBE news{on}"),
            &format!(
                "*3\r\n$9\r\nsubscribe\r\n{}:1\r\n",
                bulk(&format!("news{on}"))
            ),
        );
        publisher.expect(&format!("PUBLISH news{on} hello"), ":1\r\n");
        let message = format!(
            "*3\r\n$7\r\nmessage\r\n{}{}",
            bulk(&format!("news{on}")),
            bulk("hello")
        );
        assert_eq!(shown(&listener.reply()), shown(message.as_bytes()));
        let mut elsewhere = steady().nodes[2].direct();
        elsewhere.ask(&format!("PUBLISH news{on} hello"));
        assert_eq!(shown(&listener.reply()), shown(message.as_bytes()));
        for n in 0..6 {
            let channel = format!("shard{on}{n}");
            let mut listener = open(proxy);
            listener.expect(
                &format!("SSUBSCRIBE {channel}"),
                &format!("*3\r\n$10\r\nssubscribe\r\n{}:1\r\n", bulk(&channel)),
            );
            publisher.expect(&format!("SPUBLISH {channel} hello"), ":1\r\n");
            let message = format!(
                "*3\r\n$8\r\nsmessage\r\n{}{}",
                bulk(&channel),
                bulk("hello")
            );
            assert_eq!(shown(&listener.reply()), shown(message.as_bytes()));
        }
        let refusal = "-CROSSSLOT Keys in request don't hash to the same slot\r\n";
        publisher.expect("SSUBSCRIBE shard1 shard2", refusal);
    });
}

#[test]
fn keeps_listening_to_a_channel_whose_slot_goes_to_another_node() {
    let cluster = RedisCluster::start(0, &[]);
    for driver in Driver::ALL {
        let proxy = before(&cluster, driver);
        let mut listener = open(&proxy);
        let mut publisher = open(&proxy);
        let channel = "wanderer";
        listener.expect(
            &format!("SSUBSCRIBE {channel}"),
            &format!("*3\r\n$10\r\nssubscribe\r\n{}:1\r\n", bulk(channel)),
        );
        let slot = cluster.slot(channel);
        let to = (cluster.owner(slot) + 1) % 3;
        let from = cluster.begin_move(slot, to);
        cluster.finish_move(slot, from, to);
        // Nobody hears what is published before the new node has been asked.
        let heard = wait_for(Duration::from_secs(30), || {
            (publisher.ask(&format!("SPUBLISH {channel} hello")) == b":1\r\n").then_some(())
        });
        assert!(heard.is_some(), "nobody listens at the new node");
        let message = format!("*3\r\n$8\r\nsmessage\r\n{}{}", bulk(channel), bulk("hello"));
        assert_eq!(shown(&listener.reply()), shown(message.as_bytes()));
        check(&proxy);
    }
}

#[test]
fn lets_nobody_in_without_the_password() {
    let cluster = RedisCluster::start(0, &[]);
    for node in &cluster.nodes {
        node.direct()
            .expect("CONFIG SET requirepass secret", "+OK\r\n");
    }
    for driver in Driver::ALL {
        let proxy = before(&cluster, driver);
        let mut client = open(&proxy);
        let locked = "-NOAUTH Authentication required.\r\n";
        for key in 0..3 {
            client.expect(&format!("GET key{key}"), locked);
        }
        client.expect("MULTI", locked);
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
        client.expect("AUTH wrong", wrong);
        client.expect("AUTH secret", "+OK\r\n");
        for key in 0..30 {
            client.expect(&format!("SET key{key} {key}"), "+OK\r\n");
        }
        let mut other = open(&proxy);
        for key in 0..30 {
            other.expect(&format!("GET key{key}"), locked);
        }
        other.expect("AUTH default secret", "+OK\r\n");
        other.expect("GET key7", &bulk("7"));
        check(&proxy);
    }
}

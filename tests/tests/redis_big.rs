//! Requests and replies of 100 MB before a node: the order is kept, nobody else waits, and the proxy
//! holds far less than one of them.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::resp::{bulk, command, commands, request, shown};
use manifold_tests::harness::{Driver, Proxy, ProxyOptions, RedisCluster, RedisNode, Resp};

/// The length of a big value.
const BIG: usize = 100 << 20;

/// What a proxy may hold of it, and of everything else.
const HELD_MAX: u64 = 48 << 20;

/// Does the same with a node and a proxy of each driver.
fn on_each_driver(check: impl Fn(&RedisNode, &Proxy)) {
    for driver in Driver::ALL {
        let node = RedisNode::plain();
        let options = ProxyOptions {
            driver,
            connections_max: 8,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before_redis(&node, &options);
        check(&node, &proxy);
        let log = proxy.log();
        assert!(proxy.is_running(), "the proxy ended:\n{log}");
        assert!(!log.contains("panicked"), "a shard has panicked:\n{log}");
        assert_eq!(proxy.counter("manifold_mismatches_total"), 0, "{log}");
    }
}

/// The most memory that a proxy ever had.
fn most_held(proxy: &Proxy) -> u64 {
    let path = format!("/proc/{}/status", proxy.pid());
    let status = fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let line = line.expect("the kernel says so").trim();
    let kib = line.strip_suffix(" kB").expect("in this unit");
    kib.parse::<u64>().expect("a number") << 10
}

/// Bytes that differ from place to place.
fn value() -> Vec<u8> {
    let mut value: Vec<u8> = (0..BIG).map(|at| (at ^ (at >> 11)) as u8).collect();
    // What looks like a request in it is none.
    let inner = command("GET inner");
    value[..inner.len()].copy_from_slice(&inner);
    value
}

/// The 99th percentile of the times that short commands take while `work` is done.
fn p99_beside(proxy: &Proxy, work: impl FnOnce()) -> Duration {
    let is_done = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        let quick = scope.spawn(|| {
            let mut resp = Resp::open(proxy.address()).expect("accepted");
            let mut times = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                let begin = Instant::now();
                resp.expect("ECHO quick", &bulk("quick"));
                times.push(begin.elapsed());
                thread::sleep(Duration::from_micros(500));
            }
            times
        });
        work();
        is_done.store(true, Ordering::Relaxed);
        quick.join().expect("it gets its replies")
    });
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

fn is_bulk(reply: &[u8], value: &[u8]) -> bool {
    let head = format!("${}\r\n", value.len());
    let body = reply.strip_prefix(head.as_bytes());
    body.and_then(|body| body.strip_suffix(b"\r\n")) == Some(value)
}

#[test]
fn passes_values_of_100_mb_through_without_holding_them() {
    let value = value();
    on_each_driver(|_, proxy| {
        let p99 = p99_beside(proxy, || {
            let mut resp = Resp::open(proxy.address()).expect("accepted");
            assert_eq!(resp.ask_of(&[b"SET", b"big", &value]), b"+OK\r\n");
            assert!(is_bulk(&resp.ask("GET big"), &value), "other bytes");
            let length = format!(":{}\r\n", BIG + 5);
            assert_eq!(
                resp.ask_of(&[b"APPEND", b"big", b"tail."]),
                length.as_bytes()
            );
            let many: [&[u8]; 5] = [b"MSET", b"big", &value, b"small", b"1"];
            assert_eq!(resp.ask_of(&many), b"+OK\r\n");
            resp.expect("GET small", "$1\r\n1\r\n");
            assert_eq!(resp.ask_of(&[b"RPUSH", b"list", b"a", &value]), b":2\r\n");
            assert!(is_bulk(&resp.ask("LINDEX list 1"), &value), "other bytes");
        });
        assert!(p99 < Duration::from_millis(100), "p99 beside it: {p99:?}");
        let held = most_held(proxy);
        assert!(held < HELD_MAX, "it held {held} bytes");
    });
}

#[test]
fn keeps_the_order_of_requests_around_a_big_one() {
    let value = value();
    on_each_driver(|_, proxy| {
        let mut resp = Resp::open(proxy.address()).expect("accepted");
        let mut bytes = commands(&["INCR n", "SET k before", "GET k"]);
        bytes.extend(request(&[b"SET", b"k", &value]));
        bytes.extend(commands(&["STRLEN k", "SET k behind", "GET k", "INCR n"]));
        resp.send(&bytes);
        let replies = resp.replies(8);
        let length = format!(":{BIG}\r\n");
        let wanted = [
            ":1\r\n",
            "+OK\r\n",
            "$6\r\nbefore\r\n",
            "+OK\r\n",
            &length,
            "+OK\r\n",
            "$6\r\nbehind\r\n",
            ":2\r\n",
        ];
        for (reply, wanted) in replies.iter().zip(wanted) {
            assert_eq!(shown(reply), shown(wanted.as_bytes()));
        }
    });
}

#[test]
fn streams_a_big_value_into_a_transaction() {
    let value = value();
    on_each_driver(|_, proxy| {
        let mut resp = Resp::open(proxy.address()).expect("accepted");
        let mut bytes = commands(&["MULTI", "INCR n"]);
        bytes.extend(request(&[b"SET", b"k", &value]));
        bytes.extend(commands(&["STRLEN k", "EXEC"]));
        resp.send(&bytes);
        let replies = resp.replies(5);
        let wanted = format!("*3\r\n:1\r\n+OK\r\n:{BIG}\r\n");
        assert_eq!(shown(&replies[4]), shown(wanted.as_bytes()));
        assert!(most_held(proxy) < HELD_MAX);
    });
}

#[test]
fn costs_others_nothing_when_a_client_dies_amid_its_request() {
    on_each_driver(|node, proxy| {
        let before = node.direct().ask("SET k before");
        assert_eq!(before, b"+OK\r\n");
        for round in 0..20 {
            let mut resp = Resp::open(proxy.address()).expect("accepted");
            let bytes = request(&[b"SET", b"k", &vec![b'x'; 4 << 20]]);
            resp.send(&bytes[..bytes.len() - 1 - round * 100_000]);
            match round % 2 {
                0 => resp.vanish(),
                _ => drop(resp),
            }
            let mut other = Resp::open(proxy.address()).expect("accepted");
            other.expect("GET k", "$6\r\nbefore\r\n");
            assert_eq!(other.ask_of(&[b"SET", b"l", &[b'y'; 3 << 20]]), b"+OK\r\n");
        }
        let is_over = || (proxy.counter("manifold_upstreams_leased") == 0).then_some(());
        assert!(wait_for(Duration::from_secs(5), is_over).is_some());
        assert_eq!(proxy.counter("manifold_outcomes_unknown_total"), 0);
    });
}

#[test]
fn lets_nobody_wait_for_clients_that_send_big_requests_slowly() {
    on_each_driver(|_, proxy| {
        let p99 = p99_beside(proxy, || {
            let value = vec![b'x'; 2 << 20];
            let bytes = request(&[b"SET", b"slow", &value]);
            let mut slow: Vec<_> = (0..3)
                .map(|_| Resp::open(proxy.address()).expect("accepted"))
                .collect();
            for piece in bytes.chunks(bytes.len() / 50) {
                for resp in &mut slow {
                    resp.send(piece);
                }
                thread::sleep(Duration::from_millis(10));
            }
            for resp in &mut slow {
                assert_eq!(resp.reply(), b"+OK\r\n");
            }
        });
        assert!(p99 < Duration::from_millis(50), "p99 beside them: {p99:?}");
    });
}

#[test]
fn gives_a_big_value_to_a_client_that_reads_slowly() {
    let value = value();
    on_each_driver(|node, proxy| {
        assert_eq!(node.direct().ask_of(&[b"SET", b"big", &value]), b"+OK\r\n");
        let p99 = p99_beside(proxy, || {
            for _ in 0..2 {
                let mut slow = Resp::open(proxy.address()).expect("accepted");
                slow.send(&command("GET big"));
                thread::sleep(Duration::from_millis(700));
                assert!(is_bulk(&slow.reply(), &value), "other bytes");
            }
        });
        assert!(p99 < Duration::from_millis(100), "p99 beside it: {p99:?}");
        let held = most_held(proxy);
        assert!(held < HELD_MAX, "it held {held} bytes");
    });
}

#[test]
fn passes_a_big_message_through_without_holding_it() {
    let value = value();
    on_each_driver(|_, proxy| {
        let mut resp = Resp::open(proxy.address()).expect("accepted");
        assert_eq!(resp.ask_of(&[b"PUBLISH", b"c", &value]), b":0\r\n");
        let held = most_held(proxy);
        assert!(held < HELD_MAX, "it held {held} bytes");
        let mut three: Vec<_> = (0..3)
            .map(|_| Resp::open(proxy.address()).expect("accepted"))
            .collect();
        for listener in &mut three {
            listener.ask("SUBSCRIBE c");
        }
        let few = &value[..4 << 20];
        assert_eq!(resp.ask_of(&[b"PUBLISH", b"c", few]), b":3\r\n");
        for listener in &mut three {
            assert!(listener.reply().len() > few.len());
        }
    });
}

#[test]
fn passes_values_of_100_mb_through_to_the_nodes_of_a_cluster() {
    let value = value();
    for driver in Driver::ALL {
        let options = ProxyOptions {
            driver,
            connections_max: 8,
            ..ProxyOptions::default()
        };
        let cluster = RedisCluster::start(0, &[]);
        let proxy = Proxy::start_before(&cluster.upstream(), &options);
        let mut resp = Resp::open(proxy.address()).expect("accepted");
        for key in ["a", "b", "c"] {
            let mut bytes = request(&[b"SET", b"n", b"1"]);
            bytes.extend(request(&[b"SET", key.as_bytes(), &value]));
            bytes.extend(command(&format!("STRLEN {key}")));
            bytes.extend(request(&[b"INCR", b"n"]));
            resp.send(&bytes);
            let length = format!(":{BIG}\r\n");
            let wanted = ["+OK\r\n", "+OK\r\n", &length, ":2\r\n"];
            for wanted in wanted {
                assert_eq!(shown(&resp.reply()), shown(wanted.as_bytes()));
            }
            let mut direct = cluster.direct_to(key);
            let reply = direct.ask(&format!("GET {key}"));
            assert!(is_bulk(&reply, &value), "other bytes");
        }
        // One that leaves amid its request costs nobody else anything.
        let mut gone = Resp::open(proxy.address()).expect("accepted");
        gone.send(&request(&[b"SET", b"a", &value])[..50 << 20]);
        gone.vanish();
        resp.expect("STRLEN a", &format!(":{BIG}\r\n"));
        let held = most_held(&proxy);
        assert!(held < HELD_MAX, "it held {held} bytes");
        assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
        assert_eq!(proxy.counter("manifold_mismatches_total"), 0);
    }
}

#[test]
fn keeps_no_request_whole_that_is_above_the_limit() {
    let value = value();
    for driver in Driver::ALL {
        let options = ProxyOptions {
            driver,
            connections_max: 8,
            limits: vec!["whole_bytes_max = \"8MiB\"".to_owned()],
            ..ProxyOptions::default()
        };
        let node = RedisNode::plain();
        let cluster = RedisCluster::start(0, &[]);
        let plain = Proxy::start_before_redis(&node, &options);
        let spread = Proxy::start_before(&cluster.upstream(), &options);
        let big: [(&Proxy, &[&[u8]]); 2] = [
            (&plain, &[b"BLPOP", &value, b"0"]),
            (&spread, &[b"MSET", b"a", &value, b"b", b"1"]),
        ];
        for (proxy, arguments) in big {
            let mut resp = Resp::open(proxy.address()).expect("accepted");
            resp.expect("SET n 1", "+OK\r\n");
            let mut bytes = request(arguments);
            bytes.extend(commands(&["GET n"]));
            resp.send(&bytes);
            let refusal = String::from_utf8(resp.reply()).expect("text");
            assert!(refusal.contains("whole_bytes_max"), "{refusal}");
            assert_eq!(resp.reply(), b"$1\r\n1\r\n");
            let few = &value[..4 << 20];
            assert_eq!(resp.ask_of(&[b"SET", b"few", few]), b"+OK\r\n");
            let held = most_held(proxy);
            assert!(held < HELD_MAX, "it held {held} bytes");
            assert!(!proxy.log().contains("panicked"));
        }
    }
}

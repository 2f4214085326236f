//! Many Redis clients on few upstreams: everybody gets all of his own bytes and none of anybody
//! else's, and nobody waits for what somebody else does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::resp::{bulk, command, commands, request, shown};
use manifold_tests::harness::{Driver, Proxy, ProxyOptions, RedisNode, RedisOptions, Resp};

/// A proxy on a driver in front of a node.
fn proxy(node: &RedisNode, driver: Driver, connections_max: u32) -> Proxy {
    let options = ProxyOptions {
        driver,
        connections_max,
        service: vec!["admin = \"allow\"".to_owned()],
        ..ProxyOptions::default()
    };
    Proxy::start_before_redis(node, &options)
}

/// Does the same with a node and a proxy of each driver.
fn on_each_driver(connections_max: u32, check: impl Fn(&RedisNode, &Proxy)) {
    for driver in Driver::ALL {
        let node = RedisNode::plain();
        let proxy = proxy(&node, driver, connections_max);
        check(&node, &proxy);
        let log = proxy.log();
        assert!(proxy.is_running(), "the proxy ended:\n{log}");
        assert!(!log.contains("panicked"), "a shard has panicked:\n{log}");
        assert_eq!(proxy.counter("manifold_mismatches_total"), 0, "{log}");
    }
}

/// A small generator of numbers, so that a failing run can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Commands on keys of one client's own, each with the one reply that is right.
struct Model {
    client: u64,
    round: u64,
    dice: Dice,
    count: u64,
    database: u64,
}

impl Model {
    fn new(client: u64) -> Self {
        let dice = Dice((client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            client,
            round: 0,
            dice,
            count: 0,
            database: 0,
        }
    }

    /// The next request and its replies.
    fn next(&mut self) -> (Vec<u8>, String) {
        self.round += 1;
        let (client, round) = (self.client, self.round);
        let token = format!("c{client}-r{round}");
        match self.dice.roll(12) {
            0 | 1 => (command(&format!("ECHO {token}")), bulk(&token)),
            2 => {
                let padded = format!("{token}-{}", "x".repeat(self.dice.roll(9000) as usize));
                let bytes = commands(&[
                    &format!("SET s{client} {padded}"),
                    &format!("GET s{client}"),
                ]);
                (bytes, format!("+OK\r\n{}", bulk(&padded)))
            }
            3 | 4 => {
                self.count += 1;
                let count = self.count;
                let script = "redis.call('SELECT', 0) return redis.call('INCR', KEYS[1])";
                let key = format!("n{client}");
                let bytes = request(&[b"EVAL", script.as_bytes(), b"1", key.as_bytes()]);
                (bytes, format!(":{count}\r\n"))
            }
            5 => {
                let lines = [
                    format!("LPUSH l{client} {token}"),
                    format!("BLPOP l{client} 5"),
                ];
                let wanted = format!(
                    ":1\r\n*2\r\n{}{}",
                    bulk(&format!("l{client}")),
                    bulk(&token)
                );
                (commands(&[&lines[0], &lines[1]]), wanted)
            }
            6 => {
                let lines = [
                    "MULTI".to_owned(),
                    format!("SET m{client} {token}"),
                    format!("GET m{client}"),
                    "EXEC".to_owned(),
                ];
                let bytes = lines.iter().flat_map(|line| command(line)).collect();
                let wanted = format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n{}", bulk(&token));
                (bytes, wanted)
            }
            7 => {
                let lines = [
                    format!("WATCH w{client}"),
                    "MULTI".to_owned(),
                    format!("ECHO {token}"),
                    "EXEC".to_owned(),
                ];
                let bytes = lines.iter().flat_map(|line| command(line)).collect();
                (
                    bytes,
                    format!("+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n{}", bulk(&token)),
                )
            }
            8 => {
                self.database = self.dice.roll(4);
                let lines = [format!("SELECT {}", self.database), format!("ECHO {token}")];
                (
                    commands(&[&lines[0], &lines[1]]),
                    format!("+OK\r\n{}", bulk(&token)),
                )
            }
            9 => (
                command(&format!("NOSUCH {token}")),
                format!("-ERR unknown command 'NOSUCH', with args beginning with: '{token}' \r\n"),
            ),
            10 => {
                let lines = [
                    format!("DEL h{client}"),
                    format!("HSET h{client} f {token}"),
                    format!("HVALS h{client}"),
                ];
                let bytes: Vec<u8> = lines.iter().flat_map(|line| command(line)).collect();
                let deleted = "DELETED";
                (bytes, format!("{deleted}:1\r\n*1\r\n{}", bulk(&token)))
            }
            _ => (command(&format!("KEYS none-{token}")), "*0\r\n".to_owned()),
        }
    }
}

/// Runs one client for some rounds.
fn run_client(proxy: &Proxy, client: u64, rounds: usize) {
    let mut resp = Resp::open(proxy.address()).expect("clients are accepted");
    let mut model = Model::new(client);
    for _ in 0..rounds {
        let depth = 1 + model.dice.roll(4);
        let batch: Vec<_> = (0..depth).map(|_| model.next()).collect();
        let bytes: Vec<u8> = batch.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        match model.dice.roll(5) {
            0 => {
                let (one, two) = bytes.split_at(model.dice.roll(bytes.len() as u64) as usize);
                resp.send(one);
                thread::sleep(Duration::from_millis(1));
                resp.send(two);
            }
            _ => resp.send(&bytes),
        }
        for (_, wanted) in &batch {
            let mut wanted = wanted.as_str();
            if let Some(rest) = wanted.strip_prefix("DELETED") {
                let deleted = resp.reply();
                assert!(
                    matches!(&*deleted, b":0\r\n" | b":1\r\n"),
                    "{}",
                    shown(&deleted)
                );
                wanted = rest;
            }
            let mut got = Vec::new();
            while got.len() < wanted.len() && wanted.as_bytes().starts_with(&got) {
                match resp.try_reply(Duration::from_secs(20)) {
                    Ok(Some(reply)) => got.extend(reply),
                    other => panic!("client {client}: {other:?} to {}", shown(&bytes)),
                }
            }
            let wanted = wanted.as_bytes();
            assert!(
                got == wanted,
                "client {client}: {} and not {}",
                shown(&got),
                shown(wanted)
            );
        }
    }
    let rest = resp.during(Duration::from_millis(1));
    assert!(
        rest.is_empty(),
        "client {client} got more: {}",
        shown(&rest)
    );
}

#[test]
fn gives_200_clients_their_own_bytes() {
    on_each_driver(8, |node, proxy| {
        thread::scope(|scope| {
            for client in 0..200 {
                scope.spawn(move || run_client(proxy, client, 40));
            }
        });
        assert!(node.count("connected_clients") <= 8 + 1);
    });
}

#[test]
fn gives_clients_on_2_shards_their_own_bytes() {
    for driver in Driver::ALL {
        let node = RedisNode::plain();
        let options = ProxyOptions {
            driver,
            shards: 2,
            connections_max: 16,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before_redis(&node, &options);
        thread::scope(|scope| {
            let proxy = &proxy;
            for client in 0..60 {
                scope.spawn(move || run_client(proxy, client, 40));
            }
        });
        assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
    }
}

#[test]
fn harms_only_the_client_that_does_not_read() {
    on_each_driver(8, |node, proxy| {
        let value = vec![b'x'; 1 << 20];
        let stored = node.direct().ask_of(&[b"SET", b"big", &value]);
        assert_eq!(stored, b"+OK\r\n");
        let mut slow = Resp::open(proxy.address()).expect("accepted");
        let many: Vec<u8> = (0..200).flat_map(|_| command("GET big")).collect();
        let _ = slow.try_send(&many);
        let mut quick = Resp::open(proxy.address()).expect("accepted");
        let begin = Instant::now();
        for number in 0..200 {
            let token = number.to_string();
            quick.expect(&format!("ECHO {token}"), &bulk(&token));
        }
        let time = begin.elapsed();
        assert!(time < Duration::from_secs(5), "it took {time:?}");
        // Whatever became of it, what it gets is a beginning of what it asked for.
        let got = slow.during(Duration::from_millis(200));
        let whole = bulk(&"x".repeat(1 << 20));
        for piece in got.chunks(whole.len()) {
            assert!(piece == &whole.as_bytes()[..piece.len()], "other bytes");
        }
    });
}

#[test]
fn lets_nobody_but_blockers_wait_for_connections() {
    on_each_driver(4, |_, proxy| {
        let blockers: Vec<_> = (0..20)
            .map(|number| {
                let mut blocker = Resp::open(proxy.address()).expect("accepted");
                blocker.send(&command(&format!("BLPOP block{number} 0")));
                blocker
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        let begin = Instant::now();
        thread::scope(|scope| {
            for client in 0..200 {
                scope.spawn(move || {
                    let mut resp = Resp::open(proxy.address()).expect("accepted");
                    for round in 0..20 {
                        let token = format!("{client}-{round}");
                        resp.expect(&format!("ECHO {token}"), &bulk(&token));
                        resp.expect("KEYS none", "*0\r\n");
                    }
                });
            }
        });
        let time = begin.elapsed();
        assert!(time < Duration::from_secs(20), "it took {time:?}");
        drop(blockers);
        // When they have left, others may block.
        let mut other = Resp::open(proxy.address()).expect("accepted");
        other.expect("BLPOP none 0.01", "*-1\r\n");
    });
}

#[test]
fn gives_upstreams_of_blockers_back_when_they_leave() {
    on_each_driver(8, |node, proxy| {
        for round in 0..20 {
            let mut blocker = Resp::open(proxy.address()).expect("accepted");
            blocker.send(&command("BLPOP queue 0"));
            let is_blocked = || (node.count("blocked_clients") == 1).then_some(());
            assert!(wait_for(Duration::from_secs(10), is_blocked).is_some());
            match round % 2 {
                0 => blocker.vanish(),
                _ => drop(blocker),
            }
            let is_free = || (node.count("blocked_clients") == 0).then_some(());
            assert!(wait_for(Duration::from_secs(10), is_free).is_some());
        }
        node.direct().expect("LPUSH queue a", ":1\r\n");
        node.direct().expect("LLEN queue", ":1\r\n");
        let count = |name: &str| proxy.counter(name);
        let is_over = || count("manifold_upstreams_leased") == 0;
        let settles = || (is_over() && count("manifold_leases_total") >= 20).then_some(());
        assert!(
            wait_for(Duration::from_secs(5), settles).is_some(),
            "{}",
            proxy.counters()
        );
        assert!(node.count("connected_clients") <= 8 + 1);
    });
}

#[test]
fn counts_what_it_shares_and_what_it_leases() {
    on_each_driver(8, |_, proxy| {
        let mut one = Resp::open(proxy.address()).expect("accepted");
        let count = |name: &str| proxy.counter(name);
        for _ in 0..50 {
            one.ask("PING");
        }
        let lines = ["MULTI", "INCR n", "EXEC"];
        one.send(&commands(&lines));
        one.replies(3);
        let is_shared = || (count("manifold_requests_shared_total") >= 51).then_some(());
        assert!(wait_for(Duration::from_secs(5), is_shared).is_some());
        assert_eq!(count("manifold_leases_total"), 0, "nothing needs one yet");
        one.ask("MULTI");
        let is_leased = || (count("manifold_upstreams_leased") == 1).then_some(());
        assert!(
            wait_for(Duration::from_secs(5), is_leased).is_some(),
            "{}",
            proxy.counters()
        );
        one.ask("EXEC");
        let is_over = || (count("manifold_upstreams_leased") == 0).then_some(());
        assert!(wait_for(Duration::from_secs(5), is_over).is_some());
        assert_eq!(count("manifold_leases_total"), 1);
        assert_eq!(
            count("manifold_clients"),
            1 + u64::from(count("manifold_clients") > 1)
        );
    });
}

#[test]
fn leaves_reads_unharmed_beside_slow_commands() {
    on_each_driver(8, |node, proxy| {
        let stop = AtomicBool::new(false);
        let mut direct = node.direct();
        let lines: Vec<u8> = (0..2000)
            .flat_map(|at| command(&format!("SET k{at} 1")))
            .collect();
        direct.send(&lines);
        direct.replies(2000);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut slow = Resp::open(proxy.address()).expect("accepted");
                while !stop.load(Ordering::Relaxed) {
                    slow.ask("KEYS *");
                    slow.ask("BLPOP none 0.05");
                }
            });
            for _ in 0..10 {
                let mut quick = Resp::open(proxy.address()).expect("accepted");
                for number in 0..200 {
                    quick.expect(&format!("GET k{number}"), "$1\r\n1\r\n");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

/// How many connections of the proxy have brought the node a GET as their last command, when 40
/// clients have sent many at once.
fn lanes_of(node: &RedisNode, proxy: &Proxy, wanted: usize) -> usize {
    let mut clients: Vec<_> = (0..40)
        .map(|_| Resp::open(proxy.address()).expect("accepted"))
        .collect();
    let lines: Vec<u8> = command("GET k").repeat(50);
    let mut direct = node.direct();
    let mut lanes = 0;
    wait_for(Duration::from_secs(10), || {
        clients.iter_mut().for_each(|client| client.send(&lines));
        clients.iter_mut().for_each(|client| {
            client.replies(50);
        });
        let list = direct.ask("CLIENT LIST");
        let list = String::from_utf8_lossy(&list).into_owned();
        let is_lane = |line: &&str| line.contains("name=manifold") && line.contains("cmd=get");
        lanes = list.lines().filter(is_lane).count();
        (lanes >= wanted).then_some(())
    });
    lanes
}

#[test]
fn has_a_connection_for_each_thread_with_which_the_node_reads() {
    for (threads, shards, wanted) in [(1, 1, 1), (3, 1, 3), (4, 2, 4)] {
        let line = format!("io-threads {threads}");
        let node = RedisNode::start(&RedisOptions::with(&[&line]));
        let options = ProxyOptions {
            connections_max: 32,
            shards,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before_redis(&node, &options);
        assert_eq!(lanes_of(&node, &proxy, wanted), wanted, "{line}");
    }
}

//! Nodes that die, hang and come back: nothing acknowledged is lost, nothing is done twice, and
//! whoever had nothing under way notices nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use manifold_tests::harness::process::free_port;
use manifold_tests::harness::resp::{command, commands, shown};
use manifold_tests::harness::{Driver, Proxy, ProxyOptions, RedisNode, RedisOptions, Resp};

fn options(driver: Driver) -> ProxyOptions {
    ProxyOptions {
        driver,
        connections_max: 8,
        service: vec!["admin = \"allow\"".to_owned()],
        ..ProxyOptions::default()
    }
}

/// A node that keeps what it has acknowledged, whatever happens.
fn lasting() -> RedisNode {
    RedisNode::start(&RedisOptions::with(&[
        "appendonly yes",
        "appendfsync always",
    ]))
}

/// What one client knows of its own counter.
#[derive(Default)]
struct Ledger {
    acknowledged: u64,
    unknown: u64,
    reads: u64,
}

impl Ledger {
    /// Counts up and reads until told to stop; every answer has to fit.
    fn run(mut self, proxy: &Proxy, client: usize, stop: &AtomicBool) -> Self {
        let mut resp = Resp::open(proxy.address()).expect("accepted");
        let mut seen = 0;
        while !stop.load(Ordering::Relaxed) {
            let reply = resp.ask(&format!("INCR n{client}"));
            if reply.starts_with(b"-") {
                let text = String::from_utf8_lossy(&reply);
                assert!(text.contains("may have been executed"), "{text}");
                self.unknown += 1;
            } else {
                let value = number(&reply);
                assert!(value > seen, "client {client}: {value} after {seen}");
                let unknown = seen + 1 + self.unknown;
                assert!(
                    value <= unknown,
                    "client {client}: {value} is more than {unknown}"
                );
                self.acknowledged += 1;
                seen = value;
            }
            let reply = resp.ask(&format!("GET n{client}"));
            // A read is asked again, and nobody sees that.
            assert!(
                reply.starts_with(b"$"),
                "client {client}: {}",
                shown(&reply)
            );
            self.reads += 1;
        }
        self
    }
}

fn number(reply: &[u8]) -> u64 {
    let text = std::str::from_utf8(&reply[1..]).expect("ASCII").trim_end();
    text.parse()
        .unwrap_or_else(|_| panic!("no number: {}", shown(reply)))
}

#[test]
fn loses_and_doubles_nothing_when_the_node_is_killed() {
    for driver in Driver::ALL {
        let node = lasting();
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let mut idle = Resp::open(proxy.address()).expect("accepted");
        idle.expect("SELECT 3", "+OK\r\n");
        idle.expect("SET mine 1", "+OK\r\n");
        let stop = AtomicBool::new(false);
        let ledgers: Vec<Ledger> = thread::scope(|scope| {
            let (proxy, stop) = (&proxy, &stop);
            let clients: Vec<_> = (0..30)
                .map(|client| scope.spawn(move || Ledger::default().run(proxy, client, stop)))
                .collect();
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(300));
                node.crash();
                thread::sleep(Duration::from_millis(100));
                node.launch();
            }
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            let ends = clients.into_iter().map(|client| client.join());
            ends.map(|end| end.expect("its answers fit")).collect()
        });
        let mut direct = node.direct();
        for (client, ledger) in ledgers.iter().enumerate() {
            let value = match &*direct.ask(&format!("GET n{client}")) {
                b"$-1\r\n" => 0,
                reply => {
                    number(&reply[reply.iter().position(|&it| it == b'\n').expect("two lines")..])
                }
            };
            let most = ledger.acknowledged + ledger.unknown;
            let fits = ledger.acknowledged <= value && value <= most;
            assert!(
                fits,
                "client {client}: {value}, not {}..={most}",
                ledger.acknowledged
            );
        }
        let total: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
        assert!(total > 500, "there was no load: {total}");
        // It had nothing under way.
        idle.expect("GET mine", "$1\r\n1\r\n");
        assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
    }
}

#[test]
fn tells_who_had_a_transaction_that_it_is_gone() {
    for driver in Driver::ALL {
        let node = lasting();
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let mut multi = Resp::open(proxy.address()).expect("accepted");
        multi.expect("MULTI", "+OK\r\n");
        multi.expect("INCR n", "+QUEUED\r\n");
        let mut watcher = Resp::open(proxy.address()).expect("accepted");
        watcher.expect("WATCH n", "+OK\r\n");
        let mut blocked = Resp::open(proxy.address()).expect("accepted");
        blocked.send(&command("BLPOP list 0"));
        let mut idle = Resp::open(proxy.address()).expect("accepted");
        idle.expect("CLIENT SETNAME idle", "+OK\r\n");
        thread::sleep(Duration::from_millis(50));
        node.crash();
        // A node that dies closes their connections, too.
        assert!(
            multi.has_ended(Duration::from_secs(5)),
            "its transaction is gone"
        );
        assert!(
            watcher.has_ended(Duration::from_secs(5)),
            "nobody watches any more"
        );
        let reply = blocked.reply();
        assert!(
            reply.starts_with(b"-ERR service \"test\""),
            "{}",
            shown(&reply)
        );
        node.launch();
        idle.expect("GET n", "$-1\r\n");
        idle.expect("CLIENT GETNAME", "$4\r\nidle\r\n");
        blocked.expect("GET n", "$-1\r\n");
    }
}

#[test]
fn waits_for_a_node_that_is_not_there_yet() {
    for driver in Driver::ALL {
        let nowhere = format!("redis://127.0.0.1:{}", free_port());
        let mut options = options(driver);
        options.limits = vec!["queue_wait_max = \"1s\"".to_owned()];
        let proxy = Proxy::start_before(&nowhere, &options);
        for line in [
            "GET a",
            "INCR n",
            "KEYS *",
            "BLPOP l 0",
            "SELECT 1",
            "HELLO 3",
            "MULTI",
        ] {
            let mut one = Resp::open(proxy.address()).expect("accepted");
            let reply = String::from_utf8(one.ask(line)).expect("ASCII");
            assert!(reply.contains("queue_wait_max"), "{line}: {reply}");
            let reply = String::from_utf8(one.ask("GET a")).expect("ASCII");
            assert!(reply.contains("queue_wait_max"), "{line}: {reply}");
        }
    }
}

#[test]
fn waits_for_a_node_that_is_restarted() {
    for driver in Driver::ALL {
        let node = lasting();
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let mut clients: Vec<_> = (0..20)
            .map(|_| Resp::open(proxy.address()).expect("accepted"))
            .collect();
        for client in &mut clients {
            client.expect("SET a 1", "+OK\r\n");
        }
        node.stop();
        for (number, client) in clients.iter_mut().enumerate() {
            // Nothing of it had been sent: whatever it is, it only waits.
            let line = ["INCR n", "GET a", "SELECT 2", "HELLO 3", "BLPOP none 0.01"][number % 5];
            client.send(&commands(&[line, "PING"]));
        }
        thread::sleep(Duration::from_millis(200));
        node.launch();
        for client in &mut clients {
            let reply = client.reply();
            assert!(!reply.starts_with(b"-"), "{}", shown(&reply));
            assert_eq!(shown(&client.reply()), shown(b"+PONG\r\n"));
        }
        node.direct().expect("GET n", "$1\r\n4\r\n");
    }
}

#[test]
fn waits_while_a_node_loads_its_data() {
    for driver in Driver::ALL {
        // Loading 6000 keys takes two seconds, in which the node answers that it is not ready.
        let settings = ["appendonly yes", "appendfsync always", "key-load-delay 300"];
        let node = RedisNode::start(&RedisOptions::with(&settings));
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let mut clients: Vec<_> = (0..20)
            .map(|_| Resp::open(proxy.address()).expect("accepted"))
            .collect();
        let mut filler = String::from("MSET n 0");
        (0..6000).for_each(|key| filler.push_str(&format!(" key{key} 1")));
        clients[0].expect(&filler, "+OK\r\n");
        for key in 0..6000 {
            clients[0].send(&command(&format!("APPEND key{key} 2")));
        }
        (0..6000).for_each(|_| assert_eq!(shown(&clients[0].reply()), shown(b":2\r\n")));
        node.crash();
        thread::scope(|scope| {
            scope.spawn(|| node.launch());
            for (number, client) in clients.iter_mut().enumerate() {
                let line = ["INCR n", "GET n", "SELECT 2", "HELLO 3", "KEYS none"][number % 5];
                let reply = client.ask(line);
                assert!(!reply.starts_with(b"-"), "{line}: {}", shown(&reply));
            }
        });
        node.direct().expect("GET n", "$1\r\n4\r\n");
    }
}

#[test]
fn closes_sessions_that_their_node_does_not_let_in_any_more() {
    for driver in Driver::ALL {
        let users = [
            "user app on >one ~* &* +@all",
            "user other on >two ~* &* +@all",
        ];
        let node = RedisNode::start(&RedisOptions::with(&users));
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let open = |login: &str| {
            let mut resp = Resp::open(proxy.address()).expect("accepted");
            resp.expect(login, "+OK\r\n");
            resp
        };
        let [mut first, mut second] = [open("AUTH app one"), open("AUTH app one")];
        let mut other = open("AUTH other two");
        let mut nobody = open("SET a 1");
        first.expect("GET a", "$1\r\n1\r\n");
        let mut direct = node.direct();
        direct.expect("ACL SETUSER app resetpass >new", "+OK\r\n");
        // Who is logged in stays so, until its connection is lost.
        second.expect("GET a", "$1\r\n1\r\n");
        direct.ask("CLIENT KILL TYPE normal SKIPME yes");
        first.send(&command("GET a"));
        assert!(
            first.has_ended(Duration::from_secs(5)),
            "its password is old"
        );
        second.send(&command("BLPOP list 0"));
        assert!(
            second.has_ended(Duration::from_secs(5)),
            "its password is old"
        );
        other.expect("GET a", "$1\r\n1\r\n");
        nobody.expect("GET a", "$1\r\n1\r\n");
        open("AUTH app new").expect("GET a", "$1\r\n1\r\n");
        assert!(proxy.log().contains("log in again"), "{}", proxy.log());
        direct.expect("CONFIG SET requirepass secret", "+OK\r\n");
        nobody.expect("GET a", "$1\r\n1\r\n");
        direct.ask("CLIENT KILL TYPE normal SKIPME yes");
        nobody.send(&command("GET a"));
        assert!(
            nobody.has_ended(Duration::from_secs(5)),
            "it has no password"
        );
        other.expect("GET a", "$1\r\n1\r\n");
        open("AUTH secret").expect("GET a", "$1\r\n1\r\n");
    }
}

#[test]
fn goes_on_when_a_node_that_hangs_does() {
    for driver in Driver::ALL {
        let node = RedisNode::plain();
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let mut one = Resp::open(proxy.address()).expect("accepted");
        one.expect("SET a 1", "+OK\r\n");
        node.freeze();
        one.send(&commands(&["INCR a", "GET a"]));
        let mut gone = Resp::open(proxy.address()).expect("accepted");
        gone.send(&command("INCR a"));
        thread::sleep(Duration::from_millis(100));
        gone.vanish();
        thread::sleep(Duration::from_millis(200));
        node.thaw();
        assert!(one.reply().starts_with(b":"), "it was only late");
        assert!(one.reply().starts_with(b"$"));
        one.expect("GET a", "$1\r\n3\r\n");
    }
}

#[test]
fn closes_connections_that_were_killed_at_the_node() {
    for driver in Driver::ALL {
        let node = RedisNode::plain();
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let stop = AtomicBool::new(false);
        let answered = AtomicU64::new(0);
        thread::scope(|scope| {
            for client in 0..10 {
                let (proxy, stop, answered) = (&proxy, &stop, &answered);
                scope.spawn(move || {
                    let mut resp = Resp::open(proxy.address()).expect("accepted");
                    while !stop.load(Ordering::Relaxed) {
                        let token = format!("{client}-{}", answered.load(Ordering::Relaxed));
                        let reply = resp.ask(&format!("ECHO {token}"));
                        let wanted = format!("${}\r\n{token}\r\n", token.len());
                        assert_eq!(shown(&reply), shown(wanted.as_bytes()));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut direct = node.direct();
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(20));
                direct.ask("CLIENT KILL TYPE normal SKIPME yes");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(answered.load(Ordering::Relaxed) > 100);
    }
}

#[test]
fn passes_on_that_the_node_is_out_of_memory_or_busy() {
    for driver in Driver::ALL {
        let node = RedisNode::start(&RedisOptions::with(&["busy-reply-threshold 50"]));
        let proxy = Proxy::start_before_redis(&node, &options(driver));
        let mut one = Resp::open(proxy.address()).expect("accepted");
        one.ask("CONFIG SET maxmemory 1");
        let reply = one.ask("SET a 1");
        assert!(reply.starts_with(b"-OOM"), "{}", shown(&reply));
        one.ask("CONFIG SET maxmemory 0");
        one.expect("SET a 1", "+OK\r\n");
        let mut script = Resp::open(proxy.address()).expect("accepted");
        let request = [&b"EVAL"[..], b"while true do end", b"0"];
        script.send(&manifold_tests::harness::resp::request(&request));
        thread::sleep(Duration::from_millis(300));
        let reply = one.ask("GET a");
        assert!(reply.starts_with(b"-BUSY"), "{}", shown(&reply));
        one.expect("SCRIPT KILL", "+OK\r\n");
        let reply = script.reply();
        assert!(reply.starts_with(b"-ERR"), "{}", shown(&reply));
        one.expect("GET a", "$1\r\n1\r\n");
    }
}

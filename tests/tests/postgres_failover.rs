//! A primary goes and its standby takes its place, while clients read and write: they wait, and
//! every write that was acknowledged is there once.
//!
//! The upstream is a list of both nodes; which one is the primary, the proxy finds out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::proxy::Proxy;
use manifold_tests::harness::{Driver, Login, Node, NodeOptions, ProxyOptions, Wire};

/// Clients that read and write meanwhile.
const CLIENTS: u32 = 50;

/// Between two requests of a client: two cores have to be enough for both nodes and everybody.
const PAUSE: Duration = Duration::from_millis(5);

/// What the proxy may add to a handover: to notice it, and to connect.
const ADDED_MAX: Duration = Duration::from_millis(300);

/// So often a handover is looked at: what the proxy adds it adds each time, and what this host's
/// other work adds it does not.
const TRIES: u32 = 3;

/// A primary and its standby, and a proxy that is told of both.
struct Pair {
    first: Node,
    second: Node,
    proxy: Proxy,
}

impl Pair {
    fn start(driver: Driver, is_synchronous: bool) -> Self {
        let mut settings = vec![("wal_receiver_status_interval".to_owned(), "1s".to_owned())];
        let plain = NodeOptions {
            settings: settings.clone(),
            access: Vec::new(),
        };
        let first = Node::start(&plain);
        first.execute("create table ledger (client int, number int)");
        let second = Node::standby_of(&first, &plain);
        if is_synchronous {
            first.execute("alter system set synchronous_standby_names = '*'");
            first.reload();
            settings.clear();
        }
        // The standby first: whoever takes the first of a list finds the wrong one.
        let upstream = format!("postgres://{},{}", second.address(), first.address());
        let options = ProxyOptions {
            driver,
            connections_max: 8,
            shards: 2,
            head: vec!["log = \"info\"".to_owned()],
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before(&upstream, &options);
        Self {
            first,
            second,
            proxy,
        }
    }

    fn login(&self) -> Wire {
        let login = Login::new("postgres", "postgres");
        Wire::login(&self.proxy.target(), &login).expect("a login")
    }
}

/// What one client has seen.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<u32>,
    /// Writes of which it was told that the outcome is unknown.
    unknown: Vec<u32>,
    longest: Duration,
    errors: Vec<String>,
}

/// Writes and reads until it is over.
fn work(pair: &Pair, client: u32, over: &AtomicBool) -> Seen {
    let mut wire = pair.login();
    let mut seen = Seen::default();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let write = format!("insert into ledger values ({client}, {number})");
        let read = format!("select count(*) from ledger where client = {client}");
        for (text, is_write) in [(write, true), (read, false)] {
            let begin = Instant::now();
            let reply = wire.query(&text);
            seen.longest = seen.longest.max(begin.elapsed());
            match (reply.sqlstate().as_str(), is_write) {
                ("", true) => seen.acknowledged.push(number),
                ("", false) => {}
                ("08007", true) => seen.unknown.push(number),
                _ => seen.errors.push(format!("{text}: {:?}", reply.error())),
            }
        }
        thread::sleep(PAUSE);
    }
    seen
}

/// How often each row is in the ledger.
fn ledger(node: &Node) -> BTreeMap<(u32, u32), u32> {
    let reply = node
        .admin("postgres")
        .query("select client, number from ledger");
    let rows = reply.rows();
    let mut counts = BTreeMap::new();
    for row in rows {
        let number = |at: usize| -> u32 {
            let text: &Option<String> = &row[at];
            text.as_deref()
                .and_then(|it| it.parse().ok())
                .expect("a number")
        };
        *counts.entry((number(0), number(1))).or_default() += 1;
    }
    counts
}

/// Lets clients work while something happens that takes the primary's place away. What they saw,
/// and how long no node took writes.
fn run(pair: &Pair, happens: impl FnOnce(&Pair) -> Duration) -> (Vec<Seen>, Duration) {
    let over = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let (over, done) = (&over, &done);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let seen = work(pair, client, over);
                    done.fetch_add(1, Ordering::Relaxed);
                    seen
                })
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        let outage = happens(pair);
        thread::sleep(Duration::from_secs(1));
        over.store(true, Ordering::Relaxed);
        let ended = wait_for(Duration::from_secs(20), || {
            (done.load(Ordering::Relaxed) == u64::from(CLIENTS)).then_some(())
        });
        assert!(ended.is_some(), "a client hangs:\n{}", pair.proxy.log());
        let seen = clients.into_iter().map(|it| it.join().expect("no panic"));
        (seen.collect(), outage)
    })
}

/// Compares what clients were told with what the new primary has, and says the figures.
/// Whether the stall is what it may be.
fn judge(what: &str, driver: Driver, pair: &Pair, all: &[Seen], outage: Duration) -> bool {
    let mut counts = ledger(&pair.second);
    let longest = all.iter().map(|it| it.longest).max().unwrap_or_default();
    let mut unknown = 0;
    for (client, seen) in (0..).zip(all) {
        assert_eq!(seen.errors, Vec::<String>::new(), "{}", pair.proxy.log());
        for &number in &seen.acknowledged {
            let count = counts.remove(&(client, number));
            assert_eq!(count, Some(1), "client {client}, acknowledged {number}");
        }
        for &number in &seen.unknown {
            let count = counts.remove(&(client, number)).unwrap_or(0);
            assert!(
                count <= 1,
                "client {client}, unknown {number}: {count} times"
            );
        }
        unknown += seen.unknown.len();
    }
    assert!(counts.is_empty(), "nobody asked for {counts:?}");
    let acknowledged: usize = all.iter().map(|it| it.acknowledged.len()).sum();
    println!(
        "{what}, {}: outage {outage:?}, longest stall {longest:?}, {acknowledged} acknowledged \
         writes there once, {unknown} outcomes unknown, 0 errors",
        driver.name()
    );
    longest <= outage + ADDED_MAX
}

/// Has the standby take the primary's place, for each driver, until the stall was short once.
fn hand_over(what: &str, is_synchronous: bool, goes: fn(&Node)) {
    for driver in Driver::ALL {
        let is_short = (0..TRIES).any(|_| {
            let pair = Pair::start(driver, is_synchronous);
            let (all, outage) = run(&pair, |pair| {
                let begin = Instant::now();
                goes(&pair.first);
                pair.second.promote();
                begin.elapsed()
            });
            let is_planned = !is_synchronous;
            let has_unknown = all.iter().any(|seen| !seen.unknown.is_empty());
            assert!(!(is_planned && has_unknown), "{}", pair.proxy.log());
            judge(what, driver, &pair, &all, outage)
        });
        assert!(is_short, "{what}: longer than {ADDED_MAX:?} each time");
    }
}

#[test]
fn waits_through_a_planned_switchover_without_an_error() {
    // A node that is stopped sends its standby everything first.
    hand_over("switchover", false, Node::stop);
}

#[test]
fn loses_only_what_was_in_flight_when_the_primary_dies() {
    hand_over("death of the primary", true, Node::crash);
}

#[test]
fn says_what_is_missing_when_nobody_becomes_primary() {
    let mut pair = Pair::start(Driver::Epoll, false);
    let upstream = format!(
        "postgres://{},{}",
        pair.first.address(),
        pair.second.address()
    );
    let options = ProxyOptions {
        limits: vec!["hold_max = \"2s\"".to_owned()],
        ..ProxyOptions::default()
    };
    pair.proxy = Proxy::start_before(&upstream, &options);
    let mut wire = pair.login();
    assert_eq!(wire.value("select 'there'"), "there");
    pair.first.stop();
    let begin = Instant::now();
    let reply = wire.query("select 'gone'");
    let error = format!("{:?}", reply.error());
    for part in ["service \\\"test\\\"", "no primary for 2 s", "hold_max"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(begin.elapsed() >= Duration::from_secs(2), "{error}");
    // Who comes now is told so, too, and at once.
    let begin = Instant::now();
    let refused = Wire::login(&pair.proxy.target(), &Login::new("postgres", "postgres"));
    assert!(refused.is_err() || wire.query("select 1").sqlstate() == "08006");
    assert!(begin.elapsed() < Duration::from_secs(2));
    pair.second.promote();
    let served = wait_for(Duration::from_secs(5), || {
        (wire.query("select 1").sqlstate() == "").then_some(())
    });
    assert!(served.is_some(), "{}", pair.proxy.log());
}

//! Sentinels turn a primary and its replica round while clients read and write.
//!
//! Every client keeps a ledger: numbered entries of a list of its own, written one after the other.
//! What the node has at the end is held against it. Real Redis and Sentinels; the promise is that a
//! failover is a wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::resp::{command, shown};
use manifold_tests::harness::{Driver, Proxy, ProxyOptions, Resp, Sentinels};

/// How long a failover may take from Sentinel's announcement until every client has been answered.
const STALL_MAX: Duration = Duration::from_millis(300);

const CLIENTS: usize = 30;

fn options(driver: Driver) -> ProxyOptions {
    ProxyOptions {
        driver,
        connections_max: 8,
        ..ProxyOptions::default()
    }
}

/// What one client has been told.
#[derive(Default)]
struct Ledger {
    acknowledged: Vec<(u64, Instant)>,
    unknown: Vec<u64>,
    /// The longest time in which it heard nothing, and when that ended.
    stall: Duration,
    stalled_until: Option<Instant>,
}

impl Ledger {
    fn run(mut self, proxy: &Proxy, client: usize, stop: &AtomicBool) -> Self {
        let mut resp = Resp::open(proxy.address()).expect("accepted");
        for entry in 1.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let began = Instant::now();
            let reply = resp.ask(&format!("RPUSH l{client} {entry}"));
            let text = String::from_utf8_lossy(&reply);
            match text.contains("may have been executed") {
                true => self.unknown.push(entry),
                false => {
                    assert!(reply.starts_with(b":"), "client {client}: {text}");
                    self.acknowledged.push((entry, Instant::now()));
                }
            }
            let reply = resp.ask(&format!("LINDEX l{client} -1"));
            assert!(
                reply.starts_with(b"$"),
                "client {client}: {}",
                shown(&reply)
            );
            if began.elapsed() > self.stall {
                self.stall = began.elapsed();
                self.stalled_until = Some(Instant::now());
            }
            thread::sleep(Duration::from_millis(2));
        }
        self
    }

    /// Holds it against what the node has; says how many acknowledged entries Redis lost.
    fn check(&self, client: usize, entries: &[u64], announced: Instant) -> usize {
        let is_in_order = entries.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(
            is_in_order,
            "client {client}: doubled or out of order: {entries:?}"
        );
        let acknowledged = |entry: &u64| self.acknowledged.iter().any(|(it, _)| it == entry);
        let known = |entry: &u64| acknowledged(entry) || self.unknown.contains(entry);
        assert!(
            entries.iter().all(known),
            "client {client}: entries of nobody"
        );
        let lost = self.acknowledged.iter();
        let lost = lost.filter(|(it, _)| entries.binary_search(it).is_err());
        // A primary that hands over takes writes, and loses them, until Sentinel has told it.
        let lost: Vec<_> = lost.collect();
        let late = lost.iter().find(|(_, at)| *at > announced + STALL_MAX);
        assert!(
            late.is_none(),
            "client {client}: lost after the failover: {late:?}"
        );
        lost.len()
    }
}

fn entries(direct: &mut Resp, client: usize) -> Vec<u64> {
    let reply = direct.ask(&format!("LRANGE l{client} 0 -1"));
    let text = String::from_utf8_lossy(&reply).into_owned();
    let lines = text
        .split("\r\n")
        .filter(|line| !line.starts_with(['*', '$']));
    lines.filter_map(|line| line.parse().ok()).collect()
}

/// Runs clients, does something, waits for the switch, and gives what they know and when the switch
/// was announced.
fn during_failover(
    sentinels: &Sentinels,
    proxy: &Proxy,
    begin: impl FnOnce(),
) -> (Vec<Ledger>, Instant, Instant) {
    let stop = AtomicBool::new(false);
    let times = Mutex::new(None);
    let ledgers = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let stop = &stop;
                scope.spawn(move || Ledger::default().run(proxy, client, stop))
            })
            .collect();
        // The first of the three that hears of it says so.
        let announced: Mutex<Option<Instant>> = Mutex::new(None);
        thread::scope(|scope| {
            for place in 0..3 {
                let mut listener = sentinels.direct(place);
                listener.ask("SUBSCRIBE +switch-master");
                let announced = &announced;
                scope.spawn(move || {
                    let heard = listener.try_reply(Duration::from_secs(30));
                    assert!(matches!(heard, Ok(Some(_))), "no switch: {heard:?}");
                    announced
                        .lock()
                        .expect("no panic")
                        .get_or_insert(Instant::now());
                });
            }
            thread::sleep(Duration::from_millis(700));
            *times.lock().expect("no panic") = Some(Instant::now());
            begin();
        });
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        let ends = clients
            .into_iter()
            .map(|client| client.join().expect("its answers fit"));
        let ledgers: Vec<_> = ends.collect();
        (
            ledgers,
            announced
                .into_inner()
                .expect("no panic")
                .expect("announced"),
        )
    });
    let began = times.into_inner().expect("no panic").expect("it began");
    (ledgers.0, began, ledgers.1)
}

fn judge(what: &str, ledgers: &[Ledger], began: Instant, announced: Instant, direct: &mut Resp) {
    let lost: usize = (0..)
        .zip(ledgers)
        .map(|(client, it)| it.check(client, &entries(direct, client), announced))
        .sum();
    let acknowledged: usize = ledgers.iter().map(|it| it.acknowledged.len()).sum();
    let unknown: usize = ledgers.iter().map(|it| it.unknown.len()).sum();
    let stall = ledgers
        .iter()
        .map(|it| it.stall)
        .max()
        .expect("there are clients");
    let last = ledgers
        .iter()
        .filter_map(|it| it.stalled_until)
        .max()
        .expect("it stalled");
    println!(
        "{what}: {acknowledged} acknowledged, {unknown} unknown, {lost} lost by Redis; longest \
         stall {stall:?}; announced after {:?}, last stall ended {:?} after",
        announced - began,
        last.saturating_duration_since(announced)
    );
    assert!(acknowledged > 1_000, "there was no load");
    assert!(unknown <= CLIENTS, "each had one write in flight");
    assert!(stall <= announced - began + STALL_MAX, "{stall:?}");
}

#[test]
fn waits_while_a_killed_primary_is_replaced() {
    for driver in Driver::ALL {
        let sentinels = Sentinels::start();
        let proxy = Proxy::start_before(&sentinels.upstream(), &options(driver));
        let [old, new] = &sentinels.nodes;
        let (ledgers, began, announced) = during_failover(&sentinels, &proxy, || old.crash());
        judge(driver.name(), &ledgers, began, announced, &mut new.direct());
        // The old one comes back, and takes writes until it is demoted.
        old.launch();
        let mut client = Resp::open(proxy.address()).expect("accepted");
        let mut direct = old.direct();
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let reply = client.ask("INCR after");
            assert!(reply.starts_with(b":"), "{}", shown(&reply));
            if direct.ask("ROLE").windows(6).any(|word| word == b"master") {
                direct.expect("GET after", "$-1\r\n");
            }
            thread::sleep(Duration::from_millis(20));
        }
        assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
    }
}

#[test]
fn waits_while_a_living_primary_hands_over() {
    for driver in Driver::ALL {
        let sentinels = Sentinels::start();
        let proxy = Proxy::start_before(&sentinels.upstream(), &options(driver));
        let (ledgers, began, announced) = during_failover(&sentinels, &proxy, || {
            sentinels
                .direct(0)
                .expect("SENTINEL FAILOVER mymaster", "+OK\r\n");
        });
        let mut direct = sentinels.nodes[1].direct();
        judge(driver.name(), &ledgers, began, announced, &mut direct);
    }
}

#[test]
fn finds_the_primary_of_a_list_by_its_role() {
    let sentinels = Sentinels::start();
    let [primary, replica] = &sentinels.nodes;
    for driver in Driver::ALL {
        let list = format!("redis://{},{}", replica.address(), primary.address());
        let proxy = Proxy::start_before(&list, &options(driver));
        let mut client = Resp::open(proxy.address()).expect("accepted");
        client.expect("SET a 1", "+OK\r\n");
        client.expect("SELECT 3", "+OK\r\n");
        client.expect("SET a 1", "+OK\r\n");
        primary.direct().expect("GET a", "$1\r\n1\r\n");
    }
}

#[test]
fn asks_another_sentinel_when_one_is_down() {
    let mut sentinels = Sentinels::start();
    sentinels.crash(0);
    let proxy = Proxy::start_before(&sentinels.upstream(), &options(Driver::Epoll));
    let mut client = Resp::open(proxy.address()).expect("accepted");
    client.expect("SET a 1", "+OK\r\n");
    // The third is known only by the second.
    sentinels.crash(1);
    client.expect("SET a 2", "+OK\r\n");
}

#[test]
fn says_which_name_no_sentinel_knows() {
    let sentinels = Sentinels::start();
    let mut options = options(Driver::Epoll);
    options.limits = vec!["queue_wait_max = \"1s\"".to_owned()];
    let upstream = sentinels.upstream().replace("mymaster", "nobody");
    let proxy = Proxy::start_before(&upstream, &options);
    let mut client = Resp::open(proxy.address()).expect("accepted");
    client.send(&command("SET a 1"));
    let reply = String::from_utf8(client.reply()).expect("ASCII");
    assert!(reply.contains("/nobody"), "{reply}");
    let said = wait_for(Duration::from_secs(5), || {
        let log = proxy.log();
        log.contains("no Sentinel knows a primary called \"nobody\"")
            .then_some(())
    });
    assert!(said.is_some(), "{}", proxy.log());
}

//! A real cluster of Patroni hands over, dies and is restarted while clients read and write: they
//! wait, and every write that was acknowledged is there once.
//!
//! Two PostgreSQL nodes with synchronous replication, so that no acknowledged write can be lost by
//! the database itself. A probe that asks the nodes without the proxy says how long the database's
//! own outage was; what clients wait longer is the proxy's doing. One cluster is looked at at a
//! time, because two cores have to be enough.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::node::cache;
use manifold_tests::harness::patroni::LEAD_TIME;
use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::proxy::Proxy;
use manifold_tests::harness::{Driver, Login, Patroni, ProxyOptions, Reply, Target, Wire, frames};

/// Clients of each of two proxies that read and write meanwhile, each statement by itself.
const CLIENTS: u32 = 25;

/// Clients of each proxy, with those whose writes are transactions of several requests.
const ALL: u32 = CLIENTS + 3;

/// Between two turns of a client: two cores have to be enough for both nodes and everybody.
const PAUSE: Duration = Duration::from_millis(30);

/// Between two questions of the probe.
const PROBE_PAUSE: Duration = Duration::from_millis(5);

/// An answer that takes longer does not come any more.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// So often something is looked at: what the proxy adds it adds each time, and what this host's
/// other work adds it does not.
const TRIES: u32 = 3;

/// What happens to the cluster, and what it may cost.
struct Scene {
    what: &'static str,
    happens: fn(&Patroni),
    /// What the proxy may add to the outage of the database.
    added_max: Duration,
    /// Whether writes may have an unknown outcome and transactions be lost.
    has_losses: bool,
    /// Whether another node leads afterwards.
    changes: bool,
}

/// What one client has seen.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<u32>,
    /// Writes of which it was told that the outcome is unknown, or whose COMMIT was not answered.
    unknown: Vec<u32>,
    /// Transactions that were broken off before their COMMIT.
    broken: Vec<u32>,
    longest: Duration,
    errors: Vec<String>,
}

/// Sends a query. The reply; or what came of it before the connection ended.
fn ask(wire: &mut Wire, text: &str) -> Result<Reply, Reply> {
    let mut reply = Reply::default();
    if wire.try_send(&frames::query(text)).is_err() {
        return Err(reply);
    }
    loop {
        match wire.try_frame(ANSWER_TIME_MAX) {
            Ok(Some(frame)) => {
                let is_last = frame.tag == b'Z';
                reply.frames.push(frame);
                if is_last {
                    return Ok(reply);
                }
            }
            Ok(None) => return Err(reply),
            Err(error) => panic!("{text}: no answer: {error}"),
        }
    }
}

fn login(target: &Target) -> Option<Wire> {
    Wire::login(target, &Login::new("postgres", "postgres")).ok()
}

impl Seen {
    /// Writes and reads until it is over.
    fn work(mut self, proxy: &Proxy, client: u32, over: &AtomicBool) -> Self {
        let mut wire = login(&proxy.target()).expect("a login");
        let mut last = -1;
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let write = format!("insert into ledger values ({client}, {number}, 0)");
            let reply = self.ask(&mut wire, &write);
            match reply.sqlstate().as_str() {
                "" => {
                    self.acknowledged.push(number);
                    last = i64::from(number);
                }
                "08007" => self.unknown.push(number),
                _ => self.errors.push(format!("{write}: {:?}", reply.error())),
            }
            let read =
                format!("select coalesce(max(number), -1) from ledger where client = {client}");
            let reply = self.ask(&mut wire, &read);
            let found = reply
                .error()
                .map_or_else(|| reply.value().parse().ok(), |_| None);
            if found.is_none_or(|found: i64| found < last) {
                let error = reply.error();
                self.errors
                    .push(format!("{read}: {found:?} after {last}, {error:?}"));
            }
            thread::sleep(PAUSE);
        }
        self
    }

    fn ask(&mut self, wire: &mut Wire, text: &str) -> Reply {
        let begin = Instant::now();
        let reply = ask(wire, text);
        self.longest = self.longest.max(begin.elapsed());
        reply.unwrap_or_else(|reply| {
            self.errors
                .push(format!("{text}: closed after {:?}", reply.error()));
            reply
        })
    }

    /// Writes in transactions until it is over, and connects again whenever that is necessary.
    fn transact(mut self, proxy: &Proxy, client: u32, over: &AtomicBool) -> Self {
        let mut wire = login(&proxy.target());
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let Some(open) = &mut wire else {
                wire = login(&proxy.target());
                continue;
            };
            let done = transaction(open, client, number);
            match done {
                Ok(()) => self.acknowledged.push(number),
                Err(true) => self.unknown.push(number),
                Err(false) => self.broken.push(number),
            }
            if done.is_err() {
                wire = None;
            }
            thread::sleep(PAUSE);
        }
        self
    }
}

/// Writes two rows in a transaction. If it fails, whether its COMMIT was sent.
fn transaction(wire: &mut Wire, client: u32, number: u32) -> Result<(), bool> {
    let texts = [
        "begin".to_owned(),
        format!("insert into ledger values ({client}, {number}, 1)"),
        format!("insert into ledger values ({client}, {number}, 2)"),
        "commit".to_owned(),
    ];
    for text in texts {
        let is_commit = text == "commit";
        match ask(wire, &text) {
            Ok(reply) if reply.error().is_none() => {}
            _ => return Err(is_commit),
        }
    }
    Ok(())
}

/// Writes to the nodes without the proxy until it is over. The longest time without a write.
fn probe(cluster: &Patroni, over: &AtomicBool) -> Duration {
    let targets = cluster.targets();
    let mut open: [Option<Wire>; 2] = [None, None];
    let mut longest = Duration::ZERO;
    let mut good: Option<Instant> = None;
    while !over.load(Ordering::Relaxed) {
        for (wire, target) in open.iter_mut().zip(&targets) {
            if wire.is_none() {
                *wire = login(target);
            }
            let Some(asked) = wire else { continue };
            // A standby refuses it and keeps the connection.
            match ask(asked, "insert into probe values (1)") {
                Ok(reply) if reply.error().is_none() => {
                    longest = longest.max(good.map_or(Duration::ZERO, |it| it.elapsed()));
                    good = Some(Instant::now());
                }
                Ok(_) => {}
                Err(_) => *wire = None,
            }
        }
        thread::sleep(PROBE_PAUSE);
    }
    longest
}

/// Lets clients of each proxy work while something happens. What they saw, and how long the
/// database was out.
fn run(cluster: &Patroni, proxies: &[Proxy], happens: fn(&Patroni)) -> (Vec<Vec<Seen>>, Duration) {
    let (over, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let (over, done) = (&over, &done);
    let begin = |proxy, client| {
        let seen = match client % ALL < CLIENTS {
            true => Seen::default().work(proxy, client, over),
            false => Seen::default().transact(proxy, client, over),
        };
        done.fetch_add(1, Ordering::Relaxed);
        seen
    };
    thread::scope(|scope| {
        let numbered = (0..).step_by(ALL as usize).zip(proxies);
        let running: Vec<Vec<_>> = numbered
            .map(|(first, proxy)| {
                let clients = first..first + ALL;
                clients
                    .map(|client| scope.spawn(move || begin(proxy, client)))
                    .collect()
            })
            .collect();
        let probing = scope.spawn(|| probe(cluster, over));
        thread::sleep(Duration::from_secs(1));
        // What fails in here must not leave the others working for ever.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            happens(cluster);
            let led = wait_for(LEAD_TIME * 2, || cluster.leader());
            assert!(led.is_some(), "nobody leads:\n{}", cluster.log());
        }));
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
        let count: usize = running.iter().map(Vec::len).sum();
        let ended = wait_for(ANSWER_TIME_MAX, || {
            (done.load(Ordering::Relaxed) as usize == count).then_some(())
        });
        assert!(ended.is_some(), "a client hangs:\n{}", proxies[0].log());
        let seen = running.into_iter().map(|clients| {
            let clients = clients.into_iter().map(|it| it.join().expect("no panic"));
            clients.collect()
        });
        let seen = seen.collect();
        acted.expect("it happened");
        (seen, probing.join().expect("no panic"))
    })
}

/// How many rows there are of each number of each client.
fn ledger(cluster: &Patroni) -> BTreeMap<(u32, u32), u32> {
    let leader = cluster.leader().expect("somebody leads");
    let mut wire = login(&cluster.targets()[leader]).expect("a login");
    let reply = wire.query("select client, number, count(*) from ledger group by 1, 2");
    let rows = reply.rows();
    let rows = rows.iter().map(|row| {
        let number = |at: usize| -> u32 {
            let text: &Option<String> = &row[at];
            let number = text.as_deref().and_then(|it| it.parse().ok());
            number.expect("a number")
        };
        ((number(0), number(1)), number(2))
    });
    rows.collect()
}

/// Compares what the clients of a proxy were told with what the leader has, and takes that out of
/// the ledger.
fn settle(counts: &mut BTreeMap<(u32, u32), u32>, first: u32, all: &[Seen], log: &str) {
    let mut take = |client, number| counts.remove(&(client, number)).unwrap_or(0);
    for (client, seen) in (first..).zip(all) {
        assert_eq!(seen.errors, Vec::<String>::new(), "{log}");
        // A transaction has two rows.
        let whole = if client % ALL < CLIENTS { 1 } else { 2 };
        for &number in &seen.acknowledged {
            let count = take(client, number);
            assert_eq!(count, whole, "client {client}, acknowledged {number}");
        }
        for &number in &seen.unknown {
            let count = take(client, number);
            let is_whole = [0, whole].contains(&count);
            assert!(is_whole, "client {client}, unknown {number}: {count}");
        }
        for &number in &seen.broken {
            let count = take(client, number);
            assert_eq!(count, 0, "client {client}, broken off {number}");
        }
    }
}

impl Scene {
    /// Says the figures of a proxy. Whether the stall is what it may be.
    fn judge(&self, driver: Driver, all: &[Seen], outage: Duration, log: &str) -> bool {
        let sum = |of: fn(&Seen) -> usize| -> usize { all.iter().map(of).sum() };
        let acknowledged = sum(|it| it.acknowledged.len());
        let (unknown, broken) = (sum(|it| it.unknown.len()), sum(|it| it.broken.len()));
        let longest = all.iter().map(|it| it.longest).max().unwrap_or_default();
        println!(
            "{}, {}: outage {outage:.2?}, longest stall {longest:.2?}, {acknowledged} acknowledged \
             writes there once, {unknown} outcomes unknown, {broken} open transactions lost, 0 \
             other errors",
            self.what,
            driver.name(),
        );
        assert!(acknowledged > 500, "there was no load");
        assert!(self.has_losses || unknown + broken == 0, "{log}");
        assert!(unknown <= ALL as usize, "one in flight of each");
        longest <= outage + self.added_max
    }

    /// Has it happen before a proxy on each driver. Whether the stall was short for all of them.
    fn happen(&self, cluster: &Patroni) -> bool {
        let leader = cluster.leader().expect("somebody leads");
        let mut wire = login(&cluster.targets()[leader]).expect("a login");
        let made = wire.query(
            "drop table if exists ledger, probe; create table probe (id int); \
             create table ledger (client int, number int, part int); \
             create index on ledger (client, number)",
        );
        assert!(made.error().is_none(), "{:?}", made.error());
        let proxies = Driver::ALL.map(|driver| {
            let options = ProxyOptions {
                driver,
                connections_max: 16,
                shards: 2,
                head: vec!["log = \"info\"".to_owned()],
                ..ProxyOptions::default()
            };
            Proxy::start_before(&cluster.upstream(), &options)
        });
        let (all, outage) = run(cluster, &proxies, self.happens);
        let has_changed = cluster.leader() != Some(leader);
        assert_eq!(has_changed, self.changes, "{}", cluster.log());
        let mut counts = ledger(cluster);
        let mut is_short = true;
        for ((at, driver), all) in (0..).zip(Driver::ALL).zip(&all) {
            let log = proxies[at as usize].log();
            settle(&mut counts, at * ALL, all, &log);
            is_short &= self.judge(driver, all, outage, &log);
        }
        assert!(counts.is_empty(), "nobody asked for {counts:?}");
        is_short
    }

    /// Has it happen until the stall was short once.
    fn play(&self) {
        let file = File::create(cache().join("patroni.lock")).expect("a lock file can be made");
        file.lock().expect("files can be locked");
        let cluster = Patroni::start();
        let is_short = (0..TRIES).any(|turn| {
            if turn > 0 {
                cluster.revive();
            }
            self.happen(&cluster)
        });
        let (what, added_max) = (self.what, self.added_max);
        assert!(is_short, "{what}: longer than {added_max:?} each time");
    }
}

#[test]
fn waits_through_a_switchover_without_an_error() {
    Scene {
        what: "patronictl switchover",
        happens: Patroni::switch_over,
        added_max: Duration::from_millis(700),
        has_losses: false,
        changes: true,
    }
    .play();
}

#[test]
fn loses_only_what_was_in_flight_when_a_node_dies() {
    Scene {
        what: "death of the node",
        happens: |cluster| cluster.kill(cluster.leader().expect("somebody leads")),
        added_max: Duration::from_millis(300),
        has_losses: true,
        changes: true,
    }
    .play();
}

#[test]
fn loses_only_what_was_in_flight_when_a_postmaster_dies() {
    Scene {
        what: "death of the postmaster",
        happens: |cluster| {
            cluster.kill_postmaster(cluster.leader().expect("somebody leads"));
            // It leads for a moment more, as far as it can be asked.
            thread::sleep(Duration::from_secs(1));
        },
        added_max: Duration::from_millis(300),
        has_losses: true,
        changes: false,
    }
    .play();
}

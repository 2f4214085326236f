//! Nodes that die, hang, restart and refuse; clients that vanish; a proxy that is told to stop.
//!
//! A ledger shows what matters: every acknowledged write is there once, and no write is there twice,
//! whatever was killed meanwhile. Each test has a node of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::frames::{extended, query, startup};
use manifold_tests::harness::process::{free_port, wait_for};
use manifold_tests::harness::proxy::Proxy;
use manifold_tests::harness::{
    Driver, Login, Node, NodeOptions, Place, ProxyOptions, Reply, Target, Wire, places,
};

/// What a client may be told when its node dies.
const OUTAGE: &[&str] = &[
    "08006", "08007", "57P01", "57P02", "57P03", "08001", "08000",
];

/// The superuser's login.
fn login() -> Login {
    Login::new("postgres", "postgres")
}

/// A client that is logged in, however long that takes.
fn patient(target: &Target) -> Wire {
    wait_for(Duration::from_secs(30), || {
        Wire::login(target, &login()).ok()
    })
    .expect("a login")
}

/// What became of one write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// ReadyForQuery came after CommandComplete.
    Acknowledged,
    /// An error, or the connection ended.
    Unknown,
}

/// How many writes have gone through, for whoever wants to disturb them.
struct Progress<'a>(&'a AtomicU64);

impl Progress<'_> {
    /// Waits until so many more writes have gone through, but not for ever: what stands still is
    /// found by the ledger.
    fn wait(&self, more: u64) {
        let goal = self.0.load(Ordering::Relaxed) + more;
        wait_for(Duration::from_secs(20), || {
            (self.0.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }
}

/// Writes to a ledger through every place while something happens, and checks the ledger.
fn keep_ledger(node: &Node, event: impl Fn(&Progress<'_>)) {
    for place in places(
        node,
        &ProxyOptions {
            connections_max: 6,
            ..Default::default()
        },
    ) {
        node.execute("drop table if exists ledger; create table ledger (id bigint)");
        let fates = write_while(&place.target, 24, &event);
        check_ledger(node, &fates, place.name);
    }
}

#[test]
fn loses_and_doubles_nothing_when_the_node_is_killed() {
    let node = Node::start(&NodeOptions::default());
    keep_ledger(&node, |progress| {
        for _ in 0..3 {
            progress.wait(60);
            node.crash();
            node.launch();
        }
        progress.wait(60);
    });
}

#[test]
fn loses_and_doubles_nothing_when_upstreams_are_terminated() {
    let node = Node::start(&NodeOptions::default());
    let mut admin = node.admin("template1");
    let admin = std::sync::Mutex::new(&mut admin);
    keep_ledger(&node, |progress| {
        for _ in 0..10 {
            progress.wait(30);
            admin.lock().expect("one at a time").query(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'postgres'",
            );
        }
        progress.wait(60);
    });
}

#[test]
fn loses_and_doubles_nothing_across_a_restart() {
    let node = Node::start(&NodeOptions::default());
    keep_ledger(&node, |progress| {
        progress.wait(60);
        node.stop();
        node.launch();
        progress.wait(60);
    });
}

/// Lets clients write while something happens; the fate of every write.
fn write_while(
    target: &Target,
    clients: u64,
    event: impl Fn(&Progress<'_>),
) -> BTreeMap<u64, Fate> {
    let over = AtomicBool::new(false);
    let (next, done) = (AtomicU64::new(1), AtomicU64::new(0));
    thread::scope(|scope| {
        let writers: Vec<_> = (0..clients)
            .map(|client| {
                let (over, next, done) = (&over, &next, &done);
                scope.spawn(move || write_until_over(target, client, over, next, done))
            })
            .collect();
        event(&Progress(&done));
        over.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("a writer goes on"))
            .collect()
    })
}

/// Writes row after row, in several ways; the fate of each.
fn write_until_over(
    target: &Target,
    client: u64,
    over: &AtomicBool,
    next: &AtomicU64,
    done: &AtomicU64,
) -> Vec<(u64, Fate)> {
    let mut fates = Vec::new();
    let mut wire = patient(target);
    while !over.load(Ordering::Relaxed) {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let insert = format!("insert into ledger values ({id})");
        let (bytes, ready) = match (client + id) % 3 {
            0 => (query(&insert), 1),
            1 => (
                extended("insert into ledger values ($1)", &[Some(&id.to_string())]),
                1,
            ),
            _ => (
                [query("begin"), query(&insert), query("commit")].concat(),
                3,
            ),
        };
        let (fate, alive) = write_once(&mut wire, &bytes, ready);
        fates.push((id, fate));
        done.fetch_add(u64::from(fate == Fate::Acknowledged), Ordering::Relaxed);
        if !alive {
            wire = patient(target);
        }
    }
    fates
}

/// Sends one write and says what became of it, and whether the connection lives.
fn write_once(wire: &mut Wire, bytes: &[u8], ready: usize) -> (Fate, bool) {
    if wire.try_send(bytes).is_err() {
        return (Fate::Unknown, false);
    }
    let mut reply = Reply::default();
    let mut count = 0;
    while count < ready {
        match wire.try_frame(Duration::from_secs(30)) {
            Ok(Some(frame)) => {
                count += usize::from(frame.tag == b'Z');
                reply.frames.push(frame);
            }
            Ok(None) => break,
            Err(error) => panic!("no answer ({error}) after {}", reply.tags()),
        }
    }
    for code in reply.sqlstates() {
        let known = OUTAGE.contains(&&code[..]) || code == "25P02";
        assert!(known, "{:?}", reply.error());
    }
    let clean = count == ready && reply.error().is_none() && reply.status() == Some('I');
    (
        if clean {
            Fate::Acknowledged
        } else {
            Fate::Unknown
        },
        count == ready,
    )
}

/// Compares the fates with what the node has.
fn check_ledger(node: &Node, fates: &BTreeMap<u64, Fate>, name: &str) {
    let column = node
        .admin("postgres")
        .query("select id from ledger")
        .column();
    let ids: Vec<u64> = column
        .iter()
        .map(|id| id.parse().expect("a number"))
        .collect();
    let there: BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!(
        there.len(),
        ids.len(),
        "{name}: something was written twice"
    );
    let acknowledged: BTreeSet<u64> = fates
        .iter()
        .filter(|(_, fate)| **fate == Fate::Acknowledged)
        .map(|(id, _)| *id)
        .collect();
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(
        lost.is_empty(),
        "{name}: {} acknowledged writes are gone: {lost:?}",
        lost.len()
    );
    assert!(
        there.iter().all(|id| fates.contains_key(id)),
        "{name}: rows that nobody wrote"
    );
    assert!(
        acknowledged.len() > 100,
        "{name}: only {} writes went through",
        acknowledged.len()
    );
}

#[test]
fn waits_for_a_node_that_hangs_and_goes_on() {
    let node = Node::start(&NodeOptions::default());
    for place in places(
        &node,
        &ProxyOptions {
            connections_max: 4,
            ..Default::default()
        },
    ) {
        let mut clients: Vec<Wire> = (0..10).map(|_| patient(&place.target)).collect();
        clients
            .iter_mut()
            .for_each(|client| assert_eq!(client.value("select 1"), "1"));
        node.freeze();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&query(&format!("select 'client {number}'")));
        }
        thread::sleep(Duration::from_millis(700));
        for client in &mut clients {
            assert_eq!(client.during(Duration::from_millis(1)).tags(), "");
        }
        node.thaw();
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.until_ready(1).value(), format!("client {number}"));
        }
    }
}

#[test]
fn frees_an_upstream_that_a_hanging_client_vanished_from() {
    let node = Node::start(&NodeOptions::default());
    for place in places(
        &node,
        &ProxyOptions {
            connections_max: 2,
            ..Default::default()
        },
    ) {
        node.execute("drop table if exists t; create table t (v int)");
        for round in 0..10 {
            let mut client = patient(&place.target);
            client.send(&match round % 5 {
                0 => query("begin; insert into t values (1)"),
                1 => query("select pg_sleep(0.1)"),
                2 => query("select repeat('x', 1000000)"),
                3 => [query("begin"), query("lock table t")].concat(),
                _ => extended("select 1", &[])[..20].to_vec(),
            });
            thread::sleep(Duration::from_millis(15 * (round % 3)));
            client.vanish();
        }
        let mut client = patient(&place.target);
        let begin = Instant::now();
        assert_eq!(
            client
                .query("begin; insert into t values (2); commit")
                .status(),
            Some('I')
        );
        assert_eq!(client.value("select count(*) from t"), "1");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn finishes_the_write_of_a_client_that_left() {
    let node = Node::start(&NodeOptions::default());
    for place in places(
        &node,
        &ProxyOptions {
            connections_max: 2,
            ..Default::default()
        },
    ) {
        node.execute("drop table if exists t; create table t (v int)");
        let mut client = patient(&place.target);
        client.value("select 1");
        client.send(&query("insert into t select 1 from pg_sleep(0.2)"));
        thread::sleep(Duration::from_millis(80));
        client.vanish();
        let mut other = patient(&place.target);
        let found = wait_for(Duration::from_secs(10), || {
            (other.value("select count(*) from t") == "1").then_some(())
        });
        assert!(
            found.is_some(),
            "PostgreSQL finishes what runs, and so must we"
        );
    }
}

/// The proxies among the places, for what only a proxy does.
fn proxies(node: &Node, options: &ProxyOptions) -> Vec<(Proxy, Place)> {
    let split = |mut place: Place| place.proxy.take().map(|proxy| (proxy, place));
    places(node, options)
        .into_iter()
        .filter_map(split)
        .collect()
}

#[test]
fn keeps_idle_clients_across_a_restart_of_the_node() {
    let node = Node::start(&NodeOptions::default());
    for (_proxy, place) in proxies(&node, &ProxyOptions::default()) {
        let mut clients: Vec<Wire> = (0..8).map(|_| patient(&place.target)).collect();
        clients.iter_mut().for_each(|client| {
            client.query("set datestyle = 'German'");
        });
        node.stop();
        node.launch();
        for client in &mut clients {
            assert_eq!(client.value("show datestyle"), "German, DMY");
            assert_eq!(client.query("begin; select 1; commit").sqlstate(), "");
        }
    }
}

#[test]
fn reads_again_when_an_idle_upstream_was_terminated() {
    let node = Node::start(&NodeOptions::default());
    for (_proxy, place) in proxies(&node, &ProxyOptions::default()) {
        let mut client = patient(&place.target);
        for _ in 0..10 {
            assert_eq!(client.value("select 'read'"), "read");
            node.admin("template1").query(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'postgres'",
            );
        }
    }
}

#[test]
fn tells_a_session_with_state_that_its_upstream_is_gone() {
    let node = Node::start(&NodeOptions::default());
    for (_proxy, place) in proxies(&node, &ProxyOptions::default()) {
        let mut client = patient(&place.target);
        client.query("create temp table t (v int)");
        node.admin("template1").query(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'postgres'",
        );
        // As direct: the session's state is lost, so the session is over.
        let reply = client.until_end();
        assert_eq!(reply.sqlstate(), "57P01", "{}", reply.tags());
        let mut client = patient(&place.target);
        client.query("begin");
        node.crash();
        let reply = client.until_end();
        assert!(
            OUTAGE.contains(&&reply.sqlstate()[..]),
            "{:?}",
            reply.error()
        );
        node.launch();
    }
}

#[test]
fn says_that_nobody_listens_at_the_upstream() {
    if std::env::var_os("MANIFOLD_TESTS_DIRECT").is_some() {
        return;
    }
    for driver in Driver::ALL {
        let nowhere = format!("postgres://127.0.0.1:{}", free_port());
        let options = ProxyOptions {
            driver,
            limits: vec!["queue_wait_max = \"1s\"".to_owned()],
            ..Default::default()
        };
        let proxy = Proxy::start_before(&nowhere, &options);
        let reply = Wire::login(&proxy.target(), &login()).expect_err("no node");
        let error = reply.error().expect("an error that says so");
        assert!(["08006", "08001"].contains(&&error[&'C'][..]), "{error:?}");
        assert_eq!(error[&'S'], "FATAL");
        assert!(
            error[&'M'].contains("test"),
            "the service is named: {error:?}"
        );
    }
}

#[test]
fn says_which_limit_a_request_waited_for() {
    let node = Node::start(&NodeOptions::default());
    let options = ProxyOptions {
        connections_max: 1,
        limits: vec!["queue_wait_max = \"500ms\"".to_owned()],
        ..Default::default()
    };
    for (_proxy, place) in proxies(&node, &options) {
        let mut holder = patient(&place.target);
        let mut waiter = patient(&place.target);
        // The first look at the catalog is waited for as well, and may take longer.
        let begun = || (holder.query("begin").commands() == ["BEGIN"]).then_some(());
        wait_for(Duration::from_secs(30), begun).expect("a transaction");
        let reply = waiter.query("select 1");
        let error = reply.error().expect("an error");
        assert_eq!(error[&'C'], "53300");
        assert!(format!("{error:?}").contains("queue_wait_max"), "{error:?}");
        holder.query("commit");
        assert_eq!(waiter.value("select 2"), "2");
    }
}

#[test]
fn finishes_transactions_after_sigterm() {
    let node = Node::start(&NodeOptions::default());
    for (proxy, place) in proxies(&node, &ProxyOptions::default()) {
        node.execute("drop table if exists t; create table t (v int)");
        let mut busy = patient(&place.target);
        let mut idle = patient(&place.target);
        let mut running = patient(&place.target);
        busy.query("begin; insert into t values (1)");
        running.send(&query("select pg_sleep(0.8), 'done'"));
        idle.value("select 1");
        thread::sleep(Duration::from_millis(100));
        proxy.signal(libc::SIGTERM);
        assert_eq!(idle.until_end().sqlstate(), "57P01");
        let late = Wire::open(&place.target).ok().map(|mut wire| {
            let _ = wire.try_send(&startup(3 << 16, &login().parameters));
            wire.during(Duration::from_millis(200))
        });
        assert!(
            late.is_none_or(|reply| reply.status().is_none()),
            "nobody new is let in"
        );
        assert_eq!(busy.query("insert into t values (2)").status(), Some('T'));
        assert_eq!(running.until_ready(1).sqlstate(), "");
        assert_eq!(busy.query("commit").status(), Some('I'));
        assert_eq!(busy.until_end().sqlstate(), "57P01");
        assert_eq!(running.until_end().sqlstate(), "57P01");
        let status = proxy
            .wait(Duration::from_secs(10))
            .expect("it ends when all is done");
        assert!(status.success(), "{status}");
        assert_eq!(node.admin("postgres").value("select count(*) from t"), "2");
    }
}

#[test]
fn stops_at_once_when_interrupted_twice() {
    let node = Node::start(&NodeOptions::default());
    for (proxy, place) in proxies(&node, &ProxyOptions::default()) {
        let mut busy = patient(&place.target);
        busy.query("begin");
        proxy.signal(libc::SIGINT);
        thread::sleep(Duration::from_millis(200));
        assert!(proxy.is_running());
        proxy.signal(libc::SIGINT);
        assert!(
            proxy.wait(Duration::from_secs(5)).is_some(),
            "twice is at once"
        );
    }
}

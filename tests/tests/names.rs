//! Names that lead elsewhere while clients work: nothing fails, what is new goes to the new address,
//! and what leads to the old one ends with what is on it.
//!
//! The node has two addresses of loopback, so that only the name changes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::names::{Says, Zone};
use manifold_tests::harness::process::{self, wait_for};
use manifold_tests::harness::proxy::Proxy;
use manifold_tests::harness::{Driver, Login, Node, NodeOptions, ProxyOptions, Wire};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// By when what is new has to lead to the new address, with a TTL of a second.
const FOLLOWED_WITHIN: Duration = Duration::from_millis(1_500);

fn leads_to(address: Ipv4Addr) -> Says {
    Says::Addresses(vec![IpAddr::V4(address)], 1)
}

fn node() -> Node {
    let everywhere = format!("{FIRST},{SECOND}");
    Node::start(&NodeOptions {
        settings: vec![("listen_addresses".to_owned(), everywhere)],
        access: vec!["host all all 127.0.0.0/8 trust".to_owned()],
    })
}

fn options(names: &Zone, driver: Driver) -> ProxyOptions {
    ProxyOptions {
        driver,
        connections_max: 6,
        shards: 2,
        head: vec![
            "log = \"info\"\n[dns]".to_owned(),
            format!("nameservers = [\"{}\"]", names.address()),
        ],
        ..ProxyOptions::default()
    }
}

/// Connections that the node has accepted at an address and not closed.
fn established(address: Ipv4Addr, port: u16) -> usize {
    process::established(SocketAddr::from((address, port)))
}

/// Works until it is over. Says how often it was answered; panics at the first error.
fn work(proxy: &Proxy, over: &AtomicBool) -> u64 {
    let mut wire =
        Wire::login(&proxy.target(), &Login::new("postgres", "postgres")).expect("login");
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        for text in [
            "select 1",
            "insert into ledger values (1)",
            "begin; select count(*) from ledger; commit",
        ] {
            let reply = wire.query(text);
            assert!(reply.error().is_none(), "{text}: {:?}", reply.error());
            done += 1;
        }
    }
    done
}

#[test]
fn follows_a_name_without_an_error() {
    let node = node();
    node.execute("create table ledger (id int)");
    for driver in Driver::ALL {
        let names = Zone::start(leads_to(FIRST));
        let upstream = format!("postgres://db.test:{}", node.port());
        let proxy = Proxy::start_before(&upstream, &options(&names, driver));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..20)
                .map(|_| scope.spawn(|| work(&proxy, &over)))
                .collect();
            thread::sleep(Duration::from_millis(500));
            assert!(established(FIRST, node.port()) > 0 && established(SECOND, node.port()) == 0);
            names.say(leads_to(SECOND));
            let changed = Instant::now();
            let followed = wait_for(Duration::from_secs(10), || {
                (established(SECOND, node.port()) > 0).then(|| changed.elapsed())
            });
            let drained = wait_for(Duration::from_secs(10), || {
                (established(FIRST, node.port()) == 0).then(|| changed.elapsed())
            });
            over.store(true, Ordering::Relaxed);
            let done: u64 = workers
                .into_iter()
                .map(|it| it.join().expect("no error"))
                .sum();
            println!(
                "{}: new connections after {followed:?}, old ones drained after {drained:?}, \
                 {done} requests, 0 errors",
                driver.name()
            );
            assert!(
                followed.is_some_and(|time| time < FOLLOWED_WITHIN),
                "{followed:?}"
            );
            assert!(drained.is_some(), "{}", proxy.log());
            assert!(
                established(SECOND, node.port()) <= 6,
                "connections_max holds"
            );
        });
    }
}

#[test]
fn keeps_what_is_known_while_name_servers_fail() {
    let node = node();
    let names = Zone::start(leads_to(FIRST));
    let upstream = format!("postgres://db.test:{}", node.port());
    let proxy = Proxy::start_before(&upstream, &options(&names, Driver::Epoll));
    let mut admin = node.admin("postgres");
    let first = Wire::login(&proxy.target(), &Login::new("postgres", "postgres"));
    assert!(first.is_ok(), "it is known then");
    for says in [Says::NoSuchName, Says::Failure, Says::Nothing] {
        names.say(says.clone());
        let asked = names.asked();
        let asked = wait_for(Duration::from_secs(20), || {
            (names.asked() > asked + 4).then_some(())
        });
        assert!(asked.is_some(), "{says:?}: nobody asks");
        // All that there was is lost, and what is new has to find its way.
        admin.query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where backend_type = 'client backend' and pid <> pg_backend_pid()",
        );
        let login = Login::new("postgres", "postgres");
        let mut wire = Wire::login(&proxy.target(), &login).expect("login");
        let reply = wire.query("select 1");
        assert!(reply.error().is_none(), "{says:?}: {:?}", reply.error());
    }
    assert!(
        proxy.log().contains("what was known stands"),
        "{}",
        proxy.log()
    );
}

#[test]
fn says_which_name_has_no_address() {
    let names = Zone::start(Says::NoSuchName);
    let proxy = Proxy::start_before("postgres://db.test:5432", &options(&names, Driver::Epoll));
    let refused = Wire::login(&proxy.target(), &Login::new("postgres", "postgres"));
    let reply = refused.expect_err("nobody can be reached");
    let error = format!("{:?}", reply.error());
    assert!(error.contains("no address"), "{error}");
    assert!(
        proxy.log().contains("\"db.test\" has no address"),
        "{}",
        proxy.log()
    );
}

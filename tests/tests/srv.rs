//! Services that SRV records list: who comes first, what happens when the records change, and what
//! a service that is decidedly not there means for clients.
//!
//! Two independent nodes, each on a port of its own. Each knows its own name, which clients ask for
//! to see where they have got.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::names::{Says, Services, Zone};
use manifold_tests::harness::process::{established, free_port, wait_for};
use manifold_tests::harness::proxy::Proxy;
use manifold_tests::harness::{
    Driver, Login, Node, NodeOptions, ProxyOptions, RedisNode, Resp, Wire,
};

/// By when what is new has to lead elsewhere, with a TTL of a second for records and hosts.
const FOLLOWED_WITHIN: Duration = Duration::from_millis(2_500);

/// Clients that work meanwhile.
const CLIENTS: usize = 20;

const UPSTREAM: &str = "postgres+srv://_postgresql._tcp.db.test";

fn node(name: &str) -> Node {
    let node = Node::start(&NodeOptions::default());
    node.execute(&format!(
        "create table ledger (id int); create table whoami as select '{name}'::text as name"
    ));
    node
}

/// Records with priority, weight, port and target; both hosts are here.
fn services(records: &[(u16, u16, u16, &'static str)]) -> Says {
    Says::Services(Services {
        records: records.to_vec(),
        hosts: ["a.test.", "b.test."]
            .map(|host| (host, Ipv4Addr::LOCALHOST))
            .to_vec(),
        ttl: 1,
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

fn connect(proxy: &Proxy) -> Wire {
    Wire::login(&proxy.target(), &Login::new("postgres", "postgres"))
        .unwrap_or_else(|reply| panic!("{reply:?}\n{}", proxy.log()))
}

/// Which node a new client gets to.
fn whoami(proxy: &Proxy) -> String {
    let reply = connect(proxy).query("select name from whoami");
    assert!(reply.error().is_none(), "{:?}", reply.error());
    reply.value()
}

/// Works until it is over. Says how often it was answered; panics at the first error.
fn work(proxy: &Proxy, over: &AtomicBool) -> u64 {
    let mut wire = connect(proxy);
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        for text in [
            "select 1",
            "insert into ledger values (1)",
            "begin; select count(*) from ledger; commit",
        ] {
            let reply = wire.query(text);
            let error = reply.error();
            assert!(error.is_none(), "{text}: {error:?}\n{}", proxy.log());
            done += 1;
        }
    }
    done
}

/// Waits for something, and says how long that took.
fn since(changed: Instant, is_so: impl Fn() -> bool) -> Option<Duration> {
    wait_for(Duration::from_secs(10), || {
        is_so().then(|| changed.elapsed())
    })
}

#[test]
fn goes_to_the_first_priority_and_follows_its_records_without_an_error() {
    let [first, second] = [node("n0"), node("n1")];
    for driver in Driver::ALL {
        // Neither name, nor port, nor weight, nor the order in the answer says who is first.
        let [fore, back] = [
            (10, 1, first.port(), "b.test."),
            (20, 9, second.port(), "a.test."),
        ];
        let names = Zone::start(services(&[back, fore]));
        let proxy = Proxy::start_before(UPSTREAM, &options(&names, driver));
        assert_eq!(whoami(&proxy), "n0");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| work(&proxy, &over)))
                .collect();
            // Another order of the same records is nothing new.
            names.say(services(&[fore, back]));
            thread::sleep(Duration::from_millis(1_500));
            assert_eq!(established(second.address()), 0);
            names.say(services(&[back]));
            let changed = Instant::now();
            let followed = since(changed, || established(second.address()) > 0);
            let drained = since(changed, || established(first.address()) == 0);
            over.store(true, Ordering::Relaxed);
            let done = workers.into_iter().map(|it| it.join().expect("no error"));
            let done: u64 = done.sum();
            println!(
                "{}: new connections after {followed:?}, old ones drained after {drained:?}, \
                 {done} requests, 0 errors",
                driver.name()
            );
            let is_soon = followed.is_some_and(|time| time < FOLLOWED_WITHIN);
            assert!(is_soon && drained.is_some(), "{}", proxy.log());
        });
        assert_eq!(whoami(&proxy), "n1");
        let turns = proxy.log().matches("its requests go to").count();
        assert!(turns <= 3, "{}", proxy.log());
    }
}

#[test]
fn tries_the_next_priority_when_the_first_cannot_be_had() {
    let node = node("n0");
    let names = Zone::start(services(&[
        (1, 0, 5432, "nobody.test."),
        (2, 0, free_port(), "b.test."),
        (3, 0, node.port(), "a.test."),
    ]));
    let proxy = Proxy::start_before(UPSTREAM, &options(&names, Driver::Epoll));
    assert_eq!(whoami(&proxy), "n0");
    let log = proxy.log();
    assert!(log.contains("\"nobody.test.\" has no address"), "{log}");
}

#[test]
fn keeps_what_is_known_while_name_servers_fail() {
    let node = node("n0");
    let names = Zone::start(services(&[(1, 1, node.port(), "a.test.")]));
    let proxy = Proxy::start_before(UPSTREAM, &options(&names, Driver::Epoll));
    assert_eq!(whoami(&proxy), "n0");
    for says in [Says::NoSuchName, Says::Failure, Says::Nothing] {
        names.say(says.clone());
        let asked = names.asked();
        let asked = wait_for(Duration::from_secs(20), || {
            (names.asked() > asked + 6).then_some(())
        });
        assert!(asked.is_some(), "{says:?}: nobody asks");
        // All that there was is lost, and what is new has to find its way.
        node.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where backend_type = 'client backend' and pid <> pg_backend_pid()",
        );
        assert_eq!(whoami(&proxy), "n0", "{says:?}");
    }
    let log = proxy.log();
    let said = "\"_postgresql._tcp.db.test\" has no SRV record; what was known stands";
    assert!(log.contains(said), "{log}");
}

#[test]
fn holds_requests_while_the_service_is_decidedly_not_there() {
    let node = node("n0");
    let record = (1, 1, node.port(), "a.test.");
    let names = Zone::start(services(&[record]));
    let mut options = options(&names, Driver::Epoll);
    let proxy = Proxy::start_before(UPSTREAM, &options);
    assert_eq!(whoami(&proxy), "n0");
    names.say(services(&[(0, 0, 0, ".")]));
    let left = since(Instant::now(), || established(node.address()) == 0);
    assert!(left.is_some(), "{}", proxy.log());
    let said = "\"_postgresql._tcp.db.test\" says that there is no such service";
    assert!(proxy.log().contains(said), "{}", proxy.log());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| whoami(&proxy));
        thread::sleep(Duration::from_millis(700));
        assert!(!waiting.is_finished(), "it waits");
        names.say(services(&[record]));
        assert_eq!(waiting.join().expect("no error"), "n0");
    });
    // Who waits in vain is told why, where there never was anybody, too.
    names.say(services(&[(0, 0, 0, ".")]));
    options.limits.push("hold_max = \"1s\"".to_owned());
    let proxy = Proxy::start_before(UPSTREAM, &options);
    let refused = Wire::login(&proxy.target(), &Login::new("postgres", "postgres"));
    let error = format!("{:?}", refused.expect_err("nobody is there").error());
    assert!(error.contains("no node leads"), "{error}");
}

#[test]
fn leads_to_a_redis() {
    let redis = RedisNode::plain();
    let names = Zone::start(services(&[(1, 1, redis.address().port(), "a.test.")]));
    let upstream = "redis+srv://_redis._tcp.cache.test";
    let proxy = Proxy::start_before(upstream, &options(&names, Driver::Epoll));
    let mut client = Resp::open(proxy.address()).expect("it accepts");
    client.expect("PING", "+PONG\r\n");
}

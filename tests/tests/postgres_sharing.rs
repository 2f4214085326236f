//! Many clients on few upstreams: everybody gets all of his own bytes and none of anybody else's.
//!
//! Every request carries a token of its client and round, and every reply is checked against it.
//! The node counts the connections meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use manifold_tests::harness::frames::{
    bind, execute, extended, flush, parse, query, run_prepared, sync,
};
use manifold_tests::harness::{Login, Node, Place, Proxy, ProxyOptions, Target, Wire, places};

/// A small generator of numbers, so that a failing run can be run again.
struct Dice(u64);

impl Dice {
    /// The next number below a bound.
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn gives_200_clients_on_4_connections_their_own_bytes() {
    for place in places(
        Node::shared(),
        &ProxyOptions {
            connections_max: 4,
            ..Default::default()
        },
    ) {
        share(&place, 200, 25, 4);
    }
}

#[test]
fn gives_60_clients_on_2_shards_their_own_bytes() {
    for place in places(
        Node::shared(),
        &ProxyOptions {
            connections_max: 8,
            shards: 2,
            ..Default::default()
        },
    ) {
        share(&place, 60, 60, 8);
    }
}

#[test]
fn gives_20_clients_on_1_connection_their_own_bytes() {
    for place in places(
        Node::shared(),
        &ProxyOptions {
            connections_max: 1,
            ..Default::default()
        },
    ) {
        share(&place, 20, 40, 1);
    }
}

/// Lets clients work and counts the connections meanwhile.
fn share(place: &Place, clients: u64, rounds: u64, connections_max: u64) {
    let node = Node::shared();
    let database = node.database();
    let mut direct = node.admin(&database);
    direct.query("create table ledger (client int, round int)");
    let over = AtomicBool::new(false);
    let login = Login::new("postgres", &database);
    thread::scope(|scope| {
        let counter = scope.spawn(|| count_connections(node, &database, &over));
        let all: Vec<_> = (1..=clients)
            .map(|client| {
                scope.spawn({
                    let login = &login;
                    move || work(&place.target, login, client, rounds)
                })
            })
            .collect();
        let ends: Vec<_> = all.into_iter().map(|client| client.join()).collect();
        // Whatever became of the clients, the counter has to end.
        over.store(true, Ordering::Relaxed);
        let writes: u64 = ends
            .into_iter()
            .map(|end| end.expect("only its own bytes"))
            .sum();
        let most = counter.join().expect("the node answers");
        assert!(
            most <= connections_max || place.proxy.is_none(),
            "{most} connections, {connections_max} allowed"
        );
        assert_eq!(
            direct.value("select count(*) from ledger"),
            writes.to_string()
        );
        let doubled = "select count(*) from (select 1 from ledger group by client, round having count(*) > 1) d";
        assert_eq!(direct.value(doubled), "0");
    });
}

/// The most connections to a database that the node had at once, our own not counted.
fn count_connections(node: &Node, database: &str, over: &AtomicBool) -> u64 {
    let mut wire = node.admin("postgres");
    let sql = format!("select count(*) from pg_stat_activity where datname = '{database}'");
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        let count: u64 = wire.value(&sql).parse().expect("a count");
        // One is the test's own.
        most = most.max(count.saturating_sub(1));
        thread::sleep(Duration::from_millis(10));
    }
    most
}

/// One client's rounds; how many rows it has written.
fn work(target: &Target, login: &Login, client: u64, rounds: u64) -> u64 {
    let mut dice = Dice(client.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut wire = Wire::login(target, login).expect("a login");
    wire.send(
        &[
            parse("mine", &format!("select '{client}', $1::text"), &[]),
            sync(),
        ]
        .concat(),
    );
    wire.until_ready(1);
    let mut writes = 0;
    for round in 0..rounds {
        writes += act(&mut wire, &mut dice, client, round);
        if dice.roll(25) == 0 {
            // Leaves with a request in flight and comes back.
            wire.send(&query(&format!("select repeat('{client}', 5000)")));
            wire.vanish();
            wire = Wire::login(target, login).expect("a login");
            wire.send(
                &[
                    parse("mine", &format!("select '{client}', $1::text"), &[]),
                    sync(),
                ]
                .concat(),
            );
            wire.until_ready(1);
        }
    }
    writes
}

/// One round of one of many kinds; how many rows it has written.
fn act(wire: &mut Wire, dice: &mut Dice, client: u64, round: u64) -> u64 {
    let token = format!("{client}/{round}");
    let insert = format!("insert into ledger values ({client}, {round})");
    match dice.roll(10) {
        0 => assert_eq!(wire.value(&format!("select '{token}'")), token),
        1 => assert_eq!(
            wire.extended("select $1::text", &[Some(&token)]).value(),
            token
        ),
        2 => {
            wire.send(&run_prepared("mine", &[Some(&token)]));
            let row = wire.until_ready(1).rows().remove(0);
            assert_eq!(row, [Some(client.to_string()), Some(token)]);
        }
        3 => {
            let length = dice.roll(3_000) + 1;
            let value = wire.value(&format!("select repeat('{token};', {length})"));
            assert_eq!(
                value,
                format!("{token};").repeat(usize::try_from(length).expect("small"))
            );
        }
        4 => {
            assert_eq!(wire.query(&insert).commands(), ["INSERT 0 1"]);
            return 1;
        }
        5 => {
            let all = [
                query("begin"),
                query(&insert),
                query(&format!("select '{token}'")),
                query("commit"),
            ];
            wire.send(&all.concat());
            assert_eq!(wire.until_ready(4).value(), token);
            return 1;
        }
        6 => {
            let reply = wire.query(&format!("select '{token}'::int"));
            assert!(reply.error().expect("an error")[&'M'].contains(&token));
        }
        7 => {
            let name = format!("c{client}");
            assert_eq!(
                wire.query(&format!("set application_name = '{name}'"))
                    .sqlstate(),
                ""
            );
            assert_eq!(wire.value("show application_name"), name);
        }
        8 => {
            wire.send(&[parse("", "select $1::text", &[]), flush()].concat());
            wire.until(b'1');
            wire.send(&run_prepared("", &[Some(&token)]));
            assert_eq!(wire.until_ready(1).value(), token);
        }
        _ => {
            let units: Vec<u8> = (0..20)
                .flat_map(|i| match i % 3 {
                    0 => query(&format!("select '{token}.{i}'")),
                    1 => extended("select $1::text", &[Some(&format!("{token}.{i}"))]),
                    _ => run_prepared("mine", &[Some(&format!("{token}.{i}"))]),
                })
                .collect();
            wire.send(&units);
            let reply = wire.until_ready(20);
            for (i, row) in reply.rows().iter().enumerate() {
                let value = row.last().cloned().flatten();
                assert_eq!(value, Some(format!("{token}.{i}")));
            }
            assert_eq!(reply.rows().len(), 20);
        }
    }
    0
}

#[test]
fn keeps_settings_of_50_clients_apart() {
    for place in places(
        Node::shared(),
        &ProxyOptions {
            connections_max: 3,
            ..Default::default()
        },
    ) {
        let database = Node::shared().database();
        let login = Login::new("postgres", &database);
        thread::scope(|scope| {
            for client in 0..50_u64 {
                let (target, login) = (&place.target, &login);
                scope.spawn(move || {
                    let mut wire = Wire::login(target, login).expect("a login");
                    let style = ["ISO, DMY", "ISO, MDY", "SQL, DMY", "German"][client as usize % 4];
                    let shown = ["2024-02-01", "2024-01-02", "01/02/2024", "02.01.2024"]
                        [client as usize % 4];
                    let style = if client % 4 == 3 {
                        "German, MDY"
                    } else {
                        style
                    };
                    wire.query(&format!("set datestyle = '{style}'"));
                    wire.query(&format!("set app.tenant = 'tenant{client}'"));
                    for _ in 0..20 {
                        assert_eq!(wire.value("select '01/02/2024'::date"), shown);
                        let tenant = wire.extended("select current_setting('app.tenant')", &[]);
                        assert_eq!(tenant.value(), format!("tenant{client}"));
                    }
                });
            }
        });
    }
}

#[test]
fn serves_others_while_a_shared_read_waits_for_a_lock() {
    for connections_max in [1, 3] {
        let node = Node::shared();
        let options = ProxyOptions {
            connections_max,
            ..Default::default()
        };
        for place in places(node, &options) {
            let database = node.database();
            let mut direct = node.admin(&database);
            direct.query("create table t as select 7 as v");
            let login = Login::new("postgres", &database);
            let mut all: Vec<Wire> = (0..8)
                .map(|_| Wire::login(&place.target, &login).expect("a login"))
                .collect();
            // Both texts earn their place in a shared pipe.
            for wire in &mut all {
                assert_eq!(wire.value("select v from t"), "7");
                assert_eq!(wire.value("select 8"), "8");
            }
            direct.query("begin; lock table t in access exclusive mode");
            let (stuck, others) = all.split_at_mut(1);
            stuck[0].send(&query("select v from t"));
            for wire in &mut *others {
                wire.send(&query("select 8"));
            }
            for wire in &mut *others {
                let reply = wire.until_ready(1);
                assert_eq!(reply.value(), "8", "{connections_max} connections");
            }
            direct.query("commit");
            assert_eq!(stuck[0].until_ready(1).value(), "7");
        }
    }
}

/// How many leases a proxy has given, by its own count.
fn leases(proxy: &Proxy) -> u64 {
    // Counters are published now and then.
    thread::sleep(Duration::from_millis(1500));
    let lines = proxy.log().matches("leases ").count();
    proxy.signal(libc::SIGUSR1);
    for _ in 0..200 {
        let log = proxy.log();
        if log.matches("leases ").count() > lines {
            let (_, count) = log.rsplit_once("leases ").expect("it was just seen");
            let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
            return digits.parse().expect("a number");
        }
        thread::sleep(Duration::from_millis(25));
    }
    panic!("no line about leases:\n{}", proxy.log());
}

/// One statement of the extended protocol, without its Sync.
fn step(sql: &str, values: &[Option<&str>]) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", values), execute("", 0)].concat()
}

/// A transaction in each of the shapes that drivers send at once, and how many requests it is.
fn whole_transactions(token: &str) -> Vec<(Vec<u8>, usize)> {
    let insert = "insert into t values ($1)";
    let literal = query(&format!("insert into t values ('{token}')"));
    let requests = [
        query("begin"),
        literal,
        query("select count(*) from t"),
        query("commit"),
    ];
    let synced = [
        extended("start transaction", &[]),
        extended(insert, &[Some(token)]),
        extended("set local datestyle = 'German'", &[]),
        extended("savepoint one", &[]),
        extended(insert, &[Some(token)]),
        extended("end", &[]),
    ];
    let group = [
        step("begin", &[]),
        step(insert, &[Some(token)]),
        step("commit", &[]),
        sync(),
    ];
    let text = format!("begin; insert into t values ('{token}'); commit");
    vec![
        (requests.concat(), 4),
        (synced.concat(), 6),
        (group.concat(), 1),
        (query(&text), 1),
    ]
}

#[test]
fn sends_transaction_that_lies_in_buffer_without_lease() {
    let node = Node::shared();
    let options = ProxyOptions {
        connections_max: 2,
        head: vec!["log = \"info\"".to_owned()],
        ..Default::default()
    };
    for place in places(node, &options) {
        let database = node.database();
        let mut direct = node.admin(&database);
        direct.query("create table t (v text)");
        let login = Login::new("postgres", &database);
        let mut wire = Wire::login(&place.target, &login).expect("a login");
        let mut neighbour = Wire::login(&place.target, &login).expect("a login");
        let run = |wire: &mut Wire, token: &str| {
            for (bytes, count) in whole_transactions(token) {
                wire.send(&bytes);
                let reply = wire.until_ready(count);
                assert_eq!(reply.sqlstates(), [""; 0], "{}", place.name);
                assert_eq!(reply.status(), Some('I'));
            }
        };
        // What nobody has seen yet goes on a lease: on either connection it is prepared first.
        for _ in 0..6 {
            run(&mut wire, "warm");
        }
        let before = place.proxy.as_ref().map(leases);
        for round in 0..10 {
            run(&mut wire, "known");
            let text = format!("select 'neighbour {round}'");
            assert_eq!(neighbour.value(&text), format!("neighbour {round}"));
        }
        // All of them again, one behind the other, unread.
        let all = whole_transactions("known");
        let count = all.iter().map(|(_, count)| count).sum();
        wire.send(
            &all.into_iter()
                .flat_map(|(bytes, _)| bytes)
                .collect::<Vec<u8>>(),
        );
        wire.until_ready(count);
        assert_eq!(place.proxy.as_ref().map(leases), before, "{}", place.name);
        let known = direct.value("select count(*) from t where v = 'known'");
        assert_eq!(known, "55");
        assert_eq!(neighbour.value("show datestyle"), "ISO, MDY");
        // One that is not complete takes a lease as ever.
        wire.send(&[query("begin"), query("select count(*) from t")].concat());
        assert_eq!(wire.until_ready(2).status(), Some('T'));
        wire.query("rollback");
        let after = place.proxy.as_ref().map(leases);
        assert_eq!(after, before.map(|count| count + 1), "{}", place.name);
    }
}

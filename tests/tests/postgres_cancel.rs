//! Cancel: it reaches its own request, whatever state that is in, and nobody else's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::frames::{cancel_request, query};
use manifold_tests::harness::{
    Login, Node, ProxyOptions, Setup, Target, Wire, compare, compare_with, places,
};

/// Long enough that a test which waits for it has failed.
const FOREVER: &str = "select pg_sleep(25)";

/// Gives a request time to arrive.
fn settle() {
    thread::sleep(Duration::from_millis(400));
}

#[test]
fn cancels_a_running_request() {
    compare(|stage| {
        let mut a = stage.client("a");
        let begin = Instant::now();
        a.send(stage, "sleep", &query(FOREVER));
        settle();
        a.wire.cancel();
        assert_eq!(a.ready(stage, 1).sqlstate(), "57014");
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(a.query(stage, "select 'lives'").value(), "lives");
        a.query(stage, "begin");
        a.send(stage, "sleep in a transaction", &query(FOREVER));
        settle();
        a.wire.cancel();
        assert_eq!(a.ready(stage, 1).status(), Some('E'));
        a.query(stage, "rollback");
        assert_eq!(a.query(stage, "select 'lives'").value(), "lives");
    });
}

#[test]
fn cancels_only_the_first_of_pipelined_requests() {
    compare(|stage| {
        let mut a = stage.client("a");
        let all = [
            query(FOREVER),
            query("select 'second'"),
            query("select 'third'"),
        ]
        .concat();
        a.send(stage, "three requests", &all);
        settle();
        a.wire.cancel();
        let reply = a.ready(stage, 3);
        assert_eq!(reply.sqlstates(), ["57014"]);
        assert_eq!(reply.column(), ["second", "third"]);
    });
}

#[test]
fn cancels_nothing_when_the_session_is_idle() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        for _ in 0..5 {
            a.query(stage, "select 1");
            a.wire.cancel();
            thread::sleep(Duration::from_millis(50));
            assert_eq!(b.query(stage, "select pg_sleep(0.02), 'b'").sqlstate(), "");
            assert_eq!(a.query(stage, "select pg_sleep(0.02), 'a'").sqlstate(), "");
        }
    });
}

#[test]
fn cancels_a_request_that_waits_for_a_lock() {
    compare(|stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(
            stage,
            "create table t (id int primary key, v int); insert into t values (1, 1)",
        );
        a.query(stage, "begin; update t set v = 2");
        b.send(stage, "waits", &query("update t set v = 3 where id = 1"));
        settle();
        b.wire.cancel();
        assert_eq!(b.ready(stage, 1).sqlstate(), "57014");
        a.query(stage, "commit");
        assert_eq!(b.query(stage, "select v from t").value(), "2");
    });
}

#[test]
fn cancels_a_request_that_waits_for_an_upstream() {
    // Direct, the request runs; through the proxy it waits, because the only upstream is leased.
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "begin");
        b.send(stage, "sleep", &query(FOREVER));
        settle();
        let begin = Instant::now();
        b.wire.cancel();
        assert_eq!(b.wire.until_ready(1).sqlstate(), "57014");
        assert!(begin.elapsed() < Duration::from_secs(5));
        a.query(stage, "commit");
        assert_eq!(b.query(stage, "select 'b'").value(), "b");
    });
}

#[test]
fn cancels_a_request_that_stands_behind_a_neighbours() {
    // Sent behind a read that others may follow: the node must not run it to its end.
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let count = |rows: u32| query(&format!("select count(*) from generate_series(1, {rows})"));
        for _ in 0..20 {
            a.send(stage, "a short read", &count(10));
            a.ready(stage, 1);
        }
        a.send(stage, "a long read", &count(8_000_000));
        thread::sleep(Duration::from_millis(50));
        b.send(stage, "sleep", &query(FOREVER));
        thread::sleep(Duration::from_millis(200));
        let begin = Instant::now();
        b.wire.cancel();
        assert_eq!(b.wire.until_ready(1).sqlstate(), "57014");
        assert_eq!(a.ready(stage, 1).value(), "8000000");
        assert_eq!(b.query(stage, "select 'b'").value(), "b");
        assert!(begin.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn cancels_what_a_client_that_left_had_behind_a_neighbours() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let count = |rows: u32| query(&format!("select count(*) from generate_series(1, {rows})"));
        for _ in 0..20 {
            a.send(stage, "a short read", &count(10));
            a.ready(stage, 1);
        }
        // What a client leaves unread makes its end a reset, which is noticed at once.
        b.send(stage, "never read", &query("select 'unread'"));
        settle();
        a.send(stage, "a long read", &count(8_000_000));
        thread::sleep(Duration::from_millis(50));
        b.send(stage, "sleep", &query(FOREVER));
        thread::sleep(Duration::from_millis(200));
        let begin = Instant::now();
        drop(b);
        assert_eq!(a.ready(stage, 1).value(), "8000000");
        assert_eq!(a.query(stage, "select 'a'").value(), "a");
        assert!(begin.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn ignores_a_cancel_with_a_wrong_key() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.send(stage, "sleep", &query("select pg_sleep(0.6), 'done'"));
        settle();
        for (pid, secret) in [
            (a.wire.pid, a.wire.secret ^ 1),
            (a.wire.pid ^ 0x0101, a.wire.secret),
            (0, 0),
            (u32::MAX, u32::MAX),
        ] {
            let mut wire = Wire::open(&stage.target).expect("cancels are accepted");
            wire.send(&cancel_request(pid, secret));
            assert!(wire.has_ended(Duration::from_secs(10)));
        }
        assert_eq!(a.ready(stage, 1).sqlstate(), "");
    });
}

#[test]
fn cancels_what_a_copy_is_doing() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.send(
            stage,
            "copy out",
            &query("copy (select pg_sleep(25)) to stdout"),
        );
        settle();
        a.wire.cancel();
        assert_eq!(a.ready(stage, 1).sqlstate(), "57014");
        assert_eq!(a.query(stage, "select 'lives'").value(), "lives");
    });
}

#[test]
fn hits_nobody_else_under_load() {
    let node = Node::shared();
    let database = node.database();
    for place in places(
        node,
        &ProxyOptions {
            connections_max: 8,
            shards: 2,
            ..Default::default()
        },
    ) {
        let target = &place.target;
        let login = Login::new("postgres", &database);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let neighbours: Vec<_> = (0..6)
                .map(|number| {
                    scope.spawn({
                        let (login, over) = (&login, &over);
                        move || read_until_over(target, login, over, number)
                    })
                })
                .collect();
            let sleepers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| sleep_and_cancel(target, &login, 12)))
                .collect();
            let ends: Vec<_> = sleepers.into_iter().map(|sleeper| sleeper.join()).collect();
            // Whatever became of the sleepers, the neighbours have to end.
            over.store(true, Ordering::Relaxed);
            assert!(ends.iter().all(Result::is_ok), "every sleep is cancelled");
            for neighbour in neighbours {
                assert!(neighbour.join().expect("no neighbour is hit") > 0);
            }
        });
    }
}

/// Reads again and again; how often. It pauses in between: six that never do leave a node on two
/// cores so little time that single requests wait for seconds, direct or not.
fn read_until_over(target: &Target, login: &Login, over: &AtomicBool, number: usize) -> usize {
    let mut wire = Wire::login(target, login).expect("a login");
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let token = format!("{number}/{count}");
        let reply = wire.query(&format!("select '{token}'"));
        assert_eq!(reply.sqlstate(), "", "{:?}", reply.error());
        assert_eq!(reply.value(), token);
        count += 1;
        thread::sleep(Duration::from_millis(1));
    }
    count
}

/// Starts long requests and cancels each, with reads in between.
fn sleep_and_cancel(target: &Target, login: &Login, rounds: usize) {
    let mut wire = Wire::login(target, login).expect("a login");
    for round in 0..rounds {
        wire.send(&query(FOREVER));
        thread::sleep(Duration::from_millis(20 + 7 * round as u64));
        wire.cancel();
        assert_eq!(wire.until_ready(1).sqlstate(), "57014");
        assert_eq!(wire.value("select 'read'"), "read");
    }
}

//! The hazards 25 to 48 of sharing one PostgreSQL connection between clients, one test each.
//!
//! 41 and 42 need replicas, and belong to the suites that have them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::frames::{
    self, bind, describe_statement, execute, extended, parse, query, run_prepared, sync,
};
use manifold_tests::harness::process::wait_for;
use manifold_tests::harness::{
    Actor, Login, Node, NodeOptions, ProxyOptions, Setup, Stage, Target, Wire, compare_with, places,
};

/// Two clients on so many connections.
fn two(connections_max: u32, script: impl Fn(&mut Stage, &mut Actor, &mut Actor)) {
    compare_with(&Setup::connections(connections_max), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        script(stage, &mut a, &mut b);
    });
}

#[test]
fn hazard_25_ends_only_the_session_that_ends_itself() {
    two(2, |stage, a, b| {
        b.query(stage, "set datestyle = 'German'");
        a.send(
            stage,
            "suicide",
            &query("select pg_terminate_backend(pg_backend_pid())"),
        );
        let reply = a.end(stage);
        assert_eq!(reply.sqlstate(), "57P01");
        assert_eq!(b.query(stage, "show datestyle").value(), "German, DMY");
        let mut c = stage.client("c");
        c.send(
            stage,
            "self cancel",
            &query("select pg_cancel_backend(pg_backend_pid()), pg_sleep(1)"),
        );
        assert_eq!(c.ready(stage, 1).sqlstate(), "57014");
        assert_eq!(b.query(stage, "select 'unharmed'").value(), "unharmed");
    });
}

#[test]
fn hazard_26_drops_the_reply_of_a_client_that_vanished() {
    compare_with(&Setup::connections(1), |stage| {
        let mut b = stage.client("b");
        for round in 0..12 {
            let a = stage.client("a");
            let mut wire = a.wire;
            let rows = 1 + round * 3_000;
            wire.send(&query(&format!(
                "select 'secret of a' from generate_series(1, {rows})"
            )));
            wire.send(&extended("select 'secret of a'", &[])[..12]);
            wire.vanish();
            assert_eq!(b.query(stage, "select 'b'").column(), ["b"]);
        }
    });
}

#[test]
fn hazard_27_answers_right_or_with_an_error_when_upstreams_die_in_mid_pipe() {
    let node = Node::start(&NodeOptions::default());
    for place in places(
        &node,
        &ProxyOptions {
            connections_max: 2,
            ..Default::default()
        },
    ) {
        let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let readers: Vec<_> = (0..6)
                .map(|number| {
                    let (target, over, answered) = (&place.target, &over, &answered);
                    scope.spawn(move || read_through_deaths(target, number, over, answered))
                })
                .collect();
            let mut admin = node.admin("template1");
            for death in 0..8 {
                let goal = answered.load(Ordering::Relaxed) + 60;
                let go_on = || (answered.load(Ordering::Relaxed) >= goal).then_some(());
                let went_on = wait_for(Duration::from_secs(20), go_on).is_some();
                over.store(!went_on, Ordering::Relaxed);
                assert!(went_on, "{}: no answers after death {death}", place.name);
                admin.query(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'postgres'",
                );
            }
            over.store(true, Ordering::Relaxed);
            readers
                .into_iter()
                .for_each(|reader| reader.join().expect("only right answers"));
        });
    }
}

/// Reads in pipelines and counts the right answers.
fn read_through_deaths(target: &Target, number: usize, over: &AtomicBool, answered: &AtomicU64) {
    let login = Login::new("postgres", "postgres");
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        let Ok(mut wire) = Wire::login(target, &login) else {
            continue;
        };
        while !over.load(Ordering::Relaxed) {
            round += 1;
            let tokens: Vec<String> = (0..10).map(|i| format!("{number}.{round}.{i}")).collect();
            let units = tokens
                .iter()
                .flat_map(|token| query(&format!("select '{token}'")));
            if wire.try_send(&units.collect::<Vec<u8>>()).is_err() {
                break;
            }
            let mut ready = 0;
            while ready < 10 {
                let Ok(Some(frame)) = wire.try_frame(Duration::from_secs(20)) else {
                    break;
                };
                match frame.tag {
                    b'D' => {
                        assert_eq!(&frame.body[6..], tokens[ready].as_bytes());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    b'E' => {
                        assert!(
                            frame
                                .body
                                .windows(3)
                                .any(|code| code == b"57P" || code == b"080")
                        );
                    }
                    b'Z' => ready += 1,
                    _ => {}
                }
            }
            if ready < 10 {
                break;
            }
        }
    }
}

#[test]
fn hazard_28_serves_others_beside_a_huge_reply() {
    two(2, |stage, a, b| {
        let huge = query("select i, repeat('x', 500) from generate_series(1, 100000) i");
        a.send(stage, "50 MB", &huge);
        for _ in 0..40 {
            let begin = Instant::now();
            assert_eq!(b.query(stage, "select 'b'").value(), "b");
            assert!(
                begin.elapsed() < Duration::from_secs(2),
                "{:?}",
                begin.elapsed()
            );
        }
        assert_eq!(a.wire.until_ready(1).rows().len(), 100_000);
    });
}

#[test]
fn hazard_29_delays_nobody_behind_a_slow_statement() {
    two(2, |stage, a, b| {
        b.query(stage, "select 'warm'");
        a.send(stage, "slow", &query("select pg_sleep(4)"));
        let begin = Instant::now();
        for _ in 0..50 {
            assert_eq!(b.query(stage, "select 'fast'").value(), "fast");
        }
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{:?}",
            begin.elapsed()
        );
        a.ready(stage, 1);
    });
}

#[test]
fn hazard_30_keeps_applications_from_locking_themselves_up() {
    compare_with(&Setup::connections(4), |stage| {
        let mut holder = stage.client("holder");
        let mut waiter = stage.client("waiter");
        let mut reader = stage.client("reader");
        holder.query(
            stage,
            "create table t (id int primary key, v int); insert into t values (1, 0)",
        );
        holder.query(stage, "begin; update t set v = 1 where id = 1");
        waiter.send(
            stage,
            "waits for holder",
            &query("update t set v = v + 10 where id = 1"),
        );
        for _ in 0..20 {
            assert_eq!(
                reader.query(stage, "select v from t where id = 1").value(),
                "0"
            );
        }
        assert_eq!(holder.query(stage, "commit").status(), Some('I'));
        assert_eq!(waiter.ready(stage, 1).commands(), ["UPDATE 1"]);
        assert_eq!(reader.query(stage, "select v from t").value(), "11");
        // A plain read waits behind ALTER; others do not wait behind it.
        holder.query(stage, "begin; lock table t in access exclusive mode");
        waiter.send(stage, "a read that waits", &query("select v from t"));
        thread::sleep(Duration::from_millis(100));
        for _ in 0..20 {
            assert_eq!(
                reader.query(stage, "select 'not behind it'").value(),
                "not behind it"
            );
        }
        holder.query(stage, "rollback");
        assert_eq!(waiter.ready(stage, 1).value(), "11");
    });
}

#[test]
fn hazard_31_commits_writes_beside_one_that_waits() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let mut c = stage.client("c");
        a.query(
            stage,
            "create table t (id int primary key, v int); insert into t values (1, 0), (2, 0)",
        );
        a.query(stage, "begin; update t set v = 1 where id = 1");
        b.send(stage, "waits", &query("update t set v = 2 where id = 1"));
        for _ in 0..10 {
            assert_eq!(
                c.query(stage, "update t set v = v + 1 where id = 2")
                    .commands(),
                ["UPDATE 1"]
            );
        }
        a.query(stage, "commit");
        b.ready(stage, 1);
        assert_eq!(
            c.query(stage, "select v from t order by id").column(),
            ["2", "10"]
        );
    });
}

#[test]
fn hazard_32_shows_every_client_what_it_has_written() {
    for commit in ["on", "off"] {
        compare_with(&Setup::connections(4), |stage| {
            let mut a = stage.client("a");
            let mut b = stage.client("b");
            a.query(stage, "create table t (v int)");
            a.query(stage, &format!("set synchronous_commit = {commit}"));
            for i in 1..40 {
                let pair = [
                    query(&format!("insert into t values ({i})")),
                    query("select count(*) from t"),
                ];
                assert_eq!(
                    a.units(stage, "a pair", &pair.concat(), 2).value(),
                    i.to_string()
                );
                // Whoever hears of a commit sees it.
                assert_eq!(
                    b.query(stage, "select max(v) from t").value(),
                    i.to_string()
                );
            }
        });
    }
}

#[test]
fn hazard_33_applies_timeouts_to_their_own_client() {
    two(1, |stage, a, b| {
        a.query(stage, "set statement_timeout = '120ms'");
        for _ in 0..3 {
            assert_eq!(a.query(stage, "select pg_sleep(5)").sqlstate(), "57014");
            assert_eq!(b.query(stage, "select pg_sleep(0.2)").sqlstate(), "");
        }
        assert_eq!(b.query(stage, "show statement_timeout").value(), "0");
    });
    two(3, |stage, a, b| {
        a.query(stage, "create table t (v int)");
        b.query(stage, "begin; lock table t");
        a.query(stage, "set lock_timeout = '100ms'");
        assert_eq!(a.query(stage, "select * from t").sqlstate(), "55P03");
        b.query(stage, "commit");
        assert_eq!(a.query(stage, "select * from t").sqlstate(), "");
    });
}

#[test]
fn hazard_34_ends_a_session_idle_in_its_transaction_and_no_other() {
    two(2, |stage, a, b| {
        a.query(stage, "set idle_in_transaction_session_timeout = '200ms'");
        a.query(stage, "begin");
        thread::sleep(Duration::from_millis(50));
        b.query(stage, "begin");
        let reply = a.end(stage);
        assert_eq!(reply.sqlstate(), "25P03");
        thread::sleep(Duration::from_millis(250));
        assert_eq!(b.query(stage, "select 'still in it'").status(), Some('T'));
        b.query(stage, "commit");
    });
}

#[test]
fn hazard_35_lets_no_malformed_frame_through() {
    compare_with(&Setup::connections(1), |stage| {
        let mut b = stage.client("b");
        b.query(stage, "begin; rollback");
        for bytes in [
            frames::frame(b'?', b"x"),
            [&b"P"[..], &[0, 0, 0, 3]].concat(),
            frames::frame(b'B', b"\0\0\0\x01"),
            frames::frame(b'P', b"no terminator"),
        ] {
            let mut wire = Wire::login(&stage.target, &stage.login()).expect("a login");
            wire.send(&[bytes, sync()].concat());
            let reply = wire.until_end_or_idle();
            assert!(!reply.tags().contains('D'), "{}", reply.tags());
            assert_eq!(b.query(stage, "select 'unharmed'").value(), "unharmed");
        }
    });
}

#[test]
fn hazard_36_serves_others_while_a_large_request_dribbles_in() {
    two(2, |stage, a, b| {
        let value = "p".repeat(3_000_000);
        let unit = extended("select length($1::text)", &[Some(&value)]);
        for piece in unit.chunks(150_000) {
            a.wire.send(piece);
            thread::sleep(Duration::from_millis(5));
            let begin = Instant::now();
            assert_eq!(b.query(stage, "select 'b'").value(), "b");
            assert!(begin.elapsed() < Duration::from_secs(2));
        }
        assert_eq!(a.ready(stage, 1).value(), "3000000");
    });
}

#[test]
fn hazard_37_commits_a_function_call_by_itself() {
    two(3, |stage, a, b| {
        a.query(stage, "create table t (v text)");
        let sql = "create function put(text) returns text language sql as \
                   'insert into t values ($1) returning v'";
        a.query(stage, sql);
        let oid = a
            .wire
            .value("select 'put(text)'::regprocedure::oid")
            .parse()
            .expect("a number");
        let reply = a.units(stage, "put", &frames::function_call(oid, &["called"]), 1);
        assert_eq!((&reply.tags()[..], reply.status()), ("VZ", Some('I')));
        assert_eq!(b.query(stage, "select v from t").column(), ["called"]);
    });
}

#[test]
fn hazard_38_runs_alone_what_cannot_run_in_a_block() {
    two(2, |stage, a, b| {
        a.query(stage, "create table t (id int primary key)");
        a.extended(stage, "vacuum t", &[]);
        a.extended(stage, "create index concurrently i on t (id)", &[]);
        a.extended(stage, "reindex table concurrently t", &[]);
        let all = [
            extended("vacuum analyze t", &[]),
            query("vacuum t"),
            extended("select 1", &[]),
        ];
        a.send(stage, "pipelined", &all.concat());
        b.query(stage, "select 'b'");
        assert_eq!(a.ready(stage, 3).sqlstates().len(), 0);
        let after = [
            parse("", "select 1", &[]),
            bind("", "", &[]),
            execute("", 0),
        ]
        .concat();
        let vacuum = [
            parse("", "vacuum t", &[]),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ]
        .concat();
        a.units(stage, "behind another", &[after, vacuum].concat(), 1);
    });
}

#[test]
fn hazard_39_keeps_what_lives_in_one_process() {
    two(3, |stage, a, b| {
        a.query(stage, "select setseed(0.5)");
        b.query(stage, "select random() < 2");
        a.query(stage, "select random(), random()");
        a.query(stage, "begin isolation level repeatable read");
        let snapshot = a.wire.value("select pg_export_snapshot()");
        let import =
            format!("begin isolation level repeatable read; set transaction snapshot '{snapshot}'");
        b.wire.query(&import);
        assert_eq!(b.query(stage, "select 'imported'").status(), Some('T'));
        b.query(stage, "commit");
        a.query(stage, "commit");
        a.query(stage, "select txid_current_if_assigned() is null");
    });
}

#[test]
fn hazard_40_passes_changed_types_through() {
    two(2, |stage, a, b| {
        a.query(
            stage,
            "create type mood as enum ('ok'); create table t (m mood)",
        );
        let insert = [
            parse("s", "insert into t values ($1) returning m", &[]),
            describe_statement("s"),
            sync(),
        ];
        b.units(stage, "b prepares", &insert.concat(), 1);
        b.units(stage, "b inserts", &run_prepared("s", &[Some("ok")]), 1);
        assert_eq!(
            b.units(stage, "unknown", &run_prepared("s", &[Some("new")]), 1)
                .sqlstate(),
            "22P02"
        );
        a.query(stage, "alter type mood add value 'new'");
        assert_eq!(
            b.units(stage, "known", &run_prepared("s", &[Some("new")]), 1)
                .value(),
            "new"
        );
        a.query(stage, "alter table t alter m type text");
        a.query(stage, "drop type mood; create type mood as enum ('other')");
        assert_eq!(b.query(stage, "select 'other'::mood").value(), "other");
        b.query(stage, "select m from t order by m");
    });
}

#[test]
fn hazard_43_keeps_isolation_levels_apart() {
    two(2, |stage, a, b| {
        a.query(stage, "create table t (v int)");
        a.query(stage, "set default_transaction_isolation = 'serializable'");
        b.query(stage, "set default_transaction_read_only = on");
        for _ in 0..2 {
            assert_eq!(
                a.query(stage, "show transaction_isolation").value(),
                "serializable"
            );
            assert_eq!(
                b.query(stage, "show transaction_isolation").value(),
                "read committed"
            );
            assert_eq!(
                b.query(stage, "insert into t values (1)").sqlstate(),
                "25006"
            );
            assert_eq!(a.query(stage, "insert into t values (1)").sqlstate(), "");
        }
        a.query(stage, "begin");
        assert_eq!(
            a.query(stage, "show transaction_isolation").value(),
            "serializable"
        );
        a.query(stage, "rollback");
    });
}

#[test]
fn hazard_44_writes_under_the_clients_own_name() {
    compare_with(&Setup::connections(6), |stage| {
        let mut clients: Vec<Actor> = ["one", "two", "three"]
            .into_iter()
            .map(|name| {
                let login = stage.login().with("application_name", name);
                stage.client_with(name, &login)
            })
            .collect();
        clients[0].query(
            stage,
            "create table audit (who text); create table t (v int); \
             create function note() returns trigger language plpgsql as $$ begin \
             insert into audit values (current_setting('application_name')); return new; end $$; \
             create trigger noting before insert on t for each row execute function note()",
        );
        for _ in 0..3 {
            for client in &mut clients {
                client.query(stage, "insert into t values (1)");
                client.query(stage, "select 1");
            }
        }
        let sql = "select who, count(*) from audit group by who order by who";
        assert_eq!(
            clients[0].query(stage, sql).column(),
            ["one", "three", "two"]
        );
        let own = "select application_name from pg_stat_activity where pid = pg_backend_pid()";
        assert_eq!(clients[1].query(stage, own).value(), "two");
    });
}

#[test]
fn hazard_45_shares_no_plan_across_roles() {
    compare_with(&Setup::connections(3), |stage| {
        let mut a = stage.client("a");
        a.query(
            stage,
            "do $$ begin create role hazard_reader login; exception when duplicate_object then end $$; \
             create table t (v text); insert into t values ('shared'); create table secret (v text)",
        );
        a.query(stage, "grant select on t to hazard_reader");
        let login = Login::new("hazard_reader", &stage.database);
        let mut b = stage.client_with("b", &login);
        for name in ["t", "secret"] {
            let prepare = [
                parse(name, &format!("select v, current_user from {name}"), &[]),
                sync(),
            ]
            .concat();
            a.units(stage, "a prepares", &prepare, 1);
            b.units(stage, "b prepares", &prepare, 1);
            a.units(stage, "a runs", &run_prepared(name, &[]), 1);
            b.units(stage, "b runs", &run_prepared(name, &[]), 1);
        }
        let reply = b.units(stage, "b", &run_prepared("t", &[]), 1);
        assert_eq!(reply.rows()[0][1].as_deref(), Some("hazard_reader"));
        assert_eq!(b.query(stage, "select * from secret").sqlstate(), "42501");
        a.query(stage, "set role hazard_reader");
        assert_eq!(
            a.units(stage, "a as b", &run_prepared("secret", &[]), 1)
                .sqlstate(),
            "42501"
        );
        a.query(stage, "reset role");
        assert_eq!(
            a.units(stage, "a", &run_prepared("secret", &[]), 1)
                .sqlstate(),
            ""
        );
        drop(b);
        a.query(stage, "drop table t, secret");
    });
}

#[test]
fn hazard_46_runs_a_poisonous_statement_once() {
    two(2, |stage, a, b| {
        b.query(stage, "create sequence runs");
        let poison = "select nextval('runs'), pg_terminate_backend(pg_backend_pid())";
        a.send(stage, "poison", &query(poison));
        assert_eq!(a.end(stage).sqlstate(), "57P01");
        assert_eq!(b.query(stage, "select last_value from runs").value(), "1");
        let mut c = stage.client("c");
        c.send(stage, "poison, prepared", &extended(poison, &[]));
        assert_eq!(c.end(stage).sqlstate(), "57P01");
        assert_eq!(b.query(stage, "select last_value from runs").value(), "2");
    });
}

#[test]
fn hazard_47_forgets_statements_of_an_upstream_and_never_of_a_client() {
    let mut setup = Setup::connections(1);
    setup
        .proxy
        .limits
        .push("upstream_statements_max = 20".to_owned());
    compare_with(&setup, |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let prepare: Vec<u8> = (0..150)
            .flat_map(|i| {
                [
                    parse(&format!("s{i}"), &format!("select {i} as c{i}"), &[]),
                    sync(),
                ]
                .concat()
            })
            .collect();
        a.units(stage, "150 statements", &prepare, 150);
        let expected: Vec<String> = (0..150).map(|i| i.to_string()).collect();
        for _ in 0..2 {
            let run: Vec<u8> = (0..150)
                .flat_map(|i| run_prepared(&format!("s{i}"), &[]))
                .collect();
            a.send(stage, "run all", &run);
            assert_eq!(b.extended(stage, "select 'b'", &[]).value(), "b");
            assert_eq!(a.ready(stage, 150).column(), expected);
        }
    });
}

#[test]
fn hazard_48_keeps_two_deep_pipelines_apart() {
    two(1, |stage, a, b| {
        let round = |who: &str| -> Vec<u8> {
            (0..60)
                .flat_map(|i| match i % 6 {
                    0 => query(&format!("select '{who}'; select '{who}'")),
                    1 => extended(&format!("select '{who}'"), &[]),
                    2 => extended("select $1::text", &[Some(who)]),
                    3 => query(&format!("select repeat('{who}', 3000)")),
                    4 => query(&format!("select '{who}'::int")),
                    _ => [
                        parse("s", &format!("select '{who}'"), &[]),
                        frames::close_statement("s"),
                        sync(),
                    ]
                    .concat(),
                })
                .collect()
        };
        for _ in 0..4 {
            a.send(stage, "60 units", &round("a"));
            b.send(stage, "60 units", &round("b"));
            for (client, other) in [(&mut *a, 'b'), (&mut *b, 'a')] {
                let reply = client.ready(stage, 60);
                assert_eq!(reply.column().len(), 50);
                assert!(reply.column().iter().all(|value| !value.contains(other)));
            }
        }
    });
}

//! The hazards 1 to 24 of sharing one PostgreSQL connection between clients, one test each.
//!
//! Two clients on as few upstreams as their leases allow; what each sees is compared with direct.

use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::frames::{
    bind, copy_data, copy_done, describe_statement, execute, extended, flush, parse, query,
    run_prepared, sync,
};
use manifold_tests::harness::{Actor, Setup, Stage, compare_with};

/// Two clients on so many connections.
fn two(connections_max: u32, script: impl Fn(&mut Stage, &mut Actor, &mut Actor)) {
    compare_with(&Setup::connections(connections_max), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        script(stage, &mut a, &mut b);
    });
}

/// Parse, Bind and Execute without Sync.
fn open_unit(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

#[test]
fn hazard_01_joins_no_neighbour_to_a_unit_without_sync() {
    two(2, |stage, a, b| {
        a.query(stage, "create table t (v text)");
        a.send(
            stage,
            "insert, flush",
            &[open_unit("insert into t values ('a')"), flush()].concat(),
        );
        a.until(stage, b'C');
        assert_eq!(
            b.query(stage, "insert into t values ('b')").status(),
            Some('I')
        );
        a.send(
            stage,
            "error, flush",
            &[open_unit("select 1/0"), flush()].concat(),
        );
        a.until(stage, b'E');
        assert_eq!(b.query(stage, "select v from t").column(), ["b"]);
        a.units(stage, "sync", &sync(), 1);
        assert_eq!(a.query(stage, "select v from t").column(), ["b"]);
    });
}

#[test]
fn hazard_02_ends_the_skipping_at_the_units_own_sync() {
    two(1, |stage, a, b| {
        let failing = [
            open_unit("select 1"),
            open_unit("select 1/0"),
            open_unit("select 2"),
            describe_statement("never"),
            sync(),
        ];
        let all = [failing.concat(), extended("select 'next'", &[])]
            .concat()
            .repeat(10);
        a.send(stage, "10 times", &all);
        for _ in 0..5 {
            assert_eq!(b.extended(stage, "select 'b'", &[]).value(), "b");
        }
        let reply = a.ready(stage, 20);
        assert_eq!(reply.sqlstates(), ["22012"; 10]);
        assert_eq!(reply.column(), ["1", "next"].repeat(10));
    });
}

#[test]
fn hazard_03_sees_transaction_control_in_every_disguise() {
    two(2, |stage, a, b| {
        a.query(stage, "create table t (v text)");
        for begin in [
            "/* x /* nested */ */ begin",
            "select 1; begin",
            "-- comment\nBeGiN work",
            ";;begin",
            "start/**/transaction",
            "select $$;$$; select $x$ commit $x$; begin",
            "select 'it''s' ; start transaction",
            "commit; begin",
            "begin; commit and chain",
            "begin; savepoint s; release s",
        ] {
            assert_eq!(a.query(stage, begin).status(), Some('T'), "{begin}");
            a.query(stage, "insert into t values ('a')");
            b.query(stage, "insert into t values ('b')");
            assert_eq!(a.query(stage, "rollback").status(), Some('I'));
        }
        assert_eq!(b.query(stage, "select distinct v from t").column(), ["b"]);
    });
}

#[test]
fn hazard_04_reads_texts_as_the_node_does() {
    two(2, |stage, a, b| {
        a.query(
            stage,
            "set standard_conforming_strings = off; set escape_string_warning = off",
        );
        assert_eq!(
            a.query(stage, r"select 'a\'; begin; --'").status(),
            Some('I')
        );
        assert_eq!(
            b.query(stage, r"select 'a\'; begin; --'").status(),
            Some('T')
        );
        b.query(stage, "rollback");
        a.query(stage, "reset standard_conforming_strings");
        a.query(stage, "set client_encoding = 'SJIS'");
        // 0x83 0x5c is one character whose second byte looks like a backslash.
        let text = [
            &b"select '"[..],
            &[0x83, 0x5c],
            b"', length('",
            &[0x83, 0x5c],
            b"')\0",
        ]
        .concat();
        let unit = manifold_tests::harness::frames::frame(b'Q', &text);
        let reply = a.units(stage, "a trail byte", &unit, 1);
        assert_eq!(reply.rows()[0][1].as_deref(), Some("1"));
        assert_eq!(b.query(stage, "select 'ä'").value(), "ä");
    });
}

#[test]
fn hazard_05_leaves_procedures_that_commit_alone() {
    two(2, |stage, a, b| {
        a.query(stage, "create table t (v int)");
        a.query(
            stage,
            "create procedure p(n int) language plpgsql as $$ begin for i in 1..n loop \
             insert into t values (i); commit; end loop; insert into t values (99); rollback; \
             perform 1/0; end $$",
        );
        let calls = [
            query("call p(2)"),
            extended("call p(1)", &[]),
            query("select count(*) from t"),
        ];
        a.send(stage, "calls", &calls.concat());
        assert_eq!(b.query(stage, "select 'b'").value(), "b");
        let reply = a.ready(stage, 3);
        assert_eq!(reply.sqlstates(), ["22012", "22012"]);
        assert_eq!(
            b.query(stage, "select v from t order by v").column(),
            ["1", "1", "2"]
        );
    });
}

#[test]
fn hazard_06_keeps_settings_with_their_client() {
    two(1, |stage, a, b| {
        for value in ["1MB", "2MB", "3MB"] {
            a.query(stage, &format!("set work_mem = '{value}'"));
            b.query(stage, "set work_mem = '9MB'; set bytea_output = escape");
            let reads = [
                query("show work_mem"),
                extended("select current_setting('work_mem')", &[]),
            ];
            assert_eq!(
                a.units(stage, "reads", &reads.concat(), 2).column(),
                [value, value]
            );
            assert_eq!(a.query(stage, r"select '\x41'::bytea").value(), r"\x41");
            assert_eq!(b.query(stage, r"select '\x41'::bytea").value(), "A");
        }
        a.query(stage, "create table made (v text)");
        b.query(stage, "insert into made select current_setting('work_mem')");
        assert_eq!(a.query(stage, "select v from made").value(), "9MB");
    });
}

#[test]
fn hazard_07_notices_settings_that_functions_change() {
    two(2, |stage, a, b| {
        a.query(
            stage,
            "create function sly(v text) returns text language sql as \
             $$ select set_config('datestyle', v, false) $$; \
             create function slier(v text) returns text language plpgsql as \
             $$ begin execute 'set search_path = ' || v; return v; end $$; \
             create view sly_view as select sly('German') as v; create table t (v text); \
             create function on_insert() returns trigger language plpgsql as \
             $$ begin perform set_config('app.seen', new.v, false); return new; end $$; \
             create trigger seen before insert on t for each row execute function on_insert()",
        );
        a.query(stage, "select sly('SQL, DMY')");
        assert_eq!(
            b.query(stage, "select '2024-02-01'::date").value(),
            "2024-02-01"
        );
        assert_eq!(
            a.query(stage, "select '2024-02-01'::date").value(),
            "01/02/2024"
        );
        b.query(stage, "select v from sly_view");
        assert_eq!(
            b.query(stage, "select '2024-02-01'::date").value(),
            "01.02.2024"
        );
        assert_eq!(
            a.query(stage, "select '2024-02-01'::date").value(),
            "01/02/2024"
        );
        a.query(stage, "insert into t values ('mine')");
        b.query(stage, "insert into t values ('other')");
        assert_eq!(
            a.query(stage, "select current_setting('app.seen')").value(),
            "mine"
        );
        assert_eq!(
            b.query(stage, "select current_setting('app.seen')").value(),
            "other"
        );
        a.query(stage, "select slier('pg_catalog')");
        assert_eq!(a.query(stage, "select * from t").sqlstate(), "42P01");
        assert_eq!(b.query(stage, "select count(*) from t").value(), "2");
    });
}

#[test]
fn hazard_08_shows_each_tenant_its_own_rows() {
    compare_with(&Setup::connections(6), |stage| {
        let mut admin = stage.client("admin");
        admin.query(
            stage,
            "do $$ begin create role hazard_tenant login; exception when duplicate_object then end $$; \
             create table t (tenant text, v int); insert into t select 'x' || i % 3, i \
             from generate_series(1, 30) i; alter table t enable row level security; \
             create policy own on t using (tenant = current_setting('app.tenant', true)); \
             grant select on t to hazard_tenant",
        );
        let login = manifold_tests::harness::Login::new("hazard_tenant", &stage.database);
        let mut clients = [
            stage.client_with("x0", &login),
            stage.client_with("x1", &login),
            stage.client_with("none", &login),
        ];
        for _ in 0..4 {
            for (number, client) in clients.iter_mut().enumerate() {
                if number < 2 {
                    client.query(stage, &format!("set app.tenant = 'x{number}'"));
                }
                let rows = client
                    .query(stage, "select distinct tenant from t")
                    .column();
                let expected: &[&str] = [&["x0"][..], &["x1"], &[]][number];
                assert_eq!(rows, expected);
                let count = client
                    .extended(stage, "select count(*) from t", &[])
                    .value();
                assert_eq!(count, if number < 2 { "10" } else { "0" });
            }
        }
        drop(clients);
        admin.query(stage, "drop table t");
    });
}

#[test]
fn hazard_09_leaves_no_residue_for_the_next_client() {
    compare_with(&Setup::connections(1), |stage| {
        for _ in 0..3 {
            let login = stage
                .login()
                .with("datestyle", "German")
                .with("options", "-c work_mem=2MB");
            let mut a = stage.client_with("a", &login);
            a.query(
                stage,
                "begin; set datestyle = 'SQL'; set app.residue = 'behind'",
            );
            a.query(stage, "create temp table left_behind (v int); commit");
            drop(a);
            let mut b = stage.client("b");
            for sql in [
                "show datestyle",
                "reset datestyle",
                "show datestyle",
                "show work_mem",
            ] {
                b.query(stage, sql);
            }
            b.query(stage, "discard all");
            assert_eq!(b.query(stage, "show datestyle").value(), "ISO, MDY");
            assert_eq!(b.query(stage, "show work_mem").value(), "4MB");
            // PostgreSQL cannot forget that a name was ever set: it may be empty or unknown.
            b.wire.send(&query("show app.residue"));
            let reply = b.wire.until_ready(1);
            assert!(reply.sqlstate() == "42704" || reply.value().is_empty());
            assert_eq!(
                b.query(stage, "select * from left_behind").sqlstate(),
                "42P01"
            );
        }
    });
}

#[test]
fn hazard_10_holds_advisory_locks_for_their_session() {
    two(3, |stage, a, b| {
        a.query(
            stage,
            "create function take() returns void language sql as 'select pg_advisory_lock(42)'",
        );
        a.query(stage, "select take()");
        a.query(
            stage,
            "select pg_try_advisory_lock(43) from pg_class limit 1",
        );
        for _ in 0..3 {
            assert_eq!(
                b.query(stage, "select pg_try_advisory_lock(42)").value(),
                "f"
            );
            assert_eq!(
                b.query(stage, "select pg_try_advisory_lock(43)").value(),
                "f"
            );
        }
        a.query(
            stage,
            "select pg_advisory_unlock(42), pg_advisory_unlock(43)",
        );
        assert_eq!(
            b.query(stage, "select pg_try_advisory_lock(42)").value(),
            "t"
        );
    });
}

#[test]
fn hazard_11_keeps_temporary_objects_private() {
    two(3, |stage, a, b| {
        a.query(
            stage,
            "create table t (v text); insert into t values ('real')",
        );
        a.query(
            stage,
            "create temp table t (v text); insert into t values ('mine')",
        );
        for _ in 0..3 {
            assert_eq!(a.query(stage, "select v from t").value(), "mine");
            assert_eq!(b.extended(stage, "select v from t", &[]).value(), "real");
        }
        a.query(stage, "drop table pg_temp.t");
        assert_eq!(a.query(stage, "select v from t").value(), "real");
    });
}

#[test]
fn hazard_12_answers_currval_from_the_own_session() {
    two(3, |stage, a, b| {
        a.query(stage, "create table t (id serial, v text)");
        for (client, id) in [(&mut *a, "1"), (&mut *b, "2")] {
            let reply = client.query(stage, "insert into t (v) values ('x') returning id");
            assert_eq!(reply.value(), id);
        }
        // On a connection that a stranger has written on since, an honest refusal is the least; the
        // next time the application has a connection for itself.
        for (client, sql, right) in [
            (&mut *a, "select currval('t_id_seq')", "1"),
            (&mut *b, "select lastval()", "2"),
        ] {
            client.wire.send(&query(sql));
            let reply = client.wire.until_ready(1);
            assert!(
                reply.sqlstate() == "0A000" || reply.value() == right,
                "{:?}",
                reply.rows()
            );
        }
        for (client, id) in [(&mut *a, "3"), (&mut *b, "4")] {
            client.query(stage, "insert into t (v) values ('x') returning id");
            assert_eq!(
                client.query(stage, "select currval('t_id_seq')").value(),
                id
            );
        }
        assert_eq!(a.query(stage, "select lastval()").value(), "3");
    });
}

#[test]
fn hazard_13_delivers_to_hidden_listeners_only() {
    two(3, |stage, a, b| {
        a.query(
            stage,
            "create function hear() returns void language plpgsql as $$ begin execute 'listen x'; end $$",
        );
        a.query(stage, "select hear()");
        b.query(stage, "begin; notify x, 'one'; notify x, 'two'; commit");
        let first = a.until(stage, b'A').notifications();
        let second = if first.len() < 2 {
            a.until(stage, b'A').notifications()
        } else {
            Vec::new()
        };
        let payloads: Vec<String> = first
            .into_iter()
            .chain(second)
            .map(|(_, _, text)| text)
            .collect();
        assert_eq!(payloads, ["one", "two"]);
        assert_eq!(b.wire.during(Duration::from_millis(100)).tags(), "");
    });
}

#[test]
fn hazard_14_gives_notices_to_whom_they_concern() {
    two(2, |stage, a, b| {
        let raise = |text: &str| query(&format!("do $$ begin raise notice '{text}'; end $$"));
        a.send(stage, "20 notices", &raise("for a").repeat(20));
        b.send(stage, "20 notices", &raise("for b").repeat(20));
        assert_eq!(a.ready(stage, 20).notices(), ["for a"; 20]);
        assert_eq!(b.ready(stage, 20).notices(), ["for b"; 20]);
    });
}

#[test]
fn hazard_15_reports_settings_to_whom_they_belong() {
    two(1, |stage, a, b| {
        let reply = a.query(stage, "set timezone = 'Asia/Tokyo'");
        assert_eq!(reply.settings()["TimeZone"], "Asia/Tokyo");
        let reply = b.query(stage, "select 1");
        assert!(reply.settings().is_empty(), "{:?}", reply.settings());
        assert!(a.query(stage, "select 1").settings().is_empty());
        let reply = b.query(stage, "begin; set local timezone = 'Europe/Paris'; commit");
        assert!(reply.settings().is_empty(), "{:?}", reply.settings());
        assert_eq!(
            a.query(stage, "reset timezone").settings()["TimeZone"],
            "UTC"
        );
        assert!(a.query(stage, "set timezone = 'UTC'").settings().is_empty());
    });
}

#[test]
fn hazard_16_keeps_unnamed_statement_across_neighbours() {
    two(1, |stage, a, b| {
        let prepare = [
            parse("", "select 'a', $1::int", &[]),
            describe_statement(""),
            sync(),
        ]
        .concat();
        a.units(stage, "parse, describe, sync", &prepare, 1);
        b.query(stage, "select 'a simple query'");
        b.extended(stage, "select 'an extended one'", &[]);
        assert_eq!(
            a.units(stage, "bind later", &run_prepared("", &[Some("7")]), 1)
                .value(),
            "a"
        );
        a.query(stage, "select 1");
        assert_eq!(
            a.units(stage, "gone", &run_prepared("", &[Some("7")]), 1)
                .sqlstate(),
            "26000"
        );
    });
}

#[test]
fn hazard_17_owns_the_names_of_statements() {
    two(1, |stage, a, b| {
        for (client, who) in [(&mut *a, "a"), (&mut *b, "b")] {
            let units: Vec<u8> = (0..40)
                .flat_map(|i| {
                    [
                        parse(&format!("s{i}"), &format!("select '{who}{i}'"), &[]),
                        sync(),
                    ]
                    .concat()
                })
                .collect();
            client.units(stage, "40 statements", &units, 40);
        }
        let runs: Vec<u8> = (0..40)
            .rev()
            .flat_map(|i| run_prepared(&format!("s{i}"), &[]))
            .collect();
        let expected = |who: &str| {
            (0..40)
                .rev()
                .map(|i| format!("{who}{i}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(a.units(stage, "a runs", &runs, 40).column(), expected("a"));
        assert_eq!(b.units(stage, "b runs", &runs, 40).column(), expected("b"));
        let bad = [
            parse("s1", "select 1", &[]),
            sync(),
            run_prepared("s99", &[]),
            run_prepared("s2", &[]),
        ];
        let reply = a.units(stage, "bad names", &bad.concat(), 3);
        assert_eq!(reply.sqlstates(), ["42P05", "26000"]);
        assert_eq!(reply.value(), "a2");
    });
}

#[test]
fn hazard_18_reports_a_statement_that_no_longer_parses_as_the_clients_own() {
    two(2, |stage, a, b| {
        a.query(stage, "create table t (v int)");
        let prepare = [parse("s", "select v from t", &[]), sync()].concat();
        a.units(stage, "a prepares", &prepare, 1);
        b.units(stage, "b prepares", &prepare, 1);
        a.query(stage, "drop table t");
        for client in [&mut *a, &mut *b] {
            let all = [run_prepared("s", &[]), query("select 'on'")].concat();
            let reply = client.units(stage, "the table is gone", &all, 2);
            assert_eq!((&reply.sqlstate()[..], &reply.value()[..]), ("42P01", "on"));
        }
        // Whether Parse or Bind notices is left to chance on a connection of one's own too.
        b.wire.send(&extended("select v from t", &[]));
        assert_eq!(b.wire.until_ready(1).sqlstate(), "42P01");
        b.query(stage, "create table t (v int); insert into t values (5)");
        assert_eq!(
            a.units(stage, "a again", &run_prepared("s", &[]), 1)
                .value(),
            "5"
        );
    });
}

#[test]
fn hazard_19_prepares_afresh_what_a_change_made_stale() {
    two(3, |stage, a, b| {
        a.query(stage, "create table t (v int); insert into t values (1)");
        let prepare = [parse("s", "select * from t", &[]), sync()].concat();
        a.units(stage, "a prepares", &prepare, 1);
        a.units(stage, "a runs", &run_prepared("s", &[]), 1);
        b.query(stage, "alter table t add w text default 'new'");
        // On a connection of its own this statement is new, so there is nothing stale about it.
        b.units(stage, "b prepares", &prepare, 1);
        let reply = b.units(stage, "b runs", &run_prepared("s", &[]), 1);
        assert_eq!(reply.rows()[0].len(), 2, "{:?}", reply.error());
        assert_eq!(a.extended(stage, "select * from t", &[]).rows()[0].len(), 2);
    });
}

#[test]
fn hazard_19_freezes_the_clock_at_each_clients_own_parse() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let prepare = [parse("s", "select 'now'::timestamptz::text", &[]), sync()].concat();
        a.units(stage, "a prepares", &prepare, 1);
        thread::sleep(Duration::from_millis(30));
        b.units(stage, "b prepares", &prepare, 1);
        let run = |client: &mut Actor| {
            client.wire.send(&run_prepared("s", &[]));
            client.wire.until_ready(1).value()
        };
        let (first, other) = (run(&mut a), run(&mut b));
        assert!(first < other, "{first} is not before {other}");
        assert_eq!(run(&mut a), first);
        assert_eq!(run(&mut b), other);
    });
}

#[test]
fn hazard_20_continues_a_portal_where_it_stopped() {
    two(2, |stage, a, b| {
        a.query(stage, "begin");
        let open = [
            parse("", "select generate_series(1, 6)", &[]),
            bind("p", "", &[]),
            execute("p", 2),
            sync(),
        ];
        a.units(stage, "open", &open.concat(), 1);
        for rows in [["3", "4"], ["5", "6"]] {
            b.extended(stage, "select 'b'", &[]);
            assert_eq!(
                a.units(stage, "more", &[execute("p", 2), sync()].concat(), 1)
                    .column(),
                rows
            );
        }
        a.query(stage, "commit");
    });
}

#[test]
fn hazard_21_leaves_neighbours_their_statements() {
    two(3, |stage, a, b| {
        a.query(stage, "prepare p as select 'sql'");
        let prepare = [parse("s", "select 'wire'", &[]), sync()].concat();
        a.units(stage, "a", &prepare, 1);
        b.units(stage, "b", &prepare, 1);
        b.query(stage, "deallocate all");
        assert_eq!(
            b.units(stage, "b runs", &run_prepared("s", &[]), 1)
                .sqlstate(),
            "26000"
        );
        assert_eq!(
            a.units(stage, "a runs", &run_prepared("s", &[]), 1).value(),
            "wire"
        );
        b.query(stage, "discard all");
        assert_eq!(a.query(stage, "execute p").value(), "sql");
        a.query(stage, "deallocate prepare all");
        assert_eq!(
            a.units(stage, "a runs", &run_prepared("s", &[]), 1)
                .sqlstate(),
            "26000"
        );
    });
}

#[test]
fn hazard_22_feeds_no_copy_with_a_neighbours_requests() {
    two(2, |stage, a, b| {
        a.query(stage, "create table t (v text)");
        for text in [
            "copy t from stdin",
            "select 1; copy t from stdin",
            "/* */ CoPy t FROM stdin; select 2",
        ] {
            a.send(stage, text, &query(text));
            a.until(stage, b'G');
            assert_eq!(b.query(stage, "select 'not copied'").value(), "not copied");
            b.extended(stage, "select 'nor this'", &[]);
            a.units(
                stage,
                "data",
                &[copy_data(b"row\n"), copy_done()].concat(),
                1,
            );
        }
        assert_eq!(
            b.query(stage, "select v, count(*) from t group by v")
                .column(),
            ["row"]
        );
    });
}

#[test]
fn hazard_23_swallows_late_data_of_a_failed_copy() {
    two(3, |stage, a, b| {
        a.query(stage, "create table t (v int)");
        a.send(
            stage,
            "bad data",
            &[query("copy t from stdin"), copy_data(b"x\n")].concat(),
        );
        a.until(stage, b'Z');
        b.query(stage, "select 'served'");
        a.wire.send(&[copy_data(b"1\n"), copy_done()].concat());
        b.query(stage, "select 'served'");
        assert_eq!(a.query(stage, "select count(*) from t").value(), "0");
    });
}

#[test]
fn hazard_24_cancels_only_its_own_request() {
    two(2, |stage, a, b| {
        for _ in 0..5 {
            a.send(stage, "sleep", &query("select pg_sleep(20)"));
            b.send(stage, "short", &query("select 'b'").repeat(30));
            thread::sleep(Duration::from_millis(60));
            let begin = Instant::now();
            a.wire.cancel();
            assert_eq!(a.wire.until_ready(1).sqlstate(), "57014");
            assert!(begin.elapsed() < Duration::from_secs(5));
            assert_eq!(b.ready(stage, 30).sqlstates().len(), 0);
            a.wire.cancel();
            thread::sleep(Duration::from_millis(20));
            assert_eq!(b.query(stage, "select 'unharmed'").value(), "unharmed");
        }
    });
}

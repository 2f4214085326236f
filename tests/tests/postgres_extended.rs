//! The extended protocol: statements, portals, pipelines and what goes wrong in them.
//!
//! Two clients use the same names on as few upstreams as possible, so that whatever leaks shows.

use manifold_tests::harness::frames::{
    bind, bind_formats, close_portal, close_statement, describe_portal, describe_statement,
    execute, extended, flush, parse, query, run_prepared, sync,
};
use manifold_tests::harness::{Setup, compare, compare_with};

#[test]
fn runs_units_of_the_extended_protocol() {
    compare(|stage| {
        let mut a = stage.client("a");
        assert_eq!(a.extended(stage, "select 1", &[]).tags(), "12TDCZ");
        a.extended(stage, "select $1::int + 1, $2::text", &[Some("41"), None]);
        assert_eq!(a.extended(stage, "", &[]).tags(), "12nIZ");
        a.extended(stage, "create table t (id int, v text)", &[]);
        let insert = "insert into t values ($1, $2) returning id";
        assert_eq!(
            a.extended(stage, insert, &[Some("1"), Some("x")]).tags(),
            "12TDCZ"
        );
        assert_eq!(
            a.extended(stage, "insert into t values (2, 'y')", &[])
                .tags(),
            "12nCZ"
        );
        a.extended(stage, "select v from t where id = $1", &[Some("1")]);
        a.extended(stage, "select * from t order by id", &[]);
        assert_eq!(a.units(stage, "only a sync", &sync(), 1).tags(), "Z");
        assert_eq!(
            a.units(stage, "three syncs", &sync().repeat(3), 3).tags(),
            "ZZZ"
        );
        let binary = [
            parse("", "select $1::int4, $2::bytea, $1::int4 * 2", &[23]),
            bind_formats(
                "",
                "",
                &[1],
                &[Some(&[0, 0, 1, 0]), Some(&[0, 255])],
                &[1, 1, 0],
            ),
            describe_portal(""),
            execute("", 0),
            sync(),
        ];
        let reply = a.units(stage, "binary", &binary.concat(), 1);
        assert_eq!(reply.rows()[0][2].as_deref(), Some("512"));
        assert_eq!(a.extended(stage, "begin", &[]).status(), Some('T'));
        assert_eq!(a.extended(stage, "select 1/0", &[]).status(), Some('E'));
        assert_eq!(a.extended(stage, "rollback", &[]).status(), Some('I'));
    });
}

#[test]
fn keeps_named_statements_across_units_and_clients() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.units(
            stage,
            "a: s",
            &[parse("s", "select 'a', $1::int", &[]), sync()].concat(),
            1,
        );
        b.units(
            stage,
            "b: s",
            &[parse("s", "select 'b', $1::text", &[]), sync()].concat(),
            1,
        );
        for round in ["1", "2", "3"] {
            let reply = a.units(stage, "a runs s", &run_prepared("s", &[Some(round)]), 1);
            assert_eq!(reply.value(), "a");
            let reply = b.units(stage, "b runs s", &run_prepared("s", &[Some("x")]), 1);
            assert_eq!(reply.value(), "b");
        }
        let describe = [describe_statement("s"), sync()].concat();
        assert_eq!(a.units(stage, "a describes s", &describe, 1).tags(), "tTZ");
        b.units(stage, "b describes s", &describe, 1);
        let close = [close_statement("s"), sync()].concat();
        assert_eq!(a.units(stage, "a closes s", &close, 1).tags(), "3Z");
        let reply = a.units(stage, "a runs s", &run_prepared("s", &[Some("1")]), 1);
        assert_eq!(reply.sqlstate(), "26000");
        let reply = b.units(stage, "b runs s", &run_prepared("s", &[Some("y")]), 1);
        assert_eq!(reply.value(), "b");
        a.units(
            stage,
            "a: s again",
            &[parse("s", "select 'new'", &[]), sync()].concat(),
            1,
        );
        assert_eq!(
            a.units(stage, "a runs s", &run_prepared("s", &[]), 1)
                .value(),
            "new"
        );
    });
}

#[test]
fn gives_the_real_error_for_duplicate_and_unknown_names() {
    compare(|stage| {
        let mut a = stage.client("a");
        let twice = [
            parse("s", "select 1", &[]),
            parse("s", "select 2", &[]),
            sync(),
        ]
        .concat();
        let reply = a.units(stage, "twice in a unit", &twice, 1);
        assert_eq!((&reply.tags()[..], &reply.sqlstate()[..]), ("1EZ", "42P05"));
        let again = [parse("s", "select 2", &[]), sync(), query("select 3")].concat();
        let reply = a.units(stage, "in another unit", &again, 2);
        assert_eq!(
            (&reply.tags()[..], &reply.sqlstate()[..]),
            ("EZTDCZ", "42P05")
        );
        let unknown = [
            [bind("", "nope", &[]), execute("", 0), sync()].concat(),
            [describe_statement("nope"), sync()].concat(),
            [describe_portal("nope"), sync()].concat(),
            [execute("nope", 0), sync()].concat(),
            [close_statement("nope"), close_portal("nope"), sync()].concat(),
        ];
        let reply = a.units(stage, "unknown names", &unknown.concat(), 5);
        assert_eq!(reply.sqlstates(), ["26000", "26000", "34000", "34000"]);
        assert_eq!(reply.tags(), "EZEZEZEZ33Z");
        let reply = a.units(stage, "s lives", &run_prepared("s", &[]), 1);
        assert_eq!(reply.value(), "1");
        assert_eq!(a.query(stage, "select 'lives'").value(), "lives");
    });
}

#[test]
fn skips_to_the_sync_after_an_error() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        let unit = [
            parse("", "insert into t values (1)", &[]),
            bind("", "", &[]),
            execute("", 0),
            parse("", "select 1/0", &[]),
            bind("", "", &[]),
            execute("", 0),
            parse("lost", "select 1", &[]),
            bind("", "lost", &[]),
            execute("", 0),
            close_statement("lost"),
            query("select 'skipped too'"),
            sync(),
        ];
        let next = extended("select count(*) from t", &[]);
        let reply = a.units(stage, "a failing unit", &[unit.concat(), next].concat(), 2);
        assert_eq!(reply.tags(), "12C1EZ12TDCZ");
        assert_eq!(reply.value(), "0");
        let reply = a.units(stage, "lost", &run_prepared("lost", &[]), 1);
        assert_eq!(reply.sqlstate(), "26000");
        for (what, bytes) in [
            ("a syntax error", parse("x", "selec 1", &[])),
            (
                "too few values",
                [parse("", "select $1::int", &[]), bind("", "", &[])].concat(),
            ),
            (
                "a bad value",
                [parse("", "select $1::int", &[]), bind("", "", &[Some("x")])].concat(),
            ),
            (
                "a bad format",
                bind_formats("", "", &[7], &[Some(b"1")], &[]),
            ),
        ] {
            let bytes = [bytes, execute("", 0), sync(), query("select 'next'")].concat();
            assert_eq!(a.units(stage, what, &bytes, 2).value(), "next");
        }
        let reply = a.units(stage, "x was not made", &run_prepared("x", &[]), 1);
        assert_eq!(reply.sqlstate(), "26000");
    });
}

#[test]
fn answers_at_flush_without_sync() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (v int)");
        let describe = [
            parse("s", "select $1::int + 1", &[]),
            describe_statement("s"),
            flush(),
        ];
        a.send(stage, "parse, describe, flush", &describe.concat());
        assert_eq!(a.until(stage, b'T').tags(), "1tT");
        assert_eq!(
            b.query(stage, "select 'b is served'").value(),
            "b is served"
        );
        let rest = [bind("", "s", &[Some("1")]), execute("", 0), flush()].concat();
        a.send(stage, "bind, execute, flush", &rest);
        assert_eq!(a.until(stage, b'C').tags(), "2DC");
        let insert = [
            parse("", "insert into t values (1)", &[]),
            bind("", "", &[]),
            execute("", 0),
            flush(),
        ];
        a.send(stage, "insert, flush", &insert.concat());
        a.until(stage, b'C');
        // Not committed before the sync.
        assert_eq!(b.query(stage, "select count(*) from t").value(), "0");
        a.units(stage, "sync", &sync(), 1);
        assert_eq!(b.query(stage, "select count(*) from t").value(), "1");
        let error = [
            parse("", "select 1/0", &[]),
            bind("", "", &[]),
            execute("", 0),
            flush(),
        ];
        a.send(stage, "an error and flush", &error.concat());
        a.until(stage, b'E');
        assert_eq!(b.query(stage, "select 'b again'").value(), "b again");
        a.units(stage, "sync", &sync(), 1);
        let reply = a.units(stage, "s is there", &run_prepared("s", &[Some("2")]), 1);
        assert_eq!(reply.value(), "3");
    });
}

#[test]
fn joins_a_query_to_units_without_sync() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        let both = [
            parse("", "insert into t values (1)", &[]),
            bind("", "", &[]),
            execute("", 0),
            query("insert into t values (2); select 1/0"),
        ];
        let reply = a.units(stage, "an insert and a failing query", &both.concat(), 1);
        assert_eq!(reply.tags(), "12CCEZ");
        a.query(stage, "select v from t");
    });
}

#[test]
fn suspends_portals_at_row_limits() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let unit = [
            parse("", "select i from generate_series(1, 5) i", &[]),
            bind("", "", &[]),
            execute("", 2),
            execute("", 2),
            execute("", 2),
            sync(),
        ];
        assert_eq!(
            a.units(stage, "two at a time", &unit.concat(), 1).tags(),
            "12DDsDDsDCZ"
        );
        a.query(stage, "begin");
        let open = [
            parse("q", "select i from generate_series(1, $1) i", &[]),
            bind("p1", "q", &[Some("3")]),
            bind("p2", "q", &[Some("4")]),
            describe_portal("p1"),
            execute("p1", 1),
            sync(),
        ];
        assert_eq!(
            a.units(stage, "two portals", &open.concat(), 1).tags(),
            "122TDsZ"
        );
        assert_eq!(b.query(stage, "select 'between'").value(), "between");
        let more = [execute("p2", 3), execute("p1", 0), sync()].concat();
        assert_eq!(
            a.units(stage, "more of both", &more, 1).column(),
            ["1", "2", "3", "2", "3"]
        );
        a.units(
            stage,
            "close one",
            &[close_portal("p1"), execute("p2", 0), sync()].concat(),
            1,
        );
        a.query(stage, "commit");
        let gone = [execute("p2", 0), sync()].concat();
        assert_eq!(a.units(stage, "portals end", &gone, 1).sqlstate(), "34000");
        // Outside a transaction a portal ends with its unit.
        let alone = [bind("p3", "q", &[Some("3")]), execute("p3", 1), sync()].concat();
        a.units(stage, "a portal of one unit", &alone, 1);
        assert_eq!(
            a.units(stage, "is gone", &[execute("p3", 1), sync()].concat(), 1)
                .sqlstate(),
            "34000"
        );
        let taken = [
            bind("p", "q", &[Some("1")]),
            bind("p", "q", &[Some("1")]),
            sync(),
        ]
        .concat();
        assert_eq!(
            a.units(stage, "a portal twice", &taken, 1).sqlstate(),
            "42P03"
        );
    });
}

#[test]
fn keeps_the_unnamed_statement_until_it_is_replaced() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.units(
            stage,
            "a parses",
            &[parse("", "select 'a', $1::int", &[]), sync()].concat(),
            1,
        );
        b.units(
            stage,
            "b parses",
            &[parse("", "select 'b', $1::int", &[]), sync()].concat(),
            1,
        );
        let run = run_prepared("", &[Some("1")]);
        assert_eq!(a.units(stage, "a runs", &run, 1).value(), "a");
        assert_eq!(b.units(stage, "b runs", &run, 1).value(), "b");
        assert_eq!(a.units(stage, "a runs again", &run, 1).value(), "a");
        b.query(stage, "select 'a simple query ends it'");
        assert_eq!(b.units(stage, "b has none", &run, 1).sqlstate(), "26000");
        assert_eq!(a.units(stage, "a still has", &run, 1).value(), "a");
        let failing = [parse("", "selec", &[]), sync()].concat();
        a.units(stage, "a failing parse", &failing, 1);
        a.units(stage, "after a failing parse", &run, 1);
        let close = [close_statement(""), sync()].concat();
        b.units(
            stage,
            "b parses",
            &[parse("", "select 'b', $1::int", &[]), sync()].concat(),
            1,
        );
        b.units(stage, "b closes", &close, 1);
        assert_eq!(b.units(stage, "b has none", &run, 1).sqlstate(), "26000");
    });
}

#[test]
fn keeps_pipelines_of_many_units_in_order() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (v int primary key)");
        let mut bytes = parse("s", "select $1::int", &[]);
        bytes.extend(sync());
        for i in 0..150 {
            bytes.extend(match i % 5 {
                0 | 1 => run_prepared("s", &[Some(&i.to_string())]),
                2 => extended(
                    "insert into t values ($1::int / 20 * 20)",
                    &[Some(&i.to_string())],
                ),
                3 => extended("select count(*)::int from t", &[]),
                _ => run_prepared("missing", &[]),
            });
        }
        a.send(stage, "151 units", &bytes);
        b.send(stage, "one query", &query("select 'b'"));
        assert_eq!(b.ready(stage, 1).value(), "b");
        let reply = a.ready(stage, 151);
        let codes = reply.sqlstates();
        assert_eq!(codes.iter().filter(|code| *code == "26000").count(), 30);
        assert_eq!(codes.iter().filter(|code| *code == "23505").count(), 22);
        assert_eq!(reply.column().last().map(String::as_str), Some("8"));
    });
}

#[test]
fn commits_a_unit_of_several_statements_as_one() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        let insert = |v: &str| {
            [
                parse("", "insert into t values ($1)", &[]),
                bind("", "", &[Some(v)]),
                execute("", 0),
            ]
            .concat()
        };
        let good = [insert("1"), insert("2"), sync()].concat();
        a.units(stage, "two inserts", &good, 1);
        let bad = [insert("3"), insert("x"), sync()].concat();
        assert_eq!(
            a.units(stage, "one good, one bad", &bad, 1).sqlstate(),
            "22P02"
        );
        assert_eq!(a.query(stage, "select v from t").column(), ["1", "2"]);
        let begin = [parse("", "begin", &[]), bind("", "", &[]), execute("", 0)].concat();
        let commit = [parse("", "commit", &[]), bind("", "", &[]), execute("", 0)].concat();
        let whole = [begin.clone(), insert("4"), commit, sync()].concat();
        assert_eq!(
            a.units(stage, "a transaction in a unit", &whole, 1)
                .status(),
            Some('I')
        );
        let open = [begin, insert("5"), sync()].concat();
        assert_eq!(a.units(stage, "an open one", &open, 1).status(), Some('T'));
        a.query(stage, "rollback");
        assert_eq!(a.query(stage, "select v from t").column(), ["1", "2", "4"]);
    });
}

#[test]
fn describes_what_the_client_prepared_with_its_types() {
    compare(|stage| {
        let mut a = stage.client("a");
        for (name, sql, types) in [
            ("plain", "select 1 as one, 'x'::text as two", &[][..]),
            ("typed", "select $1, $2", &[20, 25]),
            ("mixed", "select $1::date, $2", &[0, 1043]),
            ("none", "create table never (v int)", &[]),
            ("empty", "", &[]),
        ] {
            let unit = [parse(name, sql, types), describe_statement(name), sync()].concat();
            a.units(stage, name, &unit, 1);
        }
        let same = [
            parse("other", "select $1, $2", &[23, 25]),
            describe_statement("other"),
            sync(),
        ];
        a.units(stage, "the same text with other types", &same.concat(), 1);
        let names = "select name, statement, parameter_types, from_sql from pg_prepared_statements order by 1";
        assert_eq!(
            a.query(stage, names).column(),
            ["empty", "mixed", "none", "other", "plain", "typed"]
        );
    });
}

#[test]
fn fails_in_transaction_sent_at_once_as_on_connection_of_its_own() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (v int primary key)");
        let step = |sql: &str, value: Option<&str>| {
            let values: Vec<_> = value.iter().map(|value| Some(*value)).collect();
            [parse("", sql, &[]), bind("", "", &values), execute("", 0)].concat()
        };
        let insert = "insert into t values ($1)";
        for round in ["1", "2", "3", "4"] {
            // One part fails: those behind it are refused, and the COMMIT is a ROLLBACK.
            let requests = [
                extended("begin", &[]),
                extended(insert, &[Some(round)]),
                extended(insert, &[Some(round)]),
                extended("select count(*) from t", &[]),
                run_prepared("missing", &[]),
                extended("commit", &[]),
                extended("select count(*)::int from t", &[]),
            ];
            let reply = a.units(stage, "a failing one", &requests.concat(), 7);
            assert_eq!(reply.sqlstates()[0], "23505");
            assert_eq!(reply.status(), Some('I'));
            assert_eq!(reply.column().last().map(String::as_str), Some("0"));
            // The COMMIT is skipped with what failed: the transaction stays open, also for what
            // was sent behind it.
            let group = [
                step("begin", None),
                step(insert, Some("x")),
                step("commit", None),
                sync(),
            ];
            let bytes = [
                group.concat(),
                query("select 1"),
                query("set work_mem = '8MB'"),
            ];
            let reply = a.units(stage, "an unfinished one", &bytes.concat(), 3);
            assert_eq!(reply.sqlstates(), ["22P02", "25P02", "25P02"]);
            assert_eq!(reply.status(), Some('E'));
            assert_eq!(b.query(stage, "select 'b'").value(), "b");
            assert_eq!(a.query(stage, "rollback").status(), Some('I'));
            let text = "begin; insert into t values (9); select 1/0; commit";
            assert_eq!(a.query(stage, text).status(), Some('E'));
            a.query(stage, "rollback");
            assert_eq!(b.query(stage, "select count(*)::int from t").value(), "0");
            assert_eq!(a.query(stage, "show work_mem").value(), "4MB");
        }
        // Deferred to the COMMIT.
        a.query(
            stage,
            "create table u (v int unique deferrable initially deferred)",
        );
        for _ in 0..3 {
            let all = [
                query("begin"),
                query("insert into u values (1), (1)"),
                query("commit"),
                query("select count(*)::int from u"),
            ];
            let reply = a.units(stage, "refused at the end", &all.concat(), 4);
            assert_eq!(reply.sqlstates(), ["23505"]);
            assert_eq!(reply.column(), ["0"]);
        }
    });
}

#[test]
fn runs_nothing_again_of_transaction_sent_at_once_whose_connection_is_lost() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        let all = [
            query("begin"),
            query("insert into t values (1)"),
            query("insert into t values (2)"),
            query("commit"),
        ]
        .concat();
        for _ in 0..3 {
            a.units(stage, "known", &all, 4);
        }
        let mut locking = stage.direct();
        locking.query("begin; lock table t in exclusive mode");
        a.send(stage, "to be lost", &all);
        a.until(stage, b'Z');
        let mut direct = stage.direct();
        let database = &stage.database;
        let end = format!(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity \
             where datname = '{database}' and wait_event_type = 'Lock'"
        );
        while direct.value(&end) == "0" {}
        let lost = a.end(stage);
        assert_eq!(lost.sqlstates(), ["57P01"]);
        locking.query("commit");
        assert_eq!(direct.value("select count(*) from t"), "6");
    });
}

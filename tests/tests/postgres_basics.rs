//! Plain requests: what a client sees through the proxy is what it sees without it.
//!
//! Every script runs direct and on both drivers, and the replies are compared frame by frame; the
//! assertions inside say what the script is about, so that it cannot pass by comparing nothing.

use manifold_tests::harness::frames::{self, extended, query};
use manifold_tests::harness::{Setup, compare, compare_with};

#[test]
fn answers_queries_of_every_shape() {
    compare(|stage| {
        let mut a = stage.client("a");
        assert_eq!(a.query(stage, "select 1").value(), "1");
        assert_eq!(a.query(stage, "").tags(), "IZ");
        assert_eq!(a.query(stage, " ; ; ").tags(), "IZ");
        assert_eq!(
            a.query(stage, "select 1; select 'two'; select 3").tags(),
            "TDCTDCTDCZ"
        );
        assert_eq!(a.query(stage, "select").tags(), "TDCZ");
        assert_eq!(
            a.query(stage, "select null::text, ''::text, 'x\ny'")
                .rows()
                .len(),
            1
        );
        assert_eq!(
            a.query(stage, "select i from generate_series(1, 500) i")
                .rows()
                .len(),
            500
        );
        assert_eq!(
            a.query(stage, "select 1 where false").commands(),
            ["SELECT 0"]
        );
        a.query(
            stage,
            "values (1, 'a'), (2, 'b'); table pg_am limit 1 offset 0",
        );
        a.query(
            stage,
            "select 1.5::numeric, 1e10::float8, true, 'a'::char, '{1,2}'::int[]",
        );
        a.query(
            stage,
            "select '\\x00ff'::bytea, 'ünïcödé €', E'\\u20ac', $q$a'b$q$",
        );
        a.query(stage, "/* a comment */ select 1 -- and another");
        a.query(
            stage,
            "explain (costs off) select * from pg_class where oid = 1",
        );
    });
}

#[test]
fn writes_and_reads_back_through_autocommit() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(
            stage,
            "create table t (id serial primary key, v text unique, n int default 7)",
        );
        assert_eq!(
            b.query(stage, "insert into t (v) values ('x'), ('y')")
                .commands(),
            ["INSERT 0 2"]
        );
        assert_eq!(
            a.query(stage, "select * from t order by id").rows().len(),
            2
        );
        a.query(stage, "insert into t (v) values ('z') returning id, v, n");
        a.query(stage, "update t set n = n + 1 where id > 1 returning n");
        b.query(stage, "delete from t where v = 'y'");
        a.query(
            stage,
            "with d as (delete from t returning *) select count(*) from d",
        );
        assert_eq!(b.query(stage, "select count(*) from t").value(), "0");
        b.query(stage, "truncate t restart identity");
        a.query(
            stage,
            "alter table t add column extra date default '2024-02-29'",
        );
        b.query(stage, "insert into t (v) values ('w') returning *");
        a.query(stage, "select * from t");
        b.query(stage, "drop table t");
        assert_eq!(a.query(stage, "select * from t").sqlstate(), "42P01");
    });
}

#[test]
fn keeps_every_field_of_an_error() {
    compare(|stage| {
        let mut a = stage.client("a");
        let error = a
            .query(stage, "select 1,\n  nope from pg_class")
            .error()
            .expect("an error");
        assert_eq!(error[&'C'], "42703");
        assert_eq!(error[&'P'], "13");
        a.query(
            stage,
            "create table p (id int primary key, n int constraint positive check (n > 0))",
        );
        a.query(stage, "create table c (p int not null references p)");
        a.query(stage, "insert into p values (1, 1)");
        let error = a
            .query(stage, "insert into p values (1, 2)")
            .error()
            .expect("an error");
        assert_eq!((&error[&'C'][..], &error[&'n'][..]), ("23505", "p_pkey"));
        assert!(error[&'D'].contains("already exists"));
        assert_eq!(
            a.query(stage, "insert into p values (2, 0)").sqlstate(),
            "23514"
        );
        assert_eq!(
            a.query(stage, "insert into c values (9)").sqlstate(),
            "23503"
        );
        assert_eq!(
            a.query(stage, "insert into c values (null)").sqlstate(),
            "23502"
        );
        assert_eq!(a.query(stage, "select 1/0").sqlstate(), "22012");
        assert_eq!(a.query(stage, "selec 1").sqlstate(), "42601");
        assert_eq!(a.query(stage, "select * from missing").sqlstate(), "42P01");
        assert_eq!(a.query(stage, "select missing(1)").sqlstate(), "42883");
        assert_eq!(a.query(stage, "select 'x'::int").sqlstate(), "22P02");
        let raise = "do $$ begin raise exception using errcode = 'ZX001', message = 'm', \
                     detail = 'd', hint = 'h', column = 'co', constraint = 'cn', \
                     datatype = 'dt', table = 'tb', schema = 'sc'; end $$";
        let error = a.query(stage, raise).error().expect("an error");
        assert_eq!(
            (&error[&'C'][..], &error[&'H'][..], &error[&'d'][..]),
            ("ZX001", "h", "dt")
        );
        assert_eq!(
            a.query(stage, "select 1; select 1/0; select 2").tags(),
            "TDCEZ"
        );
        assert_eq!(a.query(stage, "select 'still here'").value(), "still here");
    });
}

#[test]
fn passes_notices_in_their_places() {
    compare(|stage| {
        let mut a = stage.client("a");
        let raise =
            "do $$ begin raise notice 'one'; raise warning 'two'; raise info 'three'; end $$";
        assert_eq!(a.query(stage, raise).notices(), ["one", "two", "three"]);
        assert_eq!(
            a.query(stage, "drop table if exists missing")
                .notices()
                .len(),
            1
        );
        assert_eq!(a.query(stage, "commit").notices().len(), 1);
        a.query(
            stage,
            "create table t (id int primary key); drop table t; rollback",
        );
        a.query(stage, "set client_min_messages = error");
        assert!(a.query(stage, raise).notices() == ["three"]);
        a.query(stage, "reset client_min_messages");
        assert_eq!(a.query(stage, raise).notices().len(), 3);
    });
}

#[test]
fn keeps_transactions_and_their_states() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (v int)");
        assert_eq!(a.query(stage, "begin").status(), Some('T'));
        assert_eq!(
            a.query(stage, "insert into t values (1)").status(),
            Some('T')
        );
        assert_eq!(b.query(stage, "select count(*) from t").value(), "0");
        assert_eq!(a.query(stage, "select 1/0").status(), Some('E'));
        assert_eq!(a.query(stage, "select 1").sqlstate(), "25P02");
        assert_eq!(a.query(stage, "commit").commands(), ["ROLLBACK"]);
        assert_eq!(a.query(stage, "select count(*) from t").value(), "0");
        for end in ["commit", "end", "commit and no chain"] {
            a.query(stage, "start transaction isolation level serializable");
            a.query(stage, "insert into t values (2)");
            assert_eq!(a.query(stage, end).status(), Some('I'));
        }
        assert_eq!(b.query(stage, "select count(*) from t").value(), "3");
        a.query(stage, "begin");
        a.query(stage, "savepoint s1");
        a.query(stage, "insert into t values (3)");
        assert_eq!(
            a.query(stage, "insert into t values ('x')").status(),
            Some('E')
        );
        assert_eq!(a.query(stage, "rollback to s1").status(), Some('T'));
        a.query(stage, "insert into t values (4)");
        a.query(stage, "release s1");
        assert_eq!(a.query(stage, "commit and chain").status(), Some('T'));
        a.query(stage, "insert into t values (5)");
        assert_eq!(a.query(stage, "rollback and chain").status(), Some('T'));
        a.query(stage, "abort");
        assert_eq!(
            b.query(stage, "select v from t order by v")
                .column()
                .join(","),
            "2,2,2,4"
        );
        a.query(stage, "begin read only");
        assert_eq!(
            a.query(stage, "insert into t values (6)").sqlstate(),
            "25006"
        );
        a.query(stage, "rollback");
        assert_eq!(a.query(stage, "rollback").notices().len(), 1);
    });
}

#[test]
fn keeps_transactions_hidden_in_one_query() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        a.query(
            stage,
            "insert into t values (1); insert into t values (2); select 1/0",
        );
        assert_eq!(a.query(stage, "select count(*) from t").value(), "0");
        assert_eq!(
            a.query(stage, "insert into t values (1); begin").status(),
            Some('T')
        );
        assert_eq!(
            a.query(stage, "insert into t values (2); rollback")
                .status(),
            Some('I')
        );
        a.query(
            stage,
            "begin; insert into t values (3); commit; insert into t values (4); select 1/0",
        );
        assert_eq!(a.query(stage, "select v from t order by v").column(), ["3"]);
        let whole = [
            query("begin"),
            query("insert into t values (5)"),
            query("select v from t order by v"),
            query("commit"),
        ];
        let reply = a.units(stage, "a transaction at once", &whole.concat(), 4);
        assert_eq!(reply.tags(), "CZCZTDDCZCZ");
        let failing = [
            query("begin"),
            query("insert into t values (6)"),
            query("select 1/0"),
            query("commit"),
            query("select v from t order by v"),
        ];
        let reply = a.units(stage, "a failing transaction at once", &failing.concat(), 5);
        assert_eq!(
            reply.commands(),
            ["BEGIN", "INSERT 0 1", "ROLLBACK", "SELECT 2"]
        );
    });
}

#[test]
fn runs_statements_that_need_a_connection_of_their_own() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (id int primary key, v int)");
        a.query(stage, "vacuum analyze t");
        a.query(stage, "create index concurrently i on t (v)");
        assert_eq!(a.query(stage, "begin; vacuum t").sqlstate(), "25001");
        a.query(stage, "rollback");
        a.query(stage, "create procedure p() language plpgsql as $$ begin \
                        insert into t values (1); commit; insert into t values (2); rollback; end $$");
        assert_eq!(a.query(stage, "call p()").commands(), ["CALL"]);
        assert_eq!(a.query(stage, "select id from t").column(), ["1"]);
        a.query(
            stage,
            "do $$ begin insert into t values (3); commit; perform 1/0; end $$",
        );
        assert_eq!(
            a.query(stage, "select id from t order by id").column(),
            ["1", "3"]
        );
        a.query(stage, "begin");
        a.query(stage, "insert into t values (4)");
        a.query(stage, "prepare transaction 'basics'");
        assert_eq!(a.query(stage, "select count(*) from t").value(), "2");
        a.query(stage, "commit prepared 'basics'");
        assert_eq!(a.query(stage, "select count(*) from t").value(), "3");
        a.query(stage, "lock table t");
        a.query(
            stage,
            "checkpoint; reindex table t; cluster t using t_pkey; comment on table t is 'x'",
        );
    });
}

#[test]
fn greets_with_what_the_node_reports() {
    compare(|stage| {
        let login = stage.login().with("application_name", "greeter");
        let a = stage.client_with("a", &login);
        let settings = &a.wire.settings;
        assert_eq!(settings["server_encoding"], "UTF8");
        assert_eq!(settings["application_name"], "greeter");
        assert_eq!(settings["is_superuser"], "on");
        assert_eq!(settings["session_authorization"], "postgres");
        assert_ne!(a.wire.pid, 0);
    });
}

#[test]
fn calls_functions_by_number() {
    compare(|stage| {
        let mut a = stage.client("a");
        // 2089 is to_hex(integer), 1317 is length(text); see pg_proc.
        let reply = a.units(stage, "to_hex", &frames::function_call(2089, &["255"]), 1);
        assert_eq!(reply.tags(), "VZ");
        assert_eq!(&reply.frames[0].body[4..], b"ff");
        a.units(stage, "length", &frames::function_call(1317, &["abc"]), 1);
        let reply = a.units(
            stage,
            "missing",
            &frames::function_call(9_999_999, &["abc"]),
            1,
        );
        assert_eq!(reply.tags(), "EZ");
        let mixed = [
            query("select 1"),
            frames::function_call(1317, &["ab"]),
            query(""),
        ];
        assert_eq!(
            a.units(stage, "mixed", &mixed.concat(), 3).tags(),
            "TDCZVZIZ"
        );
    });
}

#[test]
fn keeps_the_order_of_many_requests_sent_before_reading() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        let mut bytes = Vec::new();
        for i in 0..200 {
            bytes.extend(match i % 5 {
                0 => query(&format!("select {i}")),
                1 => extended("select $1::int", &[Some(&i.to_string())]),
                2 => query(&format!("insert into t values ({i})")),
                3 => query("select count(*) from t"),
                _ => query(&format!("select {i}/0")),
            });
        }
        let reply = a.units(stage, "200 requests", &bytes, 200);
        assert_eq!(reply.sqlstates().len(), 40);
        assert_eq!(reply.column().len(), 120);
        // Every count sees the inserts in front of it.
        let counts = reply.column().into_iter().skip(2).step_by(3);
        let counts: Vec<usize> = counts
            .map(|count| count.parse().expect("a count"))
            .collect();
        assert_eq!(counts, (1..=40).collect::<Vec<_>>());
    });
}

#[test]
fn ends_a_session_at_terminate_without_a_word() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "select 1");
        a.send(stage, "terminate", &frames::terminate());
        assert_eq!(a.end(stage).tags(), "");
        let mut b = stage.client("b");
        b.send(
            stage,
            "a query and terminate",
            &[query("select 2"), frames::terminate()].concat(),
        );
        assert_eq!(b.end(stage).tags(), "TDCZ");
    });
}

#[test]
fn answers_what_came_before_the_end_of_the_input() {
    compare(|stage| {
        for _ in 0..10 {
            let mut a = stage.client("a");
            let units = [
                query("select 'one'"),
                extended("select 'two'", &[]),
                query("select 'three'"),
            ];
            a.send(
                stage,
                "three units and the end of the input",
                &units.concat(),
            );
            a.wire.end_sending();
            assert_eq!(a.end(stage).column(), ["one", "two", "three"]);
        }
    });
}

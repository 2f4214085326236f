//! What a session keeps on its connection: temporary objects, locks, cursors, listeners, SQL-level
//! statements, roles. Each client has its own, and none of another's.

use std::time::Duration;

use manifold_tests::harness::frames::{bind, execute, parse, query, run_prepared, sync};
use manifold_tests::harness::{Login, Setup, compare, compare_with};

#[test]
fn keeps_temporary_tables_to_their_session() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(
            stage,
            "create temp table t (v text); insert into t values ('a')",
        );
        assert_eq!(b.query(stage, "select * from t").sqlstate(), "42P01");
        b.query(stage, "select 'b' as v into temp t");
        for _ in 0..3 {
            assert_eq!(a.query(stage, "select v from t").value(), "a");
            assert_eq!(b.query(stage, "select v from t").value(), "b");
        }
        a.query(
            stage,
            "begin; create temp table gone (v int) on commit drop; commit",
        );
        assert_eq!(a.query(stage, "select * from gone").sqlstate(), "42P01");
        a.query(stage, "create temp sequence s; select nextval('s')");
        assert_eq!(a.query(stage, "select nextval('s')").value(), "2");
        assert_eq!(b.query(stage, "select nextval('s')").sqlstate(), "42P01");
        a.query(stage, "create temp view w as select v || '!' v from t");
        assert_eq!(a.extended(stage, "select v from w", &[]).value(), "a!");
        b.query(stage, "drop table t");
        assert_eq!(a.query(stage, "select v from t").value(), "a");
        a.query(stage, "discard temp");
        assert_eq!(a.query(stage, "select v from t").sqlstate(), "42P01");
        assert_eq!(
            a.query(stage, "create temp table t (v int)").commands(),
            ["CREATE TABLE"]
        );
        a.query(
            stage,
            "create function make() returns void language sql as 'create temp table m (v int)'",
        );
        a.query(stage, "select make()");
        a.query(stage, "insert into m values (1)");
        assert_eq!(b.query(stage, "select * from m").sqlstate(), "42P01");
        assert_eq!(a.query(stage, "select v from m").value(), "1");
    });
}

#[test]
fn keeps_session_advisory_locks_to_their_session() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "select pg_advisory_lock(1)");
        for _ in 0..3 {
            assert_eq!(
                b.query(stage, "select pg_try_advisory_lock(1)").value(),
                "f"
            );
            assert_eq!(
                a.query(stage, "select pg_try_advisory_lock(1)").value(),
                "t"
            );
        }
        a.query(stage, "select pg_advisory_unlock_all()");
        assert_eq!(
            b.query(stage, "select pg_try_advisory_lock(1)").value(),
            "t"
        );
        assert_eq!(
            a.query(stage, "select pg_advisory_unlock(1)")
                .notices()
                .len(),
            1
        );
        assert_eq!(b.query(stage, "select pg_advisory_unlock(1)").value(), "t");
        a.query(
            stage,
            "create function hold(k int) returns void language plpgsql \
                        as 'begin perform pg_advisory_lock(k); end'",
        );
        a.query(stage, "select hold(2)");
        assert_eq!(
            b.query(stage, "select pg_try_advisory_lock(2)").value(),
            "f"
        );
        a.query(stage, "begin; select pg_advisory_xact_lock(3)");
        assert_eq!(
            b.query(stage, "select pg_try_advisory_xact_lock(3)")
                .value(),
            "f"
        );
        a.query(stage, "commit");
        assert_eq!(
            b.query(stage, "select pg_try_advisory_xact_lock(3)")
                .value(),
            "t"
        );
        let gone = a;
        gone.wire.vanish();
        let mut direct = stage.direct();
        let count = "select count(*) from pg_locks where locktype = 'advisory' and \
                     database = (select oid from pg_database where datname = current_database())";
        let freed = manifold_tests::harness::process::wait_for(Duration::from_secs(10), || {
            (direct.value(count) == "0").then_some(())
        });
        assert!(freed.is_some(), "a lock outlives its session");
    });
}

#[test]
fn keeps_cursors_with_hold_to_their_session() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(
            stage,
            "declare c cursor with hold for select i from generate_series(1, 5) i",
        );
        b.query(
            stage,
            "begin; declare c cursor with hold for select -i from generate_series(1, 5) i; commit",
        );
        assert_eq!(a.query(stage, "fetch 2 from c").column(), ["1", "2"]);
        assert_eq!(b.query(stage, "fetch 1 from c").column(), ["-1"]);
        assert_eq!(a.query(stage, "fetch 1 from c").column(), ["3"]);
        a.query(stage, "close c");
        assert_eq!(a.query(stage, "fetch c").sqlstate(), "34000");
        assert_eq!(
            b.query(stage, "move forward 2 from c").commands(),
            ["MOVE 2"]
        );
        assert_eq!(b.query(stage, "fetch c").column(), ["-4"]);
        b.query(stage, "close all");
        assert_eq!(b.query(stage, "fetch c").sqlstate(), "34000");
        a.query(stage, "begin; declare d cursor for select 1");
        a.query(stage, "fetch d");
        a.query(stage, "commit");
        assert_eq!(a.query(stage, "fetch d").sqlstate(), "34000");
    });
}

#[test]
fn keeps_sql_level_statements_to_their_session() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "prepare p (int) as select 'a', $1 + 1");
        assert_eq!(b.query(stage, "execute p(1)").sqlstate(), "26000");
        b.query(stage, "prepare p as select 'b'");
        for _ in 0..3 {
            assert_eq!(a.query(stage, "execute p(1)").value(), "a");
            assert_eq!(b.query(stage, "execute p").value(), "b");
        }
        assert_eq!(a.query(stage, "prepare p as select 2").sqlstate(), "42P05");
        // SQL and protocol share one space of names.
        a.units(
            stage,
            "parse q",
            &[parse("q", "select 'q'", &[]), sync()].concat(),
            1,
        );
        assert_eq!(a.query(stage, "execute q").value(), "q");
        assert_eq!(a.query(stage, "prepare q as select 2").sqlstate(), "42P05");
        assert_eq!(
            a.units(stage, "bind p", &run_prepared("p", &[Some("4")]), 1)
                .value(),
            "a"
        );
        let names = "select name, statement, from_sql from pg_prepared_statements order by name";
        assert_eq!(a.query(stage, names).column(), ["p", "q"]);
        assert_eq!(b.query(stage, names).column(), ["p"]);
        a.query(stage, "deallocate q");
        assert_eq!(
            a.units(stage, "bind q", &run_prepared("q", &[]), 1)
                .sqlstate(),
            "26000"
        );
        a.query(stage, "deallocate all");
        assert_eq!(a.query(stage, "execute p(1)").sqlstate(), "26000");
        assert_eq!(b.query(stage, "execute p").value(), "b");
        assert_eq!(a.query(stage, "deallocate p").sqlstate(), "26000");
    });
}

#[test]
fn delivers_notifications_to_listeners_only() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "listen news");
        b.query(stage, "notify news, 'one'");
        let reply = a.wire.until(b'A');
        assert_eq!(reply.notifications()[0].1, "news");
        assert_eq!(reply.notifications()[0].2, "one");
        b.query(stage, "begin; notify news, 'two'");
        b.query(
            stage,
            "select pg_notify('news', 'three'); notify other, 'x'",
        );
        assert_eq!(a.wire.during(Duration::from_millis(150)).tags(), "");
        b.query(stage, "commit");
        let mut got = a.wire.until(b'A').notifications();
        if got.len() < 2 {
            got.extend(a.wire.until(b'A').notifications());
        }
        let payloads: Vec<&str> = got.iter().map(|(_, _, payload)| &payload[..]).collect();
        assert_eq!(payloads, ["two", "three"]);
        b.query(stage, "begin; notify news, 'never'; rollback");
        // One's own notification comes before its ReadyForQuery.
        let reply = a.query(stage, "notify news, 'mine'");
        assert_eq!(reply.tags(), "CAZ");
        a.query(stage, "unlisten news");
        b.query(stage, "notify news, 'unheard'");
        assert_eq!(a.wire.during(Duration::from_millis(150)).tags(), "");
        assert_eq!(
            a.query(stage, "select pg_listening_channels()")
                .rows()
                .len(),
            0
        );
        assert_eq!(b.wire.during(Duration::from_millis(50)).tags(), "");
    });
}

#[test]
fn keeps_roles_to_their_session() {
    stage_roles();
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table secret (v int)");
        a.query(stage, "set role sessions_plain");
        assert_eq!(
            a.query(stage, "select current_user").value(),
            "sessions_plain"
        );
        assert_eq!(b.query(stage, "select current_user").value(), "postgres");
        assert_eq!(a.query(stage, "select * from secret").sqlstate(), "42501");
        assert_eq!(b.query(stage, "select * from secret").rows().len(), 0);
        a.query(stage, "reset role");
        assert_eq!(a.query(stage, "select * from secret").rows().len(), 0);
        a.query(stage, "set session authorization sessions_plain");
        assert_eq!(
            a.query(stage, "select session_user").value(),
            "sessions_plain"
        );
        assert_eq!(b.query(stage, "select session_user").value(), "postgres");
        a.query(stage, "reset session authorization");
        assert_eq!(a.query(stage, "select session_user").value(), "postgres");
        let login = Login::new("sessions_plain", &stage.database);
        let mut c = stage.client_with("c", &login);
        assert_eq!(
            c.query(stage, "select current_user").value(),
            "sessions_plain"
        );
        assert_eq!(c.query(stage, "select * from secret").sqlstate(), "42501");
        assert_eq!(c.query(stage, "set role postgres").sqlstate(), "42501");
    });
}

/// A role without rights, known to the whole node.
fn stage_roles() {
    manifold_tests::harness::Node::shared().execute("create role sessions_plain login");
}

#[test]
fn gives_sequence_values_of_the_own_session() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (id serial, v text)");
        assert_eq!(
            a.query(stage, "select currval('t_id_seq')").sqlstate(),
            "55000"
        );
        a.query(stage, "insert into t (v) values ('a')");
        assert_eq!(
            a.query(stage, "select currval('t_id_seq'), lastval()")
                .value(),
            "1"
        );
        let mut b = stage.client("b");
        b.query(stage, "begin");
        b.query(stage, "insert into t (v) values ('b')");
        assert_eq!(a.query(stage, "select currval('t_id_seq')").value(), "1");
        assert_eq!(b.query(stage, "select lastval()").value(), "2");
        b.query(stage, "commit");
    });
}

/// In a failed transaction nothing of what others drew can be wiped: it has to be done after it.
#[test]
fn hides_what_others_drew_from_who_asked_in_a_failed_transaction() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (id serial, v text)");
        a.query(stage, "insert into t (v) values ('a')");
        let mut b = stage.client("b");
        b.query(stage, "begin");
        assert_eq!(b.query(stage, "select 1/0").sqlstate(), "22012");
        assert_eq!(b.query(stage, "select lastval()").sqlstate(), "25P02");
        b.query(stage, "rollback");
        assert_eq!(b.query(stage, "select lastval()").sqlstate(), "55000");
        b.query(stage, "insert into t (v) values ('b')");
        assert_eq!(b.query(stage, "select lastval()").value(), "2");
    });
}

/// A connection remembers how it compiled a function. Who has never called it must not be told
/// that this no longer fits, whether the call reads or writes.
#[test]
fn calls_functions_as_if_nobody_had_called_them_before() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        a.query(stage, "insert into t values (1)");
        a.query(stage, "create table seen (v text)");
        a.query(
            stage,
            "create function f() returns text language plpgsql as \
             $$ declare r record; begin select v into r from t; return r.v + 1; end $$",
        );
        a.query(
            stage,
            "create function g() returns void language plpgsql as \
             $$ declare r record; begin select v into r from t; \
             insert into seen values (r.v + 1); end $$",
        );
        let mut others = ["b", "c"].map(|name| stage.client(name));
        for (function, name) in [("f", "new f"), ("g", "new g")] {
            let call = format!("select {function}()");
            others[0].query(stage, &call);
            a.query(stage, "alter table t alter v type numeric using v");
            let mut new = stage.client(name);
            assert_eq!(new.query(stage, &call).sqlstate(), "");
            a.query(stage, "alter table t alter v type int using v");
        }
        assert_eq!(
            others[1].query(stage, "select count(*) from seen").value(),
            "2"
        );
    });
}

/// What was committed before the call in the same request must not be run again with it.
#[test]
fn does_not_repeat_what_was_committed_before_a_call_that_failed() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        a.query(stage, "insert into t values (1)");
        a.query(stage, "create table seen (v text)");
        a.query(
            stage,
            "create function f() returns text language plpgsql as \
             $$ declare r record; begin select v into r from t; return r.v + 1; end $$",
        );
        let mut b = stage.client("b");
        b.query(stage, "select f()");
        a.query(stage, "alter table t alter v type numeric using v");
        let texts = [
            "begin",
            "insert into seen values ('b')",
            "commit",
            "select f()",
        ];
        let mut request: Vec<u8> = Vec::new();
        for text in texts {
            request.extend([parse("", text, &[]), bind("", "", &[]), execute("", 0)].concat());
        }
        request.extend(sync());
        let reply = b.units(stage, "a write, then a call", &request, 1);
        assert_eq!(reply.sqlstate(), "42804");
        assert_eq!(a.query(stage, "select count(*) from seen").value(), "1");
    });
}

#[test]
fn keeps_the_odds_and_ends_of_a_session() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "select setseed(0.25)");
        b.query(stage, "select setseed(0.75)");
        let mine = a.query(stage, "select random()").value();
        let other = b.query(stage, "select random()").value();
        assert_ne!(mine, other);
        a.query(stage, "select random()");
        a.query(stage, "begin; select lo_create(4711)");
        a.query(stage, "select lo_open(4711, 131072 + 262144)");
        a.query(stage, "select lowrite(0, 'abc')");
        a.query(stage, "select lo_lseek(0, 0, 0), loread(0, 2)");
        a.query(stage, "commit; select lo_unlink(4711)");
        a.query(stage, "load 'plpgsql'");
        let pid = a.wire.value("select pg_backend_pid()");
        for _ in 0..3 {
            assert_eq!(a.wire.value("select pg_backend_pid()"), pid);
            b.query(stage, "select 1");
        }
    });
}

#[test]
fn keeps_a_session_usable_after_its_lease() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        for _ in 0..5 {
            a.query(stage, "begin");
            a.query(stage, "create temp table t (v int) on commit drop");
            a.query(stage, "commit");
            b.query(
                stage,
                "begin; lock table pg_am in access share mode; commit",
            );
            a.units(
                stage,
                "mixed",
                &[query("select 1"), sync(), query("begin; rollback")].concat(),
                3,
            );
        }
    });
}

#[test]
fn frees_the_upstream_of_a_session_that_left() {
    compare_with(&Setup::connections(4), |stage| {
        // More sessions one after another than upstreams, each with state that needs a lease.
        for _ in 0..12 {
            let mut a = stage.client("a");
            a.query(stage, "create temp table t (v int)");
            a.query(stage, "set search_path = pg_temp, pg_catalog");
            a.query(stage, "prepare p as select 1");
            a.query(stage, "listen x");
            a.query(stage, "select pg_advisory_lock(7)");
            a.query(stage, "declare c cursor with hold for select 1");
        }
        let mut b = stage.client("b");
        assert_eq!(b.query(stage, "select * from t").sqlstate(), "42P01");
        assert_eq!(
            b.query(stage, "show search_path").value(),
            "\"$user\", public"
        );
        assert_eq!(b.query(stage, "execute p").sqlstate(), "26000");
        assert_eq!(
            b.query(stage, "select count(*) from pg_listening_channels()")
                .value(),
            "0"
        );
        assert_eq!(b.query(stage, "fetch c").sqlstate(), "34000");
    });
}

#[test]
fn serves_logins_as_several_users_and_databases() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t as select 'mine' v");
        let login = Login::new("postgres", "postgres");
        let mut b = stage.client_with("b", &login);
        assert_eq!(
            b.query(stage, "select current_database()").value(),
            "postgres"
        );
        assert_eq!(b.query(stage, "select * from t").sqlstate(), "42P01");
        assert_eq!(a.query(stage, "select v from t").value(), "mine");
        let login = Login::new("postgres", "db_no_such");
        assert_eq!(stage.refused("c", &login).sqlstate(), "3D000");
        let login = Login::new("nobody_here", "postgres");
        assert_eq!(stage.refused("d", &login).sqlstate(), "28000");
    });
}

#[test]
fn leaves_nothing_that_outlasts_discard_to_the_next_session() {
    compare_with(&Setup::connections(1), |stage| {
        let mut direct = stage.direct();
        direct.value("select setseed(0.5)");
        let drawn = direct.value("select random()");
        let mut seeded = stage.client("seeded");
        seeded.query(stage, "prepare p as select setseed(0.5)");
        seeded.query(stage, "execute p");
        drop(seeded);
        let mut next = stage.client("next");
        assert_ne!(next.wire.value("select random()"), drawn, "a seed stayed");
        next.query(stage, "select pg_backend_pid() > 0, setseed(0.5)");
        next.query(stage, "discard all");
        let mut other = stage.client("other");
        assert_ne!(other.wire.value("select random()"), drawn, "a seed stayed");
        other.query(stage, "create temp table t (v int)");
        drop(other);
        drop(next);
        let mut last = stage.client("last");
        let schema = last.query(stage, "select pg_my_temp_schema()");
        assert_eq!(schema.value(), "0", "a temporary schema stayed");
    });
}

#[test]
fn answers_everybody_while_a_transaction_holds_a_table() {
    compare_with(&Setup::connections(4), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (a int check (a > 0), b int)");
        a.query(stage, "create view v as select a + 1 as a from t");
        for round in 1..=3 {
            a.query(stage, "begin; lock table t in access exclusive mode");
            // The catalog has to be read again, and what it is made of names the table.
            b.query(stage, &format!("create table o{round} (a int)"));
            let counted = b.query(stage, &format!("select count(*) as n{round} from o{round}"));
            assert_eq!(counted.value(), "0");
            let insert = format!("insert into t values ({round}, 2) returning b as b{round}");
            assert_eq!(a.query(stage, &insert).value(), "2");
            a.query(stage, "commit");
            let total = b.query(stage, &format!("select count(*) as m{round} from v"));
            assert_eq!(total.value(), round.to_string());
        }
    });
}

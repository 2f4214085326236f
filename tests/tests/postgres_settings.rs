//! Settings: every client sees its own, whatever its neighbours on the same upstreams set.
//!
//! Two clients take turns on one or two upstreams. The comparison with direct covers ParameterStatus
//! too: who is told of what, and when.

use manifold_tests::harness::frames::{extended, parse, query, run_prepared, sync};
use manifold_tests::harness::{Login, Setup, compare, compare_with};

#[test]
fn keeps_interleaved_settings_apart() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "set datestyle = 'SQL, DMY'");
        b.query(stage, "set datestyle = 'SQL, MDY'");
        for _ in 0..3 {
            assert_eq!(
                a.query(stage, "select '01/02/2024'::date - '2024-02-01'::date")
                    .value(),
                "0"
            );
            assert_eq!(
                b.query(stage, "select '01/02/2024'::date - '2024-01-02'::date")
                    .value(),
                "0"
            );
            assert_eq!(a.query(stage, "show datestyle").value(), "SQL, DMY");
            assert_eq!(
                b.query(stage, "select current_setting('datestyle')")
                    .value(),
                "SQL, MDY"
            );
        }
        assert_eq!(a.wire.settings["DateStyle"], "SQL, DMY");
        assert_eq!(b.wire.settings["DateStyle"], "SQL, MDY");
        a.query(stage, "set timezone = 'Asia/Tokyo'");
        a.query(stage, "set extra_float_digits = -3; set work_mem = '1MB'");
        for sql in [
            "show timezone",
            "show extra_float_digits",
            "show work_mem",
            "select 1.123456789::float8",
        ] {
            a.query(stage, sql);
            b.query(stage, sql);
        }
        a.query(stage, "reset datestyle");
        assert_eq!(a.query(stage, "show datestyle").value(), "ISO, MDY");
        assert_eq!(b.query(stage, "show datestyle").value(), "SQL, MDY");
        b.query(stage, "reset all");
        assert_eq!(b.query(stage, "show datestyle").value(), "ISO, MDY");
        assert_eq!(a.query(stage, "show timezone").value(), "Asia/Tokyo");
    });
}

#[test]
fn finds_tables_by_each_clients_search_path() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create schema one; create schema two");
        a.query(
            stage,
            "create table one.t as select 'one' v; create table two.t as select 'two' v",
        );
        a.query(stage, "set search_path = one");
        b.query(stage, "set search_path to two, public");
        for _ in 0..3 {
            assert_eq!(a.query(stage, "select v from t").value(), "one");
            assert_eq!(b.query(stage, "select v from t").value(), "two");
            assert_eq!(a.extended(stage, "select v from t", &[]).value(), "one");
            assert_eq!(b.extended(stage, "select v from t", &[]).value(), "two");
        }
        let prepare = [parse("s", "select v from t", &[]), sync()].concat();
        a.units(stage, "a prepares", &prepare, 1);
        b.units(stage, "b prepares", &prepare, 1);
        for _ in 0..3 {
            assert_eq!(
                a.units(stage, "a runs", &run_prepared("s", &[]), 1).value(),
                "one"
            );
            assert_eq!(
                b.units(stage, "b runs", &run_prepared("s", &[]), 1).value(),
                "two"
            );
        }
        a.query(stage, "set search_path = ''");
        assert_eq!(a.query(stage, "select v from t").sqlstate(), "42P01");
        assert_eq!(b.query(stage, "select v from t").value(), "two");
        a.query(stage, "select set_config('search_path', 'two', false)");
        assert_eq!(a.query(stage, "select v from t").value(), "two");
        a.query(stage, "create table made (v int)");
        assert_eq!(b.query(stage, "select count(*) from two.made").value(), "0");
    });
}

#[test]
fn tells_the_true_error_of_a_bad_value() {
    compare(|stage| {
        let mut a = stage.client("a");
        assert_eq!(
            a.query(stage, "set datestyle = 'nonsense'").sqlstate(),
            "22023"
        );
        assert_eq!(a.query(stage, "set work_mem = '-3'").sqlstate(), "22023");
        assert_eq!(
            a.query(stage, "set no_such_setting = 1").sqlstate(),
            "42704"
        );
        assert_eq!(a.query(stage, "show no_such_setting").sqlstate(), "42704");
        assert_eq!(
            a.query(stage, "set max_connections = 3").sqlstate(),
            "55P02"
        );
        assert_eq!(
            a.query(stage, "set server_version = 'x'").sqlstate(),
            "55P02"
        );
        assert_eq!(a.query(stage, "reset no_such_setting").sqlstate(), "42704");
        assert_eq!(
            a.query(stage, "set timezone = 'Nowhere/City'").sqlstate(),
            "22023"
        );
        assert_eq!(
            a.query(stage, "set client_encoding = 'klingon'").sqlstate(),
            "22023"
        );
        a.query(stage, "select set_config('work_mem', 'much', false)");
        assert_eq!(a.query(stage, "show work_mem").value(), "4MB");
        assert_eq!(a.query(stage, "show datestyle").value(), "ISO, MDY");
    });
}

#[test]
fn keeps_custom_settings_of_each_client() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "set app.tenant = 'alpha'");
        b.query(stage, "select set_config('app.tenant', 'beta', false)");
        for _ in 0..3 {
            assert_eq!(
                a.query(stage, "select current_setting('app.tenant')")
                    .value(),
                "alpha"
            );
            assert_eq!(b.query(stage, "show app.tenant").value(), "beta");
        }
        let mut c = stage.client("c");
        // PostgreSQL cannot forget that a name was ever set: it may be empty or unknown.
        c.wire.send(&query("select current_setting('app.tenant')"));
        let reply = c.wire.until_ready(1);
        assert!(reply.sqlstate() == "42704" || reply.value().is_empty());
        a.query(stage, "reset app.tenant");
        assert_eq!(
            a.query(stage, "select current_setting('app.tenant')")
                .value(),
            ""
        );
        assert_eq!(
            b.query(stage, "select current_setting('app.tenant')")
                .value(),
            "beta"
        );
    });
}

#[test]
fn applies_startup_parameters_and_options() {
    compare_with(&Setup::connections(2), |stage| {
        let login = stage
            .login()
            .with("application_name", "one")
            .with("datestyle", "German")
            .with(
                "options",
                "-c search_path=pg_catalog -c work_mem=2MB --enable_sort=off",
            );
        let mut a = stage.client_with("a", &login);
        let mut b = stage.client("b");
        for sql in [
            "show datestyle",
            "show search_path",
            "show work_mem",
            "show enable_sort",
            "show application_name",
        ] {
            a.query(stage, sql);
            b.query(stage, sql);
        }
        assert_eq!(a.wire.settings["DateStyle"], "German, DMY");
        // The client's own beginning is what RESET and DISCARD go back to.
        a.query(stage, "set datestyle = 'ISO, YMD'; set work_mem = '3MB'");
        a.query(stage, "reset datestyle");
        assert_eq!(a.query(stage, "show datestyle").value(), "German, DMY");
        a.query(stage, "set datestyle = default; reset all");
        assert_eq!(a.query(stage, "show work_mem").value(), "2MB");
        a.query(stage, "set search_path = public, pg_temp");
        a.query(stage, "discard all");
        assert_eq!(a.query(stage, "show search_path").value(), "pg_catalog");
        assert_eq!(
            b.query(stage, "show search_path").value(),
            "\"$user\", public"
        );
    });
}

#[test]
fn refuses_a_login_with_a_bad_startup_value() {
    compare(|stage| {
        let login = stage.login().with("datestyle", "nonsense");
        assert_eq!(stage.refused("a", &login).sqlstate(), "22023");
        let login = stage.login().with("no_such_setting", "1");
        assert_eq!(stage.refused("b", &login).sqlstate(), "42704");
        let login = stage.login().with("options", "-c work_mem=lots");
        assert_eq!(stage.refused("c", &login).sqlstate(), "22023");
        let login = stage.login().with("options", "--no-such-setting=1");
        assert_eq!(stage.refused("d", &login).sqlstate(), "42704");
        let login = stage.login().with("client_encoding", "klingon");
        assert_eq!(stage.refused("e", &login).sqlstate(), "22023");
        let mut a = stage.client("f");
        assert_eq!(a.query(stage, "select 1").value(), "1");
    });
}

#[test]
fn reports_settings_as_the_node_spells_them() {
    compare(|stage| {
        let login = stage
            .login()
            .with("client_encoding", "utf8")
            .with("timezone", "europe/BERLIN");
        let mut a = stage.client_with("a", &login);
        assert_eq!(a.wire.settings["client_encoding"], "UTF8");
        for sql in [
            "set client_encoding to 'latin1'",
            "select 'ä'",
            "set names 'utf-8'",
            "set time zone 3",
            "set time zone interval '-03:30' hour to minute",
            "set time zone local",
            "set datestyle to postgres",
            "set datestyle = iso, dmy",
            "set session intervalstyle = 'ISO_8601'",
            "set application_name = 'näme'",
            "set standard_conforming_strings = 0",
            "set default_transaction_read_only to yes",
            "set default_transaction_read_only to default",
            "set session characteristics as transaction isolation level serializable, read only",
            "show default_transaction_isolation",
            "show transaction_isolation",
            "set default_transaction_isolation = 'READ COMMITTED'",
            "set standard_conforming_strings = on",
            "set xml option document",
            "set seed to 0.5",
            "show all",
        ] {
            let reply = a.query(
                stage,
                if sql == "show all" {
                    "show xmloption"
                } else {
                    sql
                },
            );
            assert!(reply.error().is_none(), "{sql}: {:?}", reply.error());
        }
    });
}

#[test]
fn keeps_settings_of_transactions_inside_them() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(
            stage,
            "begin; set local datestyle = 'SQL'; set work_mem = '1MB'",
        );
        b.query(stage, "show datestyle");
        a.query(stage, "show datestyle");
        a.query(stage, "commit");
        assert_eq!(a.query(stage, "show datestyle").value(), "ISO, MDY");
        assert_eq!(a.query(stage, "show work_mem").value(), "1MB");
        assert_eq!(b.query(stage, "show work_mem").value(), "4MB");
        a.query(
            stage,
            "begin; set work_mem = '2MB'; set timezone = 'Asia/Tokyo'",
        );
        a.query(stage, "rollback");
        assert_eq!(a.query(stage, "show work_mem").value(), "1MB");
        assert_eq!(a.query(stage, "show timezone").value(), "UTC");
        a.query(
            stage,
            "begin; savepoint s; set datestyle = 'German'; rollback to s",
        );
        a.query(stage, "show datestyle");
        a.query(stage, "commit");
        a.query(stage, "set datestyle = 'SQL'; select 1/0");
        assert_eq!(a.query(stage, "show datestyle").value(), "ISO, MDY");
        assert_eq!(
            a.query(stage, "set local work_mem = '9MB'").notices().len(),
            1
        );
        assert_eq!(a.query(stage, "show work_mem").value(), "1MB");
        a.query(stage, "select set_config('work_mem', '8MB', true)");
        assert_eq!(a.query(stage, "show work_mem").value(), "1MB");
        assert_eq!(b.query(stage, "show work_mem").value(), "4MB");
    });
}

#[test]
fn sets_by_every_way_that_protocol_and_language_know() {
    compare_with(&Setup::connections(3), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.extended(stage, "set datestyle = 'SQL, DMY'", &[]);
        b.query(stage, "show datestyle");
        assert_eq!(a.extended(stage, "show datestyle", &[]).value(), "SQL, DMY");
        let set = "select set_config($1, $2, false)";
        a.extended(stage, set, &[Some("work_mem"), Some("512kB")]);
        b.query(stage, "show work_mem");
        assert_eq!(a.query(stage, "show work_mem").value(), "512kB");
        let prepare = [parse("s", "set timezone = 'Asia/Tokyo'", &[]), sync()].concat();
        a.units(stage, "prepare a set", &prepare, 1);
        b.query(stage, "show timezone");
        a.units(stage, "run it", &run_prepared("s", &[]), 1);
        b.query(stage, "show timezone");
        assert_eq!(a.query(stage, "show timezone").value(), "Asia/Tokyo");
        let many = [
            query("set enable_sort = off"),
            query("show enable_sort"),
            extended("reset enable_sort", &[]),
            query("show enable_sort"),
            query("set work_mem = '700kB'; show work_mem"),
            query("select set_config('work_mem', '800kB', false), current_setting('work_mem')"),
            query("show work_mem"),
        ];
        let reply = a.units(stage, "all at once", &many.concat(), 7);
        assert_eq!(reply.column(), ["off", "on", "700kB", "800kB", "800kB"]);
        b.query(stage, "show work_mem");
        a.query(
            stage,
            "update pg_settings set setting = '900' where name = 'work_mem'",
        );
        b.query(stage, "show work_mem");
        assert_eq!(a.query(stage, "show work_mem").value(), "900kB");
    });
}

#[test]
fn keeps_ordering_of_changed_settings_and_pipelined_reads() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let sql = "select '01/02/2024'::date::text";
        let mut units = Vec::new();
        for style in ["ISO, DMY", "ISO, MDY", "SQL, DMY", "German"].repeat(5) {
            units.push(query(&format!("set datestyle = '{style}'")));
            units.push(query(sql));
            units.push(extended(sql, &[]));
        }
        a.send(stage, "60 units", &units.concat());
        for _ in 0..5 {
            assert_eq!(b.query(stage, sql).value(), "2024-01-02");
        }
        let values = a.ready(stage, 60).column();
        let round = [
            "2024-02-01",
            "2024-02-01",
            "2024-01-02",
            "2024-01-02",
            "01/02/2024",
            "01/02/2024",
        ];
        assert_eq!(values[..6], round);
    });
}

#[test]
fn freezes_literals_at_parse_under_each_clients_settings() {
    compare_with(&Setup::connections(1), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "set datestyle = 'ISO, DMY'");
        let prepare = [parse("s", "select '01/02/2024'::date::text", &[]), sync()].concat();
        a.units(stage, "a prepares", &prepare, 1);
        b.units(stage, "b prepares", &prepare, 1);
        for _ in 0..2 {
            assert_eq!(
                a.units(stage, "a", &run_prepared("s", &[]), 1).value(),
                "2024-02-01"
            );
            assert_eq!(
                b.units(stage, "b", &run_prepared("s", &[]), 1).value(),
                "2024-01-02"
            );
        }
        // The literal was read when it was parsed: another setting later does not change it.
        a.query(stage, "set datestyle = 'ISO, MDY'");
        assert_eq!(
            a.units(stage, "a", &run_prepared("s", &[]), 1).value(),
            "2024-02-01"
        );
        a.query(stage, "set timezone = 'Asia/Tokyo'");
        let stamp = "select extract(epoch from '2024-01-01 00:00'::timestamptz)::int8";
        let prepare = [parse("z", stamp, &[]), sync()].concat();
        a.units(stage, "a prepares", &prepare, 1);
        b.units(stage, "b prepares", &prepare, 1);
        let first = a.units(stage, "a", &run_prepared("z", &[]), 1).value();
        assert_ne!(
            first,
            b.units(stage, "b", &run_prepared("z", &[]), 1).value()
        );
        a.query(stage, "set timezone = 'UTC'");
        assert_eq!(
            a.units(stage, "a", &run_prepared("z", &[]), 1).value(),
            first
        );
    });
}

#[test]
fn recognises_the_reset_that_pools_send() {
    compare_with(&Setup::connections(2), |stage| {
        let mut b = stage.client("b");
        for reset in [
            "discard all",
            "close all; unlisten *; reset all",
            "select pg_advisory_unlock_all(); close all; unlisten *; reset all; deallocate all; discard temp",
            "RESET ALL; DEALLOCATE ALL",
        ] {
            let mut a = stage.client("a");
            a.query(stage, "set datestyle = 'German'; set app.x = '1'");
            a.units(
                stage,
                "prepare",
                &[parse("s", "select 1", &[]), sync()].concat(),
                1,
            );
            a.query(stage, "begin; select 1; commit");
            let answer = a.query(stage, reset);
            assert!(answer.error().is_none(), "{reset}: {:?}", answer.error());
            assert_eq!(a.query(stage, "show datestyle").value(), "ISO, MDY");
            a.units(stage, "run", &run_prepared("s", &[]), 1);
            b.query(stage, "show datestyle");
        }
    });
}

#[test]
fn finds_what_the_session_began_with_when_a_reset_is_hidden() {
    compare_with(&Setup::connections(2), |stage| {
        let mut b = stage.client("b");
        b.query(
            stage,
            "create schema one; create table one.t (v text); create table public.t (v text)",
        );
        let login = stage
            .login()
            .with("datestyle", "German")
            .with("options", "-c search_path=one -c work_mem=2MB");
        let mut a = stage.client_with("a", &login);
        a.query(stage, "set datestyle = 'SQL, MDY'; set work_mem = '3MB'");
        b.query(stage, "show datestyle");
        a.query(stage, "do $$ begin execute 'reset datestyle'; end $$");
        assert_eq!(a.query(stage, "show datestyle").value(), "German, DMY");
        assert_eq!(a.query(stage, "show work_mem").value(), "3MB");
        a.query(
            stage,
            "do $$ begin set search_path = public; perform set_config('work_mem', null, false); \
             execute 'reset all'; insert into t select current_setting('search_path'); end $$",
        );
        assert_eq!(a.query(stage, "select v from one.t").value(), "one");
        assert_eq!(a.query(stage, "show work_mem").value(), "2MB");
        a.query(
            stage,
            "select name, setting, reset_val, source from pg_settings \
             where name in ('DateStyle', 'search_path', 'work_mem') order by name",
        );
        a.query(stage, "set work_mem = '5MB'; reset work_mem");
        assert_eq!(a.query(stage, "show work_mem").value(), "2MB");
        b.query(stage, "select v from one.t");
        assert_eq!(b.query(stage, "show datestyle").value(), "ISO, MDY");
        a.query(stage, "discard all");
        // The node lets two in: what was for the first has to go for the second.
        let mut c = stage.client_with("c", &stage.login().with("datestyle", "Postgres, YMD"));
        for _ in 0..2 {
            for (client, began_with) in [(&mut c, "Postgres, YMD"), (&mut a, "German, DMY")] {
                client.query(stage, "set datestyle = 'ISO, MDY'");
                client.query(stage, "do $$ begin execute 'reset datestyle'; end $$");
                assert_eq!(client.query(stage, "show datestyle").value(), began_with);
                b.query(stage, "show datestyle");
                client.query(stage, "discard all");
                assert_eq!(client.query(stage, "show datestyle").value(), began_with);
            }
        }
    });
}

#[test]
fn serves_unproven_text_when_the_node_refuses_the_startup_settings() {
    compare_with(&Setup::connections(2), |stage| {
        let mut admin = stage.direct();
        let grant = "do $$ begin create role settings_reader login; \
             exception when duplicate_object then null; end $$";
        assert!(admin.query(grant).error().is_none());
        let grant = "grant set on parameter log_min_messages to settings_reader";
        assert!(admin.query(grant).error().is_none());
        let login = Login::new("settings_reader", &stage.database)
            .with("options", "-c log_min_messages=error");
        let mut a = stage.client_with("a", &login);
        assert_eq!(a.query(stage, "show log_min_messages").value(), "error");
        let revoke = "revoke set on parameter log_min_messages from settings_reader";
        assert!(admin.query(revoke).error().is_none());
        let reply = a.query(stage, "do $$ begin execute 'select 1'; end $$");
        assert_eq!(reply.commands(), ["DO"]);
        assert_eq!(a.query(stage, "show log_min_messages").value(), "error");
    });
}

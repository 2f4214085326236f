//! COPY in both directions, and everything that can go wrong in it.

use manifold_tests::harness::frames::{
    bind, copy_data, copy_done, copy_fail, execute, flush, parse, query, sync,
};
use manifold_tests::harness::{Setup, compare, compare_with};

#[test]
fn copies_in_and_out() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (id int, v text)");
        a.send(stage, "copy in", &query("copy t from stdin"));
        assert_eq!(a.until(stage, b'G').tags(), "G");
        assert_eq!(b.query(stage, "select 'between'").value(), "between");
        let rows = [
            copy_data(b"1\tone\n2\tt"),
            copy_data(b"wo\n"),
            copy_data(b""),
            copy_done(),
        ];
        assert_eq!(
            a.units(stage, "rows", &rows.concat(), 1).commands(),
            ["COPY 2"]
        );
        let all = [
            query("copy t from stdin with csv"),
            copy_data(b"3,\"a,b\"\n"),
            copy_done(),
            query("select 1"),
        ];
        assert_eq!(
            a.units(stage, "without waiting", &all.concat(), 2).tags(),
            "GCZTDCZ"
        );
        let reply = a.query(stage, "copy t to stdout");
        assert_eq!(reply.tags(), "HdddcCZ");
        assert_eq!(reply.copied(), b"1\tone\n2\ttwo\n3\ta,b\n");
        a.query(
            stage,
            "copy (select generate_series(1, 3)) to stdout with (format binary)",
        );
        a.query(stage, "copy t (id) to stdout with (format csv, header)");
        assert_eq!(b.query(stage, "select count(*) from t").value(), "3");
        let many = [
            query("copy t from stdin; select count(*) from t; copy t from stdin"),
            copy_data(b"4\tx\n"),
            copy_done(),
            copy_data(b"5\ty\n"),
            copy_done(),
        ];
        a.units(stage, "two in one query", &many.concat(), 1);
        assert_eq!(b.query(stage, "select count(*) from t").value(), "5");
    });
}

#[test]
fn copies_in_the_extended_protocol() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        let begin = [
            parse("", "copy t from stdin", &[]),
            bind("", "", &[]),
            execute("", 0),
        ]
        .concat();
        a.send(stage, "begin", &[begin.clone(), flush()].concat());
        assert_eq!(a.until(stage, b'G').tags(), "12G");
        let end = [copy_data(b"1\n"), copy_done(), sync()].concat();
        assert_eq!(a.units(stage, "end", &end, 1).tags(), "CZ");
        // Sync and Flush in the middle of the data are ignored by the node.
        let odd = [
            begin,
            flush(),
            sync(),
            copy_data(b"2\n"),
            sync(),
            copy_done(),
            sync(),
        ];
        a.units(stage, "with syncs between", &odd.concat(), 1);
        let out = [
            parse("", "copy t to stdout", &[]),
            bind("", "", &[]),
            execute("", 0),
            sync(),
        ];
        assert_eq!(a.units(stage, "out", &out.concat(), 1).copied(), b"1\n2\n");
        assert_eq!(a.query(stage, "select count(*) from t").value(), "2");
    });
}

#[test]
fn lives_on_after_a_copy_that_failed() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (v int primary key)");
        let fail = [
            query("copy t from stdin"),
            copy_data(b"1\n"),
            copy_fail("changed my mind"),
        ];
        let reply = a.units(stage, "given up", &fail.concat(), 1);
        assert_eq!(reply.sqlstate(), "57014");
        // The error comes at the first bad row; what the client sends after it means nothing.
        let bad = [
            query("copy t from stdin"),
            copy_data(b"1\nx\n"),
            copy_data(&b"2\n".repeat(5_000)),
            copy_done(),
            query("select 'after'"),
        ];
        let reply = a.units(stage, "a bad row", &bad.concat(), 2);
        assert_eq!(
            (&reply.sqlstate()[..], &reply.value()[..]),
            ("22P02", "after")
        );
        assert_eq!(b.query(stage, "select count(*) from t").value(), "0");
        let reply = a.units(
            stage,
            "late data",
            &[copy_data(b"3\n"), copy_done(), query("select 2")].concat(),
            1,
        );
        assert_eq!(reply.tags(), "TDCZ");
        assert_eq!(
            a.query(stage, "copy missing from stdin").sqlstate(),
            "42P01"
        );
        let all = [
            query("copy missing from stdin"),
            copy_data(b"1\n"),
            copy_done(),
            query("select 3"),
        ];
        assert_eq!(
            a.units(stage, "no such table", &all.concat(), 2).value(),
            "3"
        );
        let twice = [
            query("copy t from stdin"),
            copy_data(b"1\n1\n"),
            copy_done(),
        ];
        assert_eq!(
            a.units(stage, "a duplicate", &twice.concat(), 1).sqlstate(),
            "23505"
        );
        let inside = [
            query("begin"),
            query("copy t from stdin"),
            copy_data(b"x\n"),
            copy_done(),
        ];
        assert_eq!(
            a.units(stage, "in a transaction", &inside.concat(), 2)
                .status(),
            Some('E')
        );
        a.query(stage, "rollback");
        assert_eq!(b.query(stage, "select count(*) from t").value(), "0");
        assert_eq!(
            a.query(stage, "copy (select 1/0) to stdout").sqlstate(),
            "22012"
        );
        a.query(
            stage,
            "copy (select 1/(3-i) from generate_series(1, 5) i) to stdout",
        );
    });
}

#[test]
fn ends_a_copy_at_a_foreign_message() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.query(stage, "create table t (v int)");
        a.send(stage, "copy in", &query("copy t from stdin"));
        a.until(stage, b'G');
        a.send(
            stage,
            "a query in between",
            &[copy_data(b"1\n"), query("select 1")].concat(),
        );
        let reply = a.until(stage, b'E');
        assert_eq!(reply.sqlstate(), "08P01");
    });
}

#[test]
fn copies_much_in_both_directions() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        a.query(stage, "create table t (id int, v text)");
        let mut bytes = query("copy t from stdin");
        for piece in 0..200 {
            let rows: String = (0..100)
                .map(|i| format!("{}\t{}\n", piece * 100 + i, "x".repeat(200)))
                .collect();
            bytes.extend(copy_data(rows.as_bytes()));
        }
        bytes.extend(copy_done());
        assert_eq!(a.units(stage, "4 MB", &bytes, 1).commands(), ["COPY 20000"]);
        b.send(stage, "others go on", &query("select 'b'"));
        a.send(stage, "out", &query("copy t to stdout"));
        assert_eq!(b.ready(stage, 1).value(), "b");
        let reply = a.wire.until_ready(1);
        assert_eq!(reply.copied().len(), 20_000 * 202 + 5 * 20_000 - 11_110);
        let sum = b.query(stage, "select count(*), sum(id), sum(length(v)) from t");
        assert_eq!(sum.value(), "20000");
    });
}

#[test]
fn forgets_a_copy_whose_client_left() {
    compare_with(&Setup::connections(2), |stage| {
        let mut b = stage.client("b");
        b.query(stage, "create table t (v int)");
        for _ in 0..6 {
            let mut a = stage.client("a");
            a.send(stage, "copy in", &query("copy t from stdin"));
            a.until(stage, b'G');
            a.wire.send(&copy_data(b"1\n"));
            a.wire.vanish();
        }
        assert_eq!(b.query(stage, "select count(*) from t").value(), "0");
        let mut c = stage.client("c");
        let all = [query("copy t from stdin"), copy_data(b"2\n"), copy_done()].concat();
        assert_eq!(
            c.units(stage, "a whole one", &all, 1).commands(),
            ["COPY 1"]
        );
        assert_eq!(b.query(stage, "select v from t").column(), ["2"]);
    });
}

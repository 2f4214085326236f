//! From one byte to 64 MiB, in both directions, fast and slow.

use std::fs;
use std::thread;
use std::time::Duration;

use manifold_tests::harness::frames::{
    self, bind, bind_formats, execute, extended, parse, query, sync,
};
use manifold_tests::harness::{
    Login, Node, ProxyOptions, Setup, Wire, compare, compare_with, places,
};

/// Around every bound that somebody may have: buffers, frames, units.
const SIZES: &[usize] = &[
    1, 7, 100, 4_095, 4_096, 8_191, 8_192, 16_383, 16_384, 65_535, 65_536, 65_537, 262_144,
    1_048_575, 1_048_576, 1_048_577, 5_000_000, 16_777_216, 67_108_864,
];

#[test]
fn returns_values_of_every_size() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        for size in SIZES {
            let sql = format!("select repeat('x', {size}) as v");
            assert_eq!(a.query(stage, &sql).value().len(), *size);
            assert_eq!(b.query(stage, "select 'b'").value(), "b");
            let reply = a.extended(
                stage,
                "select repeat('y', $1::int)",
                &[Some(&size.to_string())],
            );
            assert_eq!(reply.value().len(), *size);
        }
    });
}

#[test]
fn takes_parameters_of_every_size() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let prepare = [
            parse(
                "len",
                "select octet_length($1::bytea), md5($1::bytea)",
                &[17],
            ),
            sync(),
        ];
        a.units(stage, "prepare", &prepare.concat(), 1);
        let bytes: Vec<u8> = (0..251).collect();
        let pattern = bytes.repeat((64 << 20) / 251 + 1);
        for size in SIZES {
            let value = &pattern[..*size];
            let unit = [
                bind_formats("", "len", &[1], &[Some(value)], &[]),
                execute("", 0),
                sync(),
            ];
            let reply = a.units(stage, &format!("{size} bytes"), &unit.concat(), 1);
            assert_eq!(reply.value(), size.to_string());
            assert_eq!(b.query(stage, "select 'b'").value(), "b");
        }
    });
}

#[test]
fn takes_texts_of_every_size() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        for size in SIZES.iter().filter(|size| **size <= 16_777_216) {
            let sql = format!("select length('{}')", "z".repeat(*size));
            let reply = a.units(stage, &format!("query of {size}"), &query(&sql), 1);
            assert_eq!(reply.value(), size.to_string());
            let reply = a.units(stage, &format!("parse of {size}"), &extended(&sql, &[]), 1);
            assert_eq!(reply.value(), size.to_string());
        }
        // A long comment, many operators and deep nesting are the node's to judge.
        let comment = format!("/* {} */ select 1", "c".repeat(200_000));
        assert_eq!(
            a.units(stage, "a long comment", &query(&comment), 1)
                .value(),
            "1"
        );
        let operators = format!("select 1{}", "+1".repeat(3_000));
        assert_eq!(
            a.units(stage, "operators", &query(&operators), 1).value(),
            "3001"
        );
        let nested = format!("select {}1{}", "(".repeat(2_000), ")".repeat(2_000));
        a.units(stage, "nested", &query(&nested), 1);
        let deep = format!("select {}1{}", "(".repeat(200_000), ")".repeat(200_000));
        a.units(stage, "too deep", &query(&deep), 1);
        assert_eq!(a.query(stage, "select 'lives'").value(), "lives");
    });
}

#[test]
fn returns_rows_of_many_shapes() {
    compare(|stage| {
        let mut a = stage.client("a");
        let columns: Vec<String> = (0..1_600).map(|i| format!("{i} as column_{i}")).collect();
        assert_eq!(
            a.query(stage, &format!("select {}", columns.join(", ")))
                .rows()[0]
                .len(),
            1_600
        );
        assert_eq!(
            a.query(
                stage,
                "select i, repeat('r', i % 700) from generate_series(1, 30000) i"
            )
            .rows()
            .len(),
            30_000
        );
        let values: Vec<String> = (0..5_000).map(|i| i.to_string()).collect();
        let values: Vec<Option<&str>> = values.iter().map(|value| Some(&value[..])).collect();
        let list: Vec<String> = (1..=5_000).map(|i| format!("${i}::int")).collect();
        let sql = format!("select sum(v) from unnest(array[{}]) v", list.join(", "));
        let unit = [
            parse("", &sql, &[]),
            bind("", "", &values),
            execute("", 0),
            sync(),
        ];
        assert_eq!(
            a.units(stage, "5 000 parameters", &unit.concat(), 1)
                .value(),
            "12497500"
        );
        let error = format!(
            "do $$ begin raise exception '%', repeat('e', {}); end $$",
            100_000
        );
        let reply = a.query(stage, &error);
        assert_eq!(reply.error().expect("an error")[&'M'].len(), 100_000);
    });
}

#[test]
fn takes_requests_byte_by_byte() {
    compare(|stage| {
        let mut a = stage.client("a");
        let bytes = [
            query("select 'slowly'"),
            extended("select $1::text", &[Some("by bytes")]),
            query("begin; select 1; commit"),
        ];
        for byte in bytes.concat() {
            a.wire.send(&[byte]);
            thread::sleep(Duration::from_micros(300));
        }
        let reply = a.ready(stage, 3);
        assert_eq!(reply.column(), ["slowly", "by bytes", "1"]);
    });
}

#[test]
fn answers_a_client_that_reads_late() {
    compare_with(&Setup::connections(2), |stage| {
        let mut a = stage.client("a");
        let mut b = stage.client("b");
        let big = query("select i, repeat('s', 1000) from generate_series(1, 60000) i");
        a.send(stage, "60 MB", &big);
        for _ in 0..20 {
            assert_eq!(b.query(stage, "select 'b'").value(), "b");
            thread::sleep(Duration::from_millis(20));
        }
        let reply = a.wire.until_ready(1);
        assert_eq!(reply.column().len(), 60_000);
        assert_eq!(reply.column()[59_999], "60000");
        let many = query("select repeat('m', 20000)").repeat(500);
        a.send(stage, "500 x 20 kB", &many);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(b.query(stage, "select 'b'").value(), "b");
        let reply = a.wire.until_ready(500);
        assert!(reply.column().iter().all(|value| value.len() == 20_000));
        assert_eq!(reply.column().len(), 500);
    });
}

#[test]
fn keeps_its_memory_small_beside_slow_readers() {
    let options = ProxyOptions {
        connections_max: 8,
        ..Default::default()
    };
    for place in places(Node::shared(), &options) {
        let login = Login::new("postgres", "postgres");
        let mut slow: Vec<Wire> = (0..4)
            .map(|_| {
                let mut wire = Wire::login(&place.target, &login).expect("a login");
                wire.send(&frames::query(
                    "select repeat('x', 100000) from generate_series(1, 1000)",
                ));
                wire
            })
            .collect();
        let mut fast = Wire::login(&place.target, &login).expect("a login");
        for _ in 0..50 {
            assert_eq!(fast.value("select 1"), "1");
            thread::sleep(Duration::from_millis(20));
        }
        if let Some(proxy) = &place.proxy {
            let resident = resident_mib(proxy.pid());
            assert!(
                resident < 160,
                "{resident} MiB for four replies of 100 MB that nobody reads"
            );
        }
        for wire in &mut slow {
            assert_eq!(wire.until_ready(1).rows().len(), 1_000);
        }
    }
}

/// The memory that a process really has.
fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a line for it");
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse::<u64>()
        .expect("KiB")
        / 1024
}

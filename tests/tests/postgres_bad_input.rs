//! Bad input gets a clear error, and nobody else notices.
//!
//! Whatever a broken client sends, it gets what PostgreSQL would have said (the SQLSTATE is compared
//! with direct), and a neighbour on the only upstream goes on as if nothing were.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::frames::{
    self, bind, bind_formats, describe_portal, execute, frame, parse, query, startup, sync,
};
use manifold_tests::harness::{
    Folder, Login, Node, Place, ProxyOptions, Reply, Setup, Stage, Wire, compare_with, places,
    proxy,
};

/// Compares with direct what a client gets and whether it lives, with a neighbour on the same and
/// only upstream.
fn compare_beside(script: impl Fn(&mut Stage)) {
    compare_with(&Setup::connections(1), |stage| {
        let mut neighbour = stage.client("neighbour");
        neighbour.query(stage, "set datestyle = 'German'");
        script(stage);
        assert_eq!(
            neighbour.query(stage, "show datestyle").value(),
            "German, DMY"
        );
        assert_eq!(
            neighbour.query(stage, "select 'unharmed'").value(),
            "unharmed"
        );
    });
}

/// Sends bytes on a fresh connection before any login; what came up to its end.
fn before_login(stage: &mut Stage, what: &str, bytes: &[u8]) -> Reply {
    let mut wire = Wire::open(&stage.target).expect("everybody may connect");
    let _ = wire.try_send(bytes);
    let reply = wire.until_end_or_idle();
    // PostgreSQL closes without a word where it doubts that the other side speaks its protocol.
    assert!(
        matches!(&reply.tags()[..], "" | "E"),
        "{what}: {}",
        reply.tags()
    );
    stage.transcript.note("raw", &format!("{what} is refused"));
    reply
}

/// Sends bytes as a client that is logged in; what came up to the end of the connection.
fn after_login(stage: &mut Stage, what: &str, bytes: &[u8]) -> Reply {
    let reply = after_login_unnoted(stage, bytes);
    let severity = reply.error().map(|error| error[&'S'].clone());
    let said = format!(
        "{what}: {} {:?} {severity:?}",
        reply.tags(),
        reply.sqlstates()
    );
    stage.transcript.note("raw", &said);
    reply
}

/// Sends bytes as a client that is logged in, and writes nothing down.
fn after_login_unnoted(stage: &Stage, bytes: &[u8]) -> Reply {
    let mut wire = Wire::login(&stage.target, &stage.login()).expect("a login");
    wire.send(bytes);
    wire.until_end_or_idle()
}

/// Sends bytes as a client that is logged in, after which nothing can be understood: the session
/// ends, where PostgreSQL says nothing, and the proxy may say why.
fn ended(stage: &Stage, bytes: &[u8]) {
    let reply = after_login_unnoted(stage, bytes);
    assert!(["", "E"].contains(&&reply.tags()[..]), "{}", reply.tags());
    assert!(
        ["", "08P01"].contains(&&reply.sqlstate()[..]),
        "{:?}",
        reply.error()
    );
}

#[test]
fn refuses_garbage_before_the_startup_packet() {
    compare_beside(|stage| {
        before_login(stage, "HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        before_login(stage, "zeros", &[0; 64]);
        before_login(stage, "ones", &[0xff; 64]);
        before_login(stage, "a query", &query("select 1"));
        before_login(stage, "nothing", b"");
        before_login(stage, "one byte", b"\0");
        before_login(stage, "half a length", &[0, 0]);
        before_login(
            stage,
            "half a packet",
            &startup(3 << 16, &stage.login().parameters)[..20],
        );
    });
}

#[test]
fn refuses_startup_packets_of_wrong_length() {
    compare_beside(|stage| {
        for length in [0_u32, 3, 4, 7, 10_001, 65_536, 0x7fff_ffff, 0xffff_ffff] {
            let bytes = [&length.to_be_bytes()[..], &[0, 3, 0, 0], &[b'x'; 40]].concat();
            before_login(stage, &format!("length {length}"), &bytes);
        }
        let long = stage.login().with("application_name", &"x".repeat(9_000));
        let fits = Wire::login(&stage.target, &long).is_ok();
        let longer = stage.login().with("application_name", &"x".repeat(10_000));
        let refused = Wire::login(&stage.target, &longer).is_err();
        stage
            .transcript
            .note("raw", &format!("long ones: {fits} {refused}"));
        assert!(fits && refused);
    });
}

#[test]
fn refuses_startup_packets_that_are_malformed() {
    compare_beside(|stage| {
        let body = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len() + 8).expect("short").to_be_bytes();
            [&length[..], &[0, 3, 0, 0], bytes].concat()
        };
        before_login(stage, "no parameters", &body(b"\0"));
        before_login(stage, "no end", &body(b"user\0postgres\0"));
        before_login(
            stage,
            "a name without a value",
            &body(b"user\0postgres\0database\0"),
        );
        before_login(
            stage,
            "bytes behind the end",
            &body(b"user\0postgres\0\0trailing"),
        );
        before_login(stage, "an empty user", &body(b"user\0\0\0"));
        before_login(stage, "no terminator at all", &body(b"userpostgres"));
        before_login(stage, "nothing", &body(b""));
    });
}

#[test]
fn negotiates_or_refuses_protocol_versions() {
    compare_beside(|stage| {
        let parameters = stage.login().parameters;
        for version in [0_u32, 1 << 16, 2 << 16, 4 << 16, 0xffff_ffff, 80_877_199] {
            let what = format!("version {version:x}");
            let reply = before_login(stage, &what, &startup(version, &parameters));
            // Versions below 3 are so old that nobody could read the answer.
            assert!(
                version >> 16 < 3 || reply.sqlstate() == "0A000",
                "{what}: {}",
                reply.tags()
            );
        }
        for (version, name) in [
            ((3 << 16) + 9, ""),
            ((3 << 16) + 2, "_pq_.x"),
            (3 << 16, "_pq_.y"),
        ] {
            let mut parameters = parameters.clone();
            if !name.is_empty() {
                parameters.push((name.to_owned(), "1".to_owned()));
            }
            let mut wire = Wire::open(&stage.target).expect("everybody may connect");
            wire.send(&startup(version, &parameters));
            let reply = wire.until_ready(1);
            let negotiated = reply
                .frames
                .iter()
                .find(|frame| frame.tag == b'v')
                .expect("a version");
            stage
                .transcript
                .frames("negotiated", std::slice::from_ref(negotiated));
            assert_eq!(wire.value("select 1"), "1");
        }
    });
}

#[test]
fn refuses_encryption_and_goes_on() {
    compare_beside(|stage| {
        if stage.proxied {
            refuse_encryption(stage);
        }
        before_login(stage, "a cancel of nobody", &frames::cancel_request(1, 2));
        before_login(
            stage,
            "a cancel with a long key",
            &[&[0, 0, 0, 20, 4, 210, 22, 46][..], &[7; 12]].concat(),
        );
        before_login(stage, "half a cancel", &frames::cancel_request(1, 2)[..12]);
    });
}

/// The node may be built with GSSAPI and then offers it; the proxy offers no encryption yet.
fn refuse_encryption(stage: &Stage) {
    let mut wire = Wire::open(&stage.target).expect("everybody may connect");
    wire.send(&frames::ssl_request());
    assert_eq!(wire.bytes(1), b"N");
    wire.send(&frames::gssenc_request());
    assert_eq!(wire.bytes(1), b"N");
    wire.start(&stage.login()).expect("in the clear");
    assert_eq!(wire.value("select 1"), "1");
    let mut wire = Wire::open(&stage.target).expect("everybody may connect");
    wire.send(&frames::gssenc_request());
    assert_eq!(wire.bytes(1), b"N");
}

#[test]
fn ends_sessions_at_frames_that_are_none() {
    compare_beside(|stage| {
        for tag in [b'z', b'A', b'T', 0, 0x80, 0xff, b'p', b'R'] {
            let reply = after_login(stage, &format!("type {tag}"), &frame(tag, b"x\0"));
            assert_eq!(reply.sqlstate(), "08P01");
        }
        for length in [
            0_u32,
            1,
            3,
            0x4000_0000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
        ] {
            let bytes = [&b"Q"[..], &length.to_be_bytes(), b"select 1\0"].concat();
            ended(stage, &bytes);
        }
        for tag in [b'S', b'H', b'X', b'c', b'C', b'D'] {
            ended(
                stage,
                &[&[tag][..], &0x0100_0000_u32.to_be_bytes(), b"much too long"].concat(),
            );
        }
        after_login(stage, "half a frame", &query("select 1")[..9]);
        after_login(stage, "half a header", b"Q\0\0");
        after_login(
            stage,
            "good, then bad",
            &[query("select 1"), frame(b'!', b"")].concat(),
        );
        let behind = [parse("", "select 1", &[]), frame(b'!', b"")].concat();
        let reply = after_login_unnoted(stage, &behind);
        // What stands in front of it in its unit may have been answered or not.
        assert!(["1E", "E"].contains(&&reply.tags()[..]), "{}", reply.tags());
    });
}

#[test]
fn answers_messages_with_wrong_contents() {
    compare_beside(|stage| {
        for (what, bytes) in [
            ("a query without its end", frame(b'Q', b"select 1")),
            ("an empty query frame", frame(b'Q', b"")),
            ("bytes behind a query", frame(b'Q', b"select 1\0x")),
            ("a parse without its end", frame(b'P', b"name")),
            ("a parse without types", frame(b'P', b"\0select 1\0")),
            (
                "a parse with too few types",
                frame(b'P', b"\0select 1\0\0\x02\0\0\0\x17"),
            ),
            ("bytes behind a parse", frame(b'P', b"\0select 1\0\0\0xyz")),
            ("a bind without its end", frame(b'B', b"portal")),
            (
                "a bind with too few formats",
                frame(b'B', b"\0\0\0\x05\0\0"),
            ),
            (
                "a bind with a long value",
                frame(b'B', b"\0\0\0\0\0\x01\0\0\x10\0abc"),
            ),
            (
                "a bind with a negative value",
                frame(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            ),
            (
                "a bind without result formats",
                frame(b'B', b"\0\0\0\0\0\0"),
            ),
            (
                "bytes behind a bind",
                [&bind("", "", &[])[..], b""].concat(),
            ),
            ("a describe of nothing", frame(b'D', b"Xname\0")),
            ("an empty describe", frame(b'D', b"")),
            ("a close of nothing", frame(b'C', b"Xname\0")),
            ("an execute without a count", frame(b'E', b"\0")),
            ("an execute without its end", frame(b'E', b"portal")),
            ("bytes in a sync", frame(b'S', b"x")),
            ("bytes in a flush", frame(b'H', b"x")),
            ("an empty call", frame(b'F', b"")),
            ("half a call", frame(b'F', b"\0\0\x08\x29\0\0\0\x01")),
        ] {
            let all = [bytes, sync(), query("select 'on'")].concat();
            after_login(stage, what, &all);
        }
    });
}

#[test]
fn answers_messages_out_of_order() {
    compare_beside(|stage| {
        let reply = after_login(
            stage,
            "out of order",
            &[
                [execute("", 0), sync()].concat(),
                [bind("", "", &[]), sync()].concat(),
                [describe_portal(""), sync()].concat(),
                [parse("", "select $1::int", &[]), bind("", "", &[]), sync()].concat(),
                [
                    parse("", "select $1::int", &[]),
                    bind("", "", &[Some("1"), Some("2")]),
                    sync(),
                ]
                .concat(),
                [bind_formats("", "", &[0, 0, 0], &[Some(b"1")], &[]), sync()].concat(),
                [bind_formats("", "", &[], &[Some(b"1")], &[0, 0, 0]), sync()].concat(),
                [
                    frames::copy_data(b"x"),
                    frames::copy_done(),
                    frames::copy_fail("x"),
                ]
                .concat(),
                query("select 'on'"),
            ]
            .concat(),
        );
        assert_eq!(reply.value(), "on");
        assert!(
            reply
                .sqlstates()
                .iter()
                .all(|code| ["34000", "26000", "08P01"].contains(&&code[..]))
        );
    });
}

#[test]
fn answers_a_storm_of_syncs() {
    compare_beside(|stage| {
        let reply = after_login(
            stage,
            "20 000 syncs",
            &[sync().repeat(20_000), query("select 1")].concat(),
        );
        assert_eq!(reply.frames.len(), 20_000 + 4);
    });
}

#[test]
fn survives_random_bytes() {
    compare_with(&Setup::connections(2), |stage| {
        let mut neighbour = stage.client("neighbour");
        let mut seed = 0x9e37_79b9_u32;
        for round in 0..60 {
            let bytes: Vec<u8> = (0..200)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            // Direct would be told other things in other orders; here only the neighbour counts.
            if let Ok(mut wire) = Wire::open(&stage.target) {
                if round % 2 == 0 {
                    wire.start(&stage.login()).expect("a login");
                }
                let _ = wire.try_send(&bytes);
                wire.vanish();
            }
            assert_eq!(neighbour.wire.value("select 'unharmed'"), "unharmed");
        }
    });
}

/// The proxies of a setup, with a neighbour that is logged in.
fn beside(options: &ProxyOptions) -> Vec<(Place, Wire)> {
    let login = Login::new("postgres", "postgres");
    let places = places(Node::shared(), options).into_iter();
    places
        .filter(|place| place.proxy.is_some())
        .map(|place| {
            let neighbour = Wire::login(&place.target, &login).expect("a login");
            (place, neighbour)
        })
        .collect()
}

#[test]
fn closes_a_login_that_never_ends() {
    let limits = vec!["login_time_max = \"700ms\"".to_owned()];
    let options = ProxyOptions {
        limits,
        ..Default::default()
    };
    for (place, mut neighbour) in beside(&options) {
        let begin = Instant::now();
        let mut silent = Wire::open(&place.target).expect("everybody may connect");
        let mut half = Wire::open(&place.target).expect("everybody may connect");
        half.send(&startup(3 << 16, &Login::new("postgres", "postgres").parameters)[..12]);
        let mut slow = Wire::open(&place.target).expect("everybody may connect");
        for byte in startup(3 << 16, &[("user".to_owned(), "x".repeat(200))]) {
            if slow.try_send(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        for wire in [&mut silent, &mut half, &mut slow] {
            wire.until_end();
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_eq!(neighbour.value("select 1"), "1");
    }
}

#[test]
fn tells_the_client_too_many_that_it_is_one() {
    let limits = vec!["clients_max = 3".to_owned()];
    let options = ProxyOptions {
        limits,
        ..Default::default()
    };
    let login = Login::new("postgres", "postgres");
    for (place, mut neighbour) in beside(&options) {
        let mut more: Vec<Wire> = (0..2)
            .map(|_| Wire::login(&place.target, &login).expect("a login"))
            .collect();
        let reply = Wire::login(&place.target, &login).expect_err("one too many");
        let error = reply.error().expect("an error that says so");
        assert_eq!((&error[&'C'][..], &error[&'S'][..]), ("53300", "FATAL"));
        assert!(format!("{error:?}").contains("clients_max"), "{error:?}");
        assert_eq!(neighbour.value("select 1"), "1");
        more.remove(0).vanish();
        let again = manifold_tests::harness::process::wait_for(Duration::from_secs(5), || {
            Wire::login(&place.target, &login).ok()
        });
        assert!(again.is_some(), "a place that became free can be taken");
    }
}

#[test]
fn refuses_a_message_above_its_limit() {
    let limits = vec!["message_bytes_max = \"1MiB\"".to_owned()];
    let options = ProxyOptions {
        limits,
        connections_max: 1,
        ..Default::default()
    };
    for (place, mut neighbour) in beside(&options) {
        let mut wire =
            Wire::login(&place.target, &Login::new("postgres", "postgres")).expect("a login");
        assert_eq!(
            wire.value(&format!("select length('{}')", "x".repeat(1_000_000))),
            "1000000"
        );
        let _ = wire.try_send(&query(&"x".repeat(2 << 20)));
        let error = wire.until_end().error().expect("an error that says so");
        assert!(
            format!("{error:?}").contains("message_bytes_max"),
            "{error:?}"
        );
        assert_eq!(neighbour.value("select 1"), "1");
    }
}

#[test]
fn serves_others_beside_clients_that_stop_reading_or_dribble() {
    for (place, mut neighbour) in beside(&ProxyOptions {
        connections_max: 2,
        ..Default::default()
    }) {
        let login = Login::new("postgres", "postgres");
        let mut deaf: Vec<Wire> = (0..3)
            .map(|_| {
                let mut wire = Wire::login(&place.target, &login).expect("a login");
                wire.send(&query("select repeat('x', 10000)").repeat(300));
                wire
            })
            .collect();
        let mut dribbler = Wire::login(&place.target, &login).expect("a login");
        let request = query("select 'dribbled'");
        for byte in &request {
            dribbler.send(&[*byte]);
            let begin = Instant::now();
            assert_eq!(neighbour.value("select 'served'"), "served");
            assert!(
                begin.elapsed() < Duration::from_secs(2),
                "{:?}",
                begin.elapsed()
            );
        }
        assert_eq!(dribbler.until_ready(1).value(), "dribbled");
        for wire in &mut deaf {
            assert_eq!(wire.until_ready(300).rows().len(), 300);
        }
    }
}

#[test]
fn explains_what_is_wrong_with_a_configuration() {
    if std::env::var_os("MANIFOLD_TESTS_DIRECT").is_some() {
        return;
    }
    let good = "[[service]]\nname = \"app\"\nlisten = [\"127.0.0.1:6432\"]\n\
                upstream = \"postgres://127.0.0.1:5432\"\nconnections_max = 20\n";
    assert!(check(good).0, "{}", check(good).1);
    for (text, line, said) in [
        (
            good.replace("connections_max", "conections_max"),
            5,
            "connections_max",
        ),
        (good.replace("= 20", "= \"many\""), 5, "connections_max"),
        (good.replace("= 20", "= 0"), 5, "connections_max"),
        (good.replace("postgres://", "mysql://"), 4, "mysql"),
        (
            good.replace("127.0.0.1:6432", "127.0.0.1:port"),
            3,
            "listen",
        ),
        (good.replace("[[service]]", "[[servce]]"), 1, "service"),
        (format!("driver = \"fast\"\n{good}"), 1, "epoll"),
        (format!("shards = -1\n{good}"), 1, "shards"),
        (format!("{good}auth = \"maybe\"\n"), 6, "relay"),
        (
            format!("{good}\n[limits]\nqueue_wait_max = \"soon\"\n"),
            8,
            "queue_wait_max",
        ),
        (format!("{good}= broken\n"), 6, ""),
        (good.replace("upstream", "name"), 4, "duplicate"),
        (String::new(), 0, "service"),
    ] {
        let (fine, output) = check(&text);
        assert!(!fine, "accepted:\n{text}");
        if line > 0 {
            assert!(
                output.contains(&format!("manifold.toml:{line}")),
                "line {line}:\n{text}\n{output}"
            );
        }
        assert!(output.contains(said), "{said}:\n{text}\n{output}");
    }
    let missing = Command::new(proxy::program())
        .args(["check", "--config", "no-such-file.toml"])
        .output()
        .expect("it starts");
    assert!(!missing.status.success());
    let said = [missing.stdout, missing.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains("no-such-file.toml"));
}

/// Checks a configuration; whether it is good, and what was said.
fn check(text: &str) -> (bool, String) {
    let folder = Folder::new("check");
    let file = folder.join("manifold.toml");
    fs::write(&file, text).expect("ours to write");
    let output = Command::new(proxy::program())
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

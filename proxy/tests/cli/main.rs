//! The program as its user meets it: words in, lines and exit codes out.
//!
//! Every proxy started here listens on loopback, on a port that the kernel chose, and is ended by
//! the test that started it. Where a node is needed, one is played: it logs everybody in and says
//! nothing more.

mod stage;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use stage::{Folder, Running, mute_node, run, session};

const GOOD: &str = "[[service]]\nname = \"app\"\nlisten = [\"127.0.0.1:6432\"]\n\
                    upstream = \"postgres://db.internal:5432\"\n";

#[test]
fn prints_its_version() {
    let output = run(&["--version"]);
    assert_eq!(output.code, 0);
    assert_eq!(
        output.stdout,
        format!("manifold {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn shows_its_usage_when_told_nothing() {
    for words in [&[][..], &["serve"], &["check"], &["serve", "--shards", "1"]] {
        let output = run(words);
        assert_eq!(output.code, 2, "{words:?}");
        assert!(
            output.stderr.contains("Usage: manifold"),
            "{words:?}: {}",
            output.stderr
        );
    }
}

#[test]
fn checks_a_good_file() {
    let folder = Folder::new("good");
    let file = folder.write("m.toml", GOOD);
    let output = run(&["check", "--config", &file]);
    assert_eq!(output.code, 0, "{}", output.stdout);
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!(
        "{file}:1: warning: service \"app\": auth = \"relay\""
    )));
    assert!(
        lines[0].ends_with("its clients have to reconnect"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("  hint: auth = \"users\""),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].starts_with("the configuration is good: at most "),
        "{}",
        lines[2]
    );
    assert_eq!(
        lines[3],
        "service \"app\": 127.0.0.1:6432 -> postgres://db.internal:5432, at most 20 connections"
    );
}

#[test]
fn checks_a_bad_file_and_says_everything_that_is_wrong() {
    let folder = Folder::new("bad");
    let text =
        format!("sahrds = 3\n{GOOD}conections_max = 3\nauth = \"users\"\nusers = \"none\"\n");
    let file = folder.write("m.toml", &text);
    let output = run(&["check", "--config", &file]);
    assert_eq!(output.code, 1);
    let users = file.replace("m.toml", "none");
    assert_eq!(
        output.stdout,
        format!(
            "{file}:1: unknown key \"sahrds\" at the top of the file\n  \
             hint: did you mean \"shards\"?\n\
             {file}:6: unknown key \"conections_max\" in [[service]]\n  \
             hint: did you mean \"connections_max\"?\n\
             {file}:8: users: {users} cannot be read: No such file or directory (os error 2)\n  \
             hint: the file must exist and be readable by the user that the proxy runs as\n"
        )
    );
}

#[test]
fn checks_the_users_file_with_the_rest() {
    let folder = Folder::new("users");
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let good = format!("\"a\" \"hidden\"\n\"b\" \"SCRAM-SHA-256$4096:c2FsdA==${key}:{key}\"\n");
    let users = folder.write("users.txt", &good);
    let text = format!("{GOOD}auth = \"users\"\nusers = \"users.txt\"\n");
    let file = folder.write("m.toml", &text);
    let output = run(&["check", "--config", &file]);
    assert_eq!(output.code, 0, "{}", output.stdout);
    for part in [
        format!("{file}:1: warning: service \"app\": 1 of its users have SCRAM verifiers"),
        format!("{file}:6: warning: users: everybody on this host can read {users}\n"),
    ] {
        assert!(output.stdout.contains(&part), "{}", output.stdout);
    }
    folder.write("users.txt", "\"a\" \"hidden\"\n\"b\" hidden\n");
    let output = run(&["check", "--config", &file]);
    assert_eq!(output.code, 1);
    let part = format!("{users}:2: a quoted secret must follow the user name\n  hint: a line is");
    assert!(output.stdout.contains(&part), "{}", output.stdout);
    assert!(!output.stdout.contains("hidden"), "{}", output.stdout);
}

#[test]
fn refuses_to_serve_what_check_refuses() {
    let folder = Folder::new("refuses");
    let file = folder.write("m.toml", "[[service]]\nname = \"app\"\n");
    let output = run(&["serve", "--config", &file]);
    assert_eq!(output.code, 1);
    assert!(
        output
            .stderr
            .contains(&format!("{file}:1: listen: is missing\n  hint: listen = ["))
    );
    assert!(
        output
            .stderr
            .contains(&format!("{file}:1: upstream: is missing\n"))
    );
}

#[test]
fn refuses_options_that_mean_nothing() {
    for (words, complaint) in [
        (["--driver", "kqueue"], "it is one of auto, io_uring, epoll"),
        (["--log", "loud"], "it is one of error, warn, info, debug"),
        (["--shards", "0"], "0 is not in 1..=1024"),
        (["--connections-max", "0"], "0 is not in 1.."),
    ] {
        let mut all = vec!["serve", "--postgres", "127.0.0.1:0=127.0.0.1:1"];
        all.extend(words);
        let output = run(&all);
        assert_eq!(output.code, 2, "{words:?}");
        assert!(
            output.stderr.contains(complaint),
            "{words:?}: {}",
            output.stderr
        );
    }
}

#[test]
fn names_the_address_when_the_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for shards in ["1", "2"] {
        let service = format!("{address}=db:5432");
        let output = run(&["serve", "--postgres", &service, "--shards", shards]);
        assert_eq!(output.code, 1);
        let message = format!(
            "service \"db:5432\" cannot listen on {address}: Address already in use (os error \
             98)\n  hint: another process listens there\n"
        );
        assert!(output.stderr.ends_with(&message), "{}", output.stderr);
    }
}

#[test]
fn refuses_to_share_a_port_with_another_proxy() {
    let proxy = Running::start(&["--postgres", "127.0.0.1:0=127.0.0.1:1", "--shards", "2"]);
    let service = format!("{}=127.0.0.1:1", proxy.address());
    let output = run(&["serve", "--postgres", &service, "--shards", "2"]);
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("another process listens there"),
        "{}",
        output.stderr
    );
}

#[test]
fn says_what_it_serves_with_each_driver() {
    for driver in ["auto", "epoll"] {
        let service = "127.0.0.1:0=db.internal:5432";
        let proxy = Running::start(&["--postgres", service, "--driver", driver, "--shards", "1"]);
        let line = proxy.serving();
        assert!(
            line.contains(concat!("manifold ", env!("CARGO_PKG_VERSION"))),
            "{line}"
        );
        assert!(
            line.contains("\"db.internal:5432\" on 127.0.0.1:"),
            "{line}"
        );
        assert!(
            line.contains("-> db.internal:5432; 1 shards; driver "),
            "{line}"
        );
        TcpStream::connect(proxy.address()).expect("it listens");
    }
}

#[test]
fn ends_well_on_sigterm_and_sigint_when_nothing_is_in_flight() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Running::start(&["--postgres", "127.0.0.1:0=127.0.0.1:1"]);
        let mut silent = TcpStream::connect(proxy.address()).unwrap();
        silent.write_all(b"\0\0").unwrap();
        let began = Instant::now();
        proxy.signal(signal);
        assert_eq!(proxy.wait(), 0, "{}", proxy.log());
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "nothing was in flight"
        );
    }
}

#[test]
fn ends_well_at_the_deadline_when_a_request_is_in_flight() {
    let folder = Folder::new("deadline");
    let node = mute_node();
    let text = format!(
        "drain_time_max = \"1s\"\nlog = \"info\"\n[[service]]\nname = \"app\"\n\
         listen = \"127.0.0.1:0\"\nupstream = \"postgres://{node}\"\n"
    );
    let mut proxy = Running::start(&["--config", &folder.write("m.toml", &text)]);
    let client = session(&proxy, "select 1");
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), 0, "{}", proxy.log());
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "it gave the request its time: {took:?}"
    );
    assert!(
        took < Duration::from_secs(5),
        "but no more than that: {took:?}"
    );
    let said = client.join().unwrap();
    assert!(
        said.windows(5).any(|code| code == b"57P01"),
        "{}",
        said.escape_ascii()
    );
}

#[test]
fn ends_at_once_on_the_second_sigint() {
    let node = mute_node();
    let service = format!("127.0.0.1:0={node}");
    let mut proxy = Running::start(&["--postgres", &service, "--log", "info"]);
    let client = session(&proxy, "select 1");
    proxy.signal(Signal::INT);
    proxy.wait_for_line("stopping");
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        proxy.is_running(),
        "the request may finish: {}",
        proxy.log()
    );
    let began = Instant::now();
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait(), 130, "{}", proxy.log());
    assert!(began.elapsed() < Duration::from_secs(5));
    client.join().unwrap();
}

#[test]
fn removes_its_unix_socket_in_the_end() {
    let folder = Folder::new("unix");
    let path = folder.path(".s.PGSQL.6432");
    let service = format!("unix:{path}=127.0.0.1:1");
    for _ in 0..2 {
        let mut proxy = Running::start(&["--postgres", &service, "--shards", "2"]);
        std::os::unix::net::UnixStream::connect(&path).expect("it listens");
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait(), 0, "{}", proxy.log());
        assert!(!std::path::Path::new(&path).exists());
    }
}

#[test]
fn reads_its_log_level_again_on_sighup() {
    let folder = Folder::new("reload");
    let with = |log: &str| {
        format!(
            "log = \"{log}\"\n[[service]]\nname = \"app\"\nlisten = \"127.0.0.1:0\"\n\
             upstream = \"postgres://127.0.0.1:1\"\n"
        )
    };
    let file = folder.write("m.toml", &with("warn"));
    let mut proxy = Running::start(&["--config", &file]);
    folder.write("m.toml", &with("info"));
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("has been read again");
    folder.write("m.toml", &with("loud"));
    proxy.signal(Signal::HUP);
    proxy.wait_for_line("not reloaded");
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait(), 0);
    // At the level that it began with, this line would not be there.
    assert!(proxy.log().contains("stopping"), "{}", proxy.log());
}

#[test]
fn says_what_each_service_did_on_sigusr1_and_at_the_end() {
    let node = mute_node();
    let mut proxy = Running::start(&[
        "--postgres",
        &format!("127.0.0.1:0={node}"),
        "--log",
        "info",
    ]);
    let line = "clients 1, requests shared 0 tail 0 leased 0, leases 0, longest wait";
    let _session = session(&proxy, "select 1");
    // Copies of counters are published once a second.
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(!proxy.log().contains(line));
    proxy.signal(Signal::USR1);
    proxy.wait_for_line(line);
    proxy.signal(Signal::INT);
    proxy.wait_for_line("stopping");
    proxy.signal(Signal::INT);
    proxy.wait();
    assert_eq!(proxy.log().matches(line).count(), 2, "{}", proxy.log());
    assert!(
        proxy.log().contains("upstreams opened 1"),
        "{}",
        proxy.log()
    );
}

#[test]
fn shows_its_counters_over_http_where_asked_to() {
    let folder = Folder::new("control");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port of ours");
    let control = free.local_addr().expect("it is bound");
    drop(free);
    let file = folder.write(
        "m.toml",
        &format!(
            "control = \"{control}\"\nshards = 1\n[[service]]\nname = \"app\"\n\
             listen = \"127.0.0.1:0\"\nupstream = \"postgres://127.0.0.1:1\"\n"
        ),
    );
    let proxy = Running::start(&["--config", &file]);
    let _client = TcpStream::connect(proxy.address()).expect("it listens");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(control).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    };
    let until = Instant::now() + Duration::from_secs(20);
    let wanted = "manifold_clients_accepted_total{shard=\"0\"} 1\n";
    while !get("/metrics").contains(wanted) {
        assert!(Instant::now() < until, "{}", get("/metrics"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(get("/metrics").starts_with("HTTP/1.1 200 OK"));
    assert!(get("/metrics").contains("# TYPE manifold_clients gauge\n"));
    assert!(get("/else").starts_with("HTTP/1.1 404 "));
    let taken = run(&["serve", "--config", &file]);
    assert!(
        taken.stderr.contains("control cannot listen on"),
        "{}",
        taken.stderr
    );
}

#[test]
fn replaces_the_socket_of_a_killed_proxy_and_leaves_that_of_a_live_one() {
    let folder = Folder::new("stale");
    let socket = folder.path(".s.PGSQL.6432");
    let service = format!("unix:{socket}=127.0.0.1:1");
    // Killed, not ended: its socket stays.
    drop(Running::start(&["--postgres", &service]));
    let mode = |path: &str| {
        let data = std::fs::symlink_metadata(path).expect("a socket is there");
        data.permissions().mode() & 0o777
    };
    assert_eq!(
        mode(&socket),
        0o777,
        "everybody may connect, as to PostgreSQL's own"
    );
    let mut live = Running::start(&["--postgres", &service]);
    assert_eq!(mode(&socket), 0o777);
    let other = run(&["serve", "--postgres", &service]);
    assert_ne!(other.code, 0);
    let said = &other.stderr;
    assert!(
        said.contains(&socket) && said.contains("another process listens there"),
        "{said}"
    );
    std::os::unix::net::UnixStream::connect(&socket).expect("the live one is still there");
    live.signal(Signal::TERM);
    assert_eq!(live.wait(), 0);
    assert!(!std::path::Path::new(&socket).exists());
}

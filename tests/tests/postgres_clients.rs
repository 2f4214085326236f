//! Real clients: psql, pgbench, libpq's pipelines, psycopg 3 and node-postgres.
//!
//! Each runs a suite of its own (tests/clients) direct and through the proxy on each driver, with
//! several copies at once. A suite that fails shows its output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use manifold_tests::harness::node::{bin, cache};
use manifold_tests::harness::process::{run, wait_for};
use manifold_tests::harness::{Folder, Node, NodeOptions, Place, ProxyOptions, Target, places};

/// How long one suite may take.
const SUITE_MAX: Duration = Duration::from_secs(120);

/// A file of the client suites.
fn suite(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

/// Installs the drivers, once.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        run(&mut Command::new(suite("install")));
    });
}

/// The port of a place on loopback.
fn port(place: &Place) -> u16 {
    match &place.target {
        Target::Tcp(address) => address.port(),
        Target::Unix(_) => unreachable!("places are on loopback"),
    }
}

/// A connection string of libpq's.
fn conninfo(place: &Place, database: &str) -> String {
    format!(
        "host=127.0.0.1 port={} user=postgres dbname={database}",
        port(place)
    )
}

/// A connection string as a URI.
fn uri(place: &Place, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{}/{database}", port(place))
}

/// A command without the environment's own opinion on where to connect.
fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a client to its end and insists on success; its output.
fn succeed(place: &Place, mut command: Command) -> String {
    let shown = format!("{command:?}");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let (mut out, mut err) = (
        child.stdout.take().expect("piped"),
        child.stderr.take().expect("piped"),
    );
    let read = |from: &mut dyn std::io::Read| {
        let mut text = Vec::new();
        let _ = from.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    thread::scope(|scope| {
        let out = scope.spawn(move || read(&mut out));
        let err = scope.spawn(move || read(&mut err));
        let status = wait_for(SUITE_MAX, || child.try_wait().expect("it is ours"));
        if status.is_none() {
            child.kill().expect("it is ours");
        }
        let (out, err) = (out.join().expect("read"), err.join().expect("read"));
        let log = place
            .proxy
            .as_ref()
            .map(|proxy| proxy.log())
            .unwrap_or_default();
        let good = status.is_some_and(|status| status.success());
        assert!(
            good,
            "{}: {shown}\n{status:?}\n{out}\n{err}\nthe proxy's log:\n{log}",
            place.name
        );
        out
    })
}

/// Runs several copies of a client at once, each in a database of its own, on the node itself and
/// through a proxy on each driver.
fn everywhere(copies: usize, make: impl Fn(&Place, &str, usize) -> Command + Sync) {
    let node = Node::shared();
    let options = ProxyOptions {
        connections_max: 8,
        ..Default::default()
    };
    let direct = Place {
        name: "direct",
        target: node.target(),
        proxy: None,
    };
    for place in std::iter::once(direct).chain(places(node, &options)) {
        let databases: Vec<String> = (0..copies).map(|_| node.database()).collect();
        thread::scope(|scope| {
            let (place, make) = (&place, &make);
            for (copy, database) in databases.iter().enumerate() {
                scope.spawn(move || succeed(place, make(place, database, copy)));
            }
        });
    }
}

#[test]
fn serves_psql_as_the_node_does() {
    let node = Node::shared();
    let direct = Place {
        name: "direct",
        target: node.target(),
        proxy: None,
    };
    let outputs = |place: &Place| {
        let database = node.database();
        let mut psql = command(bin("psql"));
        psql.args(["-X", "-a", "-f"])
            .arg(suite("psql_suite.sql"))
            .arg(conninfo(place, &database));
        // One stream for both, so that errors are compared in their places.
        let mut shell = command("sh");
        shell
            .args(["-c", "exec \"$@\" 2>&1", "sh"])
            .arg(psql.get_program())
            .args(psql.get_args());
        let output = succeed(place, shell);
        let port = port(place).to_string();
        output
            .replace(&database, "<database>")
            .replace(&port, "<port>")
    };
    let expected = outputs(&direct);
    assert!(expected.contains("ERROR:  22012"));
    for place in places(node, &ProxyOptions::default()) {
        let output = outputs(&place);
        let differs = expected
            .lines()
            .zip(output.lines())
            .find(|(left, right)| left != right);
        assert_eq!(output, expected, "{}: {differs:?}", place.name);
    }
}

#[test]
fn serves_pgbench_in_every_mode() {
    let node = Node::shared();
    for place in places(
        node,
        &ProxyOptions {
            connections_max: 8,
            ..Default::default()
        },
    ) {
        let database = node.database();
        let pgbench = |arguments: &[&str]| {
            let mut pgbench = command(bin("pgbench"));
            pgbench.args([
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &port(&place).to_string(),
            ]);
            pgbench.args(arguments).arg(&database);
            succeed(&place, pgbench)
        };
        pgbench(&["-i", "-s", "1", "-q"]);
        for mode in ["simple", "extended", "prepared"] {
            for script in ["select-only", "tpcb-like", "simple-update"] {
                let loaded = [
                    "-M", mode, "-b", script, "-c", "20", "-j", "2", "-t", "20", "-n",
                ];
                let output = pgbench(&loaded);
                assert!(output.contains("400/400"), "{output}");
                assert!(output.contains("failed transactions: 0"), "{output}");
            }
        }
        let script = cache().join("pipeline.pgbench");
        fs::write(
            &script,
            "\\startpipeline\nselect 1;\nselect 2;\nselect :client_id;\n\\endpipeline\n",
        )
        .expect("ours to write");
        let file = script.to_str().expect("a plain path").to_owned();
        for mode in ["extended", "prepared"] {
            let output = pgbench(&[
                "-M", mode, "-f", &file, "-c", "20", "-j", "2", "-t", "20", "-n",
            ]);
            assert!(output.contains("failed transactions: 0"), "{output}");
        }
        let output = pgbench(&["-S", "-C", "-c", "5", "-t", "10", "-n"]);
        assert!(output.contains("failed transactions: 0"), "{output}");
        // Money is neither made nor lost.
        let sums = "select (select sum(abalance) from pgbench_accounts) = \
                    (select sum(delta) from pgbench_history) and \
                    (select count(*) from pgbench_history) = 2400";
        assert_eq!(node.admin(&database).value(sums), "t");
    }
}

#[test]
fn serves_pipelines_of_libpq() {
    install();
    everywhere(6, |place, database, copy| {
        let mut pipeline = command(cache().join("pipeline"));
        pipeline
            .arg(conninfo(place, database))
            .arg(format!("token{copy}"));
        pipeline
    });
}

#[test]
fn serves_psycopg() {
    install();
    everywhere(2, |place, database, _| {
        let mut python = command(cache().join("python/bin/python"));
        python
            .arg(suite("psycopg_suite.py"))
            .arg(conninfo(place, database));
        python
    });
}

#[test]
fn serves_psycopg_with_passwords_over_two_shards() {
    install();
    let node = Node::start(&NodeOptions {
        access: vec!["host all app all scram-sha-256".to_owned()],
        ..Default::default()
    });
    node.execute("create role app superuser login password 'secret of app'");
    let folder = Folder::new("users");
    let file = folder.join("userlist.txt");
    fs::write(&file, "\"app\" \"secret of app\"\n").expect("ours to write");
    let users = vec![
        "auth = \"users\"".to_owned(),
        format!("users = \"{}\"", file.display()),
    ];
    for service in [Vec::new(), users] {
        let options = ProxyOptions {
            shards: 2,
            connections_max: 16,
            service,
            ..Default::default()
        };
        for place in places(&node, &options) {
            let mut python = command(cache().join("python/bin/python"));
            python.arg(suite("psycopg_suite.py")).arg(format!(
                "host=127.0.0.1 port={} user=app password='secret of app' dbname={}",
                port(&place),
                node.database()
            ));
            succeed(&place, python);
        }
    }
}

#[test]
fn serves_node_postgres() {
    install();
    everywhere(2, |place, database, _| {
        let mut node = command("node");
        node.arg(suite("pg_suite.js")).arg(uri(place, database));
        node
    });
}

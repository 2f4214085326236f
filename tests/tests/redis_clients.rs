//! Real Redis clients: redis-py in both versions of the protocol, ioredis, redis-cli and
//! redis-benchmark; and before a cluster, the cluster clients of the first two.
//!
//! Each runs a suite of its own (tests/clients) direct and through the proxy on each driver, with
//! several copies at once. A suite that fails shows its output.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use manifold_tests::harness::node::cache;
use manifold_tests::harness::process::run;
use manifold_tests::harness::{Driver, Proxy, ProxyOptions, RedisCluster, RedisNode};

/// A file of the client suites.
fn suite(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

/// Installs the drivers, once.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| drop(run(&mut Command::new(suite("install")))));
}

/// A command that is ended if it takes too long.
fn in_time(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(program);
    command
}

/// Runs several copies of a client at once, on the node itself and through a proxy on each driver.
fn everywhere(copies: usize, make: impl Fn(u16, &str) -> Command + Sync) {
    let node = RedisNode::plain();
    let proxies = Driver::ALL.map(|driver| {
        let options = ProxyOptions {
            driver,
            connections_max: 16,
            service: vec!["admin = \"allow\"".to_owned()],
            ..ProxyOptions::default()
        };
        (driver.name(), Proxy::start_before_redis(&node, &options))
    });
    let places = proxies.iter().map(|(name, proxy)| (*name, proxy.port()));
    for (name, port) in std::iter::once(("direct", node.port())).chain(places) {
        thread::scope(|scope| {
            for copy in 0..copies {
                let make = &make;
                scope.spawn(move || {
                    run(&mut make(port, &format!("{}{copy}", name.replace(' ', ""))))
                });
            }
        });
    }
    for (name, proxy) in &proxies {
        let log = proxy.log();
        assert!(!log.contains("panicked"), "{name}: {log}");
        assert_eq!(
            proxy.counter("manifold_mismatches_total"),
            0,
            "{name}: {log}"
        );
    }
}

#[test]
fn serves_redis_py_in_both_versions() {
    install();
    for version in ["2", "3"] {
        everywhere(3, |port, prefix| {
            let mut python = in_time(&cache().join("python/bin/python"));
            python.arg(suite("redis_suite.py"));
            python.arg(port.to_string()).args([version, prefix]);
            python
        });
    }
}

#[test]
fn serves_ioredis() {
    install();
    everywhere(3, |port, prefix| {
        let mut node = in_time(Path::new("node"));
        node.arg(suite("redis_suite.js"));
        node.arg(port.to_string()).arg(prefix);
        node
    });
}

/// Runs several copies of a client at once, before a cluster, through a proxy on each driver.
fn before_a_cluster(copies: usize, make: impl Fn(u16, &str) -> Command + Sync) {
    let cluster = RedisCluster::start(0, &[]);
    for driver in Driver::ALL {
        let options = ProxyOptions {
            driver,
            connections_max: 12,
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before(&cluster.upstream(), &options);
        let name = driver.name().replace(' ', "");
        thread::scope(|scope| {
            for copy in 0..copies {
                let (make, port, name) = (&make, proxy.port(), &name);
                scope.spawn(move || run(&mut make(port, &format!("{name}{copy}"))));
            }
        });
        let log = proxy.log();
        assert!(!log.contains("panicked"), "{name}: {log}");
        let mismatches = proxy.counter("manifold_mismatches_total");
        assert_eq!(mismatches, 0, "{name}: {log}");
    }
}

#[test]
fn serves_the_cluster_client_of_redis_py_in_both_versions() {
    install();
    for version in ["2", "3"] {
        before_a_cluster(2, |port, prefix| {
            let mut python = in_time(&cache().join("python/bin/python"));
            python.arg(suite("redis_cluster_suite.py"));
            python.arg(port.to_string()).args([version, prefix]);
            python
        });
    }
}

#[test]
fn serves_the_cluster_client_of_ioredis() {
    install();
    before_a_cluster(2, |port, prefix| {
        let mut node = in_time(Path::new("node"));
        node.arg(suite("redis_cluster_suite.js"));
        node.arg(port.to_string()).arg(prefix);
        node
    });
}

#[test]
fn serves_redis_cli_and_redis_benchmark() {
    everywhere(2, |port, prefix| {
        let script = format!(
            "set -e\n\
             cli() {{ timeout 60 redis-cli -e -p {port} \"$@\"; }}\n\
             [ \"$(cli -3 set {prefix} 1)\" = OK ]\n\
             [ \"$(cli -n 3 get {prefix})\" = '' ]\n\
             [ \"$(printf 'multi\\nincr {prefix}\\nexec\\n' | cli | tail -1)\" = 2 ]\n\
             [ \"$(cli --scan --pattern '{prefix}')\" = {prefix} ]\n\
             [ \"$(cli eval 'return ARGV[1]' 0 x)\" = x ]\n\
             timeout 60 redis-benchmark -p {port} -n 2000 -c 20 -q >&2\n\
             timeout 60 redis-benchmark -p {port} -n 5000 -c 20 -P 16 -t get,set,incr -q -3 >&2\n"
        );
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(script);
        shell
    });
}

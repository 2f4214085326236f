//! What is measured: the node itself, PgBouncer, nutcracker, manifold on each driver, the bare
//! echo.
//!
//! Starts them and reads what they cost. Knows nothing of loads.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::cost::{resident_kib, tree_cpu_us};
use super::nutcracker::Nutcracker;
use super::options::Options;
use super::pgbouncer::PgBouncer;
use super::sample::Cost;
use crate::harness::process::{Folder, Process, free_port, run, wait_for};
use crate::harness::{Driver, Node, NodeOptions, Proxy, ProxyOptions, RedisNode, node};

/// Connections to the node that each proxy may hold.
pub const CONNECTIONS_MAX: u32 = 8;

/// Rows of pgbench_accounts for each unit of scale.
const SCALE: u64 = 10;

/// The highest key of pgbench_accounts.
pub const KEYS: u64 = SCALE * 100_000;

/// The most clients that connect directly; above, PostgreSQL would need a process for each.
pub const DIRECT_CLIENTS_MAX: u32 = 1_050;

/// One of the systems.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum System {
    /// No proxy.
    Direct,
    /// The peer for PostgreSQL.
    PgBouncer,
    /// The peer for Redis.
    Nutcracker,
    /// manifold on io_uring.
    IoUring,
    /// manifold on epoll.
    Epoll,
    /// The bare echo on io_uring.
    EchoIoUring,
    /// The bare echo on epoll.
    EchoEpoll,
}

impl System {
    /// The name in the tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::PgBouncer => "pgbouncer",
            Self::Nutcracker => "nutcracker",
            Self::IoUring => "manifold io_uring",
            Self::Epoll => "manifold epoll",
            Self::EchoIoUring => "echo io_uring",
            Self::EchoEpoll => "echo epoll",
        }
    }

    /// Whether it only echoes and knows no login.
    pub fn is_echo(self) -> bool {
        matches!(self, Self::EchoIoUring | Self::EchoEpoll)
    }
}

/// A system that runs.
pub enum Running {
    /// The node's own port.
    Direct {
        /// The port.
        port: u16,
    },
    /// The peer for PostgreSQL.
    PgBouncer(PgBouncer),
    /// The peer for Redis.
    Nutcracker(Nutcracker),
    /// manifold.
    Manifold(Proxy),
    /// The bare echo.
    Echo {
        /// The port.
        port: u16,
        /// The process.
        process: Process,
        /// Where its log is.
        _folder: Folder,
    },
}

impl Running {
    /// Starts a system in front of a node.
    pub fn start(system: System, node: &Node, setup: &Setup) -> Self {
        match system {
            System::Direct => Self::Direct { port: node.port() },
            System::PgBouncer => {
                Self::PgBouncer(PgBouncer::start(node, setup.connections_max, &setup.users))
            }
            System::Nutcracker => unreachable!("it does not speak PostgreSQL"),
            System::IoUring => Self::Manifold(setup.manifold(node, Driver::IoUring)),
            System::Epoll => Self::Manifold(setup.manifold(node, Driver::Epoll)),
            System::EchoIoUring => start_echo(Driver::IoUring, "postgres"),
            System::EchoEpoll => start_echo(Driver::Epoll, "postgres"),
        }
    }

    /// Starts a system in front of a Redis.
    pub fn start_before_redis(system: System, node: &RedisNode, setup: &Setup) -> Self {
        let manifold = |driver| {
            let options = ProxyOptions {
                driver,
                connections_max: setup.connections_max,
                shards: setup.shards,
                service: vec!["admin = \"allow\"".to_owned()],
                ..ProxyOptions::default()
            };
            Self::Manifold(Proxy::start_before_redis(node, &options))
        };
        match system {
            System::Direct => Self::Direct { port: node.port() },
            System::PgBouncer => unreachable!("it does not speak Redis"),
            System::EchoIoUring => start_echo(Driver::IoUring, "redis"),
            System::EchoEpoll => start_echo(Driver::Epoll, "redis"),
            System::Nutcracker => Self::Nutcracker(Nutcracker::start(node)),
            System::IoUring => manifold(Driver::IoUring),
            System::Epoll => manifold(Driver::Epoll),
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        let port = match self {
            Self::Direct { port } | Self::Echo { port, .. } => *port,
            Self::PgBouncer(pgbouncer) => pgbouncer.port(),
            Self::Nutcracker(nutcracker) => nutcracker.port(),
            Self::Manifold(proxy) => proxy.port(),
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// The proxy's process, if there is one.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Direct { .. } => None,
            Self::PgBouncer(pgbouncer) => Some(pgbouncer.pid()),
            Self::Nutcracker(nutcracker) => Some(nutcracker.pid()),
            Self::Manifold(proxy) => Some(proxy.pid()),
            Self::Echo { process, .. } => Some(process.pid()),
        }
    }

    /// What the proxy and the node have cost so far.
    pub fn cost(&self, node: &Node) -> Cost {
        Cost {
            proxy_us: self.pid().map_or(0, tree_cpu_us),
            node_us: node_pid(node).map_or(0, tree_cpu_us),
            generator_us: 0,
        }
    }

    /// Resident memory of the proxy.
    pub fn resident_kib(&self) -> u64 {
        self.pid().map_or(0, resident_kib)
    }
}

/// How the systems of one load are set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Connections to the node.
    pub connections_max: u32,
    /// Shards of manifold.
    pub shards: u32,
    /// Who logs in.
    pub users: Vec<String>,
}

impl Setup {
    /// The usual one.
    pub fn new(options: &Options) -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            shards: options.shards,
            users: vec!["postgres".to_owned()],
        }
    }

    /// manifold as a user would set it up for these loads.
    fn manifold(&self, node: &Node, driver: Driver) -> Proxy {
        let options = ProxyOptions {
            driver,
            connections_max: self.connections_max,
            shards: self.shards,
            service: vec!["auth = \"trust\"".to_owned()],
            ..ProxyOptions::default()
        };
        Proxy::start(node, &options)
    }
}

/// Starts PostgreSQL and fills pgbench's tables.
pub fn start_node(options: &Options) -> Node {
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let durable = if options.fsync { "on" } else { "off" };
    let node = Node::start(&NodeOptions {
        settings: vec![
            own("max_connections", "1100"),
            own("shared_buffers", "512MB"),
            own("max_wal_size", "4GB"),
            own("checkpoint_timeout", "1h"),
            own("fsync", durable),
            own("full_page_writes", durable),
        ],
        access: Vec::new(),
    });
    run(Command::new(node::bin("pgbench"))
        .args([
            "-i",
            "-q",
            "-s",
            &SCALE.to_string(),
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
        ])
        .args(["-p", &node.port().to_string(), "postgres"]));
    node.execute("CHECKPOINT");
    node
}

/// The first process of a node, from the file that it keeps.
fn node_pid(node: &Node) -> Option<u32> {
    let file = node.folder().join("data/postmaster.pid");
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Starts the bare echo and waits until it accepts.
fn start_echo(driver: Driver, protocol: &str) -> Running {
    let folder = Folder::new("echo");
    let port = free_port();
    let mut command = Command::new(program("echo"));
    command
        .args(["--driver", driver.name(), "--protocol", protocol, "--port"])
        .arg(port.to_string());
    let mut process = Process::spawn(command, "echo", &folder.join("log"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let accepts = wait_for(Duration::from_secs(10), || {
        let ended = process.poll().is_some();
        assert!(!ended, "echo ended:\n{}", process.output());
        std::net::TcpStream::connect(address).ok()
    });
    assert!(accepts.is_some(), "echo does not accept");
    Running::Echo {
        port,
        process,
        _folder: folder,
    }
}

/// A program of the benchmark, beside this one.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    this.with_file_name(name)
}

//! PgBouncer, the peer, set up as well as it can be for these loads.
//!
//! Built by `tests/install bench` from Debian's source package; `MANIFOLD_PGBOUNCER` says where.
//! Knows nothing of what is measured.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::process::{Folder, Process, free_port, give_away, unprivileged, wait_for};
use crate::harness::{Login, Node, Target, Wire};

/// A running PgBouncer.
#[derive(Debug)]
pub struct PgBouncer {
    /// Where its settings and its log are.
    _folder: Folder,
    /// Where it listens.
    port: u16,
    /// The process.
    process: Process,
}

impl PgBouncer {
    /// Starts one in front of a node and waits until a query goes through.
    pub fn start(node: &Node, connections_max: u32, users: &[String]) -> Self {
        let folder = Folder::new("pgbouncer");
        let port = free_port();
        let file = folder.join("pgbouncer.ini");
        let list: String = users
            .iter()
            .map(|user| format!("\"{user}\" \"\"\n"))
            .collect();
        fs::write(folder.join("users"), list).expect("ours to write");
        let text = configuration(&folder, node.port(), port, connections_max);
        fs::write(&file, text).expect("ours to write");
        give_away(folder.path());
        let mut command = unprivileged(&program());
        command.arg("-q").arg(&file);
        let mut process = Process::spawn(command, "pgbouncer", &folder.join("output"));
        let target = Target::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let ready = wait_for(Duration::from_secs(10), || {
            let ended = process.poll().is_some();
            assert!(!ended, "pgbouncer ended:\n{}", process.output());
            Wire::login(&target, &Login::new("postgres", "postgres")).ok()
        });
        assert!(
            ready.is_some(),
            "pgbouncer lets nobody in:\n{}",
            process.output()
        );
        Self {
            _folder: folder,
            port,
            process,
        }
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Where the program is.
fn program() -> PathBuf {
    std::env::var_os("MANIFOLD_PGBOUNCER")
        .expect("tests/bench says in MANIFOLD_PGBOUNCER where PgBouncer is")
        .into()
}

/// Transaction mode with prepared statements; nothing logged per connection, nothing closed while
/// a load runs, room for all clients.
fn configuration(folder: &Folder, node: u16, port: u16, connections_max: u32) -> String {
    format!(
        "[databases]
* = host=127.0.0.1 port={node}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
listen_backlog = 4096
unix_socket_dir =
logfile = {log}
auth_type = trust
auth_file = {users}
pool_mode = transaction
max_prepared_statements = 1000
default_pool_size = {connections_max}
max_client_conn = 12000
server_idle_timeout = 0
server_lifetime = 86400
query_wait_timeout = 0
ignore_startup_parameters = extra_float_digits,options,search_path
log_connections = 0
log_disconnections = 0
log_pooler_errors = 0
log_stats = 0
",
        log = folder.join("log").display(),
        users = folder.join("users").display(),
    )
}

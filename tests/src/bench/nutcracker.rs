//! nutcracker (twemproxy), the peer for Redis, as Debian packages it.
//!
//! Knows nothing of what is measured.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::harness::process::{Folder, Process, free_port, wait_for};
use crate::harness::{RedisNode, Resp};

/// A running nutcracker.
#[derive(Debug)]
pub struct Nutcracker {
    /// Where its settings and its log are.
    _folder: Folder,
    /// Where it listens.
    port: u16,
    /// The process.
    process: Process,
}

impl Nutcracker {
    /// Starts one in front of a node and waits until a command goes through.
    pub fn start(node: &RedisNode) -> Self {
        let folder = Folder::new("nutcracker");
        let port = free_port();
        let file = folder.join("nutcracker.yml");
        fs::write(&file, configuration(node.port(), port)).expect("ours to write");
        let mut command = Command::new("nutcracker");
        command.arg("--conf-file").arg(&file);
        command.args(["--stats-addr", "127.0.0.1", "--stats-port"]);
        command.arg(free_port().to_string());
        let mut process = Process::spawn(command, "nutcracker", &folder.join("output"));
        let ready = wait_for(Duration::from_secs(10), || {
            let ended = process.poll().is_some();
            assert!(!ended, "nutcracker ended:\n{}", process.output());
            let mut probe = Resp::open(([127, 0, 0, 1], port).into()).ok()?;
            probe.try_ask("GET probe").ok()?
        });
        assert!(ready.is_some(), "no answer:\n{}", process.output());
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

/// One node, all clients, no hashing that costs anything.
fn configuration(node: u16, port: u16) -> String {
    format!(
        "bench:
  listen: 127.0.0.1:{port}
  hash: one_at_a_time
  distribution: modula
  redis: true
  backlog: 4096
  preconnect: true
  auto_eject_hosts: false
  servers:
   - 127.0.0.1:{node}:1
"
    )
}

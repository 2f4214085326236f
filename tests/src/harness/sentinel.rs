//! Three real Sentinels of the test's own, which watch a primary and a replica on loopback.
//!
//! Knows nothing of the proxy. Invariant: it is handed out only when every Sentinel knows the
//! replica and the other Sentinels.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::process::{Folder, Process, free_port, wait_for};
use super::redis::{RedisNode, RedisOptions, redis_program};
use super::resp::Resp;

/// What the Sentinels call the primary.
pub const NAME: &str = "mymaster";

/// A primary, a replica, and who watches them.
#[derive(Debug)]
pub struct Sentinels {
    /// The primary, then the replica; a failover turns them round.
    pub nodes: [RedisNode; 2],
    watchers: Vec<Watcher>,
}

/// One Sentinel.
#[derive(Debug)]
struct Watcher {
    port: u16,
    process: Process,
    /// Its configuration, which it writes to.
    _folder: Folder,
}

impl Sentinels {
    /// Starts all of them.
    pub fn start() -> Self {
        let primary = RedisNode::start(&RedisOptions::with(&["repl-diskless-sync-delay 0"]));
        let follows = format!("replicaof 127.0.0.1 {}", primary.port());
        let replica = RedisNode::start(&RedisOptions::with(&[
            &follows,
            "repl-diskless-sync-delay 0",
        ]));
        let linked = wait_for(Duration::from_secs(60), || {
            (replica.info("master_link_status") == "up").then_some(())
        });
        assert!(linked.is_some(), "the replica has no link");
        let watchers = (0..3).map(|_| Watcher::start(primary.port())).collect();
        let all = Self {
            nodes: [primary, replica],
            watchers,
        };
        all.agree();
        all
    }

    fn agree(&self) {
        for watcher in &self.watchers {
            let agreed = wait_for(Duration::from_secs(60), || {
                let mut resp = Resp::open(([127, 0, 0, 1], watcher.port).into()).ok()?;
                let reply = resp.try_ask(&format!("SENTINEL MASTER {NAME}")).ok()??;
                let text = String::from_utf8_lossy(&reply).replace("\r\n", " ");
                let knows =
                    text.contains("num-slaves $1 1 ") && text.contains("num-other-sentinels $1 2 ");
                knows.then_some(())
            });
            assert!(agreed.is_some(), "the Sentinels do not know each other");
        }
    }

    /// As an `upstream`: the first two of the Sentinels.
    pub fn upstream(&self) -> String {
        let [one, two] = [0, 1].map(|place| self.watchers[place].port);
        format!("redis+sentinel://127.0.0.1:{one},127.0.0.1:{two}/{NAME}")
    }

    /// A connection to a Sentinel.
    pub fn direct(&self, place: usize) -> Resp {
        let port = self.watchers[place].port;
        Resp::open(([127, 0, 0, 1], port).into()).expect("the Sentinel accepts")
    }

    /// Kills a Sentinel.
    pub fn crash(&mut self, place: usize) {
        self.watchers[place].process.signal(libc::SIGKILL);
    }
}

impl Watcher {
    fn start(primary: u16) -> Self {
        let folder = Folder::new("sentinel");
        let port = free_port();
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {primary} 2"),
            format!("sentinel down-after-milliseconds {NAME} 1000"),
            format!("sentinel failover-timeout {NAME} 6000"),
            format!("sentinel parallel-syncs {NAME} 1"),
        ];
        let file = folder.join("sentinel.conf");
        fs::write(&file, lines.join("\n") + "\n").expect("ours to write");
        let mut command = Command::new(redis_program());
        command.arg(&file).arg("--sentinel");
        let process = Process::spawn(command, "redis-sentinel", &folder.join("log"));
        Self {
            port,
            process,
            _folder: folder,
        }
    }
}

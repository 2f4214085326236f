//! A real Redis of the test's own, on loopback.
//!
//! MANIFOLD_REDIS_SERVER names another program than Debian's: a newer Redis or a Valkey. Starts in a
//! few milliseconds, so that every test and every run of one has its own. Knows nothing of the
//! proxy. Invariant: the processes that it touches are the ones that it started.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::process::{Folder, Process, free_port, wait_for};
use super::resp::Resp;

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Lines of redis.conf (`requirepass secret`, `user reader on >word ~* +get`, `io-threads 4`);
    /// later ones win over those that every node gets.
    pub settings: Vec<String>,
    /// What tests themselves have to say to be let in: the words of AUTH, none for nothing.
    pub password: Option<String>,
}

impl RedisOptions {
    /// With these lines of redis.conf.
    pub fn with(settings: &[&str]) -> Self {
        Self {
            settings: settings.iter().map(|line| (*line).to_owned()).collect(),
            password: None,
        }
    }

    /// With a password for everybody.
    pub fn with_password(password: &str) -> Self {
        Self {
            settings: vec![format!("requirepass {password}")],
            password: Some(password.to_owned()),
        }
    }
}

/// What every node gets: nothing is written to disk, nothing is forbidden.
const SETTINGS: &[&str] = &[
    "bind 127.0.0.1",
    "save \"\"",
    "appendonly no",
    "daemonize no",
    "enable-debug-command yes",
    "enable-module-command no",
    "tcp-backlog 511",
    // A node with nothing else to do looks this often a second for clients that have waited long
    // enough: ten times, if it is not told, and every short wait would take a tenth of a second.
    "hz 500",
    "logfile \"\"",
];

/// The program of every node: Debian's, or the one that this variable names.
pub fn redis_program() -> OsString {
    std::env::var_os("MANIFOLD_REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// A running Redis.
#[derive(Debug)]
pub struct RedisNode {
    /// Where its configuration, its log and what it writes are.
    folder: Folder,
    /// Where it listens.
    port: u16,
    /// What tests say to be let in.
    password: Option<String>,
    /// The process; nothing after a crash.
    process: Mutex<Option<Process>>,
}

impl RedisNode {
    /// Starts a node and waits until it answers.
    pub fn start(options: &RedisOptions) -> Self {
        let folder = Folder::new("redis");
        let port = free_port();
        let lines: Vec<String> = SETTINGS
            .iter()
            .map(|line| (*line).to_owned())
            .chain([
                format!("port {port}"),
                format!("dir {}", folder.path().display()),
            ])
            .chain(options.settings.iter().cloned())
            .collect();
        fs::write(folder.join("redis.conf"), lines.join("\n") + "\n").expect("ours to write");
        let node = Self {
            folder,
            port,
            password: options.password.clone(),
            process: Mutex::new(None),
        };
        node.launch();
        node
    }

    /// A node with nothing special.
    pub fn plain() -> Self {
        Self::start(&RedisOptions::default())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its configuration and of what it writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A setting, as the node has it.
    pub fn setting(&self, name: &str) -> String {
        let reply = self.direct().ask(&format!("CONFIG GET {name}"));
        let text = String::from_utf8_lossy(&reply).into_owned();
        text.split("\r\n").nth(4).unwrap_or_default().to_owned()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        let process = self.process.lock().expect("no panic here");
        process.as_ref().expect("it runs").pid()
    }

    /// A direct connection that may do everything.
    pub fn direct(&self) -> Resp {
        let mut direct = Resp::open(self.address()).expect("the node accepts");
        if let Some(password) = &self.password {
            direct.expect(&format!("AUTH {password}"), "+OK\r\n");
        }
        direct
    }

    /// A field of INFO, `connected_clients` for instance.
    pub fn info(&self, field: &str) -> String {
        let reply = self.direct().ask("INFO everything");
        let text = String::from_utf8_lossy(&reply).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("INFO has no {field}"))
            .to_owned()
    }

    /// A field of INFO that is a number.
    pub fn count(&self, field: &str) -> u64 {
        self.info(field).parse().expect("a number")
    }

    /// Starts it, again after a crash or a stop.
    pub fn launch(&self) {
        let mut command = Command::new(redis_program());
        command.arg(self.folder.join("redis.conf"));
        let mut process = Process::spawn(command, "redis-server", &self.folder.join("log"));
        let ready = wait_for(Duration::from_secs(60), || {
            assert!(
                process.poll().is_none(),
                "redis-server ended:\n{}",
                process.output()
            );
            let mut probe = Resp::open(self.address()).ok()?;
            let reply = probe.try_ask("PING").ok()??;
            (reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAUTH")).then_some(())
        });
        assert!(ready.is_some(), "no answer:\n{}", process.output());
        *self.process.lock().expect("no panic here") = Some(process);
    }

    /// Kills it, as a power cut would.
    pub fn crash(&self) {
        let process = self.process.lock().expect("no panic here").take();
        drop(process.expect("it runs"));
    }

    /// Stops it in order.
    pub fn stop(&self) {
        let process = self.process.lock().expect("no panic here").take();
        let mut process = process.expect("it runs");
        process.end(libc::SIGTERM, Duration::from_secs(30));
    }

    /// Makes it hang.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Sends its process a signal.
    fn signal(&self, signal: i32) {
        let mut process = self.process.lock().expect("no panic here");
        process.as_mut().expect("it runs").signal(signal);
    }
}

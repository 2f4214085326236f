//! A real cluster of Patroni of the test's own: two PostgreSQL nodes, who looks after them, and a
//! ZooKeeper in which they agree.
//!
//! Patroni comes from `tests/install` and runs without privileges. What it starts is nobody's child:
//! it is found by its pid file and ended by name. Knows nothing of the proxy. Invariant: a cluster
//! that is handed out has a leader, and a synchronous standby.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::node::bin;
use super::process::{
    Folder, Process, descendants, forget, free_port, give_away, is_root, run, signal_pid, stop_all,
    unprivileged, wait_for, watch_over,
};
use super::zookeeper::Zookeeper;
use super::{Login, Target, Wire};

/// What the cluster is called.
const SCOPE: &str = "demo";

/// How long the lead of a node that is dead stands: Patroni takes no less.
pub const LEAD_TIME: Duration = Duration::from_secs(20);

/// Two nodes and who looks after them.
#[derive(Debug)]
pub struct Patroni {
    /// Where they agree on who leads.
    pub zookeeper: Zookeeper,
    members: [Member; 2],
}

/// One node, and the Patroni that looks after it.
#[derive(Debug)]
struct Member {
    name: &'static str,
    /// Where its configuration, its data, its socket and its log are.
    folder: Folder,
    port: u16,
    /// Where Patroni itself is asked.
    rest_port: u16,
    /// Patroni; nothing after a death.
    process: Mutex<Option<Process>>,
    /// The postmaster that was there last.
    postmaster: Mutex<Option<u32>>,
}

impl Patroni {
    /// Starts a cluster, which takes some 10 s.
    pub fn start() -> Self {
        let zookeeper = Zookeeper::start();
        let members = ["n0", "n1"].map(|name| Member::new(name, zookeeper.address()));
        let cluster = Self { zookeeper, members };
        cluster.members.iter().for_each(Member::launch);
        cluster.await_standby();
        cluster
    }

    /// As an `upstream`.
    pub fn upstream(&self) -> String {
        let address = self.zookeeper.address();
        format!("postgres+zk://{address}/service/{SCOPE}?format=patroni")
    }

    /// Where the nodes are.
    pub fn targets(&self) -> [Target; 2] {
        let target = |member: &Member| Target::Tcp(member.address());
        [target(&self.members[0]), target(&self.members[1])]
    }

    /// Who takes writes, by what the nodes say themselves.
    pub fn leader(&self) -> Option<usize> {
        let leads = |member: &&Member| {
            let login = Login::new("postgres", "postgres");
            let wire = Wire::login(&Target::Tcp(member.address()), &login);
            wire.is_ok_and(|mut wire| wire.value("select pg_is_in_recovery()") == "f")
        };
        let leaders: Vec<usize> = (0..2)
            .filter(|&place| leads(&&self.members[place]))
            .collect();
        assert!(leaders.len() <= 1, "both lead:\n{}", self.log());
        leaders.first().copied()
    }

    /// Waits until one leads and the other has every write that is acknowledged.
    pub fn await_standby(&self) {
        let ready = wait_for(Duration::from_secs(120), || {
            self.members.iter().for_each(Member::track);
            let leader = &self.members[self.leader()?];
            let cluster = leader.ask("/cluster")?;
            let words = ["\"sync_standby\"", "\"streaming\"", "\"leader\""];
            words
                .iter()
                .all(|word| cluster.contains(word))
                .then_some(())
        });
        assert!(ready.is_some(), "no standby:\n{}", self.log());
    }

    /// Has the other node take the lead, as an operator does, and waits until that is done.
    pub fn switch_over(&self) {
        let leader = self.leader().expect("somebody leads");
        let [from, to] = [leader, 1 - leader].map(|place| self.members[place].name);
        let script = "from patroni.ctl import ctl; ctl(prog_name='patronictl')";
        run(Command::new(python())
            .args(["-c", script, "-c"])
            .arg(self.members[leader].file())
            .args(["switchover", SCOPE, "--leader", from, "--candidate", to])
            .arg("--force"));
    }

    /// Kills a node and its Patroni at once, as a power cut would.
    pub fn kill(&self, place: usize) {
        self.members[place].kill();
    }

    /// Kills a node's first process and nothing else; Patroni starts it again.
    pub fn kill_postmaster(&self, place: usize) {
        let pid = self.members[place].postmaster().expect("it runs");
        signal_pid(pid, libc::SIGKILL);
    }

    /// Brings back whoever was killed.
    pub fn revive(&self) {
        for member in &self.members {
            if member.process.lock().expect("no panic here").is_none() {
                member.launch();
            }
        }
        self.await_standby();
    }

    /// What both have logged.
    pub fn log(&self) -> String {
        let log = |member: &Member| fs::read_to_string(member.folder.join("log"));
        let logs = self.members.iter().map(|member| {
            let log = log(member).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            format!("{}:\n{last}\n", member.name)
        });
        logs.collect()
    }
}

impl Member {
    fn new(name: &'static str, zookeeper: SocketAddr) -> Self {
        let member = Self {
            name,
            folder: Folder::new(name),
            port: free_port(),
            rest_port: free_port(),
            process: Mutex::new(None),
            postmaster: Mutex::new(None),
        };
        fs::write(member.file(), member.configuration(zookeeper)).expect("ours to write");
        give_away(member.folder.path());
        member
    }

    fn file(&self) -> PathBuf {
        self.folder.join("patroni.yml")
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn launch(&self) {
        let mut command = unprivileged(python());
        command
            .args(["-m", "patroni"])
            .arg(self.file())
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path());
        let process = Process::spawn(command, self.name, &self.folder.join("log"));
        *self.process.lock().expect("no panic here") = Some(process);
    }

    /// What Patroni itself says, if it does.
    fn ask(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.rest_port)).ok()?;
        let question = format!("GET {path} HTTP/1.0\r\n\r\n");
        socket.write_all(question.as_bytes()).ok()?;
        let mut page = String::new();
        socket.read_to_string(&mut page).ok()?;
        Some(page)
    }

    /// The node's first process, if there is one.
    fn postmaster(&self) -> Option<u32> {
        let file = self.folder.join("data").join("postmaster.pid");
        fs::read_to_string(file).ok()?.lines().next()?.parse().ok()
    }

    /// Has the node's first process ended with this one, should that end without a word.
    fn track(&self) {
        let mut known = self.postmaster.lock().expect("no panic here");
        let now = self.postmaster();
        if *known != now {
            known.iter().for_each(|&pid| forget(pid));
            now.iter().for_each(|&pid| watch_over(pid));
            *known = now;
        }
    }

    /// Kills the node and who looks after it.
    fn kill(&self) {
        // Patroni first: it would start the node again, by a process that outlives it.
        let process = self.process.lock().expect("no panic here").take();
        if let Some(process) = process {
            kill_all(process.pid());
        }
        // A postmaster may have been started that has not written its pid file yet.
        let data = self.folder.join("data");
        let gone = wait_for(Duration::from_secs(10), || {
            let left = processes_with(&data);
            left.iter().for_each(|&pid| kill_all(pid));
            left.is_empty().then_some(())
        });
        assert!(gone.is_some(), "{} does not die", self.name);
    }

    fn configuration(&self, zookeeper: SocketAddr) -> String {
        let (name, folder) = (self.name, self.folder.path().display());
        let (address, rest) = (self.address(), self.rest_port);
        let bin = bin("postgres");
        let bin = bin.parent().expect("a program is in a folder").display();
        let ttl = LEAD_TIME.as_secs();
        format!(
            r#"
scope: {SCOPE}
name: {name}
restapi: {{listen: "127.0.0.1:{rest}", connect_address: "127.0.0.1:{rest}"}}
zookeeper: {{hosts: ["{zookeeper}"]}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: 2
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 150
        shared_buffers: 32MB
        wal_level: replica
        hot_standby: "on"
        wal_log_hints: "on"
        wal_keep_size: 128MB
        max_wal_senders: 5
        max_replication_slots: 5
        autovacuum: "off"
        jit: "off"
        fsync: "off"
  initdb: [encoding: UTF8, locale: C.UTF-8, data-checksums, no-sync]
postgresql:
  listen: "{address}"
  connect_address: "{address}"
  data_dir: "{folder}/data"
  bin_dir: "{bin}"
  pgpass: "{folder}/pgpass"
  basebackup: [checkpoint: fast, no-sync]
  authentication:
    superuser: {{username: postgres, password: pg}}
    replication: {{username: replicator, password: rep}}
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 trust
    - host replication all 127.0.0.1/32 trust
  parameters: {{unix_socket_directories: "{folder}"}}
"#
        )
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        let known = self.postmaster.lock().expect("no panic here").take();
        known.into_iter().for_each(forget);
    }
}

/// Kills a process and all that it has started, at once.
fn kill_all(pid: u32) {
    // Stopped first, so that no child is started between listing and killing.
    stop_all(pid);
    for pid in descendants(pid).into_iter().chain([pid]) {
        signal_pid(pid, libc::SIGKILL);
    }
}

/// The processes in whose command line a path is.
fn processes_with(path: &Path) -> Vec<u32> {
    let path = path.to_string_lossy();
    let listed = fs::read_dir("/proc").expect("/proc is there");
    let pids = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let has_path = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*path)
    };
    pids.filter(has_path).collect()
}

/// The Python that has Patroni, where everybody may read it.
fn python() -> &'static Path {
    static PYTHON: OnceLock<(PathBuf, Option<Folder>)> = OnceLock::new();
    let (path, _) = PYTHON.get_or_init(|| {
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
        let said = String::from_utf8(run(Command::new(install).arg("patroni")));
        let installed = PathBuf::from(said.expect("a path is text").trim());
        if !is_root() {
            return (installed.join("bin/python"), None);
        }
        // It may be in root's home.
        let folder = Folder::new("patroni");
        let copy = folder.join("python");
        run(Command::new("cp").arg("-r").arg(installed).arg(&copy));
        (copy.join("bin/python"), Some(folder))
    });
    path
}

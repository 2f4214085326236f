//! A real PostgreSQL of the test's own, on loopback and on a unix socket.
//!
//! Its data are a copy of a template that is initialised once and kept in `tests/.cache`. Knows
//! nothing of the proxy. Invariant: the processes that it touches are the ones that it started.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::login::Login;
use super::process::{
    Folder, Process, descendants, free_port, give_away, run, signal_pid, stop_all, unprivileged,
    wait_for,
};
use super::wire::{Target, Wire};

mod standby;

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Lines of postgresql.conf, later ones win.
    pub settings: Vec<(String, String)>,
    /// Lines of pg_hba.conf, in front of those that let everybody in.
    pub access: Vec<String>,
}

/// The settings that make a throw-away node fast and its answers the same everywhere.
const SETTINGS: &[(&str, &str)] = &[
    ("autovacuum_naptime", "1h"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("jit", "off"),
    ("listen_addresses", "127.0.0.1"),
    ("log_line_prefix", "%m [%p] "),
    ("max_connections", "450"),
    ("max_prepared_transactions", "10"),
    ("max_wal_size", "256MB"),
    ("shared_buffers", "64MB"),
    ("timezone", "UTC"),
];

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Node {
    /// Where its data, its socket and its log are.
    folder: Folder,
    /// Where it listens.
    port: u16,
    /// Its first process; nothing after a crash.
    process: Mutex<Option<Process>>,
}

impl Node {
    /// Initialises and starts a node, and waits until it lets somebody in.
    pub fn start(options: &NodeOptions) -> Self {
        let folder = Folder::new("pg");
        let data = folder.join("data");
        run(Command::new("cp").arg("-r").arg(template()).arg(&data));
        let port = free_port();
        write_settings(&folder, &data, port, options);
        give_away(folder.path());
        let node = Self {
            folder,
            port,
            process: Mutex::new(None),
        };
        node.launch();
        node
    }

    /// The node that the tests of one binary share. Tests that stop or change a node start one of
    /// their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Node> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&NodeOptions::default()))
    }

    /// Where it listens on loopback.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it listens on loopback, as a test's target.
    pub fn target(&self) -> Target {
        Target::Tcp(self.address())
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(&format!(".s.PGSQL.{}", self.port))
    }

    /// The folder that holds its data, socket and log; libpq takes it as a host name.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A direct connection as the superuser.
    pub fn admin(&self, database: &str) -> Wire {
        Wire::login(&self.target(), &Login::new("postgres", database))
            .unwrap_or_else(|reply| panic!("the node refuses its own superuser: {reply:?}"))
    }

    /// Runs statements as the superuser in the database postgres and insists that they succeed.
    pub fn execute(&self, text: &str) {
        let reply = self.admin("postgres").query(text);
        assert!(reply.error().is_none(), "{text}: {:?}", reply.error());
    }

    /// A new empty database. All names have the same length, so that replies do too.
    pub fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("db_{:05}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("create database {name}"));
        name
    }

    /// Starts its first process, again after a crash or a stop.
    pub fn launch(&self) {
        let mut command = unprivileged(&bin("postgres"));
        command.arg("-D").arg(self.folder.join("data"));
        let mut process = Process::spawn(command, "postgres", &self.folder.join("log"));
        let ready = wait_for(Duration::from_secs(60), || {
            assert!(
                process.poll().is_none(),
                "postgres ended:\n{}",
                process.output()
            );
            Wire::login(&self.target(), &Login::new("postgres", "postgres")).ok()
        });
        assert!(
            ready.is_some(),
            "postgres lets nobody in:\n{}",
            process.output()
        );
        *self.process.lock().expect("no panic here") = Some(process);
    }

    /// Kills all its processes at once, as a power cut would.
    pub fn crash(&self) {
        let process = self
            .process
            .lock()
            .expect("no panic here")
            .take()
            .expect("it runs");
        // Stopped first, so that no child is started between listing and killing.
        stop_all(process.pid());
        for pid in descendants(process.pid()) {
            signal_pid(pid, libc::SIGKILL);
        }
        drop(process);
    }

    /// Stops it in the fast way: sessions are told 57P01.
    pub fn stop(&self) {
        let mut process = self
            .process
            .lock()
            .expect("no panic here")
            .take()
            .expect("it runs");
        process.end(libc::SIGINT, Duration::from_secs(30));
    }

    /// Makes all its processes hang.
    pub fn freeze(&self) {
        stop_all(
            self.process
                .lock()
                .expect("no panic here")
                .as_ref()
                .expect("it runs")
                .pid(),
        );
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        let mut process = self.process.lock().expect("no panic here");
        let process = process.as_mut().expect("it runs");
        process.signal(libc::SIGCONT);
        descendants(process.pid())
            .into_iter()
            .for_each(|pid| signal_pid(pid, libc::SIGCONT));
    }

    /// Reads its configuration files again.
    pub fn reload(&self) {
        self.process
            .lock()
            .expect("no panic here")
            .as_mut()
            .expect("it runs")
            .signal(libc::SIGHUP);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = self.process.lock().expect("no panic here").as_mut() {
            process.signal(libc::SIGCONT);
            process.end(libc::SIGQUIT, Duration::from_secs(10));
        }
    }
}

/// A program of the installed PostgreSQL. `PG_BIN` names another folder of programs.
pub fn bin(program: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| match std::env::var_os("PG_BIN") {
        Some(folder) => folder.into(),
        None => installed(),
    });
    folder.join(program)
}

/// The newest PostgreSQL that Debian's packages have installed.
fn installed() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .expect("PostgreSQL is installed");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

/// The folder for what tests keep between runs.
pub fn cache() -> PathBuf {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache");
    fs::create_dir_all(&cache).expect("the cache folder can be made");
    cache
}

/// A data folder fresh from initdb, made once for each version.
fn template() -> PathBuf {
    let version = String::from_utf8(run(Command::new(bin("postgres")).arg("--version")))
        .expect("a version is ASCII");
    let number = version
        .split_whitespace()
        .nth(2)
        .expect("postgres (PostgreSQL) 15.1");
    let lock = File::create(cache().join("initdb.lock")).expect("a lock file can be made");
    lock.lock().expect("files can be locked");
    let kept = cache().join(format!("initdb-{number}"));
    if !kept.join("PG_VERSION").exists() {
        let folder = Folder::new("initdb");
        give_away(folder.path());
        let data = folder.join("data");
        run(unprivileged(&bin("initdb"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["--no-sync", "--wal-segsize=1", "-D"])
            .arg(&data));
        // Renamed into place, so that an interrupted copy is never taken for a whole one.
        let half = cache().join(format!("initdb-{number}.half"));
        let _ = fs::remove_dir_all(&half);
        run(Command::new("cp").arg("-r").arg(&data).arg(&half));
        let _ = fs::remove_dir_all(&kept);
        fs::rename(&half, &kept).expect("a folder can be renamed");
    }
    kept
}

/// Writes postgresql.conf and pg_hba.conf.
fn write_settings(folder: &Folder, data: &Path, port: u16, options: &NodeOptions) {
    let mut text = format!(
        "port = {port}\nunix_socket_directories = '{}'\n",
        folder.path().display()
    );
    let own = options
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in SETTINGS.iter().copied().chain(own) {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    fs::write(data.join("postgresql.conf"), text).expect("the data folder is ours");
    let mut access = options.access.join("\n");
    access.push_str("\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n");
    access.push_str("host replication all 127.0.0.1/32 trust\n");
    fs::write(data.join("pg_hba.conf"), access).expect("the data folder is ours");
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(data, mode).expect("the data folder is ours");
}

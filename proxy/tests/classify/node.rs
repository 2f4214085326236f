//! A PostgreSQL of the tests' own.
//!
//! Knows how to start one, talk to it through psql, and end it. It listens on a unix socket in its
//! own folder and nowhere else, so it needs no port and can meet no neighbour.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a node may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// A running node. It ends with the last of its tests.
pub struct Node {
    folder: PathBuf,
    /// Keeps the process: the kernel ends a child with the thread that started it.
    keeper: Option<JoinHandle<()>>,
}

impl Node {
    /// The node of all tests that run at this moment.
    pub fn shared(prepare: impl FnOnce(&Self)) -> Arc<Self> {
        static SHARED: Mutex<Weak<Node>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let node = Arc::new(Self::start());
            prepare(&node);
            *shared = Arc::downgrade(&node);
            node
        })
    }

    /// Makes a data folder and starts a node on it.
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!(
            "manifold-classify-{}-{}",
            std::process::id(),
            number()
        ));
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let data = folder.join("data");
        run(program("initdb")
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--no-sync",
                "-D",
            ])
            .arg(&data));
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(&folder);
        postgres.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        postgres.stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = std::thread::spawn(move || {
            postgres.status().expect("postgres can be started");
        });
        let node = Self {
            folder,
            keeper: Some(keeper),
        };
        node.wait();
        node
    }

    fn wait(&self) {
        let begun = Instant::now();
        while !self
            .psql("postgres", "postgres")
            .args(["-c", "SELECT 1"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            assert!(begun.elapsed() < START_MAX, "the node does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn psql(&self, database: &str, user: &str) -> Command {
        let mut command = Command::new(binary("psql"));
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(&self.folder)
            .args(["-d", database, "-U", user])
            .env("PGOPTIONS", "");
        command
    }

    /// Runs a text and gives what it prints; a failure is the test's.
    pub fn run(&self, database: &str, user: &str, text: &str) -> String {
        let mut child = self
            .psql(database, user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql can be started");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.write_all(b";\n"))
            .expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("psql ends");
        assert!(output.status.success(), "psql failed with: {text}");
        String::from_utf8(output.stdout).expect("the node speaks UTF-8")
    }

    /// A session that stays open.
    pub fn session(&self, database: &str, user: &str) -> Session {
        let mut child = self
            .psql(database, user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql can be started");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Session {
            child,
            stdin,
            stdout,
        }
    }

    /// Makes the tables of pgbench.
    pub fn pgbench_tables(&self, database: &str) {
        run(Command::new(binary("pgbench"))
            .args(["-i", "-q", "-h"])
            .arg(&self.folder)
            .args(["-U", "postgres", database])
            .stderr(Stdio::null()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let data = self.folder.join("data");
        run(program("pg_ctl")
            .args(["stop", "-m", "fast", "-D"])
            .arg(data));
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// A session that stays open until it is dropped.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Runs a text and waits until it has run.
    pub fn send(&mut self, text: &str) {
        writeln!(self.stdin, "{text}\n\\echo done").expect("psql reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("psql answers");
        assert_eq!(line, "done\n", "{text}");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A program of PostgreSQL's that refuses to run as root.
fn program(name: &str) -> Command {
    if !is_root() {
        return Command::new(binary(name));
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--pdeathsig=KILL",
        ])
        .arg(binary(name));
    command
}

/// The newest of the installed versions, or whatever is on the path.
fn binary(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| Path::exists(path))
        .max();
    newest.unwrap_or_else(|| name.into())
}

fn run(command: &mut Command) {
    let output = command
        .stdout(Stdio::null())
        .status()
        .expect("the program can be started");
    assert!(output.success(), "{command:?} failed");
}

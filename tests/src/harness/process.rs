//! Child processes and temporary folders that cannot outlive the test binary.
//!
//! Dropping ends them. A panic, an abort or a signal skips destructors (and statics have none), so
//! a small shell process, the sweeper, waits for the end of this process and ends what is left.
//! Must not know what the processes are.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Ends registered processes and removes registered folders once its input ends.
const SWEEPER: &str = r#"
trap '' INT TERM HUP
pids= ; folders=
while read -r verb what; do
  case $verb in
    start) pids="$pids $what " ;;
    ended) pids=$(printf '%s' "$pids" | sed "s/ $what / /g") ;;
    folder) folders="$folders $what" ;;
  esac
done
for pid in $pids; do kill -QUIT "$pid"; kill -CONT "$pid"; done 2>/dev/null
[ -z "${pids# }" ] || sleep 1
for pid in $pids; do kill -KILL "$pid"; done 2>/dev/null
[ -z "$folders" ] || rm -rf $folders
"#;

/// Tells the sweeper something; it is started by the first call.
fn tell_sweeper(line: &str) {
    // Never waited for: it ends after us.
    static SWEEPER_PROCESS: OnceLock<Mutex<Child>> = OnceLock::new();
    let sweeper = SWEEPER_PROCESS.get_or_init(|| {
        let child = Command::new("sh")
            .args(["-c", SWEEPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Mutex::new(child)
    });
    let mut sweeper = sweeper.lock().expect("no panic while telling");
    let input = sweeper.stdin.as_mut().expect("the input is a pipe");
    writeln!(input, "{line}").expect("the sweeper lives as long as we do");
}

/// Has a process that is no child of ours, but was started for us, end with this one.
pub fn watch_over(pid: u32) {
    tell_sweeper(&format!("start {pid}"));
}

/// Such a process has ended.
pub fn forget(pid: u32) {
    tell_sweeper(&format!("ended {pid}"));
}

/// A folder that only this process uses; removed with everything in it.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    path: PathBuf,
}

impl Folder {
    /// A new empty folder in the system's place for temporary files. Short, because the path of a
    /// unix socket may have 107 bytes.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mf-{}-{count}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        tell_sweeper(&format!("folder {}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A child process that ends with its owner.
#[derive(Debug)]
pub struct Process {
    /// The child, until somebody has waited for it.
    child: Child,
    /// What tests call it.
    name: String,
    /// Where its output goes.
    log: PathBuf,
    /// How it ended, once it has been waited for.
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a command with its output in a file and no input.
    pub fn spawn(mut command: Command, name: &str, log: &Path) -> Self {
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("log opens");
        let errors = output.try_clone().expect("a file can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        tell_sweeper(&format!("start {}", child.id()));
        Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
            status: None,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: i32) {
        if self.poll().is_none() {
            signal_pid(self.pid(), signal);
        }
    }

    /// How it ended, or nothing while it runs.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
            if self.status.is_some() {
                tell_sweeper(&format!("ended {}", self.pid()));
            }
        }
        self.status
    }

    /// Waits for its end, at most so long.
    pub fn wait(&mut self, time_max: Duration) -> Option<ExitStatus> {
        wait_for(time_max, || self.poll())
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What tests call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends it: asks with a signal, and insists after a while.
    pub fn end(&mut self, signal: i32, time_max: Duration) {
        self.signal(signal);
        if self.wait(time_max).is_none() {
            self.signal(libc::SIGKILL);
            self.signal(libc::SIGCONT);
            self.wait(Duration::from_secs(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(libc::SIGKILL, Duration::from_secs(10));
    }
}

/// Sends a signal to a process.
pub fn signal_pid(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("process ids are small");
    assert!(pid > 1, "never init and never a group");
    // SAFETY: kill reads two integers and touches no memory of this process.
    unsafe { libc::kill(pid, signal) };
}

/// All descendants of a process, children before grandchildren.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent_of(pid)?)))
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

/// The parent of a process.
fn parent_of(pid: u32) -> Option<u32> {
    status_field(pid, 1)?.parse().ok()
}

/// Whether a process is stopped by a signal, or gone.
fn is_stopped(pid: u32) -> bool {
    status_field(pid, 0).is_none_or(|state| state == "T" || state == "Z")
}

/// A field of a process's status line, counted from its state.
fn status_field(pid: u32, index: usize) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // In front of it is the program's name in brackets, which may hold anything.
    let (_, fields) = line.rsplit_once(')')?;
    fields.split_whitespace().nth(index).map(str::to_owned)
}

/// Stops a process and all its descendants, those too that are forked meanwhile.
pub fn stop_all(pid: u32) {
    let stopped = wait_for(Duration::from_secs(20), || {
        let mut all = descendants(pid);
        all.push(pid);
        all.retain(|pid| !is_stopped(*pid));
        all.iter().for_each(|pid| signal_pid(*pid, libc::SIGSTOP));
        all.is_empty().then_some(())
    });
    assert!(stopped.is_some(), "processes that cannot be stopped");
}

/// Asks again and again until there is an answer or the time is over.
pub fn wait_for<T>(time_max: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if begin.elapsed() > time_max {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A loopback port that nobody listens on. Below the range from which the kernel takes the local
/// ports of outgoing connections, so that it stays free until it is used.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..2_000 {
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let spread = std::process::id().wrapping_mul(61).wrapping_add(count * 7);
        let port = 12_000 + u16::try_from(spread % 20_000).expect("below 20 000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 12000 and 32000");
}

/// Connections that were accepted at an IPv4 address and not closed.
pub fn established(address: SocketAddr) -> usize {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("only IPv4 is looked for");
    };
    let bytes = u32::from_le_bytes(ip.octets());
    let local = format!("{bytes:08X}:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("it can be read");
    let rows = table.lines().map(|row| row.split_whitespace());
    let is_open = |mut row: std::str::SplitWhitespace<'_>| {
        row.nth(1) == Some(&local) && row.nth(1) == Some("01")
    };
    rows.filter(|row| is_open(row.clone())).count()
}

/// A command that runs as a user without privileges when we are root, as PostgreSQL demands.
pub fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let user = unprivileged_user();
    command
        .args(["--reuid", user, "--regid", user, "--clear-groups", "--"])
        .arg(program);
    command
}

/// Gives a folder and all in it to the unprivileged user.
pub fn give_away(path: &Path) {
    if is_root() {
        let user = unprivileged_user();
        run(Command::new("chown")
            .arg("-R")
            .arg(format!("{user}:{user}"))
            .arg(path));
    }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Who runs PostgreSQL when we are root: Debian's package makes the first one.
fn unprivileged_user() -> &'static str {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if users.lines().any(|line| line.starts_with("postgres:")) {
        "postgres"
    } else {
        "daemon"
    }
}

/// Runs a command to its end and insists on success.
pub fn run(command: &mut Command) -> Vec<u8> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error: io::Error| panic!("{shown}: {error}"));
    assert!(
        output.status.success(),
        "{shown}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    output.stdout
}

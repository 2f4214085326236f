//! A `manifold` process of the test's own, in front of a node.
//!
//! Writes its configuration, starts it and waits until it accepts. Knows the configuration file
//! and the signals, nothing else of the proxy.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::node::Node;
use super::process::{Folder, Process, free_port, run, wait_for};
use super::redis::RedisNode;
use super::wire::{Target, Wire};

/// What does a shard's input and output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driver {
    /// The portable one.
    Epoll,
    /// The fast one.
    IoUring,
}

impl Driver {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Epoll, Self::IoUring];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}

/// What a proxy is started with.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Which driver.
    pub driver: Driver,
    /// Connections to the node.
    pub connections_max: u32,
    /// Threads.
    pub shards: u32,
    /// More lines for the head of the file.
    pub head: Vec<String>,
    /// More lines for the service.
    pub service: Vec<String>,
    /// More lines for the limits.
    pub limits: Vec<String>,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            driver: Driver::Epoll,
            connections_max: 4,
            shards: 1,
            head: Vec::new(),
            service: Vec::new(),
            limits: Vec::new(),
        }
    }
}

impl ProxyOptions {
    /// With `auth = "users"` and a users file of this text in the folder.
    pub fn with_users(folder: &Folder, text: &str) -> Self {
        let file = folder.join("userlist.txt");
        fs::write(&file, text).expect("ours to write");
        let service = vec![
            "auth = \"users\"".to_owned(),
            format!("users = \"{}\"", file.display()),
        ];
        Self {
            service,
            ..Self::default()
        }
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where its configuration, its socket and its log are.
    folder: Folder,
    /// Where it listens.
    port: u16,
    /// Where its counters are read.
    control_port: u16,
    /// The process.
    process: Mutex<Process>,
}

impl Proxy {
    /// Starts a proxy in front of a node and waits until it accepts.
    pub fn start(node: &Node, options: &ProxyOptions) -> Self {
        Self::start_before(&format!("postgres://{}", node.address()), options)
    }

    /// Starts a proxy in front of a Redis and waits until it accepts.
    pub fn start_before_redis(node: &RedisNode, options: &ProxyOptions) -> Self {
        Self::start_before(&format!("redis://{}", node.address()), options)
    }

    /// Starts a proxy in front of what an `upstream` of its configuration names.
    pub fn start_before(upstream: &str, options: &ProxyOptions) -> Self {
        let folder = Folder::new("proxy");
        let port = free_port();
        let control_port = free_port();
        let file = folder.join("manifold.toml");
        let mut text = format!("control = \"127.0.0.1:{control_port}\"\n");
        text.push_str(&configuration(port, &folder, upstream, options));
        fs::write(&file, text).expect("ours to write");
        let mut command = Command::new(program());
        command.arg("serve").arg("--config").arg(&file);
        let process = Process::spawn(command, "manifold", &folder.join("log"));
        let proxy = Self {
            folder,
            port,
            control_port,
            process: Mutex::new(process),
        };
        let accepts = wait_for(Duration::from_secs(30), || {
            assert!(proxy.is_running(), "manifold ended:\n{}", proxy.log());
            Wire::open(&proxy.target()).ok()
        });
        assert!(
            accepts.is_some(),
            "manifold does not accept:\n{}",
            proxy.log()
        );
        proxy
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

    /// The folder of its socket; libpq takes it as a host name.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.lock().expect("no panic here").pid()
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.process.lock().expect("no panic here").poll().is_none()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.lock().expect("no panic here").output()
    }

    /// A counter or gauge as its metrics page shows it, all shards together; zero for one that it
    /// does not show. The page is written once a second.
    pub fn counter(&self, name: &str) -> u64 {
        let page = self.counters();
        let values = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_whole = rest.starts_with(['{', ' ']);
            let value = rest.rsplit_once(' ').filter(|_| is_whole)?.1;
            value.parse::<f64>().ok()
        });
        values.sum::<f64>() as u64
    }

    /// Its metrics page.
    pub fn counters(&self) -> String {
        let mut page = String::new();
        let address = ("127.0.0.1", self.control_port);
        let mut socket = TcpStream::connect(address).expect("the control port is open");
        let question = "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        std::io::Write::write_all(&mut socket, question.as_bytes()).expect("it is read");
        std::io::Read::read_to_string(&mut socket, &mut page).expect("it is text");
        page
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.process.lock().expect("no panic here").signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&self, time_max: Duration) -> Option<ExitStatus> {
        wait_for(time_max, || {
            self.process.lock().expect("no panic here").poll()
        })
    }
}

/// The configuration file.
fn configuration(port: u16, folder: &Folder, upstream: &str, options: &ProxyOptions) -> String {
    let mut text = format!(
        "driver = \"{}\"\nshards = {}\n",
        options.driver.name(),
        options.shards
    );
    let mut add = |line: &str| writeln!(text, "{line}").expect("a string takes all");
    options.head.iter().for_each(|line| add(line));
    if !options.limits.is_empty() {
        add("\n[limits]");
        options.limits.iter().for_each(|line| add(line));
    }
    add("\n[[service]]\nname = \"test\"");
    let socket = folder.join(&format!(".s.PGSQL.{port}"));
    add(&format!(
        "listen = [\"127.0.0.1:{port}\", \"unix:{}\"]",
        socket.display()
    ));
    add(&format!("upstream = \"{upstream}\""));
    add(&format!("connections_max = {}", options.connections_max));
    options.service.iter().for_each(|line| add(line));
    text
}

/// The program: `MANIFOLD_BIN`, or built by cargo beside the test binary.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("MANIFOLD_BIN") {
        Some(program) => program.into(),
        None => build(),
    })
}

/// Builds the program with the profile and into the folder of the test binary.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test binary has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/profile/deps/test");
    let target = profile.parent().expect("target/profile");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "-p", "manifold", "--target-dir"])
        .arg(target);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    run(&mut command);
    profile.join("manifold")
}

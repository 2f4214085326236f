//! What the tests of the command line start and end: processes, folders, a node that is mute.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that is not meant to take long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a process that has ended left behind.
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program to its end.
pub fn run(words: &[&str]) -> Output {
    let output = program()
        .args(words)
        .output()
        .expect("the program can be started");
    Output {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_manifold"))
}

/// A folder that goes away with the test.
pub struct Folder(String);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = format!(
            "{}/cli-{name}-{}",
            env!("CARGO_TARGET_TMPDIR"),
            std::process::id()
        );
        fs::create_dir_all(&path).expect("a folder of ours");
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// Writes a file that everybody can read, and says its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("ours to write");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours to open");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A proxy that serves, until it is dropped.
pub struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    /// Starts `manifold serve` and waits until it serves.
    pub fn start(words: &[&str]) -> Self {
        let mut child = program()
            .arg("serve")
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let sink = log.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *sink.lock().unwrap() += &(line + "\n");
            }
        });
        let running = Self { child, log };
        running.wait_for_line(" serves ");
        running
    }

    /// Everything that it said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The line that says what is served.
    pub fn serving(&self) -> String {
        let log = self.log();
        log.lines()
            .find(|line| line.contains(" serves "))
            .unwrap_or_default()
            .to_owned()
    }

    /// Where the first service listens.
    pub fn address(&self) -> SocketAddr {
        let line = self.serving();
        let (_, rest) = line.split_once(" on ").expect("it says where");
        let (address, _) = rest.split_once(" ->").expect("it says where to");
        address.parse().expect("an address")
    }

    /// Waits until it has said something.
    pub fn wait_for_line(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "no {text:?} in:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Waits for its end and says its exit code.
    pub fn wait(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < until, "it does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().expect("a child of ours");
        status
            .code()
            .unwrap_or_else(|| panic!("{status}:\n{}", self.log()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node that lets everybody in and then says nothing for ever.
pub fn mute_node() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of ours");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || let_in_and_be_mute(stream));
        }
    });
    address
}

fn let_in_and_be_mute(mut stream: TcpStream) {
    let mut length = [0; 4];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
    if stream.read_exact(&mut rest).is_err() {
        return;
    }
    let mut reply = vec![];
    reply.extend(b"R\0\0\0\x08\0\0\0\0");
    for (name, value) in [("server_version", "15.0"), ("client_encoding", "UTF8")] {
        reply.push(b'S');
        reply.extend((name.len() as u32 + value.len() as u32 + 6).to_be_bytes());
        reply.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    reply.extend(b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02");
    reply.extend(b"Z\0\0\0\x05I");
    if stream.write_all(&reply).is_ok() {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// A client that logs in, sends a query and reads until the end; what it read is the answer.
pub fn session(proxy: &Running, query: &str) -> JoinHandle<Vec<u8>> {
    let mut stream = TcpStream::connect(proxy.address()).expect("it listens");
    let parameters = b"\0\x03\0\0user\0me\0database\0mine\0\0";
    let mut bytes = (parameters.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(parameters);
    bytes.push(b'Q');
    bytes.extend((query.len() as u32 + 5).to_be_bytes());
    bytes.extend(query.as_bytes());
    bytes.push(0);
    stream.write_all(&bytes).expect("it reads");
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    });
    // Time enough to be in flight on any machine; the tests hold without it, but show less.
    thread::sleep(Duration::from_millis(300));
    reader
}

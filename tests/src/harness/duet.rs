//! The same bytes to a Redis direct and through the proxy on each driver: the same bytes back.
//!
//! Every run has a node of its own, so that nothing but the way there can differ. Only the numbers
//! of clients and what a run itself marks are masked. Knows nothing of commands.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::proxy::{Driver, Proxy, ProxyOptions};
use super::redis::{RedisNode, RedisOptions};
use super::resp::{Resp, command, shown};
use super::transcript::checksum;

/// What a comparison needs.
#[derive(Clone, Debug)]
pub struct Duet {
    /// The nodes' options.
    pub node: RedisOptions,
    /// The proxies' options; the driver is set by the comparison.
    pub proxy: ProxyOptions,
}

impl Default for Duet {
    fn default() -> Self {
        Self {
            node: RedisOptions::default(),
            proxy: ProxyOptions {
                connections_max: 16,
                ..ProxyOptions::default()
            },
        }
    }
}

impl Duet {
    /// Nodes with these lines of redis.conf.
    pub fn with(settings: &[&str]) -> Self {
        Self {
            node: RedisOptions::with(settings),
            ..Self::default()
        }
    }

    /// Runs a script direct and proxied, and compares what its clients saw.
    pub fn play(&self, script: impl Fn(&mut Scene)) {
        let direct = self.perform(None, &script);
        let drivers = match std::env::var_os("MANIFOLD_TESTS_DIRECT") {
            Some(_) => vec![None],
            None => Driver::ALL.map(Some).to_vec(),
        };
        for driver in drivers {
            let name = driver.map_or("direct again", Driver::name);
            let proxied = self.perform(driver, &script);
            assert_same(&direct, &proxied, name);
        }
    }

    /// Runs the script once.
    fn perform(&self, driver: Option<Driver>, script: &impl Fn(&mut Scene)) -> Vec<String> {
        let node = RedisNode::start(&self.node);
        let proxy = driver.map(|driver| {
            let mut options = self.proxy.clone();
            options.driver = driver;
            options.service.push("admin = \"allow\"".to_owned());
            Proxy::start_before_redis(&node, &options)
        });
        let address = proxy.as_ref().map_or(node.address(), Proxy::address);
        let mut scene = Scene {
            node,
            address,
            is_proxied: proxy.is_some(),
            lines: Rc::default(),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| script(&mut scene)));
        if let Err(panic) = outcome {
            let lines = scene.lines.borrow();
            let last = lines[lines.len().saturating_sub(20)..].join("\n    ");
            let name = driver.map_or("direct", Driver::name);
            eprintln!("in the run {name}, after:\n    {last}");
            if let Some(proxy) = &proxy {
                let runs = proxy.is_running();
                eprintln!("the proxy runs: {runs}; its log:\n{}", proxy.log());
            }
            resume_unwind(panic);
        }
        if let Some(proxy) = &proxy {
            let log = proxy.log();
            assert!(proxy.is_running(), "the proxy ended:\n{log}");
            assert!(!log.contains("panicked"), "a shard has panicked:\n{log}");
        }
        scene.lines.take()
    }
}

/// Runs a script direct and proxied, and compares what its clients saw.
pub fn compare_redis(script: impl Fn(&mut Scene)) {
    Duet::default().play(script);
}

/// Runs a script with clients that speak RESP2, and again with clients that speak RESP3.
pub fn compare_both(script: impl Fn(&mut Scene, &mut Voice)) {
    compare_redis(|scene| {
        let mut voice = scene.client("two");
        script(scene, &mut voice);
    });
    compare_redis(|scene| {
        let mut voice = scene.client("three");
        voice.ask("HELLO 3");
        script(scene, &mut voice);
    });
}

/// One run of a script.
#[derive(Debug)]
pub struct Scene {
    /// The node itself.
    pub node: RedisNode,
    /// Where clients connect in this run.
    pub address: SocketAddr,
    /// Whether the proxy is in between.
    pub is_proxied: bool,
    /// What clients did and saw.
    lines: Rc<RefCell<Vec<String>>>,
}

impl Scene {
    /// A client of the run. What it sees is written down.
    pub fn client(&self, name: &'static str) -> Voice {
        Voice {
            name,
            resp: Resp::open(self.address).expect("clients are accepted"),
            lines: self.lines.clone(),
        }
    }

    /// Writes something down that has to be the same in all runs.
    pub fn note(&self, what: &str) {
        self.lines.borrow_mut().push(what.to_owned());
    }

    /// Waits until so many clients of the node are blocked.
    pub fn await_blocked(&self, count: u64) {
        let blocked = super::process::wait_for(Duration::from_secs(10), || {
            (self.node.count("blocked_clients") == count).then_some(())
        });
        assert!(blocked.is_some(), "not {count} clients are blocked");
    }
}

/// A client whose replies are written down.
#[derive(Debug)]
pub struct Voice {
    name: &'static str,
    /// Its connection; what is read from here directly is not written down.
    pub resp: Resp,
    lines: Rc<RefCell<Vec<String>>>,
}

impl Voice {
    /// A command in words between spaces, and its reply.
    pub fn ask(&mut self, words: &str) -> Vec<u8> {
        self.say(&command(words), 1).pop().expect("one reply")
    }

    /// Each of these commands, one after the other.
    pub fn ask_all(&mut self, lines: &[&str]) {
        for line in lines {
            self.ask(line);
        }
    }

    /// A command of any bytes, and its reply.
    pub fn ask_of(&mut self, arguments: &[&[u8]]) -> Vec<u8> {
        let bytes = super::resp::request(arguments);
        self.say(&bytes, 1).pop().expect("one reply")
    }

    /// Any bytes, and so many replies.
    pub fn say(&mut self, bytes: &[u8], count: usize) -> Vec<Vec<u8>> {
        self.begin(bytes);
        (0..count).map(|_| self.hear()).collect()
    }

    /// Sends and reads nothing yet.
    pub fn begin(&mut self, bytes: &[u8]) {
        self.push('>', bytes);
        self.resp.send(bytes);
    }

    /// Reads one reply.
    pub fn hear(&mut self) -> Vec<u8> {
        let reply = self.resp.reply();
        self.push('<', &reply);
        reply
    }

    /// Reads up to the end of the connection.
    pub fn hear_end(&mut self) -> Vec<u8> {
        let bytes = self.resp.until_end();
        self.push('<', &bytes);
        self.push('.', b"closed");
        bytes
    }

    /// Nothing may come for a while.
    pub fn hear_nothing(&mut self, time: Duration) {
        let bytes = self.resp.during(time);
        assert!(bytes.is_empty(), "{} got {}", self.name, shown(&bytes));
    }

    fn push(&mut self, sign: char, bytes: &[u8]) {
        let masked = mask(bytes);
        let text = format!("{} {sign} {}", self.name, shown(&masked));
        let sum = match masked.len() {
            0..=300 => String::new(),
            _ => format!(", checksum {:016x}", checksum(&masked)),
        };
        self.lines.borrow_mut().push(text + &sum);
    }
}

/// Puts the same number in place of the one that HELLO tells a client, alone or in a transaction.
fn mask(bytes: &[u8]) -> Vec<u8> {
    const FIELD: &[u8] = b"$2\r\nid\r\n:";
    let begin = &bytes[..bytes.len().min(64)];
    let is_hello = begin.windows(12).any(|part| part == b"$6\r\nserver\r\n");
    let at = bytes.windows(FIELD.len()).position(|part| part == FIELD);
    match at.filter(|_| is_hello) {
        Some(at) => {
            let at = at + FIELD.len();
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let rest = &bytes[at + digits.count()..];
            [&bytes[..at], b"0", rest].concat()
        }
        None => bytes.to_vec(),
    }
}

/// Fails with the first difference and what led to it.
fn assert_same(direct: &[String], proxied: &[String], how: &str) {
    let pairs = direct.iter().zip(proxied);
    let same = pairs.take_while(|(left, right)| left == right).count();
    if same == direct.len() && same == proxied.len() {
        return;
    }
    let before = direct[same.saturating_sub(12)..same].join("\n    ");
    let rest = |lines: &[String]| lines[same..].iter().take(4).cloned().collect::<Vec<_>>();
    panic!(
        "{how} differs from direct in line {same}:\n    {before}\n  direct:\n    {}\n  {how}:\n    {}\n",
        rest(direct).join("\n    "),
        rest(proxied).join("\n    "),
    );
}

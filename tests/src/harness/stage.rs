//! One script, run against the node and through the proxy on each driver, with one outcome.
//!
//! Every run gets an empty database of its own on the shared node, and every proxied run a proxy of
//! its own, so that nothing but the way there can differ.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::frames;
use super::login::Login;
use super::node::Node;
use super::place::places;
use super::proxy::{Proxy, ProxyOptions};
use super::reply::Reply;
use super::transcript::{Transcript, assert_same};
use super::wire::{Target, Wire};

/// What a comparison needs.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The proxy's options; the driver is set by the comparison.
    pub proxy: ProxyOptions,
}

impl Setup {
    /// A proxy with so many connections to the node.
    pub fn connections(connections_max: u32) -> Self {
        Self {
            proxy: ProxyOptions {
                connections_max,
                ..ProxyOptions::default()
            },
        }
    }
}

/// Runs a script direct and proxied with four connections to the node, and compares.
pub fn compare(script: impl Fn(&mut Stage)) {
    compare_with(&Setup::default(), script);
}

/// Runs a script direct and proxied, and compares.
pub fn compare_with(setup: &Setup, script: impl Fn(&mut Stage)) {
    let node = Node::shared();
    let direct = perform(node, node.target(), None, "direct", &script);
    for place in places(node, &setup.proxy) {
        let proxied = perform(
            node,
            place.target,
            place.proxy.as_ref(),
            place.name,
            &script,
        );
        assert_same(&direct, &proxied, place.name);
    }
}

/// Runs the script once.
fn perform(
    node: &'static Node,
    target: Target,
    proxy: Option<&Proxy>,
    name: &str,
    script: &impl Fn(&mut Stage),
) -> Transcript {
    let database = node.database();
    let mut stage = Stage {
        node,
        target,
        proxied: proxy.is_some(),
        database: database.clone(),
        transcript: Transcript::default(),
    };
    stage.transcript.mask(&database, "<database>");
    let outcome = catch_unwind(AssertUnwindSafe(|| script(&mut stage)));
    if let Err(panic) = outcome {
        let lines = stage.transcript.lines();
        let last = lines[lines.len().saturating_sub(20)..].join("\n    ");
        eprintln!("in the run {name}, after:\n    {last}");
        if let Some(proxy) = proxy {
            eprintln!(
                "the proxy runs: {}; its log:\n{}",
                proxy.is_running(),
                proxy.log()
            );
        }
        resume_unwind(panic);
    }
    if let Some(proxy) = proxy {
        assert!(proxy.is_running(), "the proxy ended:\n{}", proxy.log());
    }
    stage.transcript
}

/// One run of a script.
#[derive(Debug)]
pub struct Stage {
    /// The node itself.
    pub node: &'static Node,
    /// Where clients connect in this run.
    pub target: Target,
    /// Whether the proxy is in between.
    pub proxied: bool,
    /// The run's own database.
    pub database: String,
    /// What clients saw.
    pub transcript: Transcript,
}

impl Stage {
    /// How the superuser logs in to the run's database.
    pub fn login(&self) -> Login {
        Login::new("postgres", &self.database)
    }

    /// A client of the run, logged in as the superuser. What it sees is written down.
    pub fn client(&mut self, name: &'static str) -> Actor {
        let login = self.login();
        self.client_with(name, &login)
    }

    /// A client with startup parameters of its own.
    pub fn client_with(&mut self, name: &'static str, login: &Login) -> Actor {
        match Wire::login(&self.target, login) {
            Ok(wire) => {
                self.transcript.frames(name, &wire.greeting.frames);
                Actor { name, wire }
            }
            Err(reply) => panic!("{name} cannot log in: {} {:?}", reply.tags(), reply.error()),
        }
    }

    /// A login that is expected to be refused; what was said is written down. Without a password
    /// the node says that all is well before it looks at anything else; that is no promise.
    pub fn refused(&mut self, name: &'static str, login: &Login) -> Reply {
        let reply = Wire::login(&self.target, login).expect_err("a refusal");
        let errors = reply
            .frames
            .iter()
            .filter(|frame| frame.tag == b'E')
            .cloned();
        self.transcript.frames(name, &errors.collect::<Vec<_>>());
        reply
    }

    /// A connection past the proxy, whose replies are not written down.
    pub fn direct(&self) -> Wire {
        self.node.admin(&self.database)
    }
}

/// A client whose replies are written down.
#[derive(Debug)]
pub struct Actor {
    /// What the transcript calls it.
    pub name: &'static str,
    /// Its connection; what is read from here directly is not written down.
    pub wire: Wire,
}

impl Actor {
    /// A simple query and its reply.
    pub fn query(&mut self, stage: &mut Stage, sql: &str) -> Reply {
        self.send(stage, sql, &frames::query(sql));
        self.ready(stage, 1)
    }

    /// The unnamed statement with text parameters, and its reply.
    pub fn extended(&mut self, stage: &mut Stage, sql: &str, values: &[Option<&str>]) -> Reply {
        self.send(stage, sql, &frames::extended(sql, values));
        self.ready(stage, 1)
    }

    /// Any frames, and the reply up to so many ReadyForQuery.
    pub fn units(&mut self, stage: &mut Stage, what: &str, bytes: &[u8], count: usize) -> Reply {
        self.send(stage, what, bytes);
        self.ready(stage, count)
    }

    /// Sends and reads nothing yet.
    pub fn send(&mut self, stage: &mut Stage, what: &str, bytes: &[u8]) {
        let shown: String = what.chars().take(200).collect();
        stage.transcript.note(self.name, &shown);
        self.wire.send(bytes);
    }

    /// Reads up to so many ReadyForQuery.
    pub fn ready(&mut self, stage: &mut Stage, count: usize) -> Reply {
        let reply = self.wire.until_ready(count);
        stage.transcript.frames(self.name, &reply.frames);
        reply
    }

    /// Reads up to a frame of a type.
    pub fn until(&mut self, stage: &mut Stage, tag: u8) -> Reply {
        let reply = self.wire.until(tag);
        stage.transcript.frames(self.name, &reply.frames);
        reply
    }

    /// Reads up to the end of the connection.
    pub fn end(&mut self, stage: &mut Stage) -> Reply {
        let reply = self.wire.until_end();
        stage.transcript.frames(self.name, &reply.frames);
        stage.transcript.note(self.name, "is closed");
        reply
    }
}

//! Where troupes play: two nodes with the same settings, and the proxy before one of them.
//!
//! Invariant: nobody but the saboteur breaks anything, and only the proxy's node.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::{Driver, Proxy, ProxyOptions, RedisNode, RedisOptions};

use super::connection::Control;
use super::plan::{Mood, PASSWORD};

/// Two nodes and a proxy.
#[derive(Debug)]
pub(super) struct World {
    /// The node of the private connections.
    pub direct: RedisNode,
    /// The proxy's node.
    pub node: RedisNode,
    /// The proxy.
    pub proxy: Proxy,
    /// What troupes can count on.
    pub mood: Mood,
    /// Odd while something is broken; two more for each time.
    pub epoch: AtomicU64,
    /// What has happened.
    pub tally: Tally,
}

/// Counts of what has happened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub troupes: AtomicU64,
    pub sessions: AtomicU64,
    pub acts: AtomicU64,
    pub replies: AtomicU64,
    pub vanished: AtomicU64,
    pub kills: AtomicU64,
    pub pauses: AtomicU64,
    pub crashes: AtomicU64,
    /// Requests whose outcome the proxy did not know.
    pub unknown: AtomicU64,
    /// Sessions that the proxy ended because their upstream was lost.
    pub ended: AtomicU64,
    /// Times that a troupe began anew after a fault.
    pub renewed: AtomicU64,
}

impl Tally {
    /// Counts.
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// How a world is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenery {
    pub driver: Driver,
    pub shards: u32,
    pub connections_max: u32,
    pub mood: Mood,
}

/// Users, and limits above which a table loses its order.
const SETTINGS: &[&str] = &[
    "user alice on >apw ~* &* +@all",
    "user reader on >rpw ~* &* +@read +@connection +@transaction",
    "user quiet on >qpw ~* &* +@all -client",
    "user keyed on >kpw %R~* ~*s0 &* +@all",
    "user off off >opw ~* +@all",
    "hash-max-listpack-value 2000000",
    "appendonly yes",
    // Waits that end after milliseconds end while nobody is compared: in the pause after them.
    "hz 10",
];

/// What both nodes have loaded.
const LIBRARY: &[u8] = b"#!lua name=lib
redis.register_function('store', function(k, a) return redis.call('SET', k[1], a[1]) end)
redis.register_function{function_name='fetch', callback=function(k, a)
  return redis.call('GET', k[1]) end, flags={'no-writes'}}";

impl World {
    /// Starts everything.
    pub fn new(scenery: &Scenery) -> Self {
        let node = |fsync: &str| {
            let mut options = RedisOptions::with(SETTINGS);
            options.settings.push(format!("appendfsync {fsync}"));
            if scenery.mood.is_locked {
                options.settings.push(format!("requirepass {PASSWORD}"));
                options.password = Some(PASSWORD.to_owned());
            }
            RedisNode::start(&options)
        };
        let (direct, node) = (node("no"), node("always"));
        let options = ProxyOptions {
            driver: scenery.driver,
            shards: scenery.shards,
            connections_max: scenery.connections_max,
            service: vec!["admin = \"allow\"".to_owned()],
            ..ProxyOptions::default()
        };
        let proxy = Proxy::start_before_redis(&node, &options);
        let world = Self {
            direct,
            node,
            proxy,
            mood: scenery.mood,
            epoch: AtomicU64::new(0),
            tally: Tally::default(),
        };
        for mut control in [world.to_direct(), world.to_node()] {
            control.ask(&[b"FUNCTION", b"LOAD", LIBRARY]);
        }
        // What the proxy has to know of its node, it knows from then on.
        world.to_proxy().say("PING");
        world
    }

    /// A connection of our own to the node of the private connections.
    pub fn to_direct(&self) -> Control {
        Control::new(self.direct.address(), self.greeting())
    }

    /// A connection of our own to the proxy's node.
    pub fn to_node(&self) -> Control {
        Control::new(self.node.address(), self.greeting())
    }

    /// A session of our own.
    pub fn to_proxy(&self) -> Control {
        Control::new(self.proxy.address(), self.greeting())
    }

    fn greeting(&self) -> Option<String> {
        self.mood.is_locked.then(|| format!("AUTH {PASSWORD}"))
    }

    /// How often something was broken; odd while something is.
    pub fn now(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }
}

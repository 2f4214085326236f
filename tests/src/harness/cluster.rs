//! A real Redis Cluster of the test's own, on loopback: three primaries, and replicas as wanted.
//!
//! Knows nothing of the proxy. Invariant: it is handed out only when every node agrees that it is
//! complete.

use std::time::Duration;

use super::process::{free_port, wait_for};
use super::redis::{RedisNode, RedisOptions};
use super::resp::Resp;

/// A running cluster.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries, then the replicas; each replica follows the primary of its place.
    pub nodes: Vec<RedisNode>,
    /// How they call themselves.
    numbers: Vec<String>,
}

/// How many primaries there are.
pub const PRIMARIES: usize = 3;

/// The slots of each primary.
const SLOTS: [(u16, u16); PRIMARIES] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

impl RedisCluster {
    /// Starts a cluster in which the first so many primaries have a replica.
    pub fn start(replicas: usize, settings: &[&str]) -> Self {
        let nodes: Vec<_> = (0..PRIMARIES + replicas)
            .map(|_| {
                let mut lines = vec![
                    "cluster-enabled yes".to_owned(),
                    "cluster-node-timeout 1000".to_owned(),
                    "repl-diskless-sync-delay 0".to_owned(),
                    format!("cluster-port {}", free_port()),
                ];
                lines.extend(settings.iter().map(|line| (*line).to_owned()));
                RedisNode::start(&RedisOptions {
                    settings: lines,
                    password: None,
                })
            })
            .collect();
        let numbers = nodes
            .iter()
            .map(|node| text(&node.direct().ask("CLUSTER MYID")));
        let cluster = Self {
            numbers: numbers.collect(),
            nodes,
        };
        cluster.introduce();
        cluster.agree();
        cluster
    }

    /// Makes the nodes know each other, and gives each its slots or its primary.
    fn introduce(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            let mut direct = node.direct();
            direct.expect(
                &format!("CLUSTER SET-CONFIG-EPOCH {}", place + 1),
                "+OK\r\n",
            );
            if let Some((first, last)) = SLOTS.get(place) {
                direct.expect(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"), "+OK\r\n");
            }
        }
        for node in &self.nodes[1..] {
            let bus = node.setting("cluster-port");
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port());
            self.nodes[0].direct().expect(&meet, "+OK\r\n");
        }
        for (place, replica) in self.nodes[PRIMARIES..].iter().enumerate() {
            let replicate = format!("CLUSTER REPLICATE {}", self.numbers[place]);
            let done = wait_for(Duration::from_secs(60), || {
                (replica.direct().ask(&replicate) == b"+OK\r\n").then_some(())
            });
            assert!(done.is_some(), "it does not follow its primary");
        }
    }

    /// Waits until every node says that the cluster is complete.
    fn agree(&self) {
        let all = self.nodes.len();
        for node in &self.nodes {
            let agreed = wait_for(Duration::from_secs(60), || {
                let info = text(&node.direct().ask("CLUSTER INFO"));
                let map = text(&node.direct().ask("CLUSTER NODES"));
                let is_whole = info.contains("cluster_state:ok")
                    && info.contains(&format!("cluster_known_nodes:{all}"))
                    && map.matches("slave").count() == all - PRIMARIES
                    && !map.contains("handshake");
                is_whole.then_some(())
            });
            assert!(agreed.is_some(), "the nodes do not agree");
        }
        for replica in &self.nodes[PRIMARIES..] {
            let linked = wait_for(Duration::from_secs(60), || {
                (replica.info("master_link_status") == "up").then_some(())
            });
            assert!(linked.is_some(), "a replica has no link");
        }
    }

    /// As an `upstream`: the first two of its nodes.
    pub fn upstream(&self) -> String {
        let [one, two] = [0, 1].map(|place| self.nodes[place].port());
        format!("redis+cluster://127.0.0.1:{one},localhost:{two}")
    }

    /// The place of the primary that has a slot by its own account.
    pub fn owner(&self, slot: u16) -> usize {
        let place = self.nodes.iter().position(|node| {
            let map = text(&node.direct().ask("CLUSTER NODES"));
            let own = map.lines().find(|line| line.contains("myself"));
            own.is_some_and(|line| {
                ranges_of(line).any(|(first, last)| (first..=last).contains(&slot))
            })
        });
        place.expect("some node has it")
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        let reply = self.nodes[0]
            .direct()
            .ask(&format!("CLUSTER KEYSLOT {key}"));
        let digits = String::from_utf8_lossy(&reply[1..]).trim().to_owned();
        digits.parse().expect("a number")
    }

    /// Begins to move a slot: both nodes know of it, and no key has gone yet.
    pub fn begin_move(&self, slot: u16, to: usize) -> usize {
        let from = self.owner(slot);
        let importing = format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.numbers[from]);
        self.nodes[to].direct().expect(&importing, "+OK\r\n");
        let migrating = format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.numbers[to]);
        self.nodes[from].direct().expect(&migrating, "+OK\r\n");
        from
    }

    /// Moves the keys of a slot that is on its way, and says so to all.
    pub fn finish_move(&self, slot: u16, from: usize, to: usize) {
        let mut source = self.nodes[from].direct();
        loop {
            let keys = source.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
            let keys = words(&keys);
            if keys.is_empty() {
                break;
            }
            let port = self.nodes[to].port();
            let migrate = format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS {}", keys.join(" "));
            let mut arguments: Vec<&[u8]> = migrate.split(' ').map(str::as_bytes).collect();
            arguments[3] = b"";
            let reply = source.ask_of(&arguments);
            assert!(!reply.starts_with(b"-"), "{}", text(&reply));
        }
        let node = format!("CLUSTER SETSLOT {slot} NODE {}", self.numbers[to]);
        self.nodes[to].direct().expect(&node, "+OK\r\n");
        source.expect(&node, "+OK\r\n");
        for other in (0..PRIMARIES).filter(|other| *other != from && *other != to) {
            self.nodes[other].direct().expect(&node, "+OK\r\n");
        }
    }

    /// Waits until a node is a primary.
    pub fn wait_for_primary(&self, place: usize) {
        let promoted = wait_for(Duration::from_secs(60), || {
            (self.nodes[place].info("role") == "master").then_some(())
        });
        assert!(promoted.is_some(), "nobody took over");
    }

    /// A direct connection to the primary of a key's slot.
    pub fn direct_to(&self, key: &str) -> Resp {
        self.nodes[self.owner(self.slot(key))].direct()
    }
}

/// The slots in a line of CLUSTER NODES.
fn ranges_of(line: &str) -> impl Iterator<Item = (u16, u16)> + '_ {
    line.split_whitespace().skip(8).filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

/// A reply as text, without what tells its length.
fn text(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    match text.strip_prefix('$') {
        Some(bulk) => bulk
            .split_once("\r\n")
            .map_or(String::new(), |(_, text)| text.trim_end().to_owned()),
        None => text.trim_end().to_owned(),
    }
}

/// The texts of a list of them.
fn words(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(reply);
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with('*') && !line.starts_with('$'))
        .map(str::to_owned)
        .collect()
}

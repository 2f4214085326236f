//! What a node can do: which commands it knows, and how many connections it reads at once.
//!
//! Asked on the first upstream that may ask, and on another when that one is lost. Knows no
//! request. Invariant: what a node has not said is what is built in: the commands of Redis 7.0, one
//! thread.

use std::rc::Rc;

use manifold_protocols::redis::command::Table;
use manifold_protocols::redis::resp::number;

use crate::event::Level;
use crate::ids::{PoolId, ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::{Lane, Post};
use crate::upstream::redis::{Own, State};

/// Requests in flight on each upstream of a lane from which on another one is worth opening, for a
/// node that would read it in another thread.
const CROWDED_DEPTH: usize = 8;

/// More threads than that are not believed; the node itself takes 128 at most.
const THREADS_MAX: u32 = 128;

impl Redis {
    /// Asks for what is not known yet, at the end of a greeting.
    pub(crate) fn ask_for_abilities(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let node = &mut self.nodes[self.upstreams[id].service.index()];
        if node.is_asked_on.is_none() && node.part_of.is_none() {
            node.is_asked_on = Some(id);
            self.ask(reach, id, Own::Commands, &[b"COMMAND"]);
            self.ask(reach, id, Own::Threads, &[b"CONFIG", b"GET", b"io-threads"]);
        }
    }

    /// The node's commands, or its refusal: then others may be allowed to ask.
    pub(crate) fn handle_commands(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        let service = self.upstreams[id].service;
        let node = &mut self.nodes[service.index()];
        match Table::from_reply(reply) {
            Ok(table) => {
                let table = Rc::new(table);
                node.table = table.clone();
                for part in self.parts_of(service) {
                    part.table = table.clone();
                }
            }
            Err(error) => {
                node.is_asked_on = None;
                if core::mem::replace(&mut node.has_refused_commands, true) {
                    return;
                }
                let name = &reach.service(service).name;
                let text = format!(
                    "service \"{name}\": the node's list of commands is not to be had, so the \
                     built-in one is used until somebody may ask for it: {error}"
                );
                reach.log(Level::Info, text);
            }
        }
    }

    /// How many threads the node reads with; one, where it does not say.
    pub(crate) fn handle_threads(&mut self, id: UpstreamId, reply: &[u8]) {
        let service = self.upstreams[id].service;
        let Some(threads) = read_threads(reply) else {
            return;
        };
        self.nodes[service.index()].threads = threads;
        for part in self.parts_of(service) {
            part.threads = threads;
        }
    }

    fn parts_of(&mut self, cluster: ServiceId) -> impl Iterator<Item = &mut crate::redis::Node> {
        let nodes = self.nodes.iter_mut();
        nodes.filter(move |node| node.part_of == Some(cluster))
    }

    /// How many upstreams a lane of this shard has, when it is busy: all shards together have one
    /// for each thread of the node. A thread reads one connection at a time, so that a node with
    /// several would leave all but one of them idle otherwise.
    fn width(&self, reach: &Reach<'_>, service: ServiceId) -> usize {
        let threads = self.nodes[service.index()].threads;
        threads.div_ceil(reach.service(service).shards) as usize
    }

    /// Whether a lane should have one more upstream: all that it has are busy, and the node has
    /// threads to spare.
    pub(crate) fn is_narrow(&self, reach: &Reach<'_>, id: PoolId, lane: Lane) -> bool {
        let pool = &self.pools[id];
        if self.nodes[pool.key.service.index()].threads == 1 {
            return false;
        }
        let upstreams = &pool.lanes[lane as usize].upstreams;
        let is_crowded = |id: &UpstreamId| {
            let upstream = &self.upstreams[*id];
            upstream.state == State::Ready && upstream.pipe.len() >= CROWDED_DEPTH
        };
        upstreams.len() < self.width(reach, pool.key.service) && upstreams.iter().all(is_crowded)
    }

    /// Opens one more upstream for a lane that should have one, where permits are left for others.
    pub(crate) fn widen(&mut self, reach: &mut Reach<'_>, id: PoolId, lane: Lane) {
        let is_open = !self.pools[id].lanes[lane as usize].upstreams.is_empty();
        if is_open && self.is_narrow(reach, id, lane) && self.has_permits_to_spare(reach, id) {
            self.open(reach, id, Post::Lane(lane));
        }
    }
}

/// The answer to CONFIG GET, in either version of the protocol: a name and its value.
fn read_threads(reply: &[u8]) -> Option<u32> {
    let body = reply.strip_prefix(b"*2\r\n");
    let body = body.or_else(|| reply.strip_prefix(b"%1\r\n"))?;
    let rest = body.strip_prefix(b"$10\r\nio-threads\r\n$")?;
    let digits = rest.split(|&byte| byte == b'\n').nth(1)?;
    let threads = number::parse(digits.trim_ascii_end())?;
    u32::try_from(threads)
        .ok()
        .filter(|it| (1..=THREADS_MAX).contains(it))
}

#[cfg(test)]
mod tests {
    use super::read_threads;
    use crate::limits::Limits;
    use crate::redis::stage::{Shared, Stage};

    #[test]
    fn reads_what_a_node_says_of_its_threads() {
        let two = b"*2\r\n$10\r\nio-threads\r\n$1\r\n4\r\n";
        let three = b"%1\r\n$10\r\nio-threads\r\n$2\r\n16\r\n";
        assert_eq!(
            (read_threads(two), read_threads(three)),
            (Some(4), Some(16))
        );
        let odd: [&[u8]; 5] = [
            b"*0\r\n",
            b"%0\r\n",
            b"-NOPERM no\r\n",
            b"*2\r\n$10\r\nio-threads\r\n$1\r\n0\r\n",
            b"*2\r\n$10\r\nio-threads\r\n$4\r\n9999\r\n",
        ];
        assert!(odd.iter().all(|reply| read_threads(reply).is_none()));
    }

    /// Requests of so many clients, none of which is answered.
    fn crowd(stage: &mut Stage, clients: usize) {
        for _ in 0..clients {
            let client = stage.client();
            stage.send(client, "GET k");
        }
    }

    fn stage(threads: u32, connections_max: u32) -> Stage {
        let mut stage = Stage::with(Limits::default(), connections_max, &Shared::default());
        stage.threads = threads;
        stage
    }

    #[test]
    fn has_one_upstream_for_a_node_with_one_thread() {
        let mut stage = stage(1, 16);
        crowd(&mut stage, 40);
        assert_eq!(stage.lanes(), 1);
    }

    #[test]
    fn has_as_many_upstreams_as_the_node_has_threads_when_they_are_busy() {
        let mut stage = stage(3, 16);
        crowd(&mut stage, 7);
        assert_eq!(stage.lanes(), 1);
        crowd(&mut stage, 40);
        assert_eq!(stage.lanes(), 3);
    }

    #[test]
    fn asks_again_who_may_know_the_commands_when_it_was_refused() {
        let mut stage = stage(1, 8);
        let client = stage.client();
        assert_eq!(stage.ask(client, "AUTH secret"), "+OK");
        let asked = stage.commands_asked;
        assert!(asked > 1, "asked {asked} times");
    }

    #[test]
    fn leaves_permits_for_others() {
        let mut stage = stage(8, 4);
        crowd(&mut stage, 100);
        assert!(
            stage.connections() < 4,
            "{} connections",
            stage.connections()
        );
    }

    #[test]
    fn leaves_the_last_permit_to_who_waits_for_it() {
        let mut stage = stage(2, 2);
        crowd(&mut stage, 10);
        let second = stage.on("GET k");
        assert_eq!((stage.lanes(), stage.asked(second).as_str()), (2, "GET k"));
        stage.say(second, "$1 v");
        let client = stage.client();
        stage.send(client, "BLPOP k 0");
        let lease = stage.on("BLPOP k 0");
        assert_eq!(stage.asked(lease), "BLPOP k 0");
        assert_eq!(stage.lanes(), 1);
    }
}

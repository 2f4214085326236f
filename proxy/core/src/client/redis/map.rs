//! CLUSTER, as a session of a cluster sees it: one node with all slots, which is the proxy.
//!
//! A client that knows of clusters asks where the slots are, and is told that they are where it
//! asks. Invariant: no client is ever sent to a node behind the proxy's back.

use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use manifold_protocols::redis::cluster::{SLOTS, slot};
use manifold_protocols::redis::command::Command;
use manifold_protocols::redis::resp::inline::write_bulk;
use manifold_protocols::redis::resp::request::Arguments;

use crate::client::redis::errors;
use crate::event::Peer;
use crate::ids::ClientId;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::Version;

impl Redis {
    /// The answer to a subcommand of CLUSTER. None if a node is to be asked.
    pub(crate) fn describe_cluster(
        &self,
        reach: &Reach<'_>,
        id: ClientId,
        len: usize,
        command: &Command,
    ) -> Option<Vec<u8>> {
        let request = &self.clients[id].input.unparsed()[..len];
        let mut words = Arguments::of(request).skip(2);
        let count = Arguments::of(request).count();
        let place = self.place_of_proxy(reach, id);
        let name = command.name.strip_prefix("cluster|")?;
        if !command.takes(count) {
            return Some(errors::arity(&command.name));
        }
        let number = number_of(&reach.service(self.clients[id].service).name);
        Some(match name {
            "slots" => slots(place, &number),
            "shards" => shards(place, &number, self.key_of(id).version),
            "nodes" => self.verbatim(id, &nodes(place, &number)),
            "info" => self.verbatim(id, &self.info(id)),
            "myid" | "myshardid" => bulk(number.as_bytes()),
            "links" => b"*0\r\n".to_vec(),
            "keyslot" => format!(":{}\r\n", slot(words.next()?)).into_bytes(),
            "countkeysinslot" | "getkeysinslot" | "help" | "slot-stats" => return None,
            _ => {
                let service = &reach.service(self.clients[id].service).name;
                errors::refused(service, &command.name)
            }
        })
    }

    /// Where a client finds the proxy: where it is configured to listen, as the client came.
    fn place_of_proxy(&self, reach: &Reach<'_>, id: ClientId) -> Option<SocketAddr> {
        let client = &self.clients[id];
        let roster = reach.service(client.service).cluster.as_ref()?;
        let mut place = roster.announced()?;
        if place.ip().is_unspecified() {
            place.set_ip(match client.peer {
                Peer::Ip(peer) if !peer.ip().to_canonical().is_loopback() => return None,
                Peer::Ip(peer) if peer.is_ipv6() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
            });
        }
        Some(place)
    }

    fn info(&self, id: ClientId) -> String {
        let map = self.map(self.clients[id].service);
        let state = if map.is_complete() { "ok" } else { "fail" };
        let assigned = map.slots_assigned();
        let size = map.primaries().len();
        format!(
            "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
             cluster_slots_ok:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
             cluster_known_nodes:1\r\ncluster_size:{size}\r\ncluster_current_epoch:1\r\n\
             cluster_my_epoch:1\r\n"
        )
    }
}

/// A name for the proxy's one node: the same for the same service, whoever is asked.
fn number_of(service: &str) -> String {
    use sha2::{Digest, Sha256};
    let mut name = String::new();
    for byte in &Sha256::digest(service.as_bytes())[..20] {
        let written = write!(name, "{byte:02x}");
        written.expect("memory takes it");
    }
    name
}

/// Every slot is here. Without a host the client uses the one that it has connected to.
fn slots(place: Option<SocketAddr>, number: &str) -> Vec<u8> {
    let mut reply = format!("*1\r\n*3\r\n:0\r\n:{}\r\n*4\r\n", SLOTS - 1).into_bytes();
    match place {
        Some(place) => write_bulk(&mut reply, place.ip().to_canonical().to_string().as_bytes()),
        None => reply.extend_from_slice(b"$-1\r\n"),
    }
    let port = place.map_or(0, |place| place.port());
    reply.extend_from_slice(format!(":{port}\r\n").as_bytes());
    write_bulk(&mut reply, number.as_bytes());
    reply.extend_from_slice(b"*0\r\n");
    reply
}

fn shards(place: Option<SocketAddr>, number: &str, version: Version) -> Vec<u8> {
    let map = |pairs: usize| match version {
        Version::Two => format!("*{}\r\n", pairs * 2),
        Version::Three => format!("%{pairs}\r\n"),
    };
    let ip = place.map_or(String::new(), |it| it.ip().to_canonical().to_string());
    let port = place.map_or(0, |place| place.port());
    let mut reply = format!("*1\r\n{}", map(2)).into_bytes();
    write_bulk(&mut reply, b"slots");
    reply.extend_from_slice(format!("*2\r\n:0\r\n:{}\r\n", SLOTS - 1).as_bytes());
    write_bulk(&mut reply, b"nodes");
    reply.extend_from_slice(format!("*1\r\n{}", map(7)).as_bytes());
    let texts = [
        ("id", number),
        ("ip", &ip),
        ("endpoint", &ip),
        ("role", "master"),
        ("health", "online"),
    ];
    for (name, text) in texts {
        write_bulk(&mut reply, name.as_bytes());
        write_bulk(&mut reply, text.as_bytes());
    }
    for (name, number) in [("port", port), ("replication-offset", 0)] {
        write_bulk(&mut reply, name.as_bytes());
        reply.extend_from_slice(format!(":{number}\r\n").as_bytes());
    }
    reply
}

fn nodes(place: Option<SocketAddr>, number: &str) -> String {
    let ip = place.map_or(String::new(), |it| it.ip().to_canonical().to_string());
    let port = place.map_or(0, |place| place.port());
    let last = SLOTS - 1;
    format!("{number} {ip}:{port}@{port} myself,master - 0 0 1 connected 0-{last}\n")
}

fn bulk(text: &[u8]) -> Vec<u8> {
    let mut reply = Vec::new();
    write_bulk(&mut reply, text);
    reply
}

//! Nodes as `host:port`: the names of children, or the content of one znode.
//!
//! Pure. The other formats take their places from here. Invariant: a place that comes out has a
//! name that a resolver can be asked for, and a port.

use std::net::{IpAddr, SocketAddr};

use super::view::{Garbage, Znode};
use crate::source::{Node, Place};

/// The longest name that DNS has.
const HOST_BYTES_MAX: usize = 253;

/// Reads a child whose name is `host:port`, or `host`.
pub fn child(znode: &Znode, port_default: u16) -> Result<Option<Node>, Box<str>> {
    written(&znode.name, port_default).map(|place| Some(Node::at(place)))
}

/// Reads a znode that is `host:port,host:port`, on one line or on several.
pub fn data(znode: &Znode, port_default: u16) -> (Vec<Node>, Vec<Garbage>) {
    let (mut nodes, mut garbage) = (Vec::new(), Vec::new());
    let mut skip = |why| {
        let path = znode.path.clone();
        garbage.push(Garbage { path, why });
    };
    let Ok(text) = std::str::from_utf8(&znode.data) else {
        skip("it is no text".into());
        return (nodes, garbage);
    };
    let entries = text.split(|c: char| c == ',' || c.is_whitespace());
    for entry in entries.filter(|entry| !entry.is_empty()) {
        match written(entry, port_default) {
            Ok(place) => nodes.push(Node::at(place)),
            Err(why) => skip(why),
        }
    }
    (nodes, garbage)
}

/// Reads `host:port`, `host`, `[address]:port` or an address without brackets and port.
pub fn written(text: &str, port_default: u16) -> Result<Place, Box<str>> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Place::Ip(SocketAddr::new(ip, port_default)));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        None => u64::from(port_default),
        Some(port) => port
            .parse()
            .map_err(|_| Box::from("its port is no number"))?,
    };
    place(host, port)
}

/// Where a host and a port are.
pub fn place(host: &str, port: u64) -> Result<Place, Box<str>> {
    let port = u16::try_from(port).ok().filter(|&port| port > 0);
    let port = port.ok_or("its port is not from 1 to 65535")?;
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = literal.parse::<IpAddr>() {
        return Ok(Place::Ip(SocketAddr::new(ip, port)));
    }
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    match host.len() {
        0 => Err("it has no host".into()),
        1..=HOST_BYTES_MAX if host.bytes().all(is_fit) => Ok(Place::Name(host.into(), port)),
        _ => Err("its host is no host name".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(nodes: &[Node]) -> Vec<String> {
        nodes.iter().map(|node| node.place.to_string()).collect()
    }

    #[test]
    fn reads_the_name_of_a_child() {
        for (name, place) in [
            ("10.0.0.1:6000", "10.0.0.1:6000"),
            ("db-1.internal:6000", "db-1.internal:6000"),
            ("db-1", "db-1:5432"),
            ("[::1]:7", "[::1]:7"),
            ("::1", "[::1]:5432"),
            ("[::1]", "[::1]:5432"),
        ] {
            let znode = Znode {
                name: name.into(),
                ..Znode::default()
            };
            let node = child(&znode, 5432).unwrap().unwrap();
            assert_eq!(node.place.to_string(), place);
        }
        let long = "x".repeat(254);
        for name in ["", ":7", "db:", "db:x", "db:0", "db:70000", "d b:1", &long] {
            let znode = Znode {
                name: name.into(),
                ..Znode::default()
            };
            assert!(child(&znode, 5432).is_err(), "{name}");
        }
    }

    #[test]
    fn reads_the_content_of_a_znode_and_skips_what_is_no_node() {
        let read = |bytes: &[u8]| {
            let path = "/a".into();
            let znode = Znode {
                data: bytes.into(),
                path,
                ..Znode::default()
            };
            data(&znode, 6379)
        };
        let (nodes, garbage) = read(b"10.0.0.1:7, b\nc:8,");
        assert_eq!(shown(&nodes), ["10.0.0.1:7", "b:6379", "c:8"]);
        assert_eq!(garbage, []);
        let (nodes, garbage) = read(b"10.0.0.1:7,b:x");
        assert_eq!(shown(&nodes), ["10.0.0.1:7"]);
        assert_eq!(&*garbage[0].why, "its port is no number");
        assert_eq!(read(b"").0, []);
        assert_eq!(read(b"\xff\0").1.len(), 1);
    }
}

//! What shards have in common about the nodes of a cluster: the permits of each.
//!
//! Nodes become known while the proxy runs, to each shard by itself, and the limit of connections
//! is one for each node whichever shard opens them. Asked only when a shard comes to know a node.
//! Invariant: for one address there is one count, whoever asks for it.

use core::net::SocketAddr;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::permits::Permits;

/// The lock of this page alone: what is done under it is a look-up in a map.
#[allow(clippy::disallowed_types)] // As in `audience`: shards meet here, and seldom.
type Lock<T> = std::sync::Mutex<T>;

/// Permits by the address of a node.
type Counts = BTreeMap<SocketAddr, Arc<Permits>>;

/// The nodes as one shard knows them, over what all shards know together.
#[derive(Debug)]
pub struct Roster {
    all: Arc<Lock<Counts>>,
    mine: Lock<Counts>,
    connections_max: u32,
    announced: Option<SocketAddr>,
}

impl Roster {
    /// Of a cluster of which no node is known. Clients find it at `announced`, or where they found
    /// it.
    pub fn new(connections_max: u32, announced: Option<SocketAddr>) -> Self {
        Self {
            all: Arc::default(),
            mine: Lock::default(),
            connections_max,
            announced,
        }
    }

    /// Another shard's view of the same nodes.
    pub fn share(&self) -> Self {
        Self {
            all: self.all.clone(),
            ..Self::new(self.connections_max, self.announced)
        }
    }

    /// Where clients find the proxy, by its configuration.
    pub fn announced(&self) -> Option<SocketAddr> {
        self.announced
    }

    /// This shard's ledger of a node's permits.
    pub fn permits(&self, node: SocketAddr) -> Arc<Permits> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all
            .entry(node)
            .or_insert_with(|| Arc::new(Permits::new(self.connections_max)));
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = mine.entry(node).or_insert_with(|| Arc::new(all.share()));
        mine.clone()
    }

    /// Gives back all permits of a shard whose upstreams are gone.
    pub fn return_all(&self) {
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        for permits in mine.values() {
            permits.return_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_node_once_whichever_shard_asks() {
        let one = Roster::new(2, None);
        let other = one.share();
        let node = SocketAddr::from(([127, 0, 0, 1], 7000));
        assert!(one.permits(node).take() && other.permits(node).take());
        assert!(!one.permits(node).take());
        other.return_all();
        assert!(one.permits(node).take());
        let second = SocketAddr::from(([127, 0, 0, 1], 7001));
        assert!(one.permits(second).take(), "another node has its own");
    }
}

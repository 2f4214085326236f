//! A list that is configured: the nodes of a service, or the one there is.
//!
//! Invariant: says one thing, once, and never ends, because what is configured does not change.

use std::future::pending;

use crate::source::{Lead, News, Node, Place, Snapshot, Source, Told};

/// Nodes as they were written.
#[derive(Debug)]
pub struct List {
    /// Where they are.
    pub places: Vec<Place>,
}

impl Source for List {
    async fn follow(mut self, told: Told) {
        self.places.sort();
        self.places.dedup();
        let nodes = self.places.into_iter().map(Node::at).collect();
        let lead = Lead::Unsaid;
        if told.say(News::Nodes(Snapshot { nodes, lead })).await {
            pending::<()>().await;
        }
    }
}

//! ZooKeeper: nodes that are listed in it, in one of several formats.
//!
//! The session reads, the formats say what that means, and this remembers what has been said.
//! Invariants: whatever happens to ZooKeeper, what was known last stands; what cannot be read is
//! skipped and said once, and the rest stands.

mod curator;
mod json;
mod moment;
mod nerve;
mod patroni;
mod plain;
mod serverset;
mod session;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::source::{Lead, News, Node, Snapshot, Source, SourceError, Told};
use crate::upstream::{Format, Zookeeper};
use session::{CHILDREN_MAX, Seen, Session};
use view::{Garbage, Reading, View, Znode};

/// Znodes that are named for what is wrong with them, at one time.
const GARBAGE_SAID_MAX: usize = 16;

/// Nodes that are listed in ZooKeeper.
#[derive(Debug)]
pub struct Registry {
    /// Where, and how they are written.
    pub listed: Zookeeper,
}

impl Source for Registry {
    async fn follow(self, told: Told) {
        let (sender, seen) = mpsc::channel(1);
        let session = Session::new(self.listed.clone(), told.clone(), sender);
        tokio::select! {
            () = session.run() => {}
            () = Known::new(self.listed, told).run(seen) => {}
        }
    }
}

/// What is known, and what of it has been said.
struct Known {
    listed: Zookeeper,
    told: Told,
    /// What ZooKeeper had last.
    view: Option<View>,
    cluster: patroni::Cluster,
    /// The children that could be read, by name, as they were last.
    children: BTreeMap<Box<str>, Option<Node>>,
    /// What was said last.
    said: Option<Snapshot>,
    /// What was said to be wrong.
    garbage: BTreeSet<Garbage>,
    /// It has been said that there is no node.
    is_empty: bool,
}

impl Known {
    fn new(listed: Zookeeper, told: Told) -> Self {
        Self {
            listed,
            told,
            view: None,
            cluster: patroni::Cluster::default(),
            children: BTreeMap::new(),
            said: None,
            garbage: BTreeSet::new(),
            is_empty: false,
        }
    }

    async fn run(mut self, mut seen: mpsc::Receiver<Seen>) {
        let mut again: Option<Instant> = None;
        loop {
            tokio::select! {
                seen = seen.recv() => match seen {
                    Some(Seen::View(view)) => self.view = Some(view),
                    Some(Seen::Trouble(error)) => {
                        if !self.told.say(News::Trouble(error)).await {
                            return;
                        }
                        continue;
                    }
                    None => return,
                },
                () = wait(again) => {}
            }
            let Some(view) = self.view.take() else {
                continue;
            };
            let reading = self.read(&view);
            again = reading.again;
            self.view = Some(view);
            for news in self.news(reading) {
                if !self.told.say(news).await {
                    return;
                }
            }
        }
    }

    /// What a view means.
    fn read(&mut self, view: &View) -> Reading {
        match view {
            View::Cluster {
                leader,
                failover,
                members,
            } => {
                let now = (Instant::now(), SystemTime::now());
                let (leader, failover) = (leader.as_ref(), failover.as_ref());
                self.cluster.take(leader, failover, members, now)
            }
            View::List(children) => self.read_list(children),
            View::One(znode) => {
                let (nodes, garbage) = plain::data(znode, self.listed.port_default);
                listed(nodes, garbage.into_iter().collect())
            }
        }
    }

    fn read_list(&mut self, children: &[Znode]) -> Reading {
        let mut garbage = BTreeSet::new();
        let mut read = BTreeMap::new();
        for child in children.iter().take(CHILDREN_MAX) {
            let node = match self.read_child(child) {
                Ok(node) => node,
                Err(why) => {
                    let path = child.path.clone();
                    garbage.insert(Garbage { path, why });
                    // What it said before stands.
                    match self.children.remove(&child.name) {
                        Some(node) => node,
                        None => continue,
                    }
                }
            };
            read.insert(child.name.clone(), node);
        }
        if children.len() > CHILDREN_MAX {
            garbage.insert(Garbage {
                path: self.listed.path.clone(),
                why: format!("it has more than {CHILDREN_MAX} children; the rest is left out")
                    .into(),
            });
        }
        self.children = read;
        listed(self.children.values().flatten().cloned().collect(), garbage)
    }

    fn read_child(&self, child: &Znode) -> Result<Option<Node>, Box<str>> {
        match self.listed.format {
            Format::Serverset => serverset::member(child, self.listed.endpoint.as_deref()),
            Format::Nerve => nerve::service(child),
            Format::Curator => curator::instance(child),
            Format::Children | Format::Data | Format::Patroni => {
                plain::child(child, self.listed.port_default)
            }
        }
    }

    /// What of a reading has not been said yet. Nodes come first: who waits for them has waited
    /// long enough.
    fn news(&mut self, mut reading: Reading) -> Vec<News> {
        let mut news = Vec::new();
        reading.snapshot.nodes.sort();
        reading
            .snapshot
            .nodes
            .dedup_by(|one, other| one.place == other.place);
        let was_empty = self.is_empty;
        self.is_empty = reading.snapshot.nodes.is_empty();
        if self.is_empty
            && let Some(said) = &self.said
        {
            reading.snapshot.nodes.clone_from(&said.nodes);
        }
        let is_sayable =
            !reading.snapshot.nodes.is_empty() || reading.snapshot.lead == Lead::Nobody;
        if is_sayable && self.said.as_ref() != Some(&reading.snapshot) {
            self.said = Some(reading.snapshot.clone());
            news.push(News::Nodes(reading.snapshot));
        }
        if self.is_empty && !was_empty {
            let path = self.listed.path.clone();
            news.push(News::Trouble(SourceError::NoNodes { path }));
        }
        let fresh = reading.garbage.difference(&self.garbage);
        news.extend(fresh.take(GARBAGE_SAID_MAX).cloned().map(|wrong| {
            let Garbage { path, why } = wrong;
            News::Trouble(SourceError::Znode { path, why })
        }));
        self.garbage = reading.garbage;
        news
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
}

/// A list without a leader.
fn listed(nodes: Vec<Node>, garbage: BTreeSet<Garbage>) -> Reading {
    let lead = Lead::Unsaid;
    Reading {
        snapshot: Snapshot { nodes, lead },
        garbage,
        again: None,
    }
}

#[cfg(test)]
mod tests;

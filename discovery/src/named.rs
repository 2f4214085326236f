//! The names in what a source says, followed in their turn: addresses come out.
//!
//! Sources of any kind may say host names. Each is followed as long as it is said. Invariants: what
//! comes out has no names; a name of which nothing is known yet is left out, and a leader behind
//! such a name is nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::dns::Dns;
use crate::lookup::Repeated;
use crate::source::{Follower, Lead, News, Node, Place, Snapshot, Source, Told, channel};

/// News of all names that may wait to be heard.
const NEWS_WAITING_MAX: usize = 64;

/// A source whose names are followed.
#[derive(Debug)]
pub struct Named<S> {
    /// What says where the nodes are.
    pub source: S,
    /// Name servers; those of this host's configuration if there are none.
    pub nameservers: Box<[SocketAddr]>,
}

/// One name that is followed, until this is dropped.
struct Followed {
    addresses: Vec<SocketAddr>,
    /// Something has been said of it, be it that it cannot be looked up.
    is_heard: bool,
    doubts: std::sync::Arc<tokio::sync::Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Followed {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What is known.
struct State {
    nameservers: Box<[SocketAddr]>,
    /// What the source said last, with names.
    snapshot: Option<Snapshot>,
    names: BTreeMap<Place, Followed>,
    /// News of the names.
    news: mpsc::Sender<(Place, News)>,
    /// What was said last.
    said: Option<Snapshot>,
}

impl<S: Source + 'static> Source for Named<S> {
    async fn follow(self, told: Told) {
        let (inner, mut follower) = channel();
        let task = tokio::spawn(self.source.follow(inner));
        let (news, mut heard) = mpsc::channel(NEWS_WAITING_MAX);
        let mut state = State {
            nameservers: self.nameservers,
            snapshot: None,
            names: BTreeMap::new(),
            news,
            said: None,
        };
        let _ended = AbortOnDrop(task);
        while state.turn(&told, &mut follower, &mut heard).await {}
    }
}

/// Ends a task with whoever holds this.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl State {
    /// Waits for one thing to happen, and says what follows from it. Answers whether anybody
    /// listens.
    async fn turn(
        &mut self,
        told: &Told,
        follower: &mut Follower,
        heard: &mut mpsc::Receiver<(Place, News)>,
    ) -> bool {
        let trouble = tokio::select! {
            news = follower.next() => match news {
                Some(News::Nodes(snapshot)) => {
                    self.take(snapshot);
                    None
                }
                Some(News::Trouble(error)) => Some(error),
                None => return false,
            },
            Some((place, news)) = heard.recv() => self.take_name(&place, news),
            () = told.doubted() => {
                follower.doubts().notify_one();
                for name in self.names.values() {
                    name.doubts.notify_one();
                }
                None
            }
        };
        if let Some(error) = trouble {
            return told.say(News::Trouble(error)).await;
        }
        match self.resolved() {
            Some(snapshot) if self.said.as_ref() != Some(&snapshot) => {
                self.said = Some(snapshot.clone());
                told.say(News::Nodes(snapshot)).await
            }
            _ => true,
        }
    }

    /// The source has said something else: names come and go.
    fn take(&mut self, snapshot: Snapshot) {
        let leader = match &snapshot.lead {
            Lead::Held { place, .. } => Some(place),
            Lead::Unsaid | Lead::Nobody => None,
        };
        let places = snapshot.nodes.iter().map(|node| &node.place).chain(leader);
        let names: Vec<Place> = places
            .filter(|place| matches!(place, Place::Name(..)))
            .cloned()
            .collect();
        self.names.retain(|place, _| names.contains(place));
        for place in names {
            if let Place::Name(host, port) = &place
                && !self.names.contains_key(&place)
            {
                let followed = self.begin(&place, host, *port);
                self.names.insert(place, followed);
            }
        }
        self.snapshot = Some(snapshot);
    }

    fn begin(&self, place: &Place, host: &str, port: u16) -> Followed {
        let (told, mut follower) = channel();
        let doubts = follower.doubts();
        let source = Repeated(Dns::new(host, port, &self.nameservers));
        let (news, place) = (self.news.clone(), place.clone());
        let passing = async move {
            while let Some(heard) = follower.next().await {
                if news.send((place.clone(), heard)).await.is_err() {
                    return;
                }
            }
        };
        Followed {
            addresses: Vec::new(),
            is_heard: false,
            doubts,
            tasks: [tokio::spawn(source.follow(told)), tokio::spawn(passing)],
        }
    }

    /// A name has said something. Answers what is wrong, if anything is.
    fn take_name(&mut self, place: &Place, news: News) -> Option<crate::source::SourceError> {
        let followed = self.names.get_mut(place)?;
        followed.is_heard = true;
        match news {
            News::Nodes(snapshot) => {
                let places = snapshot.nodes.into_iter().map(|node| node.place);
                let address = |place| match place {
                    Place::Ip(address) => Some(address),
                    Place::Name(..) => None,
                };
                followed.addresses = places.filter_map(address).collect();
                None
            }
            News::Trouble(error) => Some(error),
        }
    }

    /// Where a place leads.
    fn addresses(&self, place: &Place) -> Vec<SocketAddr> {
        match place {
            Place::Ip(address) => vec![*address],
            Place::Name(..) => {
                let followed = self.names.get(place);
                followed.map_or_else(Vec::new, |it| it.addresses.clone())
            }
        }
    }

    /// Up to which rank nodes are said. Whoever hears of one goes there and stays: at first, none
    /// is said before those that come before it have been looked up.
    fn rank_max(&self, snapshot: &Snapshot) -> u32 {
        let is_unheard = |node: &&Node| {
            let followed = self.names.get(&node.place);
            followed.is_some_and(|it| !it.is_heard)
        };
        let unheard = snapshot.nodes.iter().filter(is_unheard);
        let first = unheard.map(|node| node.rank).min();
        first.filter(|_| self.said.is_none()).unwrap_or(u32::MAX)
    }

    /// What the source says, with addresses for names. None while that says nothing.
    fn resolved(&self) -> Option<Snapshot> {
        let snapshot = self.snapshot.as_ref()?;
        let rank_max = self.rank_max(snapshot);
        let mut nodes: Vec<Node> = Vec::new();
        for node in snapshot.nodes.iter().filter(|it| it.rank <= rank_max) {
            let addresses = self.addresses(&node.place).into_iter();
            nodes.extend(addresses.map(|address| Node {
                place: Place::Ip(address),
                ..node.clone()
            }));
        }
        nodes.sort();
        let mut places = BTreeSet::new();
        nodes.retain(|node| places.insert(node.place.clone()));
        let lead = match &snapshot.lead {
            Lead::Held { place, term } => match self.addresses(place).first() {
                Some(&address) => Lead::Held {
                    place: Place::Ip(address),
                    term: *term,
                },
                None => Lead::Nobody,
            },
            lead => lead.clone(),
        };
        (!nodes.is_empty() || lead == Lead::Nobody).then_some(Snapshot { nodes, lead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            // Nobody is there: all that is heard the test says itself.
            nameservers: [SocketAddr::from(([127, 0, 0, 1], 9))].into(),
            snapshot: None,
            names: BTreeMap::new(),
            news: mpsc::channel(1).0,
            said: None,
        }
    }

    fn name(host: &str) -> Place {
        Place::Name(host.into(), 1)
    }

    fn ranked(hosts: &[&str]) -> Snapshot {
        let node = |(rank, host): (u32, &&str)| Node {
            rank,
            ..Node::at(name(host))
        };
        Snapshot {
            nodes: (0..).zip(hosts).map(node).collect(),
            lead: Lead::Unsaid,
        }
    }

    fn at(ips: &[&str]) -> News {
        let address = |ip: &&str| Place::Ip(SocketAddr::new(ip.parse().unwrap(), 1));
        News::Nodes(Snapshot {
            nodes: ips.iter().map(address).map(Node::at).collect(),
            lead: Lead::Unsaid,
        })
    }

    fn shown(state: &State) -> Option<Vec<String>> {
        let nodes = state.resolved()?.nodes;
        Some(nodes.iter().map(|node| node.place.to_string()).collect())
    }

    fn within_a_runtime(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn says_no_node_at_first_before_those_that_come_before_it() {
        within_a_runtime(async {
            let mut state = state();
            state.take(ranked(&["z", "y", "x"]));
            assert_eq!(shown(&state), None);
            state.take_name(&name("x"), at(&["10.0.0.1"]));
            assert_eq!(shown(&state), None, "two come before it");
            state.take_name(&name("z"), at(&["10.0.0.9", "10.0.0.8"]));
            let first = ["10.0.0.8:1", "10.0.0.9:1"];
            assert_eq!(shown(&state).unwrap(), first);
            let why = "nobody answered".into();
            let host = "y".into();
            let failed = News::Trouble(crate::source::SourceError::Lookup { host, why });
            assert!(state.take_name(&name("y"), failed).is_some());
            let all = ["10.0.0.8:1", "10.0.0.9:1", "10.0.0.1:1"];
            assert_eq!(shown(&state).unwrap(), all, "in vain waits nobody for it");
            state.said = state.resolved();
            // Whoever is there already does not go because somebody comes.
            state.take(ranked(&["w", "z", "x"]));
            assert_eq!(shown(&state).unwrap(), all);
        });
    }

    #[test]
    fn says_an_address_once_where_it_comes_first() {
        within_a_runtime(async {
            let mut state = state();
            state.take(ranked(&["b", "a"]));
            state.take_name(&name("b"), at(&["10.0.0.2"]));
            state.take_name(&name("a"), at(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
            let once = ["10.0.0.2:1", "10.0.0.1:1", "10.0.0.3:1"];
            assert_eq!(shown(&state).unwrap(), once);
        });
    }
}

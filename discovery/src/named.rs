//! The names in what a source says, followed in their turn: addresses come out.
//!
//! Sources of any kind may say host names. Each is followed as long as it is said. Invariants: what
//! comes out has no names; a name of which nothing is known yet is left out, and a leader behind
//! such a name is nobody.

use std::collections::BTreeMap;
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
            doubts,
            tasks: [tokio::spawn(source.follow(told)), tokio::spawn(passing)],
        }
    }

    /// A name has said something. Answers what is wrong, if anything is.
    fn take_name(&mut self, place: &Place, news: News) -> Option<crate::source::SourceError> {
        let followed = self.names.get_mut(place)?;
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

    /// What the source says, with addresses for names. None while that says nothing.
    fn resolved(&self) -> Option<Snapshot> {
        let snapshot = self.snapshot.as_ref()?;
        let mut nodes: Vec<Node> = Vec::new();
        for node in &snapshot.nodes {
            let addresses = self.addresses(&node.place).into_iter();
            nodes.extend(addresses.map(|address| Node {
                place: Place::Ip(address),
                ..node.clone()
            }));
        }
        nodes.sort();
        nodes.dedup_by(|one, other| one.place == other.place);
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

//! What every source of nodes looks like.
//!
//! Knows no particular source. Invariants: a snapshot is complete in itself, nobody has to remember
//! the one before it; a source that cannot answer says so and leaves the last snapshot standing.

use std::fmt::{Display, Formatter};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

/// Where a node is, as a source has it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// An address.
    Ip(SocketAddr),
    /// A host name and a port: where that leads, another source says.
    Name(Box<str>, u16),
}

/// What a source says of one node. Hints: the node itself is asked before it is believed.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Node {
    /// Its turn when nodes are tried: a lower one comes first.
    pub rank: u32,
    /// Where it is.
    pub place: Place,
    /// What it is, if the source says that.
    pub role: Option<Role>,
    /// Its share of what is spread, relative to the others; 1 unless the source says otherwise.
    pub weight: u32,
    /// Whether reads may go there.
    pub takes_reads: bool,
}

/// What a node is in its cluster.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows the primary.
    Replica,
}

/// Who takes writes, as far as a source knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lead {
    /// The source knows no roles: any node may.
    Unsaid,
    /// Nobody at the moment, or whoever does is about to hand over: writes have to wait.
    Nobody,
    /// This one. The term is another one each time somebody takes the lead, be it the same again.
    Held {
        /// Where the leader is.
        place: Place,
        /// Which leadership it is.
        term: u64,
    },
}

/// The nodes of a service at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// No place twice, in order. Empty only if nobody leads.
    pub nodes: Vec<Node>,
    /// Who takes writes.
    pub lead: Lead,
}

impl Node {
    /// One of which nothing is known but where it is.
    pub fn at(place: Place) -> Self {
        Self {
            rank: 0,
            place,
            role: None,
            weight: 1,
            takes_reads: true,
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// What a source has to say.
#[derive(Debug)]
pub enum News {
    /// The nodes are these from now on. Said once for each change.
    Nodes(Snapshot),
    /// The source has no answer at the moment. What it said before stands. Said once for each spell
    /// of trouble.
    Trouble(SourceError),
}

/// Something that knows where the nodes of one service are.
pub trait Source: Send {
    /// Follows them until the future is dropped or nobody listens any more. Must be polled within a
    /// tokio runtime.
    fn follow(self, told: Told) -> impl Future<Output = ()> + Send;
}

/// Where a source says what it knows, and hears that it should look again.
#[derive(Clone, Debug)]
pub struct Told {
    news: mpsc::Sender<News>,
    doubts: Arc<Notify>,
}

/// News that may wait to be heard.
const NEWS_WAITING_MAX: usize = 16;

/// Where it is heard what a source says, and said that it should look again.
#[derive(Debug)]
pub struct Follower {
    news: mpsc::Receiver<News>,
    doubts: Arc<Notify>,
}

/// Makes the two ends.
pub fn channel() -> (Told, Follower) {
    let (sender, news) = mpsc::channel(NEWS_WAITING_MAX);
    let doubts = Arc::new(Notify::new());
    let told = Told {
        news: sender,
        doubts: doubts.clone(),
    };
    (told, Follower { news, doubts })
}

impl Told {
    /// Says something. Answers whether anybody listens.
    pub async fn say(&self, news: News) -> bool {
        self.news.send(news).await.is_ok()
    }

    /// Ends when somebody doubts what was said last.
    pub async fn doubted(&self) {
        self.doubts.notified().await;
    }
}

impl Follower {
    /// The next news; none when the source has ended.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// What makes the source look again soon.
    pub fn doubts(&self) -> Arc<Notify> {
        self.doubts.clone()
    }
}

/// Why a source has no answer. The environment is to blame, and the source goes on asking.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// What is needed to be let in cannot be read.
    #[error("{path:?} cannot be used: {why}")]
    AuthFile {
        /// The file.
        path: Box<str>,
        /// What is wrong with it.
        why: Box<str>,
    },
    /// No name server gave an answer.
    #[error("looking up {host:?} failed: {why}")]
    Lookup {
        /// The name that was asked for.
        host: Box<str>,
        /// What the resolver said.
        why: Box<str>,
    },
    /// The name has no address.
    #[error("{host:?} has no address")]
    NoAddress {
        /// The name that was asked for.
        host: Box<str>,
    },
    /// There is a list, and nothing in it.
    #[error("{path:?} lists no node")]
    NoNodes {
        /// Where it is.
        path: Box<str>,
    },
    /// The name has no SRV record.
    #[error("{name:?} has no SRV record")]
    NoService {
        /// The name that was asked for.
        name: Box<str>,
    },
    /// No Sentinel can be asked.
    #[error("no Sentinel of {name:?} can be asked: {why}")]
    NoSentinel {
        /// What they call the primary.
        name: Box<str>,
        /// What went wrong with each.
        why: Box<str>,
    },
    /// The service is decidedly not there.
    #[error("{name:?} says that there is no such service: its SRV record's target is \".\"")]
    Unavailable {
        /// The name that was asked for.
        name: Box<str>,
    },
    /// None of the Sentinels that can be asked knows the name.
    #[error("no Sentinel knows a primary called {name:?}")]
    UnknownPrimary {
        /// What they do not know.
        name: Box<str>,
    },
    /// This host's own resolver cannot be set up.
    #[error("the resolver cannot be set up: {why}")]
    Resolver {
        /// What is wrong with its configuration.
        why: Box<str>,
    },
    /// Something in ZooKeeper cannot be read, or not understood.
    #[error("the znode {path:?} is left out: {why}")]
    Znode {
        /// What it is called there.
        path: Box<str>,
        /// What is wrong with it.
        why: Box<str>,
    },
    /// Nothing can be read in ZooKeeper.
    #[error("ZooKeeper at {cluster} cannot be asked: {why}")]
    Zookeeper {
        /// Its addresses.
        cluster: Box<str>,
        /// What happened.
        why: Box<str>,
    },
}

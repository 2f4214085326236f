//! What every source of addresses looks like.
//!
//! Knows no particular source. Invariants: a snapshot is complete in itself, nobody has to remember
//! the one before it; a source that cannot answer says so and leaves the last snapshot standing.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

/// The nodes of a service at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// Their addresses, none of them twice, never empty. The order means nothing.
    pub addresses: Vec<SocketAddr>,
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

/// The other end of [`Told`].
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
    /// This host's own resolver cannot be set up.
    #[error("the resolver cannot be set up: {why}")]
    Resolver {
        /// What is wrong with its configuration.
        why: Box<str>,
    },
}

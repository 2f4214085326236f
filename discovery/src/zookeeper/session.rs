//! The connection to ZooKeeper: reads what a format needs, and reads it again whenever it changes.
//!
//! Watches are of the kind that fires once and are set anew by each reading, because the library
//! loses the others when it reconnects. A connection that is lost ends its session here: the
//! library would reconnect after pauses that double without end, and an expired session cannot be
//! mended, so new ones are begun for ever. Invariants: what comes out was read whole; trouble is
//! said once until something has been read.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};
use zookeeper_client::{Client, Error, OneshotWatcher, SessionState, Stat};

use super::serverset;
use super::view::{View, Znode};
use crate::source::{SourceError, Told};
use crate::upstream::{Format, Zookeeper};

/// What we ask for; ZooKeeper may have bounds of its own.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one address may take to answer.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// After a failure; doubles up to the other.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Between readings because of doubts, which come in storms.
const DOUBTS_GAP: Duration = Duration::from_millis(100);

/// Between readings because of changes, which come in bursts.
const CHANGES_GAP: Duration = Duration::from_millis(5);

/// Readings that nobody asked for, lest a watch was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Children of one znode that are read. More are no list of nodes.
pub const CHILDREN_MAX: usize = 1024;

/// The largest file with a secret, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What a session has found.
#[derive(Debug)]
pub enum Seen {
    /// All that the format needs.
    View(View),
    /// Nothing can be read at the moment.
    Trouble(SourceError),
}

/// Sessions with ZooKeeper, one after the other.
#[derive(Debug)]
pub struct Session {
    listed: Zookeeper,
    told: Told,
    seen: mpsc::Sender<Seen>,
    /// The kind of trouble that has been said, until something has been read.
    troubled: Option<Discriminant<SourceError>>,
    retry: Duration,
}

/// Nobody listens any more.
struct Unheard;

/// What could not be done, and with what.
type Failed = (Box<str>, Error);

impl Session {
    /// Follows what is listed there.
    pub fn new(listed: Zookeeper, told: Told, seen: mpsc::Sender<Seen>) -> Self {
        Self {
            listed,
            told,
            seen,
            troubled: None,
            retry: RETRY_MIN,
        }
    }

    /// Begins sessions until nobody listens any more.
    pub async fn run(mut self) {
        loop {
            let ended = match self.connect().await {
                Ok(client) => self.follow(&client).await,
                Err(error) => self.fail(error).await,
            };
            if ended.is_err() {
                return;
            }
            sleep(self.retry).await;
            self.retry = (self.retry * 2).min(RETRY_MAX);
        }
    }

    async fn connect(&self) -> Result<Client, SourceError> {
        let mut connector = Client::connector()
            .with_session_timeout(SESSION_TIMEOUT)
            .with_connection_timeout(CONNECT_TIME_MAX)
            .with_fail_eagerly();
        if let Some(path) = &self.listed.auth_file {
            connector = connector.with_auth("digest", secret(path).await?.as_bytes());
        }
        let cluster = self.listed.cluster();
        match tokio::time::timeout(SESSION_TIMEOUT, connector.connect(&cluster)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(self.lost(error.to_string())),
            Err(_) => Err(self.lost("it does not answer".into())),
        }
    }

    /// Follows until the session has ended.
    async fn follow(&mut self, client: &Client) -> Result<(), Unheard> {
        let mut states = client.state_watcher();
        // Those of the last reading stand until the next one has set its own.
        let mut watches = JoinSet::new();
        loop {
            let began = Instant::now();
            let mut reading = Reader::new(client);
            let read = tokio::select! {
                read = reading.read(&self.listed) => read,
                state = states.changed() => match self.hear(state).await? {
                    true => return Ok(()),
                    false => continue,
                },
            };
            let mut pause = LOOK_AGAIN;
            match read {
                Ok(view) => {
                    watches = reading.watches;
                    self.troubled = None;
                    self.retry = RETRY_MIN;
                    self.say(Seen::View(view)).await?;
                }
                Err((path, error)) => {
                    self.fail(self.wrong(path, &error)).await?;
                    if !matches!(error, Error::NoNode | Error::NoAuth) {
                        return Ok(());
                    }
                    pause = RETRY_MAX.min(self.retry);
                    self.retry = (self.retry * 2).min(RETRY_MAX);
                }
            }
            let gap = tokio::select! {
                Some(_) = watches.join_next() => CHANGES_GAP,
                () = self.told.doubted() => DOUBTS_GAP,
                () = sleep(pause) => CHANGES_GAP,
                state = states.changed() => match self.hear(state).await? {
                    true => return Ok(()),
                    false => CHANGES_GAP,
                },
            };
            let_pass(gap, began, &mut watches).await;
        }
    }

    /// The session is in another state. Answers whether it is over.
    async fn hear(&mut self, state: SessionState) -> Result<bool, Unheard> {
        let why = match state {
            SessionState::SyncConnected | SessionState::ConnectedReadOnly => return Ok(false),
            SessionState::Disconnected => "the connection is lost",
            SessionState::Expired => "the session has expired",
            SessionState::AuthFailed => "it does not let this user in",
            _ => "the session has ended",
        };
        self.fail(self.lost(why.to_owned())).await?;
        Ok(true)
    }

    /// Says that nothing can be read, unless that has been said. Words differ from one attempt to
    /// the next, so only another kind of trouble is news.
    async fn fail(&mut self, error: SourceError) -> Result<(), Unheard> {
        let kind = Some(discriminant(&error));
        match std::mem::replace(&mut self.troubled, kind) == kind {
            true => self.check(),
            false => self.say(Seen::Trouble(error)).await,
        }
    }

    async fn say(&self, seen: Seen) -> Result<(), Unheard> {
        self.seen.send(seen).await.map_err(|_| Unheard)
    }

    fn check(&self) -> Result<(), Unheard> {
        match self.seen.is_closed() {
            true => Err(Unheard),
            false => Ok(()),
        }
    }

    fn lost(&self, why: String) -> SourceError {
        SourceError::Zookeeper {
            cluster: self.listed.cluster().into(),
            why: why.into(),
        }
    }

    /// What an error means: of the znode, or of ZooKeeper.
    fn wrong(&self, path: Box<str>, error: &Error) -> SourceError {
        let why = match error {
            Error::NoNode => "it does not exist",
            Error::NoAuth => "reading it is not allowed without (another) auth_file",
            other => return self.lost(other.to_string()),
        };
        SourceError::Znode {
            path,
            why: why.into(),
        }
    }
}

/// Lets a gap between readings pass. What has changed does not wait for as long as doubts do: there
/// are some all the time when a leader dies, and then everybody waits for the next one's name.
async fn let_pass(gap: Duration, began: Instant, watches: &mut JoinSet<()>) {
    tokio::select! {
        () = sleep_until((began + gap).into()) => {}
        Some(_) = watches.join_next() => sleep_until((began + CHANGES_GAP).into()).await,
    }
}

/// Reads `user:password` from a file, anew for each session, because secrets change.
async fn secret(path: &str) -> Result<String, SourceError> {
    let wrong = |why: String| SourceError::AuthFile {
        path: path.into(),
        why: why.into(),
    };
    let read = async {
        let len = tokio::fs::metadata(path).await?.len();
        match len > SECRET_BYTES_MAX {
            true => Err(std::io::Error::other("it is larger than 64 KiB")),
            false => tokio::fs::read_to_string(path).await,
        }
    };
    let text = read.await.map_err(|error| wrong(error.to_string()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    match secret.contains(':') && !secret.contains('\n') {
        true => Ok(secret.to_owned()),
        false => Err(wrong("it is not one line of user:password".into())),
    }
}

/// One reading, and the watches that it set.
struct Reader<'a> {
    client: &'a Client,
    watches: JoinSet<()>,
}

impl<'a> Reader<'a> {
    fn new(client: &'a Client) -> Self {
        let watches = JoinSet::new();
        Self { client, watches }
    }

    /// Reads all that the format needs.
    async fn read(&mut self, listed: &Zookeeper) -> Result<View, Failed> {
        let base = &*listed.path;
        Ok(match listed.format {
            Format::Patroni => View::Cluster {
                leader: self.optional(&format!("{base}/leader")).await?,
                failover: self.optional(&format!("{base}/failover")).await?,
                members: self.contents(&format!("{base}/members"), |_| true).await?,
            },
            Format::Children => View::List(self.names(base).await?),
            Format::Data => match self.optional(base).await? {
                Some(znode) => View::One(znode),
                None => return Err((base.into(), Error::NoNode)),
            },
            Format::Serverset => {
                let is_member = |name: &str| name.starts_with(serverset::PREFIX);
                View::List(self.contents(base, is_member).await?)
            }
            Format::Curator | Format::Nerve => View::List(self.contents(base, |_| true).await?),
        })
    }

    fn watch(&mut self, watcher: OneshotWatcher) {
        self.watches.spawn(async move {
            watcher.changed().await;
        });
    }

    /// Reads a znode that may not be there, and watches for it either way.
    async fn optional(&mut self, path: &str) -> Result<Option<Znode>, Failed> {
        let failed = |error| (path.into(), error);
        match self.client.get_and_watch_data(path).await {
            Ok((data, stat, watcher)) => {
                self.watch(watcher);
                Ok(Some(znode(path, data, &stat)))
            }
            Err(Error::NoNode) => {
                let found = self.client.check_and_watch_stat(path).await;
                let (stat, watcher) = found.map_err(failed)?;
                match stat {
                    None => self.watch(watcher),
                    // It has come meanwhile, and is read when this reading has been told of.
                    Some(_) => _ = self.watches.spawn(async {}),
                }
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the names of a znode's children.
    async fn names(&mut self, path: &str) -> Result<Vec<Znode>, Failed> {
        let found = self.client.get_and_watch_children(path).await;
        let (mut names, _, watcher) = found.map_err(|error| (path.into(), error))?;
        self.watch(watcher);
        names.sort();
        let child = |name: String| Znode {
            path: format!("{path}/{name}").into(),
            name: name.into(),
            ..Znode::default()
        };
        Ok(names.into_iter().map(child).collect())
    }

    /// Reads a znode's children, those of them that are wanted.
    async fn contents(
        &mut self,
        path: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Znode>, Failed> {
        let mut children = self.names(path).await?;
        children.retain(|child| is_wanted(&child.name));
        // One more than that says that there are too many.
        children.truncate(CHILDREN_MAX + 1);
        // All are asked for before the first answer is waited for.
        let client = self.client;
        let asked: Vec<_> = children
            .iter()
            .map(|child| client.get_and_watch_data(&child.path))
            .collect();
        let mut found = Vec::with_capacity(asked.len());
        for (child, answer) in children.iter().zip(asked) {
            match answer.await {
                Ok((data, stat, watcher)) => {
                    self.watch(watcher);
                    found.push(znode(&child.path, data, &stat));
                }
                // It has gone meanwhile.
                Err(Error::NoNode) => {}
                Err(error) => return Err((child.path.clone(), error)),
            }
        }
        Ok(found)
    }
}

fn znode(path: &str, data: Vec<u8>, stat: &Stat) -> Znode {
    Znode {
        path: path.into(),
        name: path.rsplit('/').next().unwrap_or_default().into(),
        data,
        created: stat.czxid.unsigned_abs(),
        modified: stat.mzxid.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_change_at_once_though_there_are_doubts() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let began = Instant::now();
            let mut watches = JoinSet::new();
            watches.spawn(sleep(CHANGES_GAP));
            // One that does not fire.
            watches.spawn(std::future::pending());
            let_pass(Duration::from_secs(60), began, &mut watches).await;
            assert!(began.elapsed() < Duration::from_secs(30));
            let began = Instant::now();
            let_pass(DOUBTS_GAP, began, &mut watches).await;
            assert!(began.elapsed() >= DOUBTS_GAP, "nothing has changed");
            let began = Instant::now();
            let_pass(DOUBTS_GAP, began, &mut JoinSet::new()).await;
            assert!(began.elapsed() >= DOUBTS_GAP, "nothing is watched");
        });
    }
}

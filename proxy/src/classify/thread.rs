//! The thread that classifies, beside the shards.
//!
//! Holds the catalogs and a queue of questions. Knows no socket; answers go through a callback.
//! Invariant: every question is answered once, in order, even if answering it panics.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use manifold_core::ids::{DatabaseId, ShardId};
use manifold_core::proof::{Reason, Verdict};

use super::{Catalog, CatalogError, classify};

/// The stack of the thread, in bytes: the parser and the walks descend with the text's
/// nesting, within the bounds of `grammar` to less than half of it.
const STACK_BYTES: usize = 128 << 20;

/// Questions that may wait. Shards ask for each shape once, so more is a flood of new shapes.
pub const REQUESTS_MAX: usize = 4_096;

/// What a shard asks.
#[derive(Debug)]
pub enum Request {
    /// Take a catalog in, in place of the one before.
    Catalog {
        /// Who asks.
        shard: ShardId,
        /// Whose catalog.
        database: DatabaseId,
        /// The rows of the catalog query, one a line.
        lines: Vec<u8>,
    },
    /// Say what a text does.
    Classify {
        /// Who asks.
        shard: ShardId,
        /// Comes back with the answer.
        ticket: u64,
        /// Whose catalog decides.
        database: DatabaseId,
        /// The text.
        text: Arc<[u8]>,
    },
}

/// What a shard is told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A catalog has been taken in, or has been understood not at all, and why.
    Catalog {
        /// Whose catalog.
        database: DatabaseId,
        /// What is wrong with it, if anything.
        result: Result<(), CatalogError>,
    },
    /// What a text does.
    Verdict {
        /// The ticket of the question.
        ticket: u64,
        /// The answer.
        verdict: Arc<Verdict>,
    },
}

/// A running thread. It ends when this is dropped and all questions are answered.
#[derive(Debug)]
pub struct Classifier {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Classifier {
    /// Starts the thread; it calls `answer` with each answer, which must not block.
    pub fn spawn(answer: impl Fn(ShardId, Answer) + Send + 'static) -> io::Result<Self> {
        let (requests, queue) = sync_channel(REQUESTS_MAX);
        let thread = Builder::new()
            .name("classify".into())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&queue, &answer))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Asks. Gives the question back if too many wait already or the thread has ended; the asker
    /// then takes the text for opaque.
    pub fn ask(&self, request: Request) -> Result<(), Request> {
        let Some(requests) = &self.requests else {
            return Err(request);
        };
        requests.try_send(request).map_err(|error| match error {
            TrySendError::Disconnected(request) | TrySendError::Full(request) => request,
        })
    }

    /// A way to ask for another thread.
    pub fn sender(&self) -> Option<SyncSender<Request>> {
        self.requests.clone()
    }
}

impl Drop for Classifier {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // It catches its panics; one that got away has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

type Catalogs = BTreeMap<(ShardId, DatabaseId), Catalog>;

fn run(queue: &Receiver<Request>, answer: &impl Fn(ShardId, Answer)) {
    let mut catalogs = Catalogs::new();
    for request in queue {
        let (shard, reply) = reply(&mut catalogs, request);
        answer(shard, reply);
    }
}

fn reply(catalogs: &mut Catalogs, request: Request) -> (ShardId, Answer) {
    match request {
        Request::Catalog {
            shard,
            database,
            lines,
        } => {
            let result = take(catalogs, (shard, database), &lines);
            (shard, Answer::Catalog { database, result })
        }
        Request::Classify {
            shard,
            ticket,
            database,
            text,
        } => {
            let catalog = catalogs.get(&(shard, database));
            let verdict = catch_unwind(AssertUnwindSafe(|| classify(&text, catalog)));
            let verdict = verdict.unwrap_or_else(|_| Verdict::opaque(Reason::Complexity));
            (
                shard,
                Answer::Verdict {
                    ticket,
                    verdict: Arc::new(verdict),
                },
            )
        }
    }
}

fn take(
    catalogs: &mut Catalogs,
    key: (ShardId, DatabaseId),
    lines: &[u8],
) -> Result<(), CatalogError> {
    // Nothing of the old one counts any more, whatever becomes of the new one.
    catalogs.remove(&key);
    let read = catch_unwind(AssertUnwindSafe(|| Catalog::from_lines(lines)));
    let catalog = read.unwrap_or(Err(CatalogError::NoHead))?;
    catalogs.insert(key, catalog);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use manifold_core::proof::Statement;

    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn text(ticket: u64, database: u32) -> Request {
        Request::Classify {
            shard: SHARD,
            ticket,
            database: DatabaseId(database),
            text: Arc::from(&b"SELECT 1 + 1"[..]),
        }
    }

    fn lines(database: u32, lines: &str) -> Request {
        Request::Catalog {
            shard: SHARD,
            database: DatabaseId(database),
            lines: lines.into(),
        }
    }

    /// What the thread says to these, in words.
    fn answers(requests: Vec<Request>) -> Vec<String> {
        let (told, heard) = channel();
        let tell = move |shard, answer| {
            assert_eq!(shard, SHARD);
            let word = match answer {
                Answer::Catalog { database, result } => {
                    format!("{} {}", database.0, result.is_ok())
                }
                Answer::Verdict { ticket, verdict } => match &*verdict.statements {
                    [Statement::Read] => format!("{ticket} read"),
                    [Statement::Opaque(reason)] => format!("{ticket} {reason:?}"),
                    other => format!("{ticket} {other:?}"),
                },
            };
            drop(told.send(word));
        };
        let classifier = Classifier::spawn(tell).expect("a thread can be started");
        for request in requests {
            classifier.ask(request).expect("there is room");
        }
        drop(classifier);
        heard.iter().collect()
    }

    const HEAD: &str = r#"{"is":"head","strings":"on","temporary":false}"#;

    #[test]
    fn answers_in_order_by_the_catalog_of_each_database() {
        let requests = vec![text(1, 0), lines(0, HEAD), text(2, 0), text(3, 1)];
        assert_eq!(
            answers(requests),
            ["1 CatalogUnknown", "0 true", "2 read", "3 CatalogUnknown"]
        );
    }

    #[test]
    fn forgets_a_catalog_when_its_successor_is_not_understood() {
        let requests = vec![lines(0, HEAD), text(1, 0), lines(0, "nonsense"), text(2, 0)];
        assert_eq!(
            answers(requests),
            ["0 true", "1 read", "0 false", "2 CatalogUnknown"]
        );
    }

    #[test]
    fn gives_a_request_back_when_too_many_wait() {
        let (go, wait) = channel::<()>();
        let classifier =
            Classifier::spawn(move |_, _| wait.recv().unwrap_or_default()).expect("it starts");
        let mut given_back = 0;
        for ticket in 0..REQUESTS_MAX as u64 + 10 {
            given_back += usize::from(classifier.ask(text(ticket, 0)).is_err());
        }
        assert!((9..=10).contains(&given_back), "{given_back}");
        drop(go);
    }
}

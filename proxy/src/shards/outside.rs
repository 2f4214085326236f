//! What a shard reaches beyond its own thread: the classifier, the resolver and the other shards.
//!
//! Nothing here waits. Invariant: every question is answered, at once if nobody can be asked.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use manifold_core::event::{Lead, Message};
use manifold_core::ids::{DatabaseId, ServiceId, ShardId};
use manifold_core::proof::{Reason, Verdict};
use manifold_drivers::Driver;
use tokio::sync::mpsc;

use super::mailbox::{Answer, Letter, Life, Mailbox};
use crate::classify::{self, Request};

/// A name that a shard wants looked up; the answer goes into its mailbox.
#[derive(Debug)]
pub struct Lookup {
    /// Which core asks.
    pub life: Life,
    /// Whose name.
    pub service: ServiceId,
    /// Where the answer goes.
    pub reply: Mailbox,
}

/// The way out of one shard.
#[derive(Debug)]
pub struct Outside {
    id: ShardId,
    ways: Ways,
    own: Mailbox,
}

/// What all shards reach.
#[derive(Clone, Debug)]
pub struct Ways {
    /// All shards, by number.
    pub mailboxes: Arc<[Mailbox]>,
    /// The thread that classifies.
    pub classifier: SyncSender<Request>,
    /// The control thread, for names.
    pub lookups: mpsc::Sender<Lookup>,
}

impl Outside {
    /// The way out of shard `id`.
    pub fn new(id: ShardId, ways: Ways) -> Self {
        let own = ways.mailboxes[id.index()].clone();
        Self { id, ways, own }
    }

    /// Asks what a statement does. Too many such questions at once leave it unproven.
    pub fn classify(
        &self,
        life: Life,
        ticket: u64,
        database: DatabaseId,
        text: Arc<[u8]>,
    ) -> Option<Answer> {
        let shard = life.asker(self.id);
        let request = Request::Classify {
            shard,
            ticket,
            database,
            text,
        };
        let is_asked = self.ways.classifier.try_send(request).is_ok();
        let verdict = || Arc::new(Verdict::opaque(Reason::Complexity));
        (!is_asked).then(|| Answer::Classified(ticket, verdict()))
    }

    /// Hands a catalog over.
    pub fn read_catalog(&self, life: Life, database: DatabaseId, lines: Vec<u8>) -> Option<Answer> {
        let shard = life.asker(self.id);
        let request = Request::Catalog {
            shard,
            database,
            lines,
        };
        let is_asked = self.ways.classifier.try_send(request).is_ok();
        (!is_asked).then_some(Answer::CatalogReady(database, false))
    }

    /// Asks for the addresses of a service. Too many such questions at once have no answer.
    pub fn resolve(&self, life: Life, service: ServiceId) -> Option<Answer> {
        let lookup = Lookup {
            life,
            service,
            reply: self.own.clone(),
        };
        let is_asked = self.ways.lookups.try_send(lookup).is_ok();
        (!is_asked).then_some(Answer::Resolved(service, Lead::Unknown))
    }

    /// Tells another shard something, if it exists and has room for it.
    pub fn tell(&self, driver: &mut Driver, shard: ShardId, message: Message) {
        let asker = match &message {
            Message::Cancel { shard, client, .. } => Some((*shard, *client)),
            _ => None,
        };
        let is_told = match self.ways.mailboxes.get(shard.index()) {
            Some(mailbox) => mailbox.try_send(Letter::FromShard(message), driver),
            // A key that nobody was given may name any shard.
            None => false,
        };
        if is_told {
            return;
        }
        if shard.index() < self.ways.mailboxes.len() {
            tracing::warn!(
                shard = shard.0,
                "a message was dropped: the mailbox of the shard is full"
            );
        }
        if let Some((asker, client)) = asker
            && let Some(mailbox) = self.ways.mailboxes.get(asker.index())
        {
            // Whoever asked waits for the end of the connection.
            mailbox.try_send(Letter::FromShard(Message::CancelTaken { client }), driver);
        }
    }
}

/// Brings what the classifier says to the core that asked.
pub fn deliver(mailboxes: &[Mailbox], asker: ShardId, answer: classify::Answer) {
    let (shard, life) = Life::of_asker(asker);
    let answer = match answer {
        classify::Answer::Catalog { database, result } => {
            if let Err(error) = &result {
                tracing::warn!(shard = shard.0, "a catalog was not understood: {error}");
            }
            Answer::CatalogReady(database, result.is_ok())
        }
        classify::Answer::Verdict { ticket, verdict } => Answer::Classified(ticket, verdict),
    };
    mailboxes[shard.index()].send(Letter::Answer(life, answer));
}

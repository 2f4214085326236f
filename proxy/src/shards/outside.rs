//! What a shard reaches beyond its own thread: the classifier, the resolver and the other shards.
//!
//! Nothing here waits. Invariant: every question is answered, at once if nobody can be asked.

use std::sync::Arc;

use manifold_core::event::Message;
use manifold_core::ids::{DatabaseId, ServiceId, ShardId};
use manifold_core::proof::{Reason, Verdict};
use tokio::sync::mpsc;

use super::mailbox::{Answer, Letter, Life, Mailbox};

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
    /// All shards, this one too, by number.
    mailboxes: Arc<[Mailbox]>,
    own: Mailbox,
    lookups: mpsc::Sender<Lookup>,
}

impl Outside {
    /// The way out of shard `id`.
    pub fn new(id: ShardId, mailboxes: Arc<[Mailbox]>, lookups: mpsc::Sender<Lookup>) -> Self {
        let own = mailboxes[id.index()].clone();
        Self {
            mailboxes,
            own,
            lookups,
        }
    }

    /// Asks what a statement does.
    pub fn classify(
        &self,
        _life: Life,
        ticket: u64,
        _database: DatabaseId,
        _text: Arc<[u8]>,
    ) -> Option<Answer> {
        let verdict = Arc::new(Verdict::opaque(Reason::CatalogUnknown));
        Some(Answer::Classified(ticket, verdict))
    }

    /// Hands a catalog over.
    pub fn read_catalog(
        &self,
        _life: Life,
        database: DatabaseId,
        _lines: Vec<u8>,
    ) -> Option<Answer> {
        Some(Answer::CatalogReady(database, false))
    }

    /// Asks for the addresses of a service. Too many such questions at once have no answer.
    pub fn resolve(&self, life: Life, service: ServiceId) -> Option<Answer> {
        let lookup = Lookup {
            life,
            service,
            reply: self.own.clone(),
        };
        let is_asked = self.lookups.try_send(lookup).is_ok();
        (!is_asked).then(|| Answer::Resolved(service, Vec::new()))
    }

    /// Tells another shard something, if it exists and has room for it.
    pub fn tell(&self, shard: ShardId, message: Message) {
        if let Some(mailbox) = self.mailboxes.get(shard.index())
            && !mailbox.try_send(Letter::FromShard(message))
        {
            tracing::warn!(
                shard = shard.0,
                "a message was dropped: the mailbox of the shard is full"
            );
        }
    }
}

//! Follows where the nodes of all services are, and tells the shards who takes writes.
//!
//! One task for each service, which listens to its source. Knows what was said last, and no node.
//! Invariants: a shard that asks is answered, with nothing only while nothing is known and the
//! source says that it cannot know; what was known once stands until there is something else.

use std::net::SocketAddr;
use std::sync::Arc;

use manifold_core::event::{Address, Lead};
use manifold_core::ids::ServiceId;
use manifold_discovery::{self as discovery, Follower, News, Place, Snapshot};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::shards::{Answer, Letter, Lookup, Mailbox};

/// Questions of shards that may wait for one service.
const LOOKUPS_WAITING_MAX: usize = 1024;

/// Begins to follow all services, and hands each question to whom it is for as long as anybody may
/// ask.
pub async fn follow(
    config: Config,
    mailboxes: Arc<[Mailbox]>,
    mut lookups: mpsc::Receiver<Lookup>,
) {
    let services = config.services.iter().zip(0..);
    let services: Vec<_> = services
        .map(|(service, index)| {
            let (sender, asked) = mpsc::channel(LOOKUPS_WAITING_MAX);
            let whereabouts = &service.upstream.whereabouts;
            if let Some(follower) = discovery::follow(whereabouts, &config.nameservers) {
                let known = Known {
                    service: ServiceId(index),
                    name: service.name.clone(),
                    lead: Lead::Unknown,
                    pending: Vec::new(),
                    is_troubled: false,
                    mailboxes: mailboxes.clone(),
                };
                tokio::spawn(known.run(follower, asked));
            }
            sender
        })
        .collect();
    while let Some(lookup) = lookups.recv().await {
        let service = lookup.service.index();
        // Whoever does not get in has asked a thousand times already.
        let _ = services[service].try_send(lookup);
    }
}

/// What is known of one service.
struct Known {
    service: ServiceId,
    name: Arc<str>,
    /// What the shards were told last.
    lead: Lead,
    /// Shards that wait for the first answer.
    pending: Vec<Lookup>,
    /// The source has said that it has no answer.
    is_troubled: bool,
    mailboxes: Arc<[Mailbox]>,
}

impl Known {
    async fn run(mut self, mut follower: Follower, mut asked: mpsc::Receiver<Lookup>) {
        loop {
            tokio::select! {
                Some(news) = follower.next() => self.hear(news),
                lookup = asked.recv() => match lookup {
                    Some(lookup) => {
                        follower.doubts().notify_one();
                        self.answer(lookup);
                    }
                    None => return,
                },
            }
        }
    }

    fn hear(&mut self, news: News) {
        let name = &self.name;
        match news {
            News::Nodes(snapshot) => {
                self.is_troubled = false;
                let lead = lead(&snapshot);
                if lead != self.lead {
                    tracing::info!("service {name:?}: {}", Said(&lead));
                    self.lead = lead;
                    self.publish();
                }
            }
            News::Trouble(error) => {
                let stands = match self.lead {
                    Lead::Among(_) => "; what was known stands",
                    Lead::Nobody | Lead::Unknown => "",
                };
                tracing::warn!("service {name:?}: {error}{stands}");
                self.is_troubled = true;
            }
        }
        for lookup in std::mem::take(&mut self.pending) {
            self.reply(&lookup);
        }
    }

    /// Tells all shards.
    fn publish(&self) {
        for mailbox in &*self.mailboxes {
            mailbox.send(Letter::Nodes(self.service, self.lead.clone()));
        }
    }

    /// A shard asks: because it knows nothing yet, or because a connection failed.
    fn answer(&mut self, lookup: Lookup) {
        match self.lead == Lead::Unknown && !self.is_troubled {
            true => self.pending.push(lookup),
            false => self.reply(&lookup),
        }
    }

    fn reply(&self, lookup: &Lookup) {
        let answer = Answer::Resolved(lookup.service, self.lead.clone());
        lookup.reply.send(Letter::Answer(lookup.life, answer));
    }
}

/// Who takes writes, by what a source says.
fn lead(snapshot: &Snapshot) -> Lead {
    let all = snapshot.nodes.iter().map(|node| &node.place);
    let among = |places: Vec<&Place>| {
        let addresses: Vec<_> = places.into_iter().filter_map(address).collect();
        match addresses.is_empty() {
            true => Lead::Nobody,
            false => Lead::Among(addresses.into_iter().map(Address::Ip).collect()),
        }
    };
    match &snapshot.lead {
        discovery::Lead::Unsaid => among(all.collect()),
        discovery::Lead::Held { place, .. } => among(vec![place]),
        discovery::Lead::Nobody => Lead::Nobody,
    }
}

fn address(place: &Place) -> Option<SocketAddr> {
    match place {
        Place::Ip(address) => Some(*address),
        Place::Name(..) => None,
    }
}

/// What the log says of it.
struct Said<'a>(&'a Lead);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Lead::Among(addresses) => {
                let shown: Vec<_> = addresses.iter().map(Address::to_string).collect();
                write!(f, "its requests go to {}", shown.join(", "))
            }
            Lead::Nobody => f.write_str("nobody takes writes at the moment; they wait"),
            Lead::Unknown => f.write_str("nothing is known of its nodes"),
        }
    }
}

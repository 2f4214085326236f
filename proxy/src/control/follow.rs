//! Follows the names of all services, and tells the shards where they lead.
//!
//! One task for each service with a name; each place behind it (a host of several, say) is followed
//! by a source of its own. Knows what was said last, and no node. Invariants: a shard that asks is
//! answered, with nothing only while nothing is known and the source says that it cannot know; what
//! was known once stands until there is something else.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use manifold_core::event::Address;
use manifold_core::ids::ServiceId;
use manifold_discovery::{Dns, News, Resolver, Source, Whereabouts, channel};
use tokio::sync::{Notify, mpsc};

use crate::config::Config;
use crate::shards::{Answer, Letter, Lookup, Mailbox};

/// News of all places of a service that may wait to be heard.
const NEWS_WAITING_MAX: usize = 64;

/// Questions of shards that may wait for one service.
const LOOKUPS_WAITING_MAX: usize = 1024;

/// Begins to follow all names, and hands each question to whom it is for as long as anybody may
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
            let names = Names {
                service: ServiceId(index),
                name: service.name.clone(),
                places: Vec::new(),
                doubts: Vec::new(),
                pending: Vec::new(),
                is_troubled: false,
                mailboxes: mailboxes.clone(),
            };
            let places = places_of(&service.upstream.whereabouts);
            tokio::spawn(names.run(places, config.nameservers.clone(), asked));
            sender
        })
        .collect();
    while let Some(lookup) = lookups.recv().await {
        let service = lookup.service.index();
        // Whoever does not get in has asked a thousand times already.
        let _ = services[service].try_send(lookup);
    }
}

/// One place that is configured.
enum Place {
    Literal(SocketAddr),
    Name(Box<str>, u16),
}

fn places_of(whereabouts: &Whereabouts) -> Vec<Place> {
    match whereabouts {
        Whereabouts::Ip(address) => vec![Place::Literal(*address)],
        Whereabouts::Name(host, port) => vec![Place::Name(host.clone(), *port)],
        Whereabouts::Seeds(seeds) => seeds.iter().flat_map(places_of).collect(),
        Whereabouts::Unix(_) => Vec::new(),
    }
}

/// Where the names of one service lead.
struct Names {
    service: ServiceId,
    name: Arc<str>,
    /// By place, what is known of it.
    places: Vec<Vec<SocketAddr>>,
    /// What makes sources look again.
    doubts: Vec<Arc<Notify>>,
    /// Shards that wait for the first answer.
    pending: Vec<Lookup>,
    /// A source has said that it has no answer.
    is_troubled: bool,
    mailboxes: Arc<[Mailbox]>,
}

impl Names {
    async fn run(
        mut self,
        places: Vec<Place>,
        nameservers: Box<[SocketAddr]>,
        mut asked: mpsc::Receiver<Lookup>,
    ) {
        let (sender, mut news) = mpsc::channel(NEWS_WAITING_MAX);
        for (index, place) in places.into_iter().enumerate() {
            match place {
                Place::Literal(address) => self.places.push(vec![address]),
                Place::Name(host, port) => {
                    self.places.push(Vec::new());
                    let resolver = Resolver::new(&nameservers);
                    let source = Dns {
                        host,
                        port,
                        resolver,
                    };
                    self.begin(index, source, sender.clone());
                }
            }
        }
        loop {
            tokio::select! {
                Some((place, heard)) = news.recv() => self.hear(place, heard),
                lookup = asked.recv() => match lookup {
                    Some(lookup) => self.answer(lookup),
                    None => return,
                },
            }
        }
    }

    /// Follows one place from now on.
    fn begin(
        &mut self,
        place: usize,
        source: impl Source + 'static,
        sender: mpsc::Sender<(usize, News)>,
    ) {
        let (told, mut follower) = channel();
        self.doubts.push(follower.doubts());
        tokio::spawn(source.follow(told));
        tokio::spawn(async move {
            while let Some(news) = follower.next().await {
                if sender.send((place, news)).await.is_err() {
                    return;
                }
            }
        });
    }

    fn hear(&mut self, place: usize, news: News) {
        let name = &self.name;
        match news {
            News::Nodes(snapshot) => {
                let shown: Vec<_> = snapshot
                    .addresses
                    .iter()
                    .map(SocketAddr::to_string)
                    .collect();
                tracing::info!("service {name:?}: its name leads to {}", shown.join(", "));
                self.places[place] = snapshot.addresses;
                self.is_troubled = false;
                self.publish();
            }
            News::Trouble(error) => {
                let stands = match self.addresses().is_empty() {
                    true => "",
                    false => "; what was known stands",
                };
                tracing::warn!("service {name:?}: {error}{stands}");
                self.is_troubled = true;
            }
        }
        for lookup in std::mem::take(&mut self.pending) {
            self.reply(&lookup);
        }
    }

    /// All addresses that are known, each once.
    fn addresses(&self) -> Vec<Address> {
        let mut seen = BTreeSet::new();
        let all = self.places.iter().flatten().copied();
        let all = all.filter(|address| seen.insert(*address));
        all.map(Address::Ip).collect()
    }

    /// Tells all shards.
    fn publish(&self) {
        let addresses = self.addresses();
        for mailbox in &*self.mailboxes {
            mailbox.send(Letter::Nodes(self.service, addresses.clone()));
        }
    }

    /// A shard asks: because it knows nothing yet, or because a connection failed.
    fn answer(&mut self, lookup: Lookup) {
        for doubts in &self.doubts {
            doubts.notify_one();
        }
        match self.addresses().is_empty() && !self.is_troubled {
            true => self.pending.push(lookup),
            false => self.reply(&lookup),
        }
    }

    fn reply(&self, lookup: &Lookup) {
        let answer = Answer::Resolved(lookup.service, self.addresses());
        lookup.reply.send(Letter::Answer(lookup.life, answer));
    }
}

//! SRV records (RFC 2782): the name of a service, which leads to host names, each with a port.
//!
//! Says names; what they lead to is followed by their own time to live, because name servers need
//! not send addresses along. Invariants: a lower priority comes first; within one, the order is
//! drawn by weight, once for each host and for as long as this source lives, so that proxies spread
//! and none of them changes its mind; an answer that does not come, or that there is no such name,
//! removes nothing; only the target "." does.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::net::SocketAddr;

use crate::lookup::{Found, Question};
use crate::resolver::{Answer, Resolver, Service};
use crate::source::{Lead, News, Node, Place, Snapshot, SourceError};

/// Hosts that are followed; of more, the last are left out.
const HOSTS_MAX: usize = 128;

/// The target of a service that there is not.
const NOWHERE: &str = ".";

/// A name with SRV records, and what is known of it.
#[derive(Debug)]
pub struct Srv {
    /// As configured; may be relative to the resolver's search path.
    name: Box<str>,
    resolver: Resolver,
    known: Known,
}

impl Srv {
    /// Asks these name servers, or those of this host's configuration if there are none.
    pub fn new(name: &str, nameservers: &[SocketAddr]) -> Self {
        Self {
            name: name.into(),
            resolver: Resolver::new(nameservers),
            known: Known {
                seed: RandomState::new().hash_one(name),
                said: None,
            },
        }
    }
}

impl Question for Srv {
    async fn ask(&mut self) -> Result<Found, SourceError> {
        let answer = self.resolver.look_up_service(&self.name).await;
        self.known.take(&self.name, answer)
    }
}

/// What is known of a service.
#[derive(Debug)]
struct Known {
    /// What the order within a priority is drawn with.
    seed: u64,
    /// What was said last, as records.
    said: Option<BTreeSet<Service>>,
}

impl Known {
    /// Takes an answer in.
    fn take(&mut self, name: &str, answer: Answer<Service>) -> Result<Found, SourceError> {
        let (records, ttl) = match answer {
            Answer::Records { records, ttl } => (records, ttl),
            Answer::None => return Err(SourceError::NoService { name: name.into() }),
            Answer::Failed(why) => {
                let host = name.into();
                return Err(SourceError::Lookup { host, why });
            }
        };
        let is_withdrawn = records.iter().all(|record| &*record.target == NOWHERE);
        let mut usable = records;
        usable.retain(|record| &*record.target != NOWHERE && record.port != 0);
        if usable.is_empty() && !is_withdrawn {
            return Err(SourceError::Lookup {
                host: name.into(),
                why: "its SRV records have no port".into(),
            });
        }
        let mut news = Vec::new();
        if self.said.as_ref() != Some(&usable) {
            news.push(News::Nodes(self.snapshot(&usable)));
            if is_withdrawn {
                let name = name.into();
                news.push(News::Trouble(SourceError::Unavailable { name }));
            }
            self.said = Some(usable);
        }
        Ok(Found { ttl, news })
    }

    /// The nodes in the order in which they are to be tried.
    fn snapshot(&self, records: &BTreeSet<Service>) -> Snapshot {
        let mut ordered: Vec<&Service> = records.iter().collect();
        ordered.sort_by(|one, other| {
            let by_priority = one.priority.cmp(&other.priority);
            by_priority.then_with(|| self.lot(one).total_cmp(&self.lot(other)))
        });
        let mut places = BTreeSet::new();
        let places = ordered.into_iter().filter_map(|record| {
            let place = Place::Name(record.target.clone(), record.port);
            let is_first = places.insert(place.clone());
            is_first.then_some((place, share(record)))
        });
        let nodes: Vec<Node> = (0..)
            .zip(places.take(HOSTS_MAX))
            .map(|(rank, (place, weight))| Node {
                rank,
                weight,
                ..Node::at(place)
            })
            .collect();
        let lead = match nodes.is_empty() {
            true => Lead::Nobody,
            false => Lead::Unsaid,
        };
        Snapshot { nodes, lead }
    }

    /// A host's lot: who has the least comes first, which happens to each in proportion to its
    /// weight. The times until the first of several random events, each with a rate of its own, are
    /// like that.
    fn lot(&self, record: &Service) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, &record.target, record.port).hash(&mut hasher);
        // More than 0 and at most 1.
        let evenly = ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -evenly.ln() / f64::from(share(record))
    }
}

/// A record's weight, of which none has too little to be ever chosen.
fn share(record: &Service) -> u32 {
    u32::from(record.weight).max(1)
}

#[cfg(test)]
mod tests;

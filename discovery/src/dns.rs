//! DNS: a host name, followed by the time to live of its records.
//!
//! IPv4 and IPv6 are asked for apart, because a resolver that asks for both returns one where the
//! other fails, and half of the nodes would be gone. Invariants: an answer that is missing removes
//! no node; only an answer that there is none does, when it has come several times and other nodes
//! are left.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::lookup::{Found, Question, TTL_MAX, TTL_MIN};
use crate::resolver::{Answer, Resolver};
use crate::source::{Lead, News, Node, Place, Snapshot, SourceError};

/// So often in a row a name server says that there is no such record before it is believed: names
/// of services that start anew are missing for a moment.
const MISSES_MAX: u32 = 3;

/// A host name and a port, and what is known of them.
#[derive(Debug)]
pub struct Dns {
    /// As configured; may be relative to the resolver's search path.
    host: Box<str>,
    /// The port that every address gets.
    port: u16,
    /// Who is asked.
    resolver: Resolver,
    families: Families,
}

impl Dns {
    /// Asks these name servers, or those of this host's configuration if there are none.
    pub fn new(host: &str, port: u16, nameservers: &[SocketAddr]) -> Self {
        Self {
            host: host.into(),
            port,
            resolver: Resolver::new(nameservers),
            families: Families::default(),
        }
    }
}

impl Question for Dns {
    async fn ask(&mut self) -> Result<Found, SourceError> {
        let (four, six) = self.resolver.look_up(&self.host).await;
        let (ttl, is_new) = self.families.take(&self.host, [four, six])?;
        let news = is_new.then(|| News::Nodes(self.families.snapshot(self.port)));
        let news = news.into_iter().collect();
        Ok(Found { ttl, news })
    }
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Families {
    all: [Known; 2],
    /// What was said last.
    said: BTreeSet<IpAddr>,
}

/// What is known of it in one family of addresses.
#[derive(Debug, Default)]
struct Known {
    addresses: BTreeSet<IpAddr>,
    /// How often in a row there were none.
    misses: u32,
}

impl Known {
    /// Takes an answer in. Says how long it is good for.
    fn take(&mut self, answer: Answer<IpAddr>) -> Result<Duration, Box<str>> {
        match answer {
            Answer::Records { records, ttl } => {
                self.addresses = records;
                self.misses = 0;
                Ok(ttl)
            }
            Answer::None => {
                self.misses = self.misses.saturating_add(1);
                if self.misses >= MISSES_MAX {
                    self.addresses.clear();
                }
                // Until it is believed it is asked for soon.
                Ok(match self.addresses.is_empty() {
                    true => TTL_MAX,
                    false => TTL_MIN,
                })
            }
            Answer::Failed(why) => Err(why),
        }
    }
}

impl Families {
    /// Takes the answers for IPv4 and IPv6 in. Says how long they are good for, and whether they
    /// are not what was said last.
    fn take(
        &mut self,
        host: &str,
        answers: [Answer<IpAddr>; 2],
    ) -> Result<(Duration, bool), SourceError> {
        let mut ttl = TTL_MAX;
        let mut failed = None;
        for (known, answer) in self.all.iter_mut().zip(answers) {
            match known.take(answer) {
                Ok(good_for) => ttl = ttl.min(good_for),
                Err(why) => failed = Some(why),
            }
        }
        let now = self.now();
        if now.is_empty() {
            return Err(match failed {
                Some(why) => SourceError::Lookup {
                    host: host.into(),
                    why,
                },
                None => SourceError::NoAddress { host: host.into() },
            });
        }
        // A family that failed is asked for again soon.
        let ttl = failed.map_or(ttl, |_| TTL_MIN);
        let is_new = now != self.said;
        self.said = now;
        Ok((ttl, is_new))
    }

    fn now(&self) -> BTreeSet<IpAddr> {
        let all = self.all.iter().flat_map(|known| &known.addresses);
        all.copied().collect()
    }

    fn snapshot(&self, port: u16) -> Snapshot {
        let addresses = self.said.iter().map(|&ip| SocketAddr::new(ip, port));
        Snapshot {
            nodes: addresses.map(|it| Node::at(Place::Ip(it))).collect(),
            lead: Lead::Unsaid,
        }
    }
}

#[cfg(test)]
mod tests;

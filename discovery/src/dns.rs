//! DNS: a host name, followed by the time to live of its records.
//!
//! IPv4 and IPv6 are asked for apart, because a resolver that asks for both returns one where the
//! other fails, and half of the nodes would be gone. Invariants: an answer that is missing removes
//! no node; only an answer that there is none does, when it has come several times and other nodes
//! are left.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use crate::resolver::{Answer, Resolver};
use crate::source::{Lead, News, Node, Place, Snapshot, Source, SourceError, Told};

/// The shortest time between two look-ups that nobody asked for: a TTL of zero is no invitation.
const TTL_MIN: Duration = Duration::from_secs(1);

/// The longest: names of this host have a day, and their file may change.
const TTL_MAX: Duration = Duration::from_secs(60);

/// After a look-up that failed; doubles up to the other.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(8);

/// Between look-ups because of doubts, which come in storms.
const DOUBTS_GAP: Duration = Duration::from_millis(100);

/// So often in a row a name server says that there is no such record before it is believed: names
/// of services that start anew are missing for a moment.
const MISSES_MAX: u32 = 3;

/// A host name and a port.
#[derive(Debug)]
pub struct Dns {
    /// As configured; may be relative to the resolver's search path.
    pub host: Box<str>,
    /// The port that every address gets.
    pub port: u16,
    /// Who is asked.
    pub resolver: Resolver,
}

impl Source for Dns {
    async fn follow(mut self, told: Told) {
        let mut families = Families::default();
        let mut retry = RETRY_MIN;
        let mut is_troubled = false;
        loop {
            let (four, six) = self.resolver.look_up(&self.host).await;
            let began = Instant::now();
            let found = families.take(&self.host, [four, six]);
            let mut pause = retry;
            match found {
                Ok(found) => {
                    retry = RETRY_MIN;
                    is_troubled = false;
                    pause = found.ttl.clamp(TTL_MIN, TTL_MAX);
                    let news = found.is_new.then(|| families.snapshot(self.port));
                    if let Some(snapshot) = news
                        && !told.say(News::Nodes(snapshot)).await
                    {
                        return;
                    }
                }
                Err(error) => {
                    retry = (retry * 2).min(RETRY_MAX);
                    if !is_troubled && !told.say(News::Trouble(error)).await {
                        return;
                    }
                    is_troubled = true;
                }
            }
            tokio::select! {
                () = sleep_until((began + pause).into()) => {}
                () = told.doubted() => sleep(DOUBTS_GAP).await,
            }
        }
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

/// What a look-up has brought.
#[derive(Debug, Eq, PartialEq)]
struct Found {
    ttl: Duration,
    /// It is not what was said last.
    is_new: bool,
}

impl Known {
    /// Takes an answer in. Says how long it is good for.
    fn take(&mut self, answer: Answer) -> Result<Duration, Box<str>> {
        match answer {
            Answer::Addresses { addresses, ttl } => {
                self.addresses = addresses;
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
    /// Takes the answers for IPv4 and IPv6 in.
    fn take(&mut self, host: &str, answers: [Answer; 2]) -> Result<Found, SourceError> {
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
        Ok(Found { ttl, is_new })
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

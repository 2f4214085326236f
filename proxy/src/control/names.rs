//! Answers the shards' questions for addresses.
//!
//! Knows the names of the services, and remembers no answer. Invariant: every question is answered,
//! with nothing if the name has no address or the resolver takes too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use manifold_core::event::Address;
use manifold_discovery::{Name, Source, SourceError, Whereabouts};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::Config;
use crate::shards::{Answer, Letter, Lookup};

/// What is looked up for which service.
#[derive(Clone, Debug)]
pub struct Names {
    /// By service; none where there is nothing to be looked up.
    services: Arc<[OfService]>,
    /// How long a look-up may take: a client waits for it just as for a connect.
    time_max: Duration,
}

impl Names {
    /// The names of all services.
    pub fn new(config: &Config) -> Self {
        let services = config.services.iter().map(|service| {
            let sought = match &service.upstream.whereabouts {
                Whereabouts::Ip(_) | Whereabouts::Unix(_) => Box::default(),
                Whereabouts::Seeds(seeds) => seeds.iter().filter_map(Sought::new).collect(),
                name @ Whereabouts::Name(..) => Sought::new(name).into_iter().collect(),
            };
            OfService {
                name: service.name.clone(),
                sought,
            }
        });
        Self {
            services: services.collect(),
            time_max: config.limits.connect_time_max,
        }
    }

    /// The addresses of a service, by its place.
    async fn look_up(&self, service: usize) -> Vec<Address> {
        let Some(service) = self.services.get(service) else {
            return Vec::new();
        };
        let mut addresses = Vec::new();
        for sought in &service.sought {
            match sought {
                Sought::Literal(address) => addresses.push(Address::Ip(*address)),
                Sought::Name(name) => {
                    addresses.extend(self.look_up_name(&service.name, name).await);
                }
            }
        }
        addresses
    }

    async fn look_up_name(&self, service: &str, name: &Name) -> Vec<Address> {
        match timeout(self.time_max, name.snapshot()).await {
            Ok(Ok(snapshot)) => snapshot.addresses.into_iter().map(Address::Ip).collect(),
            Ok(Err(error @ (SourceError::Lookup { .. } | SourceError::NoAddress { .. }))) => {
                tracing::warn!("service {service:?}: {error}");
                Vec::new()
            }
            Err(_) => {
                let host = &name.host;
                let seconds = self.time_max.as_secs_f64();
                tracing::warn!(
                    "service {service:?}: looking up {host:?} took longer than connect_time_max \
                     ({seconds} s)"
                );
                Vec::new()
            }
        }
    }
}

/// What is looked up for one service.
#[derive(Clone, Debug)]
struct OfService {
    name: Arc<str>,
    sought: Box<[Sought]>,
}

/// Where a node is, beside others that are looked up together.
#[derive(Clone, Debug)]
enum Sought {
    Literal(SocketAddr),
    Name(Name),
}

impl Sought {
    fn new(whereabouts: &Whereabouts) -> Option<Self> {
        match whereabouts {
            Whereabouts::Ip(address) => Some(Self::Literal(*address)),
            Whereabouts::Name(host, port) => Some(Self::Name(Name {
                host: host.clone(),
                port: *port,
            })),
            Whereabouts::Seeds(_) | Whereabouts::Unix(_) => None,
        }
    }
}

/// Answers questions for as long as there is anybody to ask them.
pub async fn answer(names: Names, mut lookups: mpsc::Receiver<Lookup>) {
    while let Some(Lookup {
        life,
        service,
        reply,
    }) = lookups.recv().await
    {
        let names = names.clone();
        tokio::spawn(async move {
            let addresses = names.look_up(service.index()).await;
            reply.send(Letter::Answer(life, Answer::Resolved(service, addresses)));
        });
    }
}

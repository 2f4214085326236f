//! Who is asked for names and services: the name servers of this host's configuration, or others.
//!
//! Keeps no answer. The files that the resolver library reads once are read again when they have
//! changed. Invariant: what is asked for in one family of addresses says nothing about the other.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::{Resolver as Library, TokioResolver};

/// How long one attempt waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Attempts for each name server.
const ATTEMPTS: usize = 2;

/// Files that decide what a name means.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What is said to a question for one kind of record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer<T> {
    /// These, for so long.
    Records {
        /// At least one.
        records: BTreeSet<T>,
        /// How long they are good for, by what they say themselves.
        ttl: Duration,
    },
    /// The name does not exist, or has none of this kind.
    None,
    /// Nobody answered, or with an error.
    Failed(Box<str>),
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    /// The port there.
    pub port: u16,
    /// The host's name in lower case, with the dot at its end; nothing but that dot says that there
    /// is no such service.
    pub target: Box<str>,
}

/// Asks name servers. Must be used within a tokio runtime.
#[derive(Debug)]
pub struct Resolver {
    /// Those of this host's configuration if there are none.
    nameservers: Box<[SocketAddr]>,
    /// One for each family, and the files as they were then.
    built: Option<([TokioResolver; 2], [Option<SystemTime>; 2])>,
}

impl Resolver {
    /// Asks these, or those of this host's configuration if there are none.
    pub fn new(nameservers: &[SocketAddr]) -> Self {
        Self {
            nameservers: nameservers.into(),
            built: None,
        }
    }

    /// Asks for the addresses of a name, in both families.
    pub async fn look_up(&mut self, host: &str) -> (Answer<IpAddr>, Answer<IpAddr>) {
        let [four, six] = match self.libraries().await {
            Ok(libraries) => libraries,
            Err(why) => return (Answer::Failed(why.clone()), Answer::Failed(why)),
        };
        tokio::join!(ask(four, host), ask(six, host))
    }

    /// Asks for the SRV records of a name.
    pub async fn look_up_service(&mut self, name: &str) -> Answer<Service> {
        // Which addresses this one would ask for plays no part.
        let [library, _] = match self.libraries().await {
            Ok(libraries) => libraries,
            Err(why) => return Answer::Failed(why),
        };
        let found = match library.srv_lookup(name).await {
            Ok(found) => found,
            Err(error) => return missing(&error),
        };
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(record) => Some(service(record)),
                // What a CNAME leads to is here, too.
                _ => None,
            });
        records_until(records.collect(), found.valid_until())
    }

    async fn libraries(&mut self) -> Result<&[TokioResolver; 2], Box<str>> {
        let stamps = [stamp(FILES[0]).await, stamp(FILES[1]).await];
        if self.built.as_ref().is_none_or(|(_, then)| *then != stamps) {
            let four = self.library(LookupIpStrategy::Ipv4Only)?;
            let six = self.library(LookupIpStrategy::Ipv6Only)?;
            self.built = Some(([four, six], stamps));
        }
        let (libraries, _) = self.built.as_ref().expect("it is built now");
        Ok(libraries)
    }

    fn library(&self, strategy: LookupIpStrategy) -> Result<TokioResolver, Box<str>> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = match self.nameservers.is_empty() {
            true => Library::builder(provider).map_err(|error| error.to_string())?,
            false => {
                let servers = self.nameservers.iter().map(|&server| configured(server));
                let config = ResolverConfig::from_name_servers(servers.collect());
                Library::builder_with_config(config, provider)
            }
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = ANSWER_TIME_MAX;
        options.attempts = ATTEMPTS;
        options.ip_strategy = strategy;
        builder.build().map_err(|error| error.to_string().into())
    }
}

fn configured(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

async fn stamp(path: &str) -> Option<SystemTime> {
    tokio::fs::metadata(path).await.ok()?.modified().ok()
}

async fn ask(library: &TokioResolver, host: &str) -> Answer<IpAddr> {
    match library.lookup_ip(host).await {
        Ok(found) => records_until(found.iter().collect(), found.valid_until()),
        Err(error) => missing(&error),
    }
}

fn service(record: &SRV) -> Service {
    Service {
        priority: record.priority,
        weight: record.weight,
        port: record.port,
        target: record.target.to_lowercase().to_ascii().into(),
    }
}

fn records_until<T>(records: BTreeSet<T>, until: Instant) -> Answer<T> {
    match records.is_empty() {
        true => Answer::None,
        false => Answer::Records {
            records,
            ttl: until.saturating_duration_since(Instant::now()),
        },
    }
}

fn missing<T>(error: &NetError) -> Answer<T> {
    match error.is_no_records_found() {
        true => Answer::None,
        false => Answer::Failed(error.to_string().into()),
    }
}

//! The configuration as far as it is given on the command line.
//!
//! Options win over the file. Knows nothing of how a command line is parsed.

use std::path::PathBuf;
use std::sync::Arc;

use manifold_core::auth::{Auth, Users};
use manifold_discovery::{Protocol, Upstream};
use manifold_drivers::Wanted;

use super::problem::{Place, Problem, Problems};
use super::section::Written;
use super::service::{CONNECTIONS_MAX_DEFAULT, Service};
use super::{Config, Listen, Log};

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A configuration file.
    pub config: Option<PathBuf>,
    /// Services without a file: `LISTEN=HOST:PORT`, each.
    pub postgres: Vec<String>,
    /// The same for Redis.
    pub redis: Vec<String>,
    /// How many shards may be used.
    pub shards: Option<u32>,
    /// What their I/O is done with.
    pub driver: Option<Wanted>,
    /// Connections to the node of every service.
    pub connections_max: Option<u32>,
    /// How much is logged.
    pub log: Option<Log>,
}

impl Options {
    /// The whole configuration, if no problem is an error, and all problems.
    pub fn load(&self) -> (Option<Config>, Vec<Problem>) {
        let mut problems = Problems::default();
        let mut config = Config::default();
        if let Some(file) = &self.config {
            config.read_file(file, &mut problems);
        }
        let postgres = self.postgres.iter().map(|text| (Protocol::Postgres, text));
        let redis = self.redis.iter().map(|text| (Protocol::Redis, text));
        for (protocol, text) in postgres.chain(redis) {
            let name = unused_name(&config.services, text);
            let service = parse_service(protocol, name, text, &mut problems);
            config.services.extend(service);
        }
        self.override_values(&mut config, &mut problems);
        config.check(&self.place(), &mut problems);
        let usable = !problems.has_errors();
        (usable.then_some(config), problems.into_sorted())
    }

    /// Where most of the configuration stands.
    fn place(&self) -> Place {
        let source = match &self.config {
            Some(file) => file.to_string_lossy().into_owned().into(),
            None => "the command line".into(),
        };
        Place { source, line: None }
    }

    fn override_values(&self, config: &mut Config, problems: &mut Problems) {
        config.shards = self.shards.unwrap_or(config.shards);
        config.driver = self.driver.unwrap_or(config.driver);
        config.log = self.log.unwrap_or(config.log);
        for service in &mut config.services {
            if let Some(connections_max) = self.connections_max {
                service.connections_max = connections_max;
                service.check_connections(problems);
            }
        }
    }
}

/// Reads `LISTEN=HOST:PORT`.
fn parse_service(
    protocol: Protocol,
    name: Arc<str>,
    text: &str,
    problems: &mut Problems,
) -> Option<Service> {
    let place = Place {
        source: format!("--{} {text}", protocol.scheme()).into(),
        line: None,
    };
    let Some((listen, node)) = text.split_once('=') else {
        problems.error(place, "there is no \"=\"", EXAMPLE);
        return None;
    };
    let listen = Listen::parse(listen)
        .map_err(|error| problems.error(place.clone(), error.to_string(), error.hint()));
    let upstream = Upstream::parse_place(protocol, node)
        .map_err(|error| problems.error(place.clone(), error.to_string(), error.hint()));
    Some(Service {
        name,
        listen: vec![Written {
            value: listen.ok()?,
            place: place.clone(),
        }],
        upstream: upstream.ok()?,
        connections_max: CONNECTIONS_MAX_DEFAULT,
        auth: Auth::Relay,
        users: Arc::new(Users::default()),
        is_admin: false,
        place,
    })
}

/// A service of the command line is called after its node: people know it by that.
fn unused_name(services: &[Service], text: &str) -> Arc<str> {
    let node = text.split_once('=').map_or(text, |(_, node)| node);
    let is_unused = |name: &String| services.iter().all(|service| *service.name != **name);
    let numbered = (2_u32..).map(|number| format!("{node}#{number}"));
    std::iter::once(node.to_owned())
        .chain(numbered)
        .find(is_unused)
        .unwrap_or_default()
        .into()
}

/// How a service is given on the command line.
const EXAMPLE: &str = "--postgres 127.0.0.1:6432=db.internal:5432";

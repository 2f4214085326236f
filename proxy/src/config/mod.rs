//! The configuration: from a file or from options of the command line to plain values.
//!
//! Reads files and the number of cores, opens no socket. Invariant: a [`Config`] can be served as
//! it is, or its problems say where it cannot, all of them at once.

mod dns;
mod limits;
mod listen;
mod options;
mod problem;
mod section;
mod service;
mod users;
mod value;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use manifold_core::limits::Limits;
use manifold_drivers::Wanted;
use toml::de::DeTable;

pub use listen::{Listen, ListenError};
pub use options::Options;
pub use problem::{Place, Problem, Problems, Severity};
pub use section::Written;
pub use service::Service;

use section::{Section, Source};
use value::{Count, Time};

/// The most shards that are accepted: more threads than any host has cores.
pub const SHARDS_MAX: u32 = 1_024;

/// How long requests and transactions may go on after a signal to stop, unless the file says
/// otherwise.
const DRAIN_TIME_MAX_DEFAULT: Duration = Duration::from_secs(30);

/// The words for `driver`.
pub const DRIVER_WORDS: [(&str, Wanted); 3] = [
    ("auto", Wanted::Auto),
    ("io_uring", Wanted::IoUring),
    ("epoll", Wanted::Epoll),
];

/// How much is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Log {
    /// What is wrong on our side.
    Error,
    /// That, what somebody should know, and one line when serving begins.
    Warn,
    /// That, and what happens.
    Info,
    /// That, and what helps in search of a fault.
    Debug,
}

/// The words for `log`.
pub const LOG_WORDS: [(&str, Log); 4] = [
    ("error", Log::Error),
    ("warn", Log::Warn),
    ("info", Log::Info),
    ("debug", Log::Debug),
];

/// Everything that has been configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many shards may be used.
    pub shards: u32,
    /// What their I/O is done with.
    pub driver: Wanted,
    /// How much is logged.
    pub log: Log,
    /// How long requests and transactions may go on after a signal to stop.
    pub drain_time_max: Duration,
    /// Where counters can be read by HTTP, if anywhere.
    pub control: Option<SocketAddr>,
    /// Name servers that are asked instead of those of this host.
    pub nameservers: Box<[SocketAddr]>,
    /// The bounds; `clients_max` over all shards.
    pub limits: Limits,
    /// Whether somebody has asked for just so many clients.
    pub is_clients_max_asked: bool,
    /// What is served.
    pub services: Vec<Service>,
}

impl Default for Config {
    /// No services, and a shard per core.
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(SHARDS_MAX))
                .min(SHARDS_MAX),
            driver: Wanted::Auto,
            log: Log::Warn,
            drain_time_max: DRAIN_TIME_MAX_DEFAULT,
            control: None,
            nameservers: Box::default(),
            limits: Limits::default(),
            is_clients_max_asked: false,
            services: Vec::new(),
        }
    }
}

impl Config {
    /// Takes in what a file says.
    fn read_file(&mut self, file: &Path, problems: &mut Problems) {
        let name = file.to_string_lossy().into_owned().into();
        match fs::read_to_string(file) {
            Ok(text) => self.read_source(&Source { name, text }, problems),
            Err(error) => problems.error(
                Place {
                    source: name,
                    line: None,
                },
                format!("cannot be read: {error}"),
                "name a file that exists: --config manifold.toml",
            ),
        }
    }

    fn read_source(&mut self, source: &Source, problems: &mut Problems) {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        // What stands behind a slip of syntax would only be noise.
        if errors.is_empty() {
            return self.read(source, table.get_ref(), problems);
        }
        for error in errors {
            let place = source.place(&error.span().unwrap_or(0..0));
            problems.error(place, error.message().trim(), "");
        }
    }

    fn read(&mut self, source: &Source, table: &DeTable<'_>, problems: &mut Problems) {
        let mut section = Section::new(source, table, "");
        if let Some(Written {
            value: Count(count),
            place,
        }) = section.take("shards", problems)
        {
            self.shards = count.min(SHARDS_MAX);
            if count > SHARDS_MAX {
                problems.error(place, "shards: is out of range", "1024 are the most");
            }
        }
        self.driver = section
            .take_word("driver", &DRIVER_WORDS, problems)
            .unwrap_or(self.driver);
        self.log = section
            .take_word("log", &LOG_WORDS, problems)
            .unwrap_or(self.log);
        if let Some(Written {
            value: Time(time), ..
        }) = section.take("drain_time_max", problems)
        {
            self.drain_time_max = time;
        }
        if let Some(written) = section.take::<String>("control", problems) {
            self.control = parse_control(written, problems);
        }
        if let Some(dns) = section.take_table("dns", problems) {
            self.nameservers = dns::read(source, dns, problems);
        }
        if let Some(limits) = section.take_table("limits", problems) {
            let at = table.get("limits").map_or(0..0, |value| value.span());
            self.is_clients_max_asked = limits.contains_key("clients_max");
            self.limits = limits::read(source, limits, source.place(&at), problems);
        }
        for (place, table) in section.take_tables("service", problems) {
            self.services
                .extend(Service::read(source, table, place, problems));
        }
        let elsewhere = [
            ("under [limits]", limits::KEYS),
            ("under [dns]", dns::KEYS),
            ("in a [[service]]", service::KEYS),
        ];
        section.finish(&elsewhere, problems);
    }

    /// Notes what services must not have in common, and what works only in part.
    fn check(&self, place: &Place, problems: &mut Problems) {
        if self.services.is_empty() && !problems.has_errors() {
            let hint = "add [[service]] with name, listen and upstream";
            problems.error(place.clone(), "no service is configured", hint);
        }
        let mut names = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for service in &self.services {
            if let Some(other) = names.insert(service.name.clone(), &service.place) {
                let message = format!("name: {:?} is the name of another service", service.name);
                problems.error(
                    service.place.clone(),
                    message,
                    format!("the other is at {other}"),
                );
            }
            for Written { value, place } in &service.listen {
                let any_port = matches!(value, Listen::Ip(address) if address.port() == 0);
                let other = addresses.insert(value.to_string(), place);
                if let (Some(other), false) = (other, any_port) {
                    let message = format!("listen: {value} is listened on already");
                    problems.error(place.clone(), message, format!("the other is at {other}"));
                }
            }
            if service::loops(service) {
                let message = "upstream: the service would connect to itself";
                problems.error(service.place.clone(), message, "listen somewhere else");
            }
            service.warn(problems);
        }
    }
}

/// Reads where counters can be read: an address, because whoever reaches it can read them.
fn parse_control(text: Written<String>, problems: &mut Problems) -> Option<SocketAddr> {
    let Ok(address) = text.value.parse::<SocketAddr>() else {
        let message = format!("control: {:?} is no address with a port", text.value);
        problems.error(text.place, message, "control = \"127.0.0.1:6480\"");
        return None;
    };
    if !address.ip().to_canonical().is_loopback() {
        let message = format!("control: everybody who reaches {address} can read the counters");
        problems.warn(text.place, message, "control = \"127.0.0.1:6480\"");
    }
    Some(address)
}

#[cfg(test)]
mod tests;

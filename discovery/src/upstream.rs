//! The `upstream` of a service: a URL whose scheme names the protocol.
//!
//! Pure parsing; looks nothing up. Invariant: an [`Upstream`] carries no user, no password and no
//! database, because those are the client's.

mod sentinel;
mod srv;
mod zookeeper;

use std::net::{IpAddr, SocketAddr};

pub use sentinel::Sentinel;
pub use srv::SrvError;
pub use zookeeper::{Format, Zookeeper, ZookeeperError};

use crate::source::Place;

/// What the nodes of a service speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// PostgreSQL's frontend/backend protocol, version 3.
    Postgres,
    /// RESP, of either version.
    Redis,
}

impl Protocol {
    /// The port that is meant when none is written.
    pub fn port_default(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Redis => 6379,
        }
    }

    /// The protocol's name as the scheme of a URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// A parsed `upstream`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where that is.
    pub whereabouts: Whereabouts,
}

/// Where the node of a service is, as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whereabouts {
    /// A literal address. Needs no look-up.
    Ip(SocketAddr),
    /// A host name and a port, to be looked up.
    Name(Box<str>, u16),
    /// Some nodes of a Redis Cluster, which know the others.
    Seeds(Box<[Place]>),
    /// All nodes of a service, one of them the primary: which one, they say themselves.
    List(Box<[Place]>),
    /// Sentinels, which know who the primary is.
    Sentinel(Box<Sentinel>),
    /// A name whose SRV records list the nodes.
    Srv(Box<str>),
    /// The path of a unix socket. Needs no look-up.
    Unix(Box<str>),
    /// Nodes that are listed in ZooKeeper.
    Zookeeper(Zookeeper),
}

/// What is wrong with an `upstream`. Whoever wrote it is to blame.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// `%` without two hex digits behind it, or bytes that are no UTF-8.
    #[error("{0:?} is not percent-encoded correctly")]
    Encoding(Box<str>),
    /// A host with characters that no host name has.
    #[error("{0:?} is not a host name")]
    Host(Box<str>),
    /// No host at all.
    #[error("the URL names no host")]
    HostMissing,
    /// A parameter that means nothing here.
    #[error("the URL parameter {0:?} is not known")]
    Parameter(Box<str>),
    /// The path of a database.
    #[error("the URL names a database ({0:?}), but user and database are the client's")]
    Database(Box<str>),
    /// Not a port number from 1 to 65535.
    #[error("{0:?} is not a port number")]
    Port(Box<str>),
    /// One of several nodes on a unix socket.
    #[error("{0:?} is the path of a socket, and several nodes find each other by TCP")]
    ListSocket(Box<str>),
    /// A scheme that names no protocol.
    #[error("{0:?} is not a protocol that can be proxied")]
    Scheme(Box<str>),
    /// Sentinels without a name of what they watch.
    #[error("the URL does not say what the Sentinels call the primary")]
    SentinelName,
    /// A name that no Sentinel takes.
    #[error("{0:?} is not what Sentinels call a primary")]
    SentinelNameOdd(Box<str>),
    /// A parameter that means nothing to Sentinels.
    #[error("the URL parameter {0:?} is not known")]
    SentinelParameter(Box<str>),
    /// The credentials of Sentinels.
    #[error("the URL has the Sentinels' user or password, which no URL may have")]
    SentinelUser,
    /// No `://`.
    #[error("{0:?} is not a URL")]
    SchemeMissing(Box<str>),
    /// A user, with or without a password.
    #[error("the URL names a user, but user and database are the client's")]
    User,
    /// What only a URL of SRV records can have wrong.
    #[error(transparent)]
    Srv(#[from] SrvError),
    /// What only a URL of ZooKeeper can have wrong.
    #[error(transparent)]
    Zookeeper(#[from] ZookeeperError),
}

impl UpstreamError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::User => "remove everything up to and including \"@\"",
            Self::Database(_) => "end the URL after the host and the port",
            Self::Parameter(_) => "only \"host\" and \"port\" have a meaning here",
            Self::Port(_) => "a port is a number from 1 to 65535",
            Self::Encoding(_) => "write \"%25\" for a percent sign",
            Self::SentinelName | Self::SentinelNameOdd(_) => {
                "write \"redis+sentinel://host:port,host:port/mymaster\""
            }
            Self::SentinelParameter(_) | Self::SentinelUser => {
                "\"?auth_file=/path\" names a file with \"user:password\" or \":password\""
            }
            Self::ListSocket(_) => "write \"host:port,host:port\"",
            Self::Srv(error) => error.hint(),
            Self::Zookeeper(error) => error.hint(),
            Self::Host(_) | Self::HostMissing | Self::Scheme(_) | Self::SchemeMissing(_) => {
                "write \"postgres://host:port\", \"postgres:///?host=/socket/directory\", \
                 \"redis://host:port\" or \"redis+cluster://host:port,host:port\""
            }
        }
    }
}

impl Upstream {
    /// Reads `postgres://host:port`, or a form with a socket's directory as libpq has it:
    /// `postgres:///?host=/directory&port=5432` or `postgres://%2Fdirectory:5432`; or
    /// `redis://host:port`, or with a socket's path, `redis://%2Fpath` or `redis:///?host=/path`;
    /// or either of them with `host:port,host:port`, all nodes of which one is the primary; or
    /// `redis+cluster://host:port,host:port` with some of a cluster's nodes; or
    /// `redis+sentinel://host:port,host:port/name` with some of the Sentinels; or
    /// `postgres+srv://_service._tcp.name` or `redis+srv://` with the name of SRV records; or
    /// `postgres+zk://host:port,host:port/path?format=patroni`, or `redis+zk://` with another of
    /// the formats, for what ZooKeeper lists.
    pub fn parse(url: &str) -> Result<Self, UpstreamError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            // What stands before "@" may be a password, and must not get into a message.
            let shown = url.rsplit('@').next().unwrap_or_default();
            return Err(UpstreamError::SchemeMissing(shown.into()));
        };
        let protocol = match scheme {
            "postgres" | "postgresql" | srv::POSTGRES | POSTGRES_ZK => Protocol::Postgres,
            "redis" | CLUSTER | sentinel::SCHEME | srv::REDIS | REDIS_ZK => Protocol::Redis,
            _ => return Err(UpstreamError::Scheme(scheme.into())),
        };
        Ok(Self {
            protocol,
            whereabouts: parse_whereabouts(protocol, scheme, rest)?,
        })
    }

    /// Reads what stands for an upstream where the protocol is already known: a URL of it,
    /// `host`, `host:port`, or the absolute directory of a socket.
    pub fn parse_place(protocol: Protocol, text: &str) -> Result<Self, UpstreamError> {
        if let Some((scheme, _)) = text.split_once("://") {
            let upstream = Self::parse(text)?;
            return match upstream.protocol == protocol
                && ![CLUSTER, sentinel::SCHEME].contains(&scheme)
            {
                true => Ok(upstream),
                false => Err(UpstreamError::Scheme(scheme.into())),
            };
        }
        let mut place = Written::default();
        if text.starts_with('/') {
            place.host = Some(text.into());
        } else {
            place.read_authority(text)?;
        }
        Ok(Self {
            protocol,
            whereabouts: place.settle(protocol)?,
        })
    }
}

/// The scheme for the nodes of a Redis Cluster.
const CLUSTER: &str = "redis+cluster";

/// The schemes for nodes that are listed in ZooKeeper.
const POSTGRES_ZK: &str = "postgres+zk";

/// See [`POSTGRES_ZK`].
const REDIS_ZK: &str = "redis+zk";

/// Reads what comes behind `://`.
fn parse_whereabouts(
    protocol: Protocol,
    scheme: &str,
    rest: &str,
) -> Result<Whereabouts, UpstreamError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(match scheme {
            sentinel::SCHEME => UpstreamError::SentinelUser,
            _ => UpstreamError::User,
        });
    }
    if scheme == sentinel::SCHEME {
        let sentinel = Sentinel::parse(authority, path, query)?;
        return Ok(Whereabouts::Sentinel(Box::new(sentinel)));
    }
    if [POSTGRES_ZK, REDIS_ZK].contains(&scheme) {
        let listed = Zookeeper::parse(protocol, authority, path, query)?;
        return Ok(Whereabouts::Zookeeper(listed));
    }
    if !path.is_empty() {
        return Err(UpstreamError::Database(path.into()));
    }
    if [srv::POSTGRES, srv::REDIS].contains(&scheme) {
        return Ok(Whereabouts::Srv(srv::parse(protocol, authority, query)?));
    }
    if scheme == CLUSTER {
        let seeds = parse_places(protocol, protocol.port_default(), authority, query)?;
        return Ok(Whereabouts::Seeds(seeds));
    }
    if authority.contains(',') {
        let places = parse_places(protocol, protocol.port_default(), authority, query)?;
        return Ok(Whereabouts::List(places));
    }
    let mut place = Written::default();
    place.read_authority(authority)?;
    place.read_query(query)?;
    place.settle(protocol)
}

/// Reads `host:port,host:port`, to which no parameter applies.
fn parse_places(
    protocol: Protocol,
    port: u16,
    authority: &str,
    query: &str,
) -> Result<Box<[Place]>, UpstreamError> {
    if let Some(name) = query.split('=').next().filter(|name| !name.is_empty()) {
        return Err(UpstreamError::Parameter(name.into()));
    }
    let places = authority.split(',').map(|text| {
        let mut written = Written {
            port: Some(port),
            ..Written::default()
        };
        written.read_authority(text)?;
        match written.settle(protocol)? {
            Whereabouts::Ip(address) => Ok(Place::Ip(address)),
            Whereabouts::Name(host, port) => Ok(Place::Name(host, port)),
            other => Err(UpstreamError::ListSocket(other.to_string().into())),
        }
    });
    places.collect()
}

impl std::fmt::Display for Upstream {
    /// As an operator would write it, but for secrets' places.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept_by = match self.whereabouts {
            Whereabouts::Seeds(_) => "+cluster",
            Whereabouts::Srv(_) => "+srv",
            Whereabouts::Zookeeper(_) => "+zk",
            _ => "",
        };
        write!(
            f,
            "{}{kept_by}://{}",
            self.protocol.scheme(),
            self.whereabouts
        )
    }
}

impl std::fmt::Display for Whereabouts {
    /// As an operator would write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
            Self::Seeds(places) | Self::List(places) => {
                for (index, place) in places.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{place}")?;
                }
                Ok(())
            }
            Self::Sentinel(sentinel) => sentinel.fmt(f),
            Self::Srv(name) => f.write_str(name),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Zookeeper(listed) => write!(f, "{listed}"),
        }
    }
}

/// Host and port, as far as they have been read.
#[derive(Default)]
struct Written {
    host: Option<String>,
    port: Option<u16>,
}

impl Written {
    /// Takes in `host`, `host:port`, `[address]:port`, or nothing.
    fn read_authority(&mut self, authority: &str) -> Result<(), UpstreamError> {
        let (host, port) = split_port(authority);
        if !host.is_empty() {
            self.host = Some(decode_percent(host)?);
        }
        if let Some(port) = port {
            self.port = Some(parse_port(port)?);
        }
        Ok(())
    }

    /// Takes in `name=value` pairs; they win over what the authority said.
    fn read_query(&mut self, query: &str) -> Result<(), UpstreamError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "host" => self.host = Some(decode_percent(value)?),
                "port" => self.port = Some(parse_port(value)?),
                _ => return Err(UpstreamError::Parameter(name.into())),
            }
        }
        Ok(())
    }

    /// Decides what kind of place it is.
    fn settle(self, protocol: Protocol) -> Result<Whereabouts, UpstreamError> {
        let host = self
            .host
            .filter(|host| !host.is_empty())
            .ok_or(UpstreamError::HostMissing)?;
        let port = self.port.unwrap_or(protocol.port_default());
        if let Some(directory) = host.strip_prefix('/') {
            let directory = directory.trim_end_matches('/');
            let path = match protocol {
                Protocol::Postgres => format!("/{directory}/.s.PGSQL.{port}"),
                Protocol::Redis => format!("/{directory}"),
            };
            return Ok(Whereabouts::Unix(path.into()));
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok(Whereabouts::Ip(SocketAddr::new(ip, port)));
        }
        if !host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        {
            return Err(UpstreamError::Host(host.into()));
        }
        Ok(Whereabouts::Name(host.into(), port))
    }
}

/// Splits a port off, minding that an IPv6 address in brackets has colons of its own.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        _ => (authority, None),
    }
}

fn parse_port(text: &str) -> Result<u16, UpstreamError> {
    match text.parse() {
        Ok(0) | Err(_) => Err(UpstreamError::Port(text.into())),
        Ok(port) => Ok(port),
    }
}

/// Replaces each `%xx` by its byte.
fn decode_percent(text: &str) -> Result<String, UpstreamError> {
    let wrong = || UpstreamError::Encoding(text.into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            rest.next()
                .and_then(|b| (b as char).to_digit(16))
                .ok_or_else(wrong)
        };
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> String {
        Upstream::parse(url).unwrap().whereabouts.to_string()
    }

    #[test]
    fn parses_host_and_port_when_written_plainly() {
        assert_eq!(
            Upstream::parse("postgres://db.internal:6000")
                .unwrap()
                .whereabouts,
            Whereabouts::Name("db.internal".into(), 6000)
        );
        assert_eq!(place("postgresql://db"), "db:5432");
        assert_eq!(place("postgres://db/"), "db:5432");
        assert_eq!(place("postgres://my_db-1.local."), "my_db-1.local.:5432");
    }

    #[test]
    fn needs_no_lookup_when_the_address_is_literal() {
        assert_eq!(
            Upstream::parse("postgres://127.0.0.1:6000")
                .unwrap()
                .whereabouts,
            Whereabouts::Ip("127.0.0.1:6000".parse().unwrap())
        );
        assert_eq!(place("postgres://[::1]:7"), "[::1]:7");
        assert_eq!(place("postgres://[::1]"), "[::1]:5432");
    }

    #[test]
    fn finds_the_socket_when_host_is_a_directory() {
        assert_eq!(
            place("postgres:///?host=/run/pg"),
            "unix:/run/pg/.s.PGSQL.5432"
        );
        assert_eq!(
            place("postgres://?host=/run/pg/&port=7"),
            "unix:/run/pg/.s.PGSQL.7"
        );
        assert_eq!(place("postgres://%2Frun%2fpg:7"), "unix:/run/pg/.s.PGSQL.7");
        let here = Upstream::parse_place(Protocol::Postgres, "/run/pg").unwrap();
        assert_eq!(here.whereabouts.to_string(), "unix:/run/pg/.s.PGSQL.5432");
    }

    #[test]
    fn parses_a_bare_place_when_the_protocol_is_known() {
        let parse = |text| Upstream::parse_place(Protocol::Postgres, text);
        assert_eq!(parse("db:7").unwrap().whereabouts.to_string(), "db:7");
        assert_eq!(parse("db").unwrap().whereabouts.to_string(), "db:5432");
        assert_eq!(
            parse("postgres://db").unwrap().whereabouts.to_string(),
            "db:5432"
        );
        assert_eq!(
            parse("redis://db"),
            Err(UpstreamError::Scheme("redis".into()))
        );
        assert_eq!(parse(""), Err(UpstreamError::HostMissing));
    }

    #[test]
    fn parses_some_nodes_of_a_cluster() {
        let seeds = place("redis+cluster://10.0.0.1:7000,redis-2:7001,[::1],redis-3");
        assert_eq!(seeds, "10.0.0.1:7000,redis-2:7001,[::1]:6379,redis-3:6379");
        let cases = [
            ("redis+cluster://a,", UpstreamError::HostMissing),
            ("redis+cluster://a:x,b", UpstreamError::Port("x".into())),
            (
                "redis+cluster://%2Frun%2Fr",
                UpstreamError::ListSocket("unix:/run/r".into()),
            ),
            (
                "redis+cluster://a?host=b",
                UpstreamError::Parameter("host".into()),
            ),
        ];
        for (url, error) in cases {
            assert_eq!(Upstream::parse(url), Err(error), "{url}");
        }
        assert_eq!(
            Upstream::parse_place(Protocol::Redis, "redis+cluster://a:1"),
            Err(UpstreamError::Scheme("redis+cluster".into()))
        );
    }

    #[test]
    fn parses_a_list_of_nodes() {
        let list = Upstream::parse("postgres://10.0.0.1,db-2:6000,[::1]").unwrap();
        assert!(matches!(&list.whereabouts, Whereabouts::List(places) if places.len() == 3));
        assert_eq!(
            list.whereabouts.to_string(),
            "10.0.0.1:5432,db-2:6000,[::1]:5432"
        );
        assert_eq!(place("redis://a,b"), "a:6379,b:6379");
        assert_eq!(
            Upstream::parse("postgres://a,b?port=1"),
            Err(UpstreamError::Parameter("port".into()))
        );
    }

    #[test]
    fn refuses_user_and_database_because_they_are_the_clients() {
        for url in ["postgres://app@db", "postgres://app:secret@db/x"] {
            let error = Upstream::parse(url).unwrap_err();
            assert_eq!(error, UpstreamError::User);
            assert!(
                error
                    .to_string()
                    .contains("user and database are the client's")
            );
            assert!(!error.to_string().contains("secret"));
        }
        let error = Upstream::parse("postgres://db:5/shop").unwrap_err();
        assert_eq!(error, UpstreamError::Database("shop".into()));
    }

    #[test]
    fn says_what_is_wrong_when_a_url_is_malformed() {
        let cases = [
            ("db:5432", UpstreamError::SchemeMissing("db:5432".into())),
            ("app:secret@db", UpstreamError::SchemeMissing("db".into())),
            ("mysql://db", UpstreamError::Scheme("mysql".into())),
            ("postgres://", UpstreamError::HostMissing),
            ("postgres:///", UpstreamError::HostMissing),
            ("postgres://:5432", UpstreamError::HostMissing),
            ("postgres://db:0", UpstreamError::Port("0".into())),
            ("postgres://db:65536", UpstreamError::Port("65536".into())),
            ("postgres://db:x", UpstreamError::Port("x".into())),
            ("postgres://db:", UpstreamError::Port("".into())),
            ("postgres://d b", UpstreamError::Host("d b".into())),
            ("postgres://%2", UpstreamError::Encoding("%2".into())),
            ("postgres://%zz", UpstreamError::Encoding("%zz".into())),
            ("postgres://%ff", UpstreamError::Encoding("%ff".into())),
            (
                "postgres://db?sslmode=require",
                UpstreamError::Parameter("sslmode".into()),
            ),
        ];
        for (url, error) in cases {
            assert_eq!(Upstream::parse(url), Err(error), "{url}");
        }
    }
}

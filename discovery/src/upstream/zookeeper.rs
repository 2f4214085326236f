//! A URL of ZooKeeper: who keeps the list of nodes, where in its tree it is, and how it is written.
//!
//! Pure parsing; looks nothing up and opens no file. Invariant: carries no secret, only the path of
//! a file with one.

use std::fmt::{Display, Formatter};

use super::{Protocol, UpstreamError, Whereabouts, Written, decode_percent};
use crate::source::Place;

/// The port of ZooKeeper when none is written.
const PORT_DEFAULT: u16 = 2181;

/// Nodes that are listed in ZooKeeper.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zookeeper {
    /// ZooKeeper's own addresses, at least one.
    pub ensemble: Box<[Place]>,
    /// The znode that all is below; begins with a slash and does not end with one.
    pub path: Box<str>,
    /// How the nodes are written there.
    pub format: Format,
    /// A file with `user:password` for digest authentication.
    pub auth_file: Option<Box<str>>,
    /// Which of a member's additional endpoints is meant; its service endpoint otherwise.
    pub endpoint: Option<Box<str>>,
    /// The port of a node that is listed without one.
    pub port_default: u16,
}

/// How nodes are written in ZooKeeper.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Each child's name is `host:port`.
    Children,
    /// Each child is an instance of Curator's service discovery.
    Curator,
    /// The znode itself is `host:port,host:port`.
    Data,
    /// Each child is a service of SmartStack's Nerve.
    Nerve,
    /// A cluster of Patroni: members, and who leads them.
    Patroni,
    /// Each child is a member of a Finagle ServerSet.
    Serverset,
}

impl Format {
    const ALL: [(&'static str, Self); 6] = [
        ("patroni", Self::Patroni),
        ("serverset", Self::Serverset),
        ("nerve", Self::Nerve),
        ("curator", Self::Curator),
        ("children", Self::Children),
        ("data", Self::Data),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, format)| *format == self);
        found.map_or("", |(name, _)| name)
    }
}

/// What is wrong with a URL of ZooKeeper. Whoever wrote it is to blame.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ZookeeperError {
    /// A parameter without a value.
    #[error("the URL parameter {0:?} has no value")]
    Empty(&'static str),
    /// An endpoint where members have one only.
    #[error("the URL parameter \"endpoint\" means nothing with format={0}")]
    Endpoint(&'static str),
    /// No format of ours.
    #[error("{0:?} is not a format of znodes that is known")]
    Format(Box<str>),
    /// No format at all.
    #[error("the URL does not say in what format the nodes are listed")]
    FormatMissing,
    /// A parameter that means nothing here.
    #[error("the URL parameter {0:?} is not known")]
    Parameter(Box<str>),
    /// Patroni's format where something else than PostgreSQL is spoken.
    #[error("format=patroni is PostgreSQL's, and the service is Redis's")]
    Patroni,
    /// No path that a znode may have.
    #[error("{0:?} is not the path of a znode")]
    Path(Box<str>),
    /// No path at all.
    #[error("the URL does not name the znode that lists the nodes")]
    PathMissing,
}

impl ZookeeperError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Format(_) | Self::FormatMissing | Self::Patroni => {
                "write one of format=patroni, serverset, nerve, curator, children or data"
            }
            Self::Endpoint(_) => "only members of format=serverset have several endpoints",
            Self::Empty(_) | Self::Parameter(_) => {
                "only \"format\", \"auth_file\" and, for serverset, \"endpoint\" mean something"
            }
            Self::Path(_) | Self::PathMissing => {
                "write \"postgres+zk://host:2181,host:2181/service/main?format=patroni\""
            }
        }
    }
}

impl Zookeeper {
    /// Reads what follows `://`, without the user that must not be there.
    pub(super) fn parse(
        protocol: Protocol,
        authority: &str,
        path: &str,
        query: &str,
    ) -> Result<Self, UpstreamError> {
        let ensemble = authority.split(',').map(place).collect::<Result<_, _>>()?;
        let mut parsed = Self {
            ensemble,
            path: parse_path(path)?,
            format: Format::Data,
            auth_file: None,
            endpoint: None,
            port_default: protocol.port_default(),
        };
        let mut format = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode_percent(value)?;
            match name {
                "format" => format = Some(parse_format(&value)?),
                "auth_file" => parsed.auth_file = Some(filled("auth_file", value)?),
                "endpoint" => parsed.endpoint = Some(filled("endpoint", value)?),
                _ => return Err(ZookeeperError::Parameter(name.into()).into()),
            }
        }
        parsed.format = format.ok_or(ZookeeperError::FormatMissing)?;
        if parsed.format == Format::Patroni && protocol != Protocol::Postgres {
            return Err(ZookeeperError::Patroni.into());
        }
        if parsed.endpoint.is_some() && parsed.format != Format::Serverset {
            return Err(ZookeeperError::Endpoint(parsed.format.name()).into());
        }
        Ok(parsed)
    }

    /// ZooKeeper's addresses, as they were written.
    pub(crate) fn cluster(&self) -> String {
        let shown: Vec<_> = self.ensemble.iter().map(Place::to_string).collect();
        shown.join(",")
    }
}

impl Display for Zookeeper {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let (cluster, format) = (self.cluster(), self.format.name());
        write!(f, "{cluster}{}?format={format}", self.path)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, "&endpoint={endpoint}"),
            None => Ok(()),
        }
    }
}

fn place(text: &str) -> Result<Place, UpstreamError> {
    let mut written = Written::default();
    written.read_authority(text)?;
    written.port.get_or_insert(PORT_DEFAULT);
    match written.settle(Protocol::Postgres)? {
        Whereabouts::Ip(address) => Ok(Place::Ip(address)),
        Whereabouts::Name(host, port) => Ok(Place::Name(host, port)),
        other => Err(UpstreamError::ListSocket(other.to_string().into())),
    }
}

/// Takes a path with its slashes, be the last of them too many.
fn parse_path(text: &str) -> Result<Box<str>, UpstreamError> {
    let path = decode_percent(text)?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    if path.is_empty() {
        return Err(ZookeeperError::PathMissing.into());
    }
    let is_step = |step: &str| {
        !["", ".", ".."].contains(&step) && !step.chars().any(|c| c.is_control() || c == '"')
    };
    match path.split('/').all(is_step) {
        true => Ok(format!("/{path}").into()),
        false => Err(ZookeeperError::Path(format!("/{path}").into()).into()),
    }
}

fn parse_format(text: &str) -> Result<Format, ZookeeperError> {
    let found = Format::ALL.iter().find(|(name, _)| *name == text);
    match found {
        Some((_, format)) => Ok(*format),
        None if text.is_empty() => Err(ZookeeperError::FormatMissing),
        None => Err(ZookeeperError::Format(text.into())),
    }
}

fn filled(name: &'static str, value: String) -> Result<Box<str>, ZookeeperError> {
    match value.is_empty() {
        true => Err(ZookeeperError::Empty(name)),
        false => Ok(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Upstream;
    use super::*;

    fn parse(url: &str) -> Result<Zookeeper, UpstreamError> {
        match Upstream::parse(url)?.whereabouts {
            Whereabouts::Zookeeper(zookeeper) => Ok(zookeeper),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn parses_who_keeps_the_list_and_where_it_is() {
        let parsed =
            parse("postgres+zk://zk1:2181,zk2,[::1]:7/service/main?format=patroni").unwrap();
        assert_eq!(
            parsed.to_string(),
            "zk1:2181,zk2:2181,[::1]:7/service/main?format=patroni"
        );
        assert_eq!(
            (parsed.format, parsed.port_default),
            (Format::Patroni, 5432)
        );
        assert_eq!(&*parsed.path, "/service/main");
        let url = "redis+zk://zk:1/a?format=data";
        assert_eq!(Upstream::parse(url).unwrap().to_string(), url);
        let url = "redis+zk://zk/a/b/?format=serverset&endpoint=tls&auth_file=/etc/x%20y";
        let parsed = parse(url).unwrap();
        assert_eq!(
            parsed.to_string(),
            "zk:2181/a/b?format=serverset&endpoint=tls"
        );
        assert_eq!(parsed.auth_file.as_deref(), Some("/etc/x y"));
        assert_eq!(parsed.port_default, 6379);
    }

    #[test]
    fn says_what_is_wrong_with_it() {
        let cases = [
            ("zk/a", ZookeeperError::FormatMissing),
            ("zk/a?format=", ZookeeperError::FormatMissing),
            ("zk/a?format=xml", ZookeeperError::Format("xml".into())),
            ("zk/a?format=patroni", ZookeeperError::Patroni),
            ("zk?format=data", ZookeeperError::PathMissing),
            ("zk/?format=data", ZookeeperError::PathMissing),
            ("zk/a//b?format=data", ZookeeperError::Path("/a//b".into())),
            ("zk/../b?format=data", ZookeeperError::Path("/../b".into())),
            (
                "zk/a?format=nerve&endpoint=x",
                ZookeeperError::Endpoint("nerve"),
            ),
            (
                "zk/a?format=data&auth_file=",
                ZookeeperError::Empty("auth_file"),
            ),
            ("zk/a?port=7", ZookeeperError::Parameter("port".into())),
        ];
        for (rest, error) in cases {
            let wrong = parse(&format!("redis+zk://{rest}")).unwrap_err();
            assert_eq!(wrong, UpstreamError::Zookeeper(error), "{rest}");
        }
        let lists_all = ZookeeperError::FormatMissing.hint();
        assert!(Format::ALL.iter().all(|(name, _)| lists_all.contains(name)));
        for (url, error) in [
            ("postgres+zk:///a?format=data", UpstreamError::HostMissing),
            ("postgres+zk://u:p@zk/a?format=data", UpstreamError::User),
            (
                "postgres+zk://zk:0/a?format=data",
                UpstreamError::Port("0".into()),
            ),
        ] {
            assert_eq!(parse(url), Err(error), "{url}");
        }
    }
}

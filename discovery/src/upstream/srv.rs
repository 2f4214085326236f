//! `postgres+srv://_postgresql._tcp.db.internal`: a name whose SRV records list the nodes.
//!
//! Pure parsing. Invariant: nothing stands in such a URL but the name, because the records have all
//! the rest.

use super::{Protocol, UpstreamError, Whereabouts, Written, split_port};

/// The scheme for PostgreSQL.
pub const POSTGRES: &str = "postgres+srv";

/// See [`POSTGRES`].
pub const REDIS: &str = "redis+srv";

/// What is wrong with a URL of SRV records. Whoever wrote it is to blame.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SrvError {
    /// Several names, an address or the path of a socket.
    #[error("{0:?} is not one name that can have SRV records")]
    Name(Box<str>),
    /// Something behind the name.
    #[error("the URL parameter {0:?} is not known")]
    Parameter(Box<str>),
    /// A port, which is the records' to say.
    #[error("the URL names a port ({0:?}), but the ports are in the SRV records")]
    Port(Box<str>),
}

impl SrvError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Port(_) => "end the URL after the name",
            Self::Name(_) | Self::Parameter(_) => {
                "write \"postgres+srv://_postgresql._tcp.db.internal\", with nothing behind the \
                 name"
            }
        }
    }
}

/// Reads what comes behind the scheme.
pub(super) fn parse(
    protocol: Protocol,
    authority: &str,
    query: &str,
) -> Result<Box<str>, UpstreamError> {
    if let Some(name) = query.split('=').next().filter(|name| !name.is_empty()) {
        return Err(SrvError::Parameter(name.into()).into());
    }
    if authority.contains(',') {
        return Err(SrvError::Name(authority.into()).into());
    }
    if let (_, Some(port)) = split_port(authority) {
        return Err(SrvError::Port(port.into()).into());
    }
    let mut written = Written::default();
    written.read_authority(authority)?;
    match written.settle(protocol)? {
        Whereabouts::Name(name, _) => Ok(name),
        _ => Err(SrvError::Name(authority.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    #[test]
    fn parses_a_name_and_nothing_else() {
        for url in [
            "postgres+srv://_postgresql._tcp.db.internal",
            "redis+srv://primary.main.service.consul.",
        ] {
            let upstream = Upstream::parse(url).unwrap();
            assert!(matches!(upstream.whereabouts, Whereabouts::Srv(_)));
            assert_eq!(upstream.to_string(), url);
        }
        let upstream = Upstream::parse("redis+srv://_redis._tcp.x").unwrap();
        assert_eq!(upstream.protocol, Protocol::Redis);
        assert_eq!(upstream.whereabouts.to_string(), "_redis._tcp.x");
    }

    #[test]
    fn says_what_is_wrong_with_it() {
        let name = |text: &str| UpstreamError::Srv(SrvError::Name(text.into()));
        let cases = [
            ("", UpstreamError::HostMissing),
            ("_pg._tcp.a,_pg._tcp.b", name("_pg._tcp.a,_pg._tcp.b")),
            ("10.0.0.1", name("10.0.0.1")),
            ("[::1]", name("[::1]")),
            ("%2Frun", name("%2Frun")),
            ("_pg _tcp", UpstreamError::Host("_pg _tcp".into())),
            ("_pg._tcp.a:5432", SrvError::Port("5432".into()).into()),
            (
                "_pg._tcp.a?port=1",
                SrvError::Parameter("port".into()).into(),
            ),
            ("_pg._tcp.a/shop", UpstreamError::Database("shop".into())),
            ("u:secret@_pg._tcp.a", UpstreamError::User),
        ];
        for (rest, error) in cases {
            let url = format!("postgres+srv://{rest}");
            let wrong = Upstream::parse(&url).unwrap_err();
            assert!(!wrong.to_string().contains("secret"), "{wrong}");
            assert_eq!(wrong, error, "{url}");
        }
        let hint = SrvError::Port("5432".into()).hint();
        assert_eq!(hint, "end the URL after the name");
    }
}

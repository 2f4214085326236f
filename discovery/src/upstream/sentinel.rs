//! `redis+sentinel://host:port,host:port/name`: some Sentinels, and what they call a primary.
//!
//! Pure parsing. Invariant: no secret is in a URL; where one is needed, a file has it.

use super::{Protocol, UpstreamError, decode_percent, parse_places};
use crate::source::Place;

/// The scheme.
pub const SCHEME: &str = "redis+sentinel";

/// Where Sentinels listen unless it is said.
const PORT: u16 = 26_379;

/// Sentinels, and whom to ask them for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sentinel {
    /// Some of them; they know the others.
    pub places: Box<[Place]>,
    /// What they call the primary.
    pub name: Box<str>,
    /// The file with `user:password` or `:password` of the Sentinels, if they want any.
    pub auth_file: Option<Box<str>>,
}

impl Sentinel {
    /// Reads what comes behind the scheme.
    pub(super) fn parse(authority: &str, path: &str, query: &str) -> Result<Self, UpstreamError> {
        let name = decode_percent(path)?;
        if name.is_empty() {
            return Err(UpstreamError::SentinelName);
        }
        if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(UpstreamError::SentinelNameOdd(name.into()));
        }
        let mut auth_file = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("auth_file", path) if !path.is_empty() => {
                    auth_file = Some(decode_percent(path)?.into());
                }
                (name, _) => return Err(UpstreamError::SentinelParameter(name.into())),
            }
        }
        let places = parse_places(Protocol::Redis, PORT, authority, "")?;
        Ok(Self {
            places,
            name: name.into(),
            auth_file,
        })
    }
}

impl std::fmt::Display for Sentinel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places: Vec<_> = self.places.iter().map(Place::to_string).collect();
        write!(f, "{}/{}", places.join(","), self.name)?;
        match &self.auth_file {
            Some(path) => write!(f, "?auth_file={path}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::upstream::{Upstream, UpstreamError, Whereabouts};

    #[test]
    fn parses_sentinels_and_a_name() {
        let url = "redis+sentinel://s1,10.0.0.2:26380/mymaster?auth_file=/etc/s.txt";
        let upstream = Upstream::parse(url).unwrap();
        let Whereabouts::Sentinel(sentinel) = &upstream.whereabouts else {
            panic!("{upstream:?}");
        };
        assert_eq!(&*sentinel.name, "mymaster");
        assert_eq!(sentinel.auth_file.as_deref(), Some("/etc/s.txt"));
        let shown = "s1:26379,10.0.0.2:26380/mymaster?auth_file=/etc/s.txt";
        assert_eq!(upstream.whereabouts.to_string(), shown);
    }

    #[test]
    fn says_what_is_wrong_with_sentinels() {
        let cases = [
            ("redis+sentinel://a", UpstreamError::SentinelName),
            ("redis+sentinel://a/", UpstreamError::SentinelName),
            (
                "redis+sentinel://a/b/c",
                UpstreamError::SentinelNameOdd("b/c".into()),
            ),
            (
                "redis+sentinel://a/b?password=x",
                UpstreamError::SentinelParameter("password".into()),
            ),
            ("redis+sentinel://u:secret@a/b", UpstreamError::SentinelUser),
            ("redis+sentinel://a,/b", UpstreamError::HostMissing),
        ];
        for (url, error) in cases {
            assert_eq!(Upstream::parse(url), Err(error), "{url}");
        }
    }
}

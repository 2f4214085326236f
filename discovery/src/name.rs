//! A host name, looked up by this host's resolver each time it is asked for.
//!
//! Keeps no answer, so nothing can be stale; following a name by its TTL is for another source.

use std::collections::BTreeSet;

use tokio::net::lookup_host;

use crate::source::{Snapshot, Source, SourceError};

/// A host name and a port. Must be asked from within a tokio runtime.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Name {
    /// As configured; may be relative to the resolver's search path.
    pub host: Box<str>,
    /// The port that every address gets.
    pub port: u16,
}

impl Source for Name {
    async fn snapshot(&self) -> Result<Snapshot, SourceError> {
        let found = lookup_host((&*self.host, self.port))
            .await
            .map_err(|error| SourceError::Lookup {
                host: self.host.clone(),
                error,
            })?;
        let mut seen = BTreeSet::new();
        let addresses: Vec<_> = found.filter(|address| seen.insert(*address)).collect();
        if addresses.is_empty() {
            return Err(SourceError::NoAddress {
                host: self.host.clone(),
            });
        }
        Ok(Snapshot { addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_loopback_when_asked_for_localhost() {
        let name = Name {
            host: "localhost".into(),
            port: 5432,
        };
        let snapshot = name.snapshot().await.unwrap();
        assert!(
            snapshot
                .addresses
                .iter()
                .all(|a| a.ip().is_loopback() && a.port() == 5432)
        );
        let distinct: BTreeSet<_> = snapshot.addresses.iter().collect();
        assert_eq!(distinct.len(), snapshot.addresses.len());
    }

    #[tokio::test]
    async fn names_the_host_when_it_does_not_exist() {
        let name = Name {
            host: "no-such-host.invalid".into(),
            port: 5432,
        };
        let error = name.snapshot().await.unwrap_err();
        assert!(
            error.to_string().contains("no-such-host.invalid"),
            "{error}"
        );
    }
}

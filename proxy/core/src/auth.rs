//! Who may log in, and how the proxy logs in for them.
//!
//! Holds the answers that configuration gives; the exchange of messages is in `client` and
//! `upstream`.

use std::collections::BTreeMap;

/// How the clients of a service are authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Auth {
    /// The node decides; the proxy relays.
    Relay,
    /// Everybody is believed.
    Trust,
    /// A file of the proxy decides.
    Users,
}

/// The users file: a name and what it is checked against.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// By user name.
    pub by_name: BTreeMap<Box<[u8]>, Secret>,
}

/// What a user's password is checked against, and what the proxy can log in to a node with.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    /// `md5` and 32 hex digits: md5(password, user). Good for logging in to a node that asks md5.
    Md5(Box<str>),
    /// The password itself. Good for every node.
    Plain(Box<[u8]>),
    /// A SCRAM verifier as PostgreSQL stores it. Checks clients; cannot log in anywhere.
    Scram(Box<str>),
}

impl core::fmt::Debug for Secret {
    /// Says the kind and never the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Md5(_) => "Md5(…)",
            Self::Plain(_) => "Plain(…)",
            Self::Scram(_) => "Scram(…)",
        })
    }
}

//! Who may log in, and how the proxy logs in for them.
//!
//! Holds the answers that configuration gives; the exchange of messages is in `client` and
//! `upstream`.

use std::collections::BTreeMap;

use manifold_protocols::postgres::authentication::md5::Hash;
use manifold_protocols::postgres::authentication::scram::Keys;

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
    /// A SCRAM verifier as PostgreSQL stores it. Checks clients; a node that stores the very same
    /// verifier can be logged in to after the first client has proven itself.
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

/// What the proxy can prove to a node that asks for a user's password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential {
    /// The md5 hash: for a node that asks md5.
    Hash(Hash),
    /// The keys of one SCRAM verifier: for a node that stores that verifier.
    Keys(Keys),
    /// The password: for every node.
    Password(Password),
}

/// A password as the client wrote it.
#[derive(Clone, Eq, PartialEq)]
pub struct Password(pub Box<[u8]>);

impl core::fmt::Debug for Password {
    /// Never the password.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// How upstreams of a user and database can be opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Opening {
    /// Only by relaying a client's login: the node asks and the proxy has no secret.
    ByLoginOnly,
    /// Without any secret, as far as is known.
    Freely,
    /// The node may ask; the proxy answers.
    WithSecret(Credential),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_secrets_when_printed() {
        let password = Password(b"pencil".as_slice().into());
        let shown = [
            format!("{:?}", Opening::WithSecret(Credential::Password(password))),
            format!("{:?}", Credential::Hash(Hash::derive(b"pencil", b"alice"))),
            format!("{:?}", Secret::Plain(b"pencil".as_slice().into())),
            format!("{:?}", Secret::Md5("md5".into())),
        ];
        for text in shown {
            assert!(text.contains('…') && !text.contains("pencil"), "{text}");
        }
    }
}

//! Who may log in, and how the proxy logs in for them.
//!
//! Holds the answers that configuration gives; the exchange of messages is in `client` and
//! `upstream`.

use std::collections::BTreeMap;

use manifold_protocols::postgres::authentication::md5::Hash;
use manifold_protocols::postgres::authentication::scram::{Exchange, ITERATIONS, Keys, Verifier};
use sha2::{Digest, Sha256};

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
    by_name: BTreeMap<Box<[u8]>, Secret>,
    /// What passwords were derived to, by user name: ahead of all logins, because deriving takes
    /// a millisecond, and who asks for names by the thousand must neither cost that each time nor
    /// learn from it which of them exist.
    derived: BTreeMap<Box<[u8]>, Verifier>,
    /// What made-up salts start from.
    seed: [u8; 32],
}

impl Users {
    /// Takes in what the file says. Derives every password in it.
    pub fn new(by_name: BTreeMap<Box<[u8]>, Secret>) -> Self {
        let seed = seed(&by_name);
        let derived = by_name.iter().filter_map(|(user, secret)| {
            let Secret::Plain(password) = secret else {
                return None;
            };
            let salt = Verifier::salt_of(user, &seed);
            let verifier = Verifier::derive(password, &salt, ITERATIONS);
            Some((user.clone(), verifier))
        });
        let derived = derived.collect();
        Self {
            by_name,
            derived,
            seed,
        }
    }

    /// What a user is checked against.
    pub fn secret(&self, user: &[u8]) -> Option<&Secret> {
        self.by_name.get(user)
    }

    /// All users.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Secret)> {
        self.by_name.iter().map(|(user, secret)| (&**user, secret))
    }

    /// An exchange that checks a user, whether it exists or not. For nobody it derives anything.
    pub fn exchange(&self, user: &[u8], random: [u8; 18]) -> Exchange {
        let known = match self.secret(user) {
            Some(Secret::Scram(text)) => Verifier::decode(text.as_bytes()).ok(),
            Some(Secret::Plain(_)) => self.derived.get(user).cloned(),
            Some(Secret::Md5(_)) | None => None,
        };
        match known {
            Some(verifier) => Exchange::new(verifier, random),
            None => Exchange::mock(user, &self.seed, random),
        }
    }
}

/// What salts are made up from: the same after a restart, as those of stored verifiers are, and
/// not to be guessed if there are any of those. Passwords have no part in it: a salt is told to
/// everybody, and weak ones could be tried against it. Those who have them have made-up salts, too.
fn seed(by_name: &BTreeMap<Box<[u8]>, Secret>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"salts of users");
    for secret in by_name.values() {
        if let Secret::Scram(text) = secret {
            hash.update(text.as_bytes());
            hash.update(b"\n");
        }
    }
    hash.finalize().into()
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

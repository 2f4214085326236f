//! Who may log in in a run: what the node asks, what the proxy knows, what clients are asked.
//!
//! Knows users and passwords. Invariant: a client that knows its password gets in, whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use manifold_core::auth::{self, Auth, Secret};
use manifold_protocols::postgres::authentication::md5::Hash;

use crate::simulator::postgres::{Asks, Users, verifier_of};
use crate::simulator::prng::Prng;
use crate::simulator::world::Between;

/// The logins of a run.
#[derive(Clone, Debug)]
pub struct Logins {
    /// How the service authenticates its clients.
    pub auth: Auth,
    /// What the node asks.
    pub node: Users,
    /// What clients are asked.
    pub faced: Users,
    /// The users file of the proxy.
    pub file: Arc<auth::Users>,
}

const ALL: [Asks; 4] = [Asks::Nothing, Asks::Password, Asks::Md5, Asks::Scram];

impl Logins {
    /// Random logins.
    pub fn draw(prng: &mut Prng, between: Between) -> Self {
        let mut logins = Self {
            auth: Auth::Relay,
            node: Users::new(),
            faced: Users::new(),
            file: Arc::default(),
        };
        let kind = if between == Between::Nothing {
            3
        } else {
            prng.weighted(&[5, 1, 3, 1])
        };
        let mut file = BTreeMap::new();
        for user in ["app", "other"] {
            let password = format!("secret of {user}");
            let (asked, faced) = match kind {
                0 | 1 => (Asks::Nothing, Asks::Nothing),
                2 => {
                    let (secret, asked, faced) = draw_secret(prng, user, &password);
                    file.insert(Box::from(user.as_bytes()), secret);
                    (asked, faced)
                }
                _ => {
                    let asked = *prng.pick(&ALL);
                    (asked, asked)
                }
            };
            logins
                .node
                .insert(user.to_owned(), (asked, password.clone()));
            logins.faced.insert(user.to_owned(), (faced, password));
        }
        logins.auth = [Auth::Relay, Auth::Trust, Auth::Users, Auth::Relay][kind];
        logins.file = Arc::new(auth::Users::new(file));
        logins
    }

    /// Whether the proxy cannot open connections by itself: a lost one is lost for its clients.
    pub fn is_fragile(&self) -> bool {
        self.auth == Auth::Relay && self.node.values().any(|(asks, _)| *asks != Asks::Nothing)
    }
}

/// A secret, what a node may ask that it is good for, and what the proxy asks.
fn draw_secret(prng: &mut Prng, user: &str, password: &str) -> (Secret, Asks, Asks) {
    match prng.weighted(&[4, 4, 1]) {
        0 => {
            let hash = Hash::derive(password.as_bytes(), user.as_bytes()).encode();
            let secret = Secret::Md5(String::from_utf8_lossy(&hash).into());
            (secret, *prng.pick(&[Asks::Nothing, Asks::Md5]), Asks::Md5)
        }
        1 => {
            let secret = Secret::Scram(verifier_of(user, password).encode().into());
            (
                secret,
                *prng.pick(&[Asks::Nothing, Asks::Scram]),
                Asks::Scram,
            )
        }
        _ => (
            Secret::Plain(password.as_bytes().into()),
            *prng.pick(&ALL),
            Asks::Scram,
        ),
    }
}

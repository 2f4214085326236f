//! How a client answers the challenges of a login.
//!
//! Knows a password, no connection. Invariant: every answer fits the challenge that it is given for.

use manifold_protocols::postgres::authentication::scram::{Keys, Prover};
use postgres_protocol::authentication::md5_hash;

use crate::simulator::prng::Prng;
use crate::simulator::request::password;
use crate::simulator::wire::{Body, Fields};

/// One login's answers.
#[derive(Clone)]
pub(super) struct Proof {
    user: String,
    password: String,
    prover: Prover,
}

impl core::fmt::Debug for Proof {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Proof of {}", self.user)
    }
}

impl Proof {
    /// Answers for a user who believes that this is the password.
    pub(super) fn new(user: &str, password: &str, seed: u64) -> Self {
        let mut random = Prng::new(seed);
        let random = core::array::from_fn(|_| random.next() as u8);
        let (user, password) = (user.to_owned(), password.to_owned());
        Self {
            user,
            password,
            prover: Prover::new(random),
        }
    }

    /// The message that answers a challenge, if it asks for one.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Option<Vec<u8>> {
        let mut fields = Fields(challenge);
        match fields.int32()? {
            3 => Some(password(&self.password)),
            5 => {
                let salt = fields.raw(4)?.try_into().ok()?;
                let hash = md5_hash(self.user.as_bytes(), self.password.as_bytes(), salt);
                Some(password(&hash))
            }
            10 => {
                let body = Body::default().text(fields.text()?);
                Some(framed(body.sized(&self.prover.first_message())))
            }
            11 => {
                let challenge = self.prover.decode_challenge(fields.0).ok()?;
                let keys = Keys::derive(self.password.as_bytes(), &challenge);
                let answer = self.prover.answer(fields.0, &challenge, &keys);
                Some(framed(Body::default().raw(&answer)))
            }
            _ => None,
        }
    }
}

fn framed(body: Body) -> Vec<u8> {
    let mut out = Vec::new();
    body.send(&mut out, b'p');
    out
}

//! The exchange in which this side proves that it knows a password.
//!
//! Holds the three steps of it, without channel binding. It must not know where passwords come from
//! and has no randomness of its own. Its invariant: the other side is believed only after it has
//! proven to know the password, too.

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::attributes::Attributes;
use super::verifier::{normalised, salted};
use super::{Key, Verifier, hmac, sha256, xor};

/// More rounds than this are refused: they would hold the thread for longer than 100 ms.
pub const ITERATIONS_MAX: u32 = 200_000;

/// What the first message begins with: no channel binding, no other identity.
const HEADER: &[u8] = b"n,,";
/// The same in the final message, in base64.
const BINDING: &[u8] = b"c=biws";

/// The other side broke the mechanism's rules, or is not who it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProverError {
    /// It asks for too many rounds, or for none.
    #[error("it asks for {0} rounds of SCRAM, limit {ITERATIONS_MAX}")]
    Iterations(u32),
    /// A message breaks the format or does not belong here.
    #[error("it sent a malformed SCRAM message")]
    Malformed,
    /// It did not repeat this side's nonce.
    #[error("it sent a SCRAM nonce that is not the proxy's")]
    Nonce,
    /// The login was refused by the mechanism's own means.
    #[error("it refused the SCRAM exchange")]
    Refused,
    /// It does not know the password.
    #[error("it did not prove by SCRAM that it knows the password")]
    Signature,
}

/// What a password becomes for one salt: enough to log in wherever the same verifier is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    iterations: u32,
    salt: Vec<u8>,
    client_key: Key,
    server_key: Key,
}

impl Keys {
    /// Derives the keys that a challenge asks for. Costs two digests for each of its rounds.
    pub fn derive(password: &[u8], challenge: &Challenge) -> Self {
        let salted = salted(&normalised(password), &challenge.salt, challenge.iterations);
        Self {
            iterations: challenge.iterations,
            salt: challenge.salt.clone(),
            client_key: hmac(&salted, &[b"Client Key"]),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// The keys of a client that has proven itself against a verifier; none if it has not.
    pub fn learned(verifier: &Verifier, client_key: [u8; 32]) -> Option<Self> {
        let is_its_own = sha256(&client_key) == verifier.stored_key;
        is_its_own.then(|| Self {
            iterations: verifier.iterations,
            salt: verifier.salt.clone(),
            client_key,
            server_key: verifier.server_key,
        })
    }

    /// Whether they are what a challenge asks for.
    pub fn fit(&self, challenge: &Challenge) -> bool {
        self.iterations == challenge.iterations && self.salt == challenge.salt
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// What the other side asks to be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    nonce: Vec<u8>,
    salt: Vec<u8>,
    iterations: u32,
}

/// One exchange, seen from the side that proves.
#[derive(Clone)]
pub struct Prover {
    /// This side's half of the nonce.
    nonce: Vec<u8>,
    /// What the last message has to hold, once it is known.
    signature: Option<Key>,
}

impl Prover {
    /// An exchange that has not begun. `random` must never repeat.
    pub fn new(random: [u8; 18]) -> Self {
        Self::with_nonce(STANDARD.encode(random).into_bytes())
    }

    fn with_nonce(nonce: Vec<u8>) -> Self {
        Self {
            nonce,
            signature: None,
        }
    }

    /// The first message. The user's name is that of the startup packet.
    pub fn first_message(&self) -> Vec<u8> {
        [HEADER, &self.bare()].concat()
    }

    /// Reads the answer to the first message.
    pub fn decode_challenge(&self, message: &[u8]) -> Result<Challenge, ProverError> {
        let mut attributes = Attributes::new(message);
        let mut next = |name| attributes.expect(name).map_err(|_| ProverError::Malformed);
        let (nonce, salt, iterations) = (next(b'r')?, next(b's')?, next(b'i')?);
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ProverError::Nonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ProverError::Malformed)?;
        let iterations = core::str::from_utf8(iterations)
            .ok()
            .and_then(|text| text.parse().ok());
        let iterations = iterations.ok_or(ProverError::Malformed)?;
        if iterations == 0 || iterations > ITERATIONS_MAX {
            return Err(ProverError::Iterations(iterations));
        }
        Ok(Challenge {
            nonce: nonce.to_vec(),
            salt,
            iterations,
        })
    }

    /// The final message: the answer to `challenge`, which came as `message`.
    pub fn answer(&mut self, message: &[u8], challenge: &Challenge, keys: &Keys) -> Vec<u8> {
        debug_assert!(keys.fit(challenge), "the keys are those of the challenge");
        let without_proof = [BINDING, b",r=", &challenge.nonce].concat();
        let bare = self.bare();
        let parts: [&[u8]; 5] = [&bare, b",", message, b",", &without_proof];
        let stored_key = sha256(&keys.client_key);
        let proof = xor(keys.client_key, hmac(&stored_key, &parts));
        self.signature = Some(hmac(&keys.server_key, &parts));
        [
            &without_proof,
            b",p=".as_slice(),
            STANDARD.encode(proof).as_bytes(),
        ]
        .concat()
    }

    /// Checks the last message: whether the other side knows the password.
    pub fn verify(&self, message: &[u8]) -> Result<(), ProverError> {
        let expected = self.signature.ok_or(ProverError::Malformed)?;
        match Attributes::new(message).next() {
            Ok(Some((b'v', signature))) => {
                let signature = STANDARD
                    .decode(signature)
                    .map_err(|_| ProverError::Malformed)?;
                let is_equal: bool = expected.as_slice().ct_eq(&signature).into();
                if is_equal {
                    Ok(())
                } else {
                    Err(ProverError::Signature)
                }
            }
            Ok(Some((b'e', _))) => Err(ProverError::Refused),
            _ => Err(ProverError::Malformed),
        }
    }

    fn bare(&self) -> Vec<u8> {
        [b"n=,r=", self.nonce.as_slice()].concat()
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prover(…)")
    }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::super::{Exchange, Verdict};
    use super::*;

    fn verifier() -> Verifier {
        Verifier::derive(b"pencil", b"0123456789abcdef", 50)
    }

    /// Runs an exchange between both sides of ours: what each thinks of the other.
    fn run(password: &[u8], keys: Option<&Keys>) -> (Verdict, Result<(), ProverError>) {
        let mut exchange = Exchange::new(verifier(), [9; 18]);
        let mut prover = Prover::new([7; 18]);
        let first = exchange
            .handle_client_first(&prover.first_message())
            .unwrap();
        let challenge = prover.decode_challenge(&first).unwrap();
        let derived = Keys::derive(password, &challenge);
        let keys = keys.filter(|keys| keys.fit(&challenge)).unwrap_or(&derived);
        let last = prover.answer(&first, &challenge, keys);
        let verdict = exchange.handle_client_final(&last).unwrap();
        let trust = match &verdict {
            Verdict::Accepted { server_final, .. } => prover.verify(server_final),
            Verdict::Rejected => Err(ProverError::Refused),
        };
        (verdict, trust)
    }

    #[test]
    fn proves_itself_when_password_is_right() {
        let (verdict, trust) = run(b"pencil", None);
        assert!(matches!(verdict, Verdict::Accepted { .. }));
        assert_eq!(trust, Ok(()));
        let (verdict, _) = run(b"pencils", None);
        assert_eq!(verdict, Verdict::Rejected);
    }

    #[test]
    fn proves_itself_when_keys_were_learned_from_another() {
        let (verdict, _) = run(b"pencil", None);
        let Verdict::Accepted { client_key, .. } = verdict else {
            panic!("rejected")
        };
        let keys = Keys::learned(&verifier(), client_key).unwrap();
        assert!(Keys::learned(&verifier(), [1; 32]).is_none());
        let (verdict, trust) = run(b"not known", Some(&keys));
        assert!(matches!(verdict, Verdict::Accepted { .. }));
        assert_eq!(trust, Ok(()));
        assert_eq!(format!("{keys:?}"), "Keys(…)");
    }

    #[test]
    fn says_what_another_implementation_says() {
        // The nonce of the other one is random, so ours takes it over.
        let mut other = ScramSha256::new(b"pencil", ChannelBinding::unsupported());
        let nonce = other.message().strip_prefix(b"n,,n=,r=").unwrap().to_vec();
        let mut prover = Prover::with_nonce(nonce);
        assert_eq!(prover.first_message(), other.message());
        let mut exchange = Exchange::new(verifier(), [9; 18]);
        let first = exchange.handle_client_first(other.message()).unwrap();
        other.update(&first).unwrap();
        let challenge = prover.decode_challenge(&first).unwrap();
        let keys = Keys::derive(b"pencil", &challenge);
        assert_eq!(prover.answer(&first, &challenge, &keys), other.message());
        let verdict = exchange.handle_client_final(other.message()).unwrap();
        let Verdict::Accepted { server_final, .. } = verdict else {
            panic!("rejected")
        };
        assert_eq!(prover.verify(&server_final), Ok(()));
        other.finish(&server_final).unwrap();
    }

    #[test]
    fn rejects_challenge_when_malformed() {
        let prover = Prover::with_nonce(b"abc".to_vec());
        let decode = |message: &[u8]| prover.decode_challenge(message);
        assert!(decode(b"r=abcd,s=AAAA,i=4096").is_ok());
        let nonces = [
            b"r=abc,s=AAAA,i=1".as_slice(),
            b"r=bcd,s=AAAA,i=1",
            b"r=,s=AAAA,i=1",
        ];
        for message in nonces {
            assert_eq!(decode(message), Err(ProverError::Nonce));
        }
        for message in [
            b"".as_slice(),
            b"r=abcd",
            b"r=abcd,s=AAAA",
            b"r=abcd,s=A,i=1",
            b"r=abcd,s=AAAA,i=",
            b"r=abcd,s=AAAA,i=-1",
            b"e=other-error",
            b"r=abcd,s=AAAA,i=\xff",
        ] {
            assert_eq!(
                decode(message),
                Err(ProverError::Malformed),
                "{}",
                message.escape_ascii()
            );
        }
        assert_eq!(
            decode(b"r=abcd,s=AAAA,i=0"),
            Err(ProverError::Iterations(0))
        );
        assert_eq!(
            decode(b"r=abcd,s=AAAA,i=200001"),
            Err(ProverError::Iterations(200_001))
        );
    }

    #[test]
    fn rejects_last_message_when_it_proves_nothing() {
        let mut prover = Prover::with_nonce(b"abc".to_vec());
        assert_eq!(prover.verify(b"v=AAAA"), Err(ProverError::Malformed));
        let first = b"r=abcd,s=AAAA,i=1";
        let challenge = prover.decode_challenge(first).unwrap();
        prover.answer(first, &challenge, &Keys::derive(b"x", &challenge));
        let other = format!("v={}", STANDARD.encode([0; 32]));
        assert_eq!(prover.verify(other.as_bytes()), Err(ProverError::Signature));
        assert_eq!(prover.verify(b"v="), Err(ProverError::Signature));
        assert_eq!(prover.verify(b"e=invalid-proof"), Err(ProverError::Refused));
        assert_eq!(prover.verify(b""), Err(ProverError::Malformed));
        assert_eq!(format!("{prover:?}"), "Prover(…)");
    }
}

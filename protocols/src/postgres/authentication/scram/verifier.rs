//! What is stored of a password.
//!
//! Holds PostgreSQL's text form, the derivation from a password, and the made-up verifier of a user
//! that does not exist. It must not know the exchange. Its invariant: no key is ever printed.

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use thiserror::Error;

use super::{Key, hmac, keyed, sha256, xor};

/// How many rounds PostgreSQL uses unless told otherwise.
pub const ITERATIONS: u32 = 4096;

/// Bytes of a salt where PostgreSQL makes it.
const SALT_LEN: usize = 16;

/// What is stored of a password; enough to check it, not enough to log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

/// A text that is no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a SCRAM-SHA-256 verifier")]
pub struct VerifierError;

impl Verifier {
    /// Reads the stored form: `SCRAM-SHA-256$iterations:salt$stored key:server key`.
    pub fn decode(text: &[u8]) -> Result<Self, VerifierError> {
        Self::decode_parts(text).ok_or(VerifierError)
    }

    /// Derives a verifier. Costs two digests for each iteration: milliseconds, so keep the result.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = salted(&normalised(password), salt, iterations);
        Self {
            iterations: iterations.max(1),
            salt: salt.to_vec(),
            stored_key: sha256(&hmac(&salted, &[b"Client Key"])),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// The salt for a user whose password is kept as it is: the same at every try, and that of the
    /// made-up verifier, so that it does not tell whether the user exists.
    pub fn salt_of(user: &[u8], seed: &[u8; 32]) -> Vec<u8> {
        hmac(seed, &[b"salt", user])[..SALT_LEN].to_vec()
    }

    /// Makes up a verifier for a user that does not exist: the same at every try, so that the salt
    /// tells nothing. `seed` is a secret that outlives connections.
    pub fn mock(user: &[u8], seed: &[u8; 32]) -> Self {
        Self {
            iterations: ITERATIONS,
            salt: Self::salt_of(user, seed),
            stored_key: hmac(seed, &[b"stored", user]),
            server_key: hmac(seed, &[b"server", user]),
        }
    }

    /// The stored form.
    pub fn encode(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key),
        )
    }

    fn decode_parts(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text)
            .ok()?
            .strip_prefix("SCRAM-SHA-256$")?;
        let (parameters, keys) = text.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let is_number = !iterations.is_empty() && iterations.bytes().all(|b| b.is_ascii_digit());
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| is_number && *count > 0)?;
        Some(Self {
            iterations,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: decode_key(stored_key)?,
            server_key: decode_key(server_key)?,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

fn decode_key(text: &str) -> Option<Key> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// PostgreSQL takes a password that cannot be normalised as it is, and so do its clients.
pub(super) fn normalised(password: &[u8]) -> Vec<u8> {
    core::str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok())
        .filter(|text| !text.is_empty())
        .map_or_else(|| password.to_vec(), |text| text.into_owned().into_bytes())
}

/// PBKDF2 with HMAC-SHA-256 and a result of one block.
pub(super) fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let key = keyed(password);
    let mut round: Key = key
        .clone()
        .chain_update(salt)
        .chain_update([0, 0, 0, 1])
        .finalize()
        .into_bytes()
        .into();
    let mut result = round;
    for _ in 1..iterations {
        round = key
            .clone()
            .chain_update(round)
            .finalize()
            .into_bytes()
            .into();
        result = xor(result, round);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_another_implementation_derived() {
        for password in [
            "secret",
            "",
            "I\u{ad}X",
            "\u{2168}",
            "pass\u{7}word",
            "\u{1f600} ä",
        ] {
            let text = postgres_protocol::password::scram_sha_256(password.as_bytes());
            let verifier = Verifier::decode(text.as_bytes()).unwrap();
            let derived = Verifier::derive(password.as_bytes(), &verifier.salt, ITERATIONS);
            assert_eq!(verifier, derived, "{password:?}");
            assert_eq!(derived.encode(), text);
        }
    }

    #[test]
    fn rejects_verifier_when_malformed() {
        let text = Verifier::derive(b"secret", b"0123456789abcdef", 5).encode();
        assert!(Verifier::decode(text.as_bytes()).is_ok());
        for end in 0..text.len() {
            assert_eq!(
                Verifier::decode(&text.as_bytes()[..end]),
                Err(VerifierError)
            );
        }
        for (from, to) in [
            ("$5:", "$0:"),
            ("$5:", "$+5:"),
            ("$5:", "$:"),
            ("SHA-256", "SHA-1"),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_eq!(
                Verifier::decode(broken.as_bytes()),
                Err(VerifierError),
                "{broken}"
            );
        }
        assert!(Verifier::decode(format!("{text}=").as_bytes()).is_err());
    }

    #[test]
    fn makes_up_equal_verifiers_when_user_is_equal() {
        let seed = [7; 32];
        assert_eq!(Verifier::mock(b"eve", &seed), Verifier::mock(b"eve", &seed));
        assert_ne!(
            Verifier::mock(b"eve", &seed).salt,
            Verifier::mock(b"bob", &seed).salt
        );
        assert_ne!(
            Verifier::mock(b"eve", &seed).salt,
            Verifier::mock(b"eve", &[8; 32]).salt
        );
        assert_eq!(Verifier::mock(b"eve", &seed).salt.len(), SALT_LEN);
    }

    #[test]
    fn hides_keys_when_printed() {
        let verifier = Verifier::derive(b"secret", b"salt", 1);
        assert_eq!(format!("{verifier:?}"), "Verifier(…)");
    }
}

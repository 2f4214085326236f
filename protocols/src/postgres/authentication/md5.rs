//! Passwords hashed with MD5.
//!
//! Holds the stored hash and the answer to a salt. It must not know who asks. Its invariant: the
//! password itself is needed only to derive the hash.

use core::fmt;

use ::md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// What both the stored hash and the answer begin with.
const PREFIX: &[u8; 3] = b"md5";
/// Bytes of a digest in hex.
const HEX_LEN: usize = 32;

/// The answer of a client, and the form in which PostgreSQL stores a hash.
pub type Text = [u8; PREFIX.len() + HEX_LEN];

/// The hash of a user's password. Whoever has it can log in, just as with the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    hex: [u8; HEX_LEN],
}

impl Hash {
    /// Hashes a password.
    pub fn derive(password: &[u8], user: &[u8]) -> Self {
        Self {
            hex: digest(password, user),
        }
    }

    /// Reads the stored form: `md5` and 32 hex digits.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let hex = <[u8; HEX_LEN]>::try_from(text.strip_prefix(PREFIX)?).ok()?;
        let is_hex = hex
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then_some(Self { hex })
    }

    /// The stored form.
    pub fn encode(&self) -> Text {
        text(self.hex)
    }

    /// What a client answers to this salt.
    pub fn answer(&self, salt: [u8; 4]) -> Text {
        text(digest(&self.hex, &salt))
    }

    /// Whether a client's answer to this salt is right.
    pub fn verify(&self, salt: [u8; 4], answer: &[u8]) -> bool {
        self.answer(salt).ct_eq(answer).into()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// What a client with this password answers to this salt.
pub fn md5(password: &[u8], user: &[u8], salt: [u8; 4]) -> Text {
    Hash::derive(password, user).answer(salt)
}

fn digest(first: &[u8], second: &[u8]) -> [u8; HEX_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Md5::new()
        .chain_update(first)
        .chain_update(second)
        .finalize();
    let mut hex = [0; HEX_LEN];
    for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        *pair = [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ];
    }
    hex
}

fn text(hex: [u8; HEX_LEN]) -> Text {
    let mut text = [0; PREFIX.len() + HEX_LEN];
    text[..PREFIX.len()].copy_from_slice(PREFIX);
    text[PREFIX.len()..].copy_from_slice(&hex);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_like_other_clients_when_salted() {
        let salt = [0x2a, 0x3d, 0x8f, 0xe0];
        let expected = postgres_protocol::authentication::md5_hash(b"md5_user", b"password", salt);
        assert_eq!(
            md5(b"password", b"md5_user", salt).as_slice(),
            expected.as_bytes()
        );
        assert_eq!(expected, "md562af4dd09bbb41884907a838a3233294");
    }

    #[test]
    fn verifies_answer_when_hash_was_stored() {
        let stored = Hash::derive(b"secret", b"alice").encode();
        let hash = Hash::decode(&stored).unwrap();
        let answer = md5(b"secret", b"alice", *b"salt");
        assert!(hash.verify(*b"salt", &answer));
        assert!(!hash.verify(*b"tlas", &answer));
        assert!(!hash.verify(*b"salt", &answer[..34]));
        assert!(!hash.verify(*b"salt", b""));
    }

    #[test]
    fn rejects_stored_hash_when_malformed() {
        let stored = Hash::derive(b"secret", b"alice").encode();
        assert!(Hash::decode(&stored[..34]).is_none());
        assert!(Hash::decode(&stored.to_ascii_uppercase()).is_none());
        let mut upper = stored;
        upper[3..].make_ascii_uppercase();
        assert!(Hash::decode(&upper).is_none(), "{}", upper.escape_ascii());
        assert!(Hash::decode(b"md5").is_none());
    }
}

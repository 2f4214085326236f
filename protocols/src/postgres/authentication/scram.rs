//! SCRAM-SHA-256, the side that verifies and the side that proves.
//!
//! Holds the verifier of a password and the exchange from either side. It must not know the message
//! framing around it. Its invariant: an unknown user takes the same steps as a wrong password.

mod attributes;
mod exchange;
mod prover;
mod verifier;

pub use exchange::{Exchange, ScramError, Verdict};
pub use prover::{Challenge, ITERATIONS_MAX, Keys, Prover, ProverError};
pub use verifier::{ITERATIONS, Verifier, VerifierError};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The mechanism's name in the protocol.
pub const MECHANISM: &[u8] = b"SCRAM-SHA-256";

/// A digest or key.
type Key = [u8; 32];

fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC pads short keys and hashes long ones.
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn xor(left: Key, right: Key) -> Key {
    std::array::from_fn(|index| left[index] ^ right[index])
}

//! What a client sends, batch after batch.
//!
//! Pure: a script writes bytes and says how many ReadyForQuery they bring.

use std::io::Write;

use super::application::Application;
use crate::harness::frames;

/// The statement of pgbench's select-only script.
pub const SELECT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;";

/// The name under which it is prepared.
pub const SELECT_NAME: &str = "P0_1";

/// A small generator of random numbers (splitmix64); the same seed gives the same requests.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 1 to `max`.
    pub fn up_to(&mut self, max: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % max + 1
    }
}

/// What a client does.
#[derive(Clone, Debug)]
pub enum Script {
    /// What drivers and object mappers send.
    Application(Application),
    /// Nothing.
    Idle,
    /// A point read by a named statement, as `pgbench -S -M prepared` sends it.
    Select {
        /// The highest key.
        keys: u64,
    },
}

impl Script {
    /// What has to go through once after the login, with the number of ReadyForQuery it brings.
    pub fn preparation(&self) -> (Vec<u8>, u32) {
        match self {
            Self::Application(application) => application.preparation(),
            Self::Idle => (Vec::new(), 0),
            Self::Select { .. } => {
                let parse = frames::parse(SELECT_NAME, SELECT, &[]);
                ([parse, frames::sync()].concat(), 1)
            }
        }
    }

    /// Appends the next batch and says how many ReadyForQuery it brings; none means that the client
    /// stays silent.
    pub fn append_next(&mut self, random: &mut Random, out: &mut Vec<u8>) -> u32 {
        match self {
            Self::Application(application) => application.append_next(random, out),
            Self::Idle => 0,
            Self::Select { keys } => {
                append_select(random.up_to(*keys), out);
                1
            }
        }
    }
}

/// Bind, Describe, Execute and Sync, as libpq sends them for a prepared query with one parameter.
fn append_select(key: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut free = &mut digits[..];
    write!(free, "{key}").expect("20 digits hold any key");
    let free_len = free.len();
    let digits = &digits[..20 - free_len];
    // Portal, statement, no formats, one parameter; then one result format: text.
    let length = 4 + 1 + SELECT_NAME.len() + 1 + 2 + 2 + 4 + digits.len() + 4;
    out.push(b'B');
    out.extend(u32::try_from(length).expect("small").to_be_bytes());
    out.push(0);
    out.extend(SELECT_NAME.as_bytes());
    out.extend([0, 0, 0, 0, 1]);
    out.extend(u32::try_from(digits.len()).expect("small").to_be_bytes());
    out.extend(digits);
    out.extend([0, 1, 0, 0]);
    out.extend(b"D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::frames::frame;

    #[test]
    fn sends_four_messages_for_a_select() {
        let mut bytes = Vec::new();
        append_select(12_345, &mut bytes);
        let wanted = [
            frame(b'B', b"\0P0_1\0\0\0\0\x01\0\0\0\x0512345\0\x01\0\0"),
            frames::describe_portal(""),
            frames::execute("", 0),
            frames::sync(),
        ];
        assert_eq!(bytes, wanted.concat());
    }

    #[test]
    fn draws_every_key_of_a_small_range() {
        let mut random = Random::new(7);
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[random.up_to(10) as usize - 1] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}

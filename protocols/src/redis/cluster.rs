//! Slots of a cluster.
//!
//! Holds how a key is turned into its slot. It must not know which node has a slot. Its invariant:
//! every node of every version answers `CLUSTER KEYSLOT` with the same number.

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// Remainders of all bytes by CRC-16/XMODEM (polynomial 0x1021, nothing reflected).
const REMAINDERS: [u16; 256] = remainders();

const fn remainders() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut rest = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let is_set = rest & 0x8000 != 0;
            rest <<= 1;
            if is_set {
                rest ^= 0x1021;
            }
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// Slot of a key: the remainder of its tag, or of all of it if it has none.
pub fn slot(key: &[u8]) -> u16 {
    let mut rest = 0_u16;
    for byte in tag(key).unwrap_or(key) {
        rest = (rest << 8) ^ REMAINDERS[usize::from((rest >> 8) as u8 ^ byte)];
    }
    rest % SLOTS
}

/// What lies between the first `{` and the first `}` behind it, unless that is nothing.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = &key[open + 1..];
    let len = rest.iter().position(|byte| *byte == b'}')?;
    (len > 0).then(|| &rest[..len])
}

//! Writing one message.
//!
//! Holds the few steps that all encoders share. It must not know which message it writes. Its
//! invariant: what is appended is one whole message whose length word is right.

/// Appends a message: the tag, the length and what `body` appends.
#[inline]
pub(super) fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    sized(out, body);
}

/// Appends a length word that counts itself, and what `body` appends.
#[inline]
pub(super) fn sized(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = length(out.len() - start);
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends a text and its terminator. The text cannot hold a terminator of its own.
#[inline]
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(
        !text.contains(&0),
        "a text with a terminator inside ends there"
    );
    out.extend_from_slice(text);
    out.push(0);
}

/// Appends a text of unknown origin, up to a terminator inside it, and its terminator.
pub(super) fn foreign_string(out: &mut Vec<u8>, text: &[u8]) {
    string(
        out,
        text.split(|byte| *byte == 0).next().unwrap_or_default(),
    );
}

/// Appends a length word and the bytes, or -1 for `None`.
#[inline]
pub(super) fn value(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&length(bytes.len()).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// A count of columns or texts as it goes over the wire.
#[inline]
pub(super) fn count(len: usize) -> [u8; 2] {
    // Counts are of lists that this process made; PostgreSQL itself stops at 1 664 columns.
    u16::try_from(len)
        .expect("lists on the wire have at most 65535 items")
        .to_be_bytes()
}

#[inline]
fn length(len: usize) -> i32 {
    // Everything encoded here was bounded far below this by the limits on what is read.
    i32::try_from(len).expect("messages are shorter than 2 GiB")
}

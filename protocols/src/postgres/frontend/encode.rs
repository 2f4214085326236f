//! The encoders of what clients send.
//!
//! Holds one function per message, each appending to the caller's buffer. It must not know to whom
//! the bytes go. Its invariant: what is appended decodes to the arguments.

use super::TargetKind;
use crate::postgres::startup::{CANCEL_CODE, SSL_CODE};
use crate::postgres::writer::{message, sized, string, value};

/// Appends a Bind; `rest` is everything behind the statement's name, as decoding yields it.
#[inline]
pub fn encode_bind(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], rest: &[u8]) {
    message(out, b'B', |out| {
        string(out, portal);
        string(out, statement);
        out.extend_from_slice(rest);
    });
}

/// Appends a Parse; `types` is the count word and the object ids, as decoding yields it.
#[inline]
pub fn encode_parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) {
    message(out, b'P', |out| {
        string(out, name);
        string(out, text);
        out.extend_from_slice(types);
    });
}

/// Appends a Describe.
#[inline]
pub fn encode_describe(out: &mut Vec<u8>, kind: TargetKind, name: &[u8]) {
    encode_target(out, b'D', kind, name);
}

/// Appends a Close.
#[inline]
pub fn encode_close(out: &mut Vec<u8>, kind: TargetKind, name: &[u8]) {
    encode_target(out, b'C', kind, name);
}

/// Appends an Execute.
#[inline]
pub fn encode_execute(out: &mut Vec<u8>, portal: &[u8], rows_max: i32) {
    message(out, b'E', |out| {
        string(out, portal);
        out.extend_from_slice(&rows_max.to_be_bytes());
    });
}

/// Appends a Sync.
#[inline]
pub fn encode_sync(out: &mut Vec<u8>) {
    out.extend_from_slice(b"S\0\0\0\x04");
}

/// Appends a Flush.
#[inline]
pub fn encode_flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"H\0\0\0\x04");
}

/// Appends a Query.
#[inline]
pub fn encode_query(out: &mut Vec<u8>, text: &[u8]) {
    message(out, b'Q', |out| string(out, text));
}

/// Appends a Terminate.
pub fn encode_terminate(out: &mut Vec<u8>) {
    out.extend_from_slice(b"X\0\0\0\x04");
}

/// Appends a CopyFail.
pub fn encode_copy_fail(out: &mut Vec<u8>, reason: &[u8]) {
    message(out, b'f', |out| string(out, reason));
}

/// Appends a password, clear or hashed, which is terminated here.
pub fn encode_password(out: &mut Vec<u8>, password: &[u8]) {
    message(out, b'p', |out| string(out, password));
}

/// Appends the choice of a SASL mechanism with its first message.
pub fn encode_sasl_initial(out: &mut Vec<u8>, mechanism: &[u8], data: &[u8]) {
    message(out, b'p', |out| {
        string(out, mechanism);
        value(out, Some(data));
    });
}

/// Appends a further message of a SASL mechanism.
pub fn encode_sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    message(out, b'p', |out| out.extend_from_slice(data));
}

/// Appends a startup packet with these parameters.
pub fn encode_startup(out: &mut Vec<u8>, major: u16, minor: u16, parameters: &[(&[u8], &[u8])]) {
    sized(out, |out| {
        out.extend_from_slice(&major.to_be_bytes());
        out.extend_from_slice(&minor.to_be_bytes());
        for (name, value) in parameters {
            debug_assert!(!name.is_empty(), "an empty name ends the list");
            string(out, name);
            string(out, value);
        }
        out.push(0);
    });
}

/// Appends a request to cancel what the process `pid` does.
pub fn encode_cancel(out: &mut Vec<u8>, pid: u32, secret: &[u8]) {
    sized(out, |out| {
        out.extend_from_slice(&CANCEL_CODE.to_be_bytes());
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Appends the question whether the node speaks TLS.
pub fn encode_ssl_request(out: &mut Vec<u8>) {
    sized(out, |out| out.extend_from_slice(&SSL_CODE.to_be_bytes()));
}

#[inline]
fn encode_target(out: &mut Vec<u8>, tag: u8, kind: TargetKind, name: &[u8]) {
    message(out, tag, |out| {
        out.push(kind.byte());
        string(out, name);
    });
}

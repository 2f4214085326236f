//! Whether a frame is the one that the private connection would have sent.
//!
//! Knows what is allowed to differ and why. Invariant: everything else is compared byte by byte.

use crate::simulator::postgres::extended::STALE_PLAN;
use crate::simulator::wire::{Fields, Frame, report_of};

/// What no two connections have in common, blotted out.
pub(super) fn normalise(frame: &Frame) -> Frame {
    let body = match frame.tag {
        b'K' => Vec::new(),
        // Salts, nonces and proofs.
        b'R' if matches!(frame.body.get(3), Some(5 | 11 | 12)) => frame.body[..4].to_vec(),
        // Position, file, line and routine are the node's own business.
        b'E' | b'N' => match report_of(&frame.body) {
            // Whoever cannot read a message says so in words of its own.
            Some([severity, code, _]) if severity == "FATAL" && code == "08P01" => code.into(),
            Some(report) => report.join("|").into_bytes(),
            None => frame.body.clone(),
        },
        _ => frame.body.clone(),
    };
    Frame {
        tag: frame.tag,
        body,
    }
}

/// A frame in a few words, for people.
pub(super) fn describe(frame: &Frame) -> String {
    let text: String = String::from_utf8_lossy(&normalise(frame).body)
        .chars()
        .map(|sign| if sign.is_control() { '.' } else { sign })
        .take(120)
        .collect();
    format!("{}({text})", char::from(frame.tag))
}

/// The code of an error and whether it ends the connection.
pub(super) fn error_code(frame: &Frame) -> Option<(String, bool)> {
    if frame.tag != b'E' {
        return None;
    }
    let [severity, code, _] = report_of(&frame.body)?;
    Some((code, severity != "ERROR"))
}

/// Whether a frame refuses a statement because its columns are others than when it was prepared.
pub(super) fn is_stale_plan(frame: &Frame) -> bool {
    let report = report_of(&frame.body).filter(|_| frame.tag == b'E');
    report.is_some_and(|[_, code, text]| code == "0A000" && text == STALE_PLAN)
}

/// Whether both are a row that counts committed tokens, which nobody can know after a fault.
pub(super) fn are_counts(one: &Frame, two: &Frame) -> bool {
    let is_count = |frame: &Frame| {
        let mut fields = Fields(&frame.body);
        frame.tag == b'D'
            && fields.int16() == Some(1)
            && fields
                .sized()
                .flatten()
                .is_some_and(|value| value.iter().all(u8::is_ascii_digit))
    };
    is_count(one) && is_count(two)
}

//! Operators.
//!
//! Holds where a run of operator characters is cut. It must not know which operators exist. Its
//! invariant: an operator has at least one byte and holds no comment.

use super::class::{Class, class};

/// The end of the operator at `start`, where no comment begins.
#[inline]
pub(super) fn end(text: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    while end < text.len() && class(text[end]) == Class::Operator && !is_comment(text, end) {
        end += 1;
    }
    if end == start + 1 {
        end
    } else {
        cut_sign(text, start, end)
    }
}

#[inline]
fn is_comment(text: &[u8], position: usize) -> bool {
    matches!(text[position..], [b'-', b'-', ..] | [b'/', b'*', ..])
}

/// A sign at the end is a token of its own, unless the operator is none that the standard knows.
fn cut_sign(text: &[u8], start: usize, end: usize) -> usize {
    let is_special = |byte: &u8| b"~!@#^&|`?%".contains(byte);
    if text[start..end].iter().any(is_special) {
        return end;
    }
    let mut end = end;
    while end > start + 1 && matches!(text[end - 1], b'+' | b'-') {
        end -= 1;
    }
    end
}

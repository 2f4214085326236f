//! What both drivers do when accepting fails.
//!
//! Knows no driver. Invariant: a fault that lasts is tried again later, never at once.

use std::time::Duration;

use manifold_core::time::Instant;

use crate::clock;

/// How long accepting rests after a fault of ours. A descriptor that this driver frees ends it
/// earlier; one that another part of the process frees is found by this.
pub(crate) const RETRY_TIME: Duration = Duration::from_millis(100);

/// Whether the next accept would fail the same way. Else only one client is lost.
pub(crate) fn is_lasting(errno: i32) -> bool {
    let passing = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EINTR,
        libc::EPROTO,
        libc::EPERM,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ENONET,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::ETIMEDOUT,
    ];
    !passing.contains(&errno)
}

/// Says so to the operator.
pub(crate) fn log_error(errno: i32) {
    let error = std::io::Error::from_raw_os_error(errno);
    tracing::warn!("accepting clients rests for {RETRY_TIME:?}: {error}");
}

/// A timeout that ends when accepting is to be tried again.
pub(crate) fn shorten(timeout: Option<Duration>, retry: Option<Instant>) -> Option<Duration> {
    let Some(retry) = retry else { return timeout };
    let left = retry.since(clock::now());
    Some(timeout.map_or(left, |timeout| timeout.min(left)))
}

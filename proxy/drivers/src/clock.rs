//! The clock that drivers hand to the core.
//!
//! Invariant: it never goes back.

use manifold_core::time::Instant;

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now() -> Instant {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec to a place of ours.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(result, 0, "every Linux has CLOCK_MONOTONIC");
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn advances_by_what_was_slept() {
        let before = super::now();
        std::thread::sleep(Duration::from_millis(5));
        let passed = super::now().since(before);
        assert!(passed >= Duration::from_millis(5), "{passed:?}");
        assert!(passed < Duration::from_secs(60), "{passed:?}");
    }
}

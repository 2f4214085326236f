//! What another thread rings to wake a shard up.
//!
//! Knows nothing of what it is rung for. Invariant: a ring is never lost; several before the shard
//! looks are one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Rings at one driver. Cheap to clone, and may be rung from any thread at any time, also after
/// the driver is gone.
#[derive(Clone, Debug)]
pub struct Doorbell {
    file: Arc<File>,
}

impl Doorbell {
    /// A doorbell that nobody has rung.
    ///
    /// It blocks on purpose: io_uring waits for a blocking descriptor, and answers EAGAIN at once
    /// for one that does not block.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            file: Arc::new(File::from(fd)),
        })
    }

    /// Wakes the shard up, or keeps it from falling asleep.
    pub fn ring(&self) {
        // It can fail only if the count stood at 2^64 - 2, and then the bell is ringing.
        let _ = (&*self.file).write(&1_u64.to_ne_bytes());
    }

    /// Takes all rings so far. Only to be called when there is one, or it waits for one.
    pub(crate) fn answer(&self) {
        let _ = (&*self.file).read(&mut [0; 8]);
    }

    /// The descriptor, which becomes readable by a ring.
    pub(crate) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

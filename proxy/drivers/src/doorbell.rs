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
    /// Where other rings reach the driver's ring, if it has one.
    line: Option<Arc<OwnedFd>>,
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
            line: None,
        })
    }

    /// The same, for a driver that other rings can reach. The descriptor is the doorbell's own, so
    /// that its number never means anything else while somebody has the doorbell.
    pub(crate) fn with_line(self, line: Option<OwnedFd>) -> Self {
        let line = line.map(Arc::new);
        Self { line, ..self }
    }

    /// Where other rings reach the driver, if they do.
    pub(crate) fn line(&self) -> Option<&OwnedFd> {
        self.line.as_deref()
    }

    /// Whether both are the doorbell of one driver.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }

    /// Wakes the shard up, or keeps it from falling asleep. A shard has [`crate::Driver::ring`],
    /// which costs it less.
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

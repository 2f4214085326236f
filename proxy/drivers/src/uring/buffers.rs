//! The receive buffers that all sockets of a ring share.
//!
//! Knows nothing of sockets. Invariant: a buffer is either the kernel's (its number was published
//! to it and no completion has named it since) or ours, never both.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The only group of buffers of a ring.
pub(super) const GROUP: u16 = 0;

/// The registered ring of buffers, and the buffers.
pub(super) struct Buffers {
    entries: Mapping,
    bytes: Mapping,
    mask: u16,
    buffer_bytes: usize,
    /// Where the next entry goes; the kernel sees it only once published.
    tail: u16,
    published: u16,
}

impl Buffers {
    /// Gives `count` buffers of `buffer_bytes` to a ring; `count` is a power of two up to 32 768.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        buffer_bytes: u32,
    ) -> io::Result<Self> {
        assert!(
            count.is_power_of_two(),
            "checked when the driver was opened"
        );
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let bytes = Mapping::new(usize::from(count) * buffer_bytes as usize)?;
        let address = entries.start.as_ptr() as u64;
        // SAFETY: both mappings live in the result, which its owner drops only when nothing is in
        // flight and after unregistering, or with the ring.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0)? };
        let mut buffers = Self {
            entries,
            bytes,
            mask: count - 1,
            buffer_bytes: buffer_bytes as usize,
            tail: 0,
            published: 0,
        };
        for id in 0..count {
            buffers.queue(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What the kernel has put into a buffer. The buffer is queued to go back: it is the caller's
    /// until `publish`.
    pub(super) fn take(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(
            id <= self.mask && len <= self.buffer_bytes,
            "buffer {id} with {len} bytes"
        );
        self.queue(id);
        let offset = usize::from(id) * self.buffer_bytes;
        // SAFETY: the range lies in the mapping, checked above. The kernel gave the buffer up with
        // the completion that named it, and learns of it again only by `publish`, which needs the
        // same exclusive borrow that the slice holds.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.start.as_ptr().add(offset), len) }
    }

    /// Writes an entry that the kernel does not see yet.
    fn queue(&mut self, id: u16) {
        let place = usize::from(self.tail & self.mask);
        let offset = usize::from(id) * self.buffer_bytes;
        // SAFETY: `place` is within the mapped entries and `offset` within the buffers. The kernel
        // does not read entries at or beyond the published tail, and there are as many places as
        // buffers, so the place is not one that it still has to read.
        unsafe {
            let entry = &mut *self
                .entries
                .start
                .as_ptr()
                .cast::<BufRingEntry>()
                .add(place);
            entry.set_addr(self.bytes.start.as_ptr().add(offset) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Gives all queued buffers to the kernel, with one store.
    pub(super) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        // SAFETY: the tail is a field of the first entry of a mapping that lives as long as self,
        // aligned for u16, and only ever accessed atomically while the kernel may read it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.start.as_ptr().cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
        self.published = self.tail;
    }
}

/// Anonymous memory of our own, page-aligned as the kernel wants it.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap succeeded, and never maps address 0");
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and nobody refers to it any more: slices borrow the
        // owner, and the kernel has let go of it as `Buffers::register` says.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0);
    }
}

//! The two queues shared with the kernel, and the one system call that serves both.
//!
//! Knows nothing of sockets. Invariant: only the thread that made it uses it, and whatever an entry
//! points to lives until its completion has been taken out.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, squeue};

use crate::config::SUBMISSIONS;

/// What an operation came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    /// What the entry was pushed with.
    pub(super) token: u64,
    /// Zero or more, or a negated errno.
    pub(super) result: i32,
    /// The flags of the completion.
    pub(super) flags: u32,
}

/// A ring, split for its whole life: the descriptor that `register_ring_fd` registers is
/// remembered by that one `Submitter` only.
pub(super) struct Ring {
    submitter: ManuallyDrop<Submitter<'static>>,
    submissions: ManuallyDrop<SubmissionQueue<'static>>,
    completions: ManuallyDrop<CompletionQueue<'static>>,
    /// What the three borrow from. It was boxed and is freed last.
    io_uring: *mut IoUring,
    flags: EnterFlags,
    descriptor: RawFd,
}

impl Ring {
    /// Makes a ring for the calling thread.
    pub(super) fn open(completions: u32) -> io::Result<Self> {
        let io_uring = match build(completions, true) {
            // Before Linux 6.6 there is always an array.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(completions, false)?,
            built => built?,
        };
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if io_uring.params().is_feature_no_iowait() {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let descriptor = io_uring.as_raw_fd();
        let io_uring = Box::into_raw(Box::new(io_uring));
        // SAFETY: the box is freed only by `drop`, after the three that borrow from it, and is
        // used through them alone until then.
        let (mut submitter, submissions, completions) = unsafe { &mut *io_uring }.split();
        let registered = submitter.register_ring_fd();
        let ring = Self {
            submitter: ManuallyDrop::new(submitter),
            submissions: ManuallyDrop::new(submissions),
            completions: ManuallyDrop::new(completions),
            io_uring,
            flags,
            descriptor,
        };
        registered.map(|()| ring)
    }

    /// For registrations.
    pub(super) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// The ring's own descriptor.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps it open for as long as it lives, and the borrow ends before that.
        unsafe { BorrowedFd::borrow_raw(self.descriptor) }
    }

    /// Queues an operation for the next `enter`.
    ///
    /// # Safety
    ///
    /// Whatever memory the entry points to must stay valid, unmoved and, if the kernel writes to
    /// it, unused until the completion of the entry has been taken out.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller vouches for the entry.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.submit();
        }
    }

    /// Makes room in the submission queue.
    fn submit(&mut self) {
        self.submissions.sync();
        let submitted = self.submitter.submit();
        self.submissions.sync();
        self.completions.sync();
        if let Err(error) = submitted {
            let passing = [libc::EINTR, libc::EAGAIN, libc::EBUSY];
            let errno = error.raw_os_error();
            assert!(
                errno.is_some_and(|errno| passing.contains(&errno)),
                "io_uring: {error}"
            );
        }
    }

    /// Submits what was pushed, and waits for `want` completions or until the time is up.
    pub(super) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.submissions.sync();
        let timeout = timeout.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timeout) = &timeout {
            args = args.timespec(timeout);
        }
        let pushed = self.submissions.len() as u32;
        // SAFETY: EXT_ARG says that the argument is an `io_uring_getevents_arg`, of which
        // `SubmitArgs` is a transparent wrapper; it and the time it points to outlive the call.
        let entered = unsafe {
            self.submitter
                .enter(pushed, want, self.flags.bits(), Some(&args))
        };
        self.submissions.sync();
        self.completions.sync();
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) => Ok(()),
            // Nothing came, a signal did, or the kernel wants completions to be taken first.
            Err((Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Operations that the next `enter` submits.
    pub(super) fn pushed(&mut self) -> u32 {
        self.submissions.sync();
        self.submissions.len() as u32
    }

    /// Takes a completion out.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        let entry = self.completions.next()?;
        Some(Completion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        })
    }

    /// Tells the kernel which completions have been taken out.
    pub(super) fn release(&mut self) {
        self.completions.sync();
    }

    /// Whether the next `enter` would have something to do or to bring.
    pub(super) fn has_work(&mut self) -> bool {
        self.completions.sync();
        !self.completions.is_empty() || self.submissions.taskrun()
    }

    /// Whether the kernel holds completions for which there was no room.
    pub(super) fn is_overflown(&self) -> bool {
        self.submissions.cq_overflow()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The registration holds the ring open for as long as the thread lives.
        let _ = self.submitter.unregister_ring_fd();
        // SAFETY: each is dropped once, here, and the borrowers before what they borrow from; the
        // pointer came out of a box.
        unsafe {
            ManuallyDrop::drop(&mut self.submissions);
            ManuallyDrop::drop(&mut self.completions);
            ManuallyDrop::drop(&mut self.submitter);
            drop(Box::from_raw(self.io_uring));
        }
    }
}

/// Asks for exactly what the driver relies on. Completions are posted only when this thread enters
/// (DEFER_TASKRUN, which needs SINGLE_ISSUER), and TASKRUN_FLAG makes them visible to a submit
/// that does not wait.
fn build(completions: u32, is_without_array: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions)
        .dontfork();
    if is_without_array {
        builder.setup_no_sqarray();
    }
    builder.build(SUBMISSIONS)
}

//! Which driver this process uses, found out by trying.
//!
//! Knows no shard. Invariant: io_uring is passed over only because it is not to be had here; every
//! other fault would hit the other driver as well and is reported.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use manifold_core::event::{Event, Failure};
use manifold_core::ids::ConnId;

use crate::config::{Config, DriverError, Kind};
use crate::uring::Uring;

/// Which driver the operator asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wanted {
    /// io_uring where it is available, epoll elsewhere.
    #[default]
    Auto,
    /// epoll.
    Epoll,
    /// io_uring, or nothing.
    IoUring,
}

/// How long the kernel may take to bring the bytes of the probe.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const CONN: ConnId = ConnId {
    index: 0,
    generation: 0,
};
const BYTES: &[u8] = b"probe";

/// Chooses the driver for the whole process, and says why in words for the operator. To be called
/// once.
pub fn choose(wanted: Wanted) -> Result<(Kind, String), DriverError> {
    match wanted {
        Wanted::Epoll => Ok((Kind::Epoll, "epoll was asked for".to_owned())),
        Wanted::IoUring => {
            try_io_uring()?;
            Ok((Kind::IoUring, "io_uring was asked for and works".to_owned()))
        }
        Wanted::Auto => match try_io_uring() {
            Ok(()) => Ok((Kind::IoUring, "io_uring works here".to_owned())),
            Err(error @ DriverError::Unavailable { .. }) => Ok((Kind::Epoll, error.to_string())),
            Err(error) => Err(error),
        },
    }
}

/// Receives over a real ring with the real flags. Asking which operations the kernel knows would
/// not do: multishot, buffer rings and set-up flags hide behind operations that are older.
fn try_io_uring() -> Result<(), DriverError> {
    let config = Config {
        buffers: 2,
        ..Config::default()
    };
    let mut uring = Uring::open(&config)?;
    let (ours, mut theirs) =
        UnixStream::pair().map_err(|e| DriverError::from_kernel("making a pair of sockets", e))?;
    uring.adopt_socket(CONN, ours.into());
    theirs
        .write_all(BYTES)
        .map_err(|e| DriverError::from_kernel("writing to a socket", e))?;
    let step = "receiving with a multishot operation";
    let mut outcome = Err(io::Error::from(io::ErrorKind::TimedOut));
    uring
        .wait(Some(ANSWER_TIME_MAX), &mut |event| match event {
            Event::Received { bytes, .. } if bytes == BYTES => outcome = Ok(()),
            Event::Failed {
                failure: Failure::Other(errno),
                ..
            } => {
                outcome = Err(io::Error::from_raw_os_error(errno));
            }
            _ => {}
        })
        .map_err(|e| DriverError::from_kernel("entering a ring", e))?;
    outcome.map_err(|source| DriverError::Unavailable { step, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Makes `io_uring_setup` fail with an errno, for the calling thread only.
    fn forbid_io_uring(errno: i32) {
        let filter = |code: u32, jump_true, jump_false, k| libc::sock_filter {
            code: code as u16,
            jt: jump_true,
            jf: jump_false,
            k,
        };
        let is_setup = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let give_back = libc::BPF_RET | libc::BPF_K;
        let mut program = [
            // The number of the system call is the first field of `seccomp_data`.
            filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            filter(is_setup, 0, 1, libc::SYS_io_uring_setup as u32),
            filter(give_back, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            filter(give_back, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: 4,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the program outlives the calls, and the kernel copies it.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program), 0);
        }
    }

    fn choose_where_forbidden(errno: i32, wanted: Wanted) -> Result<(Kind, String), DriverError> {
        let chosen = thread::spawn(move || {
            forbid_io_uring(errno);
            choose(wanted)
        });
        chosen.join().unwrap()
    }

    #[test]
    fn falls_back_and_says_why_where_io_uring_is_forbidden() {
        for errno in [
            libc::EPERM,
            libc::ENOSYS,
            libc::EOPNOTSUPP,
            libc::EINVAL,
            libc::EACCES,
        ] {
            let (kind, reason) = choose_where_forbidden(errno, Wanted::Auto).unwrap();
            assert_eq!(kind, Kind::Epoll);
            let said = io::Error::from_raw_os_error(errno).to_string();
            assert!(
                reason.contains("not available") && reason.contains(&said),
                "{reason}"
            );
        }
    }

    #[test]
    fn refuses_when_io_uring_is_wanted_and_forbidden() {
        let chosen = choose_where_forbidden(libc::EPERM, Wanted::IoUring);
        assert!(
            matches!(chosen, Err(DriverError::Unavailable { .. })),
            "{chosen:?}"
        );
    }

    #[test]
    fn reports_a_fault_that_would_hit_epoll_too() {
        for errno in [libc::EMFILE, libc::ENOMEM] {
            let chosen = choose_where_forbidden(errno, Wanted::Auto);
            assert!(
                matches!(chosen, Err(DriverError::Exhausted { .. })),
                "{chosen:?}"
            );
        }
    }

    #[test]
    fn needs_no_io_uring_when_epoll_is_wanted() {
        let (kind, _) = choose_where_forbidden(libc::EMFILE, Wanted::Epoll).unwrap();
        assert_eq!(kind, Kind::Epoll);
    }

    #[test]
    fn agrees_with_whether_a_real_driver_opens() {
        let (kind, reason) = choose(Wanted::Auto).unwrap();
        assert_eq!(
            kind == Kind::IoUring,
            Uring::open(&Config::default()).is_ok(),
            "{reason}"
        );
    }
}

//! What a driver is opened with, what it counts, and what can go wrong in opening it.
//!
//! Plain values. Invariant: every size and time that a driver uses comes from here.

use std::fmt;
use std::io;
use std::time::Duration;

/// Places of io_uring's submission queue. It only has to hold what one pass submits; more is
/// submitted in between. The kernel wants at least as many places for completions.
pub(crate) const SUBMISSIONS: u32 = 256;

/// Which of the two drivers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Readiness, on every Linux.
    Epoll,
    /// Completions, from Linux 6.1 on, where it is allowed.
    IoUring,
}

impl Kind {
    /// The name that settings and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a driver is opened with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Receive buffers that all sockets of the driver share: a power of two, at most 32 768.
    /// Only io_uring uses them.
    pub buffers: u16,
    /// The size of one receive buffer in bytes, at most 1 MiB.
    pub buffer_bytes: u32,
    /// Places of the completion queue, at least 256: twice what one pass may complete is right.
    /// Fewer lose nothing but cost time. Only io_uring has one.
    pub completions: u32,
    /// When an upstream connection without traffic is first asked whether it still lives.
    pub keepalive_idle: Duration,
    /// The time between further such questions.
    pub keepalive_interval: Duration,
    /// How many of them may stay without an answer.
    pub keepalive_retries: u32,
    /// How long bytes sent to an upstream may stay unacknowledged (TCP_USER_TIMEOUT).
    pub user_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            buffers: 1024,
            buffer_bytes: 4096,
            completions: 4096,
            keepalive_idle: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_retries: 3,
            user_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Refuses what the kernel could not be asked for.
    pub(crate) fn check(&self) -> Result<(), DriverError> {
        let range = |name, value: u32, is_ok: bool, wanted| match is_ok {
            true => Ok(()),
            false => Err(DriverError::OutOfRange {
                name,
                value: value.into(),
                wanted,
            }),
        };
        let (buffers, bytes) = (self.buffers, self.buffer_bytes);
        let is_ok = buffers.is_power_of_two();
        range(
            "buffers",
            buffers.into(),
            is_ok,
            "a power of two up to 32768",
        )?;
        let is_ok = (1..=1 << 20).contains(&bytes);
        range("buffer_bytes", bytes, is_ok, "1 to 1048576")?;
        let is_ok = (SUBMISSIONS..=1 << 20).contains(&self.completions);
        range("completions", self.completions, is_ok, "256 to 1048576")
    }
}

/// How a call of [`crate::Driver::wait`] waits when there is nothing to deliver yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Patience {
    /// Sleeps until something happens.
    #[default]
    Sleep,
    /// Looks for events for so long before it sleeps. Spends a core to save the time of a wake-up.
    Look(Duration),
    /// Sleeps until there are so many events, or so much time has gone by, and there is one. With
    /// epoll, which cannot wait for several, the same as `Sleep`.
    Gather {
        /// How many.
        events: u32,
        /// How long at most.
        time: Duration,
    },
}

/// What a call of [`crate::Driver::wait`] woke up for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Woken {
    /// Whether a [`crate::Doorbell`] rang since the last pass.
    pub doorbell: bool,
    /// How many events were delivered.
    pub events: u32,
}

/// What a driver has done since it was opened. Only the driver writes; whoever shows it copies it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Calls of `wait`.
    pub passes: u64,
    /// Sockets accepted.
    pub accepts: u64,
    /// Times that accepting failed and was put off, mostly for want of descriptors.
    pub accept_errors: u64,
    /// Connects begun.
    pub connects: u64,
    /// Times that bytes were received.
    pub receives: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Times that the kernel took bytes to send.
    pub sends: u64,
    /// Sends of which the kernel took only a part.
    pub sends_short: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Receives that ended because no receive buffer was free.
    pub starved: u64,
    /// Passes that found the completion queue overflown.
    pub overflows: u64,
    /// Other drivers rung from ring to ring.
    pub knocks: u64,
    /// Such rings that the kernel refused, so that the doorbell's file was rung instead.
    pub knocks_lost: u64,
    /// Completions for connections that were gone. Each is ignored.
    pub stale: u64,
}

/// Why a driver could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// This host does not offer io_uring, or not enough of it.
    #[error("io_uring is not available here: {step}: {source}")]
    Unavailable {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// This process is out of something, or a limit is too low.
    #[error("the driver could not be opened: {step}: {source}")]
    Exhausted {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A value of the configuration is out of its range.
    #[error("{name} = {value} is out of range: {wanted}")]
    OutOfRange {
        /// The field of [`Config`].
        name: &'static str,
        /// What it was.
        value: u64,
        /// What it has to be.
        wanted: &'static str,
    },
}

impl DriverError {
    /// Sorts an error of the kernel: those that mean "not to be had here", after which another
    /// driver may serve, and those that would hit that one just the same.
    pub(crate) fn from_kernel(step: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
                Self::Unavailable { step, source }
            }
            _ => Self::Exhausted { step, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_values_out_of_range_by_name() {
        let usual = Config::default;
        for (config, wanted) in [
            (
                Config {
                    buffers: 0,
                    ..usual()
                },
                "buffers",
            ),
            (
                Config {
                    buffers: 48,
                    ..usual()
                },
                "buffers",
            ),
            (
                Config {
                    buffer_bytes: 0,
                    ..usual()
                },
                "buffer_bytes",
            ),
            (
                Config {
                    buffer_bytes: (1 << 20) + 1,
                    ..usual()
                },
                "buffer_bytes",
            ),
            (
                Config {
                    completions: 255,
                    ..usual()
                },
                "completions",
            ),
            (
                Config {
                    completions: u32::MAX,
                    ..usual()
                },
                "completions",
            ),
        ] {
            let refused = config.check();
            let is_it =
                matches!(refused, Err(DriverError::OutOfRange { name, .. }) if name == wanted);
            assert!(is_it, "{wanted}: {refused:?}");
        }
        assert!(usual().check().is_ok());
        assert!(
            Config {
                buffers: 32_768,
                ..usual()
            }
            .check()
            .is_ok()
        );
    }
}

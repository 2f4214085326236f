//! What the operator says by signals.
//!
//! SIGTERM and SIGINT: stop, but let what is in flight finish. SIGINT again: at once. SIGHUP: read
//! the configuration again, as far as it can change while serving. SIGUSR1: say what was done.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that this process minds, from the moment that this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user: Signal,
}

impl Signals {
    /// Begins to mind them. To be called within a runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Acts on them for ever. `stop` is cancelled by the first signal to stop, `at_once` by a
    /// SIGINT after it; `reload` is called on each SIGHUP, `tell` on each SIGUSR1.
    pub async fn watch(
        mut self,
        stop: CancellationToken,
        at_once: CancellationToken,
        mut reload: impl FnMut(),
        mut tell: impl FnMut(),
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => stop.cancel(),
                _ = self.interrupt.recv() => {
                    if stop.is_cancelled() {
                        at_once.cancel();
                    }
                    stop.cancel();
                }
                _ = self.hang_up.recv() => reload(),
                _ = self.user.recv() => tell(),
            }
        }
    }
}

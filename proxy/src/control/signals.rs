//! What the operator says by signals.
//!
//! SIGTERM and SIGINT: stop, but let what is in flight finish. SIGINT again: at once. SIGHUP: read
//! the configuration again, as far as it can change while serving.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Begins to watch. `stop` is cancelled by the first signal to stop, `at_once` by the second
/// SIGINT; `reload` is called on each SIGHUP.
pub fn watch(
    stop: &CancellationToken,
    at_once: &CancellationToken,
    mut reload: impl FnMut() + Send + 'static,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (stop, at_once) = (stop.clone(), at_once.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => stop.cancel(),
                _ = interrupt.recv() => {
                    if stop.is_cancelled() {
                        at_once.cancel();
                    }
                    stop.cancel();
                }
                _ = hang_up.recv() => reload(),
            }
        }
    });
    Ok(())
}

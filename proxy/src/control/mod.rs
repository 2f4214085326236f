//! The control plane: one thread with a tokio runtime, beside the shards.
//!
//! Looks names up, minds signals, reads counters. Nothing that a client waits for on the hot path
//! happens here. Invariant: it ends only after every shard has, or when it is told twice.

mod names;
mod report;
mod signals;

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::logging::Logging;
use crate::shards::{Lookup, Shards};

/// Names that are being looked up at once, on threads of the runtime.
const LOOKUPS_MAX: usize = 16;

/// How everything ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// All shards have ended by themselves.
    Drained,
    /// Somebody did not want to wait for that.
    AtOnce,
}

/// A runtime for the calling thread.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS_MAX)
        .build()
}

/// Runs until the shards have ended.
pub async fn run(
    config: &Config,
    mut shards: Shards,
    lookups: mpsc::Receiver<Lookup>,
    mut logging: Logging,
) -> io::Result<Ending> {
    let stop = CancellationToken::new();
    let at_once = CancellationToken::new();
    tokio::spawn(names::answer(names::Names::new(config), lookups));
    tokio::spawn(report::report(shards.boards.clone()));
    signals::watch(&stop, &at_once, move || logging.reload())?;
    tokio::select! {
        () = stop.cancelled() => {}
        // Shards that end without being told to have nothing to serve.
        _ = shards.running.recv() => return Ok(Ending::Drained),
    }
    let deadline = config.drain_time_max;
    tracing::warn!(
        deadline_s = deadline.as_secs_f64(),
        "stopping: requests in flight may finish"
    );
    shards.drain(milliseconds(deadline));
    let ending = tokio::select! {
        _ = shards.running.recv() => Ending::Drained,
        () = at_once.cancelled() => return Ok(Ending::AtOnce),
    };
    shards.join();
    Ok(ending)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

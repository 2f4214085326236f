//! The control plane: one thread with a tokio runtime, beside the shards.
//!
//! Looks names up, minds signals, reads counters. Nothing that a client waits for on the hot path
//! happens here. Invariant: it ends only after every shard has, or when it is told twice.

mod follow;
mod metrics;
mod reload;
mod report;
mod signals;
mod tally;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::logging::Logging;
use crate::shards::{Lookup, Shards};
use reload::Reload;
use signals::Signals;

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

/// The control plane of the calling thread.
#[derive(Debug)]
pub struct Control {
    runtime: Runtime,
    signals: Signals,
}

impl Control {
    /// Minds signals from now on; what comes before [`Self::run`] waits for it.
    pub fn new() -> io::Result<Self> {
        let mut builder = Builder::new_current_thread();
        let runtime = builder
            .enable_all()
            .max_blocking_threads(LOOKUPS_MAX)
            .build()?;
        let within = runtime.enter();
        let signals = Signals::new()?;
        drop(within);
        Ok(Self { runtime, signals })
    }

    /// Runs until the shards have ended.
    pub fn run(
        self,
        config: &Config,
        shards: &mut Shards,
        lookups: mpsc::Receiver<Lookup>,
        logging: Logging,
        counters: Option<TcpListener>,
    ) -> Ending {
        let Self { runtime, signals } = self;
        let ending = runtime.block_on(run(config, signals, shards, lookups, logging, counters));
        // A look-up may hang; nobody waits for it any more.
        runtime.shutdown_background();
        ending
    }
}

async fn run(
    config: &Config,
    signals: Signals,
    shards: &mut Shards,
    lookups: mpsc::Receiver<Lookup>,
    logging: Logging,
    counters: Option<TcpListener>,
) -> Ending {
    let mut reload = Reload::new(config, logging, shards.mailboxes.clone());
    let stop = CancellationToken::new();
    let at_once = CancellationToken::new();
    let mailboxes = shards.mailboxes.clone();
    tokio::spawn(follow::follow(config.clone(), mailboxes, lookups));
    let (pages, page) = watch::channel(String::new());
    tokio::spawn(report::report(shards.boards.clone(), pages));
    if let Some(listener) = counters {
        tokio::spawn(metrics::serve(listener, page));
    }
    let (told, boards) = (config.clone(), shards.boards.clone());
    tokio::spawn(signals.watch(
        stop.clone(),
        at_once.clone(),
        move || reload.reload(),
        move || tally::log(&told, &boards),
    ));
    tokio::select! {
        () = stop.cancelled() => {}
        // Shards that end without being told to have nothing to serve.
        _ = shards.running.recv() => return Ending::Drained,
    }
    let deadline = config.drain_time_max;
    tracing::info!(
        deadline_s = deadline.as_secs_f64(),
        "stopping: requests in flight may finish"
    );
    shards.drain(milliseconds(deadline));
    let ending = tokio::select! {
        _ = shards.running.recv() => Ending::Drained,
        () = at_once.cancelled() => Ending::AtOnce,
    };
    tally::log(config, &shards.boards);
    ending
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

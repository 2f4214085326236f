//! What is said to the operator, and where: lines on standard error.
//!
//! Quiet by default. Invariant: nothing that is logged holds statement text or a secret; whoever
//! logs sees to it.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, Options};

/// The target of the one line that is logged when serving begins.
pub const SERVING: &str = "manifold::serving";

/// The logging of this process.
#[derive(Debug)]
pub struct Logging {
    filter: Handle<Targets, Registry>,
    options: Options,
}

impl Logging {
    /// Begins to log. To be called once in a process.
    pub fn begin(log: Log, options: Options) -> Self {
        let (filter, handle) = reload::Layer::new(targets(log));
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal());
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Self {
            filter: handle,
            options,
        }
    }

    /// What the configuration is loaded from.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Logs so much from now on.
    pub fn set(&mut self, log: Log) {
        // It fails only if the subscriber is gone, and then nobody listens.
        let _ = self.filter.reload(targets(log));
    }
}

/// What is let through.
fn targets(log: Log) -> Targets {
    let targets = match log {
        Log::Error => Targets::new().with_default(LevelFilter::ERROR),
        Log::Warn => Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target(SERVING, LevelFilter::INFO),
        Log::Info => Targets::new().with_default(LevelFilter::INFO),
        Log::Debug => return Targets::new().with_default(LevelFilter::DEBUG),
    };
    // It tells of each attempt to connect. What that comes to is said once, and not by it.
    targets.with_target("zookeeper_client", LevelFilter::OFF)
}

//! `manifold serve`, from options to the end of the process.
//!
//! Puts the rooms together and knows none of them from inside. Invariant: whatever stands in the
//! way of serving is printed with a hint before the first client could connect.

use std::fmt::Display;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{self, ExitCode};

use manifold_drivers::{Kind, choose};
use tokio::sync::mpsc;

use crate::config::{Config, Options, Problem, Severity};
use crate::control::{Control, Ending};
use crate::descriptors;
use crate::logging::{Logging, SERVING};
use crate::shards::{Listeners, Lookup, Plan, Shards};

/// Questions for addresses that may wait to be taken on.
const LOOKUPS_WAITING_MAX: usize = 1_024;

/// What a shell reports for a process that SIGINT has ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Serves until told to stop.
pub fn serve(options: Options) -> ExitCode {
    let (config, problems) = options.load();
    let Some(mut config) = config else {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        problems
            .iter()
            .filter(is_error)
            .for_each(|problem| eprintln!("{problem}"));
        return ExitCode::FAILURE;
    };
    let logging = Logging::begin(config.log, options);
    for problem in problems {
        tracing::warn!("{}: {}", problem.place, problem.message);
    }
    // Before anybody is told that it serves: a signal must never find a process that ignores it.
    let control = match Control::new() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("the control plane could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match start(&mut config) {
        Ok(started) => finish(&config, control, started, logging),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// What runs.
struct Started {
    shards: Shards,
    lookups: mpsc::Receiver<Lookup>,
    sockets: UnixPaths,
    /// Where counters can be read.
    control: Option<TcpListener>,
}

/// Starts everything, or says in words why not.
fn start(config: &mut Config) -> Result<Started, String> {
    let connections: Vec<_> = config.services.iter().map(|s| s.connections_max).collect();
    let plan = Plan::new(config.shards, &connections);
    descriptors::raise(config, &plan);
    let (kind, reason) = choose(config.driver).map_err(|error| {
        hinted(
            error,
            "driver = \"auto\" falls back to epoll where io_uring is not available",
        )
    })?;
    let listeners =
        Listeners::bind(&config.services, &plan).map_err(|error| hinted(&error, error.hint()))?;
    let sockets = UnixPaths(listeners.unix_paths());
    let control = config.control.map(bind_control).transpose()?;
    let services = describe(config, &listeners);
    let (sender, lookups) = mpsc::channel(LOOKUPS_WAITING_MAX);
    let shards =
        Shards::start(config, &plan, kind, listeners, sender).map_err(|error| hinted(error, ""))?;
    announce(kind, &reason, plan.shards, &services);
    Ok(Started {
        shards,
        lookups,
        sockets,
        control,
    })
}

/// Binds the address where counters can be read.
fn bind_control(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        let message = format!("control cannot listen on {address}: {error}");
        hinted(
            message,
            "control = \"127.0.0.1:6480\", or another free port",
        )
    })
}

/// Runs the control plane on this thread until the end.
fn finish(config: &Config, control: Control, started: Started, logging: Logging) -> ExitCode {
    let Started {
        mut shards,
        lookups,
        sockets,
        control: counters,
    } = started;
    let ending = control.run(config, &mut shards, lookups, logging, counters);
    drop(sockets);
    match ending {
        Ending::Drained => {
            shards.join();
            ExitCode::SUCCESS
        }
        // Without a word to the shards: they may be what somebody did not want to wait for.
        Ending::AtOnce => process::exit(EXIT_INTERRUPTED),
    }
}

/// The one line that is logged when serving begins.
fn announce(kind: Kind, reason: &str, shards: u32, services: &str) {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(
        target: SERVING,
        "manifold {version} serves {services}; {shards} shards; driver {kind}: {reason}"
    );
}

/// Every service with where it listens and where it leads.
fn describe(config: &Config, listeners: &Listeners) -> String {
    let services = config
        .services
        .iter()
        .zip(&listeners.addresses)
        .map(|(service, addresses)| {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let whereabouts = &service.upstream.whereabouts;
            format!(
                "{:?} on {} -> {whereabouts}",
                service.name,
                addresses.join(", ")
            )
        });
    services.collect::<Vec<_>>().join("; ")
}

fn hinted(message: impl Display, hint: &str) -> String {
    if hint.is_empty() {
        message.to_string()
    } else {
        format!("{message}\n  hint: {hint}")
    }
}

/// Paths of unix sockets, which are removed in the end.
struct UnixPaths(Vec<PathBuf>);

impl Drop for UnixPaths {
    fn drop(&mut self) {
        for path in &self.0 {
            // Whoever removed it before us wanted the same.
            let _ = fs::remove_file(path);
        }
    }
}

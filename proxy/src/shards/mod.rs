//! The data plane: one thread per shard, pinned to a core.
//!
//! Starts the threads, hands each its driver, sockets and settings, and tells them when to end.
//! Knows no protocol. Invariant: a shard begins to accept only when all shards could be started.

mod core;
mod listeners;
mod mailbox;
mod outside;
mod plan;
mod snapshot;
mod spin;
mod turn;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use manifold_core::audience::Audience;
use manifold_core::event::Address;
use manifold_core::ids::{ListenerId, ServiceId, ShardId};
use manifold_core::permits::Permits;
use manifold_core::roster::Roster;
use manifold_core::shard::Settings;
use manifold_core::topology::{self, Protocol, Target};
use manifold_discovery::Whereabouts;
use manifold_drivers::{Doorbell, Driver, DriverError, Kind, Listener};
use tokio::sync::mpsc;

pub use listeners::{BindError, Listeners};
pub use mailbox::{Answer, Letter, Mailbox};
pub use outside::Lookup;
pub use plan::Plan;
pub use snapshot::{Board, Snapshot};

use crate::classify::{Classifier, Request};
use crate::config::{Config, Listen, Service};
use mailbox::{Inbox, mailbox};
use outside::{Outside, Ways};
use snapshot::Publisher;
use spin::Spin;
use turn::Turn;

/// Why the shards could not be started. The environment is to blame.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The thread that classifies statements could not be made.
    #[error("the thread that classifies statements could not be started: {0}")]
    Classifier(io::Error),
    /// A driver could not be opened.
    #[error("shard {shard}: {source}")]
    Driver {
        /// Whose.
        shard: u32,
        /// Why.
        source: DriverError,
    },
    /// A socket could not be accepted on.
    #[error("shard {shard} cannot accept: {source}")]
    Listen {
        /// Whose.
        shard: u32,
        /// Why.
        source: io::Error,
    },
    /// A thread could not be made.
    #[error("the thread of shard {shard} could not be started: {source}")]
    Thread {
        /// Whose.
        shard: u32,
        /// Why.
        source: io::Error,
    },
}

/// The running shards.
#[derive(Debug)]
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
    /// Ends when it is dropped and no shard can ask any more.
    classifier: Classifier,
    /// Where each is told things, by number.
    pub mailboxes: Arc<[Mailbox]>,
    /// Where each publishes its counters, by number.
    pub boards: Vec<Board>,
    /// Yields nothing, and ends when the last shard has ended.
    pub running: mpsc::Receiver<()>,
}

/// What one shard's thread begins with.
struct Start {
    settings: Settings,
    kind: Kind,
    sockets: Vec<(ListenerId, Listener)>,
    board: Board,
    /// Held while the shard runs.
    running: mpsc::Sender<()>,
}

/// What a thread hears once all drivers are open.
type Go = (Ways, Inbox);

/// A thread that has been made and may not have opened its driver yet.
struct Opening {
    thread: JoinHandle<()>,
    opened: Receiver<Result<Doorbell, StartError>>,
    go: SyncSender<Go>,
}

impl Shards {
    /// Starts a thread per shard of the plan.
    pub fn start(
        config: &Config,
        plan: &Plan,
        kind: Kind,
        listeners: Listeners,
        lookups: mpsc::Sender<Lookup>,
    ) -> Result<Self, StartError> {
        let (running_sender, running) = mpsc::channel(1);
        let services = services(&config.services, plan, &listeners);
        let mut openings = Vec::new();
        let mut boards = Vec::new();
        for (id, sockets) in (0..plan.shards).zip(listeners.by_shard) {
            let board = Board::default();
            boards.push(board.clone());
            let start = Start {
                settings: settings(config, plan, ShardId(id), &services),
                kind,
                sockets,
                board,
                running: running_sender.clone(),
            };
            openings.push(Opening::begin(start)?);
        }
        release(openings, boards, running, lookups)
    }

    /// Tells every shard to finish what is in flight within so many milliseconds, and to end.
    pub fn drain(&self, deadline_ms: u64) {
        for mailbox in &*self.mailboxes {
            mailbox.send(Letter::Drain(deadline_ms));
        }
    }

    /// Waits until all threads are gone.
    pub fn join(self) {
        for thread in self.threads {
            // A shard's thread cannot panic without ending the process.
            let _ = thread.join();
        }
        drop(self.classifier);
    }
}

impl Opening {
    /// Makes the thread of a shard.
    fn begin(start: Start) -> Result<Self, StartError> {
        let (opened_sender, opened) = sync_channel(1);
        let (go, go_receiver) = sync_channel(1);
        let shard = start.settings.id.0;
        let thread = thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || run(start, &opened_sender, &go_receiver))
            .map_err(|source| StartError::Thread { shard, source })?;
        Ok(Self { thread, opened, go })
    }
}

/// Waits until all drivers are open, and lets their shards begin.
fn release(
    openings: Vec<Opening>,
    boards: Vec<Board>,
    running: mpsc::Receiver<()>,
    lookups: mpsc::Sender<Lookup>,
) -> Result<Shards, StartError> {
    let mut mailboxes = Vec::new();
    let mut waiting = Vec::new();
    for Opening { thread, opened, go } in openings {
        // A thread that ends without a word has panicked, and that ends the process.
        let Ok(doorbell) = opened.recv() else {
            continue;
        };
        let (mailbox, inbox) = mailbox(doorbell?);
        mailboxes.push(mailbox);
        waiting.push((thread, go, inbox));
    }
    let mailboxes: Arc<[Mailbox]> = mailboxes.into();
    let (classifier, requests) = classifier(mailboxes.clone())?;
    let ways = Ways {
        mailboxes: mailboxes.clone(),
        classifier: requests,
        lookups,
    };
    let mut threads = Vec::new();
    for (thread, go, inbox) in waiting {
        let _ = go.send((ways.clone(), inbox));
        threads.push(thread);
    }
    Ok(Shards {
        threads,
        classifier,
        mailboxes,
        boards,
        running,
    })
}

/// The thread that classifies, and a way to ask it.
fn classifier(mailboxes: Arc<[Mailbox]>) -> Result<(Classifier, SyncSender<Request>), StartError> {
    let deliver = move |asker, answer| outside::deliver(&mailboxes, asker, answer);
    let classifier = Classifier::spawn(deliver).map_err(StartError::Classifier)?;
    let requests = classifier
        .sender()
        .ok_or_else(|| StartError::Classifier(io::Error::other("it ended before it began")))?;
    Ok((classifier, requests))
}

/// The thread of a shard.
fn run(start: Start, opened: &SyncSender<Result<Doorbell, StartError>>, go: &Receiver<Go>) {
    let _guard = AbortOnPanic;
    let id = start.settings.id;
    let spin = Spin::of_unpinned();
    pin(id.0);
    let mut driver = match open(&start.settings, start.kind, start.sockets) {
        Ok(driver) => driver,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    let _ = opened.send(Ok(driver.doorbell()));
    // No word means that another shard could not be started.
    let Ok((ways, inbox)) = go.recv() else {
        return;
    };
    let outside = Outside::new(id, ways);
    let publisher = Publisher::new(start.board, Driver::now());
    Turn::new(start.settings, inbox, outside, publisher, spin).run(&mut driver);
    drop(driver);
    drop(start.running);
}

fn open(
    settings: &Settings,
    kind: Kind,
    sockets: Vec<(ListenerId, Listener)>,
) -> Result<Driver, StartError> {
    let shard = settings.id.0;
    let mut driver = Driver::open(kind, &manifold_drivers::Config::default())
        .map_err(|source| StartError::Driver { shard, source })?;
    for (id, socket) in sockets {
        driver
            .listen(id, socket)
            .map_err(|source| StartError::Listen { shard, source })?;
    }
    Ok(driver)
}

/// A panic on a shard's thread outside of its core is a fault of the driver or of the loop: memory
/// may be shared with the kernel, so nothing may be unwound.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Pins the calling thread to a core of its own, if there is one. Failure costs speed only.
fn pin(shard: u32) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
        return;
    };
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    // More shards than cores share them as the kernel sees fit.
    let Some(core) = cores.nth(shard as usize) else {
        return;
    };
    let mut own = rustix::thread::CpuSet::new();
    own.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &own) {
        tracing::warn!(
            shard,
            core,
            "this shard could not be pinned to a core: {error}"
        );
    }
}

/// The services as the core knows them.
fn services(services: &[Service], plan: &Plan, listeners: &Listeners) -> Vec<topology::Service> {
    let numbered = (0..)
        .map(ServiceId)
        .zip(services)
        .zip(&listeners.by_service)
        .zip(&plan.serving);
    let mut services: Vec<_> = numbered
        .map(|(((id, service), listeners), serving)| topology::Service {
            id,
            name: service.name.clone(),
            listeners: listeners.clone(),
            target: match &service.upstream.whereabouts {
                Whereabouts::Ip(address) => Target::Address(Address::Ip(*address)),
                Whereabouts::Name(host, _) => Target::Name((&**host).into()),
                several @ (Whereabouts::Seeds(_)
                | Whereabouts::List(_)
                | Whereabouts::Sentinel(_)
                | Whereabouts::Srv(_)
                | Whereabouts::Zookeeper(_)) => Target::Name(several.to_string().into()),
                Whereabouts::Unix(path) => Target::Address(Address::Unix((&**path).into())),
            },
            protocol: match service.upstream.protocol {
                manifold_discovery::Protocol::Postgres => Protocol::Postgres,
                manifold_discovery::Protocol::Redis => Protocol::Redis,
            },
            is_admin: service.is_admin,
            auth: service.auth,
            users: service.users.clone(),
            shards: serving.len() as u32,
            permits: Arc::new(Permits::new(service.connections_max)),
            audience: Arc::new(Audience::default()),
            part_of: None,
            wants_primary: wants_primary(service),
            cluster: is_cluster(service).then(|| {
                let announced = announced(service);
                Arc::new(Roster::new(service.connections_max, announced))
            }),
        })
        .collect();
    // A node counts subscribers whatever the service they came through.
    for place in 1..services.len() {
        let (before, rest) = services.split_at_mut(place);
        let same = before.iter().find(|other| other.target == rest[0].target);
        if let Some(same) = same {
            rest[0].audience = same.audience.clone();
        }
    }
    services
}

/// Whether its nodes are to be asked who of them takes writes. What ZooKeeper says of that is a
/// hint that may be late, and for most formats nothing.
fn wants_primary(service: &Service) -> bool {
    let is_postgres = service.upstream.protocol == manifold_discovery::Protocol::Postgres;
    match service.upstream.whereabouts {
        Whereabouts::List(_) | Whereabouts::Sentinel(_) | Whereabouts::Srv(_) => true,
        Whereabouts::Zookeeper(_) => is_postgres,
        _ => false,
    }
}

fn is_cluster(service: &Service) -> bool {
    matches!(service.upstream.whereabouts, Whereabouts::Seeds(_))
}

/// Where clients find a service, as far as its listeners say.
fn announced(service: &Service) -> Option<SocketAddr> {
    service
        .listen
        .iter()
        .find_map(|written| match written.value {
            Listen::Ip(address) => Some(address),
            Listen::Unix(_) => None,
        })
}

/// What one shard's core is made from: permits in a ledger of its own, and its part of the clients.
fn settings(config: &Config, plan: &Plan, id: ShardId, services: &[topology::Service]) -> Settings {
    let mut services = services.to_vec();
    for service in &mut services {
        service.permits = Arc::new(service.permits.share());
        service.audience = Arc::new(service.audience.share());
        service.cluster = service.cluster.as_ref().map(|it| Arc::new(it.share()));
    }
    let mut limits = config.limits.clone();
    limits.clients_max = limits.clients_max.div_ceil(plan.shards);
    Settings {
        id,
        shards: plan.shards,
        seed: seed(),
        limits,
        services,
    }
}

/// A random number from the operating system.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(read, Ok(bytes.len()), "up to 256 random bytes come at once");
    u64::from_ne_bytes(bytes)
}

//! How a world begins, and how clients find their way into it.
//!
//! Knows what a run is made of. Invariant: a world is made from its seed and set-up alone.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use manifold_core::auth::{Auth, Users};
use manifold_core::event::{Address, Failure};
use manifold_core::ids::{ListenerId, ServiceId, ShardId};
use manifold_core::permits::Permits;
use manifold_core::roster::Roster;
use manifold_core::shard::{Settings, Shard};
use manifold_core::time::Instant;
use manifold_core::topology::{Protocol, Service, Target};

use super::course::{Between, CLIENT, Course, Faults, NODE};
use super::nodes::NodePort;
use super::passes::SimShard;
use super::{Acts, Play, World};
use crate::simulator::Setup;
use crate::simulator::classifier::Classifier;
use crate::simulator::driver::{Dialled, Driver};
use crate::simulator::network::{LinkId, Network, Patience};
use crate::simulator::prng::Prng;
use crate::simulator::serves::Serves;
use crate::simulator::trace::Trace;

impl<P: Play> World<P> {
    /// The world of a seed.
    pub fn new(seed: u64, setup: Setup) -> Self {
        let (course, play, mut prng) = P::draw(seed, setup);
        let network = Network::new(course.weather, prng.fork());
        let port = play.new_port(seed, prng.fork());
        let numbers = 1..=course.clients;
        let clients = numbers.map(|it| play.new_client(&course, it, Instant(0), &mut prng));
        let clients = clients.collect();
        let mut shards = match course.between {
            Between::Nothing => Vec::new(),
            Between::Shards(count) => new_shards(seed, count, &play.plan(), &course, &mut prng),
        };
        if let Some(bug) = setup.bug {
            shards.iter_mut().for_each(|sim| sim.shard.plant(bug));
        }
        let mut trace = Trace::new(setup.is_printed);
        trace.note(Instant(0), b"begin", || format!("{course:?} {play:?}"));
        Self {
            seed,
            course,
            now: Instant(0),
            prng,
            network,
            port,
            shards,
            clients,
            trace,
            play,
            is_healed: false,
            is_draining: false,
            violation: None,
        }
    }

    /// Somebody new comes for a client that has gone, as applications do that connect again.
    pub(super) fn replace_client(&mut self) {
        let number = self.clients.len() as u32 + 1;
        if self.is_healed || number > self.course.clients_max {
            return;
        }
        let (course, now) = (&self.course, self.now);
        let client = self.play.new_client(course, number, now, &mut self.prng);
        self.clients.push(client);
    }

    pub(super) fn connect_client(&mut self, place: usize) {
        let Some(link) = self.open_link() else { return };
        let client = &mut self.clients[place];
        client.connect(self.now, link);
        let name = client.name();
        self.trace.note(self.now, b"connect", || {
            format!("{name} connects as {link:?}")
        });
    }

    /// Opens a link to whoever listens for clients; `None` while nobody does.
    pub fn open_link(&mut self) -> Option<LinkId> {
        match self.course.between {
            Between::Nothing if self.port.doors[0].down_until > self.now => None,
            Between::Nothing => {
                let link = self.network.open([CLIENT, NODE]);
                self.port.accept(link, 0);
                Some(link)
            }
            Between::Shards(_) => {
                let link = self.network.open([CLIENT, self.course.patience.listener]);
                let place = self.prng.below(self.shards.len() as u64) as usize;
                self.shards[place].driver.offer(link);
                Some(link)
            }
        }
    }
}

/// Where the only node of a service is.
pub(in crate::simulator) fn node_address() -> Address {
    Address::Unix(Arc::from("/node"))
}

/// Where it is, too.
pub(super) fn other_address() -> Address {
    Address::Unix(Arc::from("/node-too"))
}

/// Opens a link from a shard to the node at an address.
pub(super) fn dial<Node: Serves>(
    port: &mut NodePort<Node>,
    address: &Address,
    network: &mut Network,
    prng: &mut Prng,
    now: Instant,
    upstream: Patience,
    faults: Faults,
) -> Dialled {
    let time = Duration::from_micros(prng.between(1, 2_000));
    let Some(door) = port
        .door_at(address)
        .filter(|it| port.doors[*it].down_until <= now)
    else {
        return (Err(Failure::Refused), time);
    };
    if prng.chance(faults.refuse) {
        let slow = Duration::from_millis(prng.between(1, 500));
        return (
            Err(*prng.pick(&[Failure::TimedOut, Failure::Unreachable])),
            slow,
        );
    }
    // Nobody answers, not even that nobody is there.
    if faults.hang > 0 && prng.chance(faults.hang) {
        return (Err(Failure::TimedOut), upstream.unacked);
    }
    let link = network.open([upstream, NODE]);
    port.accept(link, door);
    (Ok(link), time)
}

/// What shards know of a service, as its protocol has it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the nodes speak.
    pub protocol: Protocol,
    /// Nodes of a cluster; none if there is only one node.
    pub seeds: Vec<SocketAddr>,
    /// How clients are authenticated.
    pub auth: Auth,
    /// The users file.
    pub users: Arc<Users>,
    /// In a thousand classifications, how many doubt without reason.
    pub doubts: u32,
}

/// Shards that know one service.
fn new_shards(
    seed: u64,
    count: u32,
    plan: &Plan,
    course: &Course,
    prng: &mut Prng,
) -> Vec<SimShard> {
    let seeds = plan.seeds.iter().map(|seed| Address::Ip(*seed));
    let is_cluster = !plan.seeds.is_empty();
    let addresses: Vec<Address> = match is_cluster {
        true => seeds.collect(),
        false => vec![node_address()],
    };
    let all_permits = Permits::new(course.connections_max);
    let mut ledgers: Vec<_> = (1..count).map(|_| Arc::new(all_permits.share())).collect();
    ledgers.insert(0, Arc::new(all_permits));
    let has_name = prng.chance(300);
    let target = if has_name || is_cluster {
        Target::Name(Arc::from("node.internal"))
    } else {
        Target::Address(addresses[0].clone())
    };
    let roster = is_cluster.then(|| Roster::new(course.connections_max, None));
    let service = Service {
        id: ServiceId(0),
        name: Arc::from("main"),
        listeners: vec![ListenerId(0)],
        target,
        protocol: plan.protocol,
        is_admin: true,
        auth: plan.auth,
        users: plan.users.clone(),
        shards: count,
        permits: ledgers[0].clone(),
        audience: Arc::default(),
        wants_primary: false,
        part_of: None,
        cluster: None,
    };
    let new_shard = |number: u32| {
        let permits = ledgers[number as usize].clone();
        let service = Service {
            permits: permits.clone(),
            audience: Arc::new(service.audience.share()),
            cluster: roster.as_ref().map(|roster| Arc::new(roster.share())),
            ..service.clone()
        };
        let id = ShardId(number);
        let classifier = Classifier::new(plan.doubts, prng.fork());
        let mut driver = Driver::new(
            id,
            course.temper,
            classifier,
            addresses.clone(),
            prng.fork(),
        );
        driver.follows = has_name && !is_cluster;
        let settings = Settings {
            id,
            shards: ledgers.len() as u32,
            seed: seed ^ u64::from(number),
            limits: course.limits.clone(),
            services: vec![service],
        };
        SimShard {
            shard: Shard::new(settings),
            driver,
            permits,
        }
    };
    (0..count).map(new_shard).collect()
}

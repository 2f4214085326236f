//! How a world begins, and how clients find their way into it.
//!
//! Knows the options. Invariant: a world is made from its seed and options alone.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use manifold_core::auth::{Auth, Users};
use manifold_core::event::{Address, Failure};
use manifold_core::ids::{ListenerId, ServiceId, ShardId};
use manifold_core::limits::Limits;
use manifold_core::permits::Permits;
use manifold_core::roster::Roster;
use manifold_core::shard::{Settings, Shard};
use manifold_core::time::Instant;
use manifold_core::topology::{Protocol, Service, Target};

use super::World;
use super::nodes::{Door, NodePort};
use super::options::{Between, CLIENT, Faults, NODE, Options, draw_habits};
use super::passes::SimShard;
use crate::simulator::Setup;
use crate::simulator::classifier::Classifier;
use crate::simulator::client::Client;
use crate::simulator::driver::{Dialled, Driver, Temper};
use crate::simulator::network::{LinkId, Network, Patience};
use crate::simulator::postgres::Node;
use crate::simulator::prng::Prng;
use crate::simulator::script::Script;
use crate::simulator::serves::Serves;
use crate::simulator::trace::Trace;

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, setup: Setup) -> Self {
        let mut prng = Prng::new(seed);
        let mut options = Options::draw(&mut prng, setup.between);
        if setup.is_harsh {
            // Numbers of its own, so that a seed is the same run without it.
            options.harshen(&mut Prng::new(!seed));
        }
        let mut world = Self::with_options(seed, options, prng, setup.is_printed);
        if let Some(bug) = setup.bug {
            world.shards.iter_mut().for_each(|sim| sim.shard.plant(bug));
        }
        world
    }

    /// A world with given options.
    pub fn with_options(seed: u64, options: Options, mut prng: Prng, is_printed: bool) -> Self {
        let network = Network::new(options.weather, prng.fork());
        let node = Node::new(options.logins.node.clone(), options.service, prng.fork());
        let begin = Instant(0);
        let clients =
            (1..=options.clients).map(|number| new_client(number, begin, &options, &mut prng));
        let clients = clients.collect();
        let shards = match options.between {
            Between::Nothing => Vec::new(),
            Between::Shards(count) => new_shards(seed, options.plan(count), &mut prng),
        };
        Self {
            seed,
            now: Instant(0),
            network,
            port: NodePort::new(node, vec![Door::at(node_address())]),
            shards,
            clients,
            cancels: Vec::new(),
            trace: Trace::new(is_printed),
            is_healed: false,
            is_draining: false,
            violation: None,
            prng,
            options,
        }
    }

    /// Somebody new comes for a client that has gone, as applications do that connect again.
    pub(super) fn replace_client(&mut self) {
        let number = self.clients.len() as u32 + 1;
        if self.is_healed || number > self.options.clients_max {
            return;
        }
        let client = new_client(number, self.now, &self.options, &mut self.prng);
        self.clients.push(client);
    }

    pub(super) fn connect_client(&mut self, place: usize) {
        let Some(link) = self.open_link() else { return };
        let client = &mut self.clients[place];
        client.connect(self.now, link);
        let name = &client.name;
        self.trace.note(self.now, b"connect", || {
            format!("{name} connects as {link:?}")
        });
    }

    /// Opens a link to whoever listens for clients; `None` while nobody does.
    pub(super) fn open_link(&mut self) -> Option<LinkId> {
        match self.options.between {
            Between::Nothing if self.port.doors[0].down_until > self.now => None,
            Between::Nothing => {
                let link = self.network.open([CLIENT, NODE]);
                self.port.accept(link, 0);
                Some(link)
            }
            Between::Shards(_) => {
                let link = self.network.open([CLIENT, self.options.patience.listener]);
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

/// Opens a link from a shard to the node at an address.
pub(in crate::simulator) fn dial<Node: Serves>(
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

fn new_client(number: u32, from: Instant, options: &Options, prng: &mut Prng) -> Client {
    let name = format!("c{number}");
    let user = *prng.pick(&["app", "app", "other"]);
    let mut pairs = vec![
        ("user".to_owned(), user.to_owned()),
        ("database".into(), "main".into()),
    ];
    let mut add = |name: &str, values: &[&str]| {
        if prng.chance(150) {
            pairs.push((name.to_owned(), (*prng.pick(values)).to_owned()));
        }
    };
    add("application_name", &["psql", "app"]);
    add("TimeZone", &["Europe/Paris", "utc"]);
    add(
        "options",
        &["-c work_mem=8MB", "-c app.tenant=9 -c datestyle=SQL"],
    );
    let habits = draw_habits(prng, options.odd_clients);
    let script = Script::new(
        name.clone(),
        options.taste.clone(),
        options.episodes,
        prng.fork(),
    );
    let arrival = options.arrival.as_nanos() as u64;
    let starts_at = Instant(from.0 + prng.between(0, arrival));
    let stream = prng.fork();
    let mut client = Client::new(
        name,
        pairs,
        &options.logins.faced,
        habits,
        script,
        stream,
        starts_at,
    );
    client.excuses = options.excuses();
    client
}

/// What shards are made of.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Plan {
    /// How many there are.
    pub count: u32,
    /// What the nodes speak.
    pub protocol: Protocol,
    /// Nodes of a cluster; none if there is only one node.
    pub seeds: Vec<SocketAddr>,
    /// How clients are authenticated.
    pub auth: Auth,
    /// The users file.
    pub users: Arc<Users>,
    /// The bounds of each shard.
    pub limits: Limits,
    /// Connections to the node, all shards together.
    pub connections_max: u32,
    /// The drivers.
    pub temper: Temper,
    /// In a thousand classifications, how many doubt without reason.
    pub doubts: u32,
}

impl Options {
    fn plan(&self, count: u32) -> Plan {
        Plan {
            count,
            protocol: Protocol::Postgres,
            seeds: Vec::new(),
            auth: self.logins.auth,
            users: self.logins.file.clone(),
            limits: self.limits.clone(),
            connections_max: self.connections_max,
            temper: self.temper,
            doubts: self.doubts,
        }
    }
}

/// Shards that know one service.
pub(in crate::simulator) fn new_shards(seed: u64, plan: Plan, prng: &mut Prng) -> Vec<SimShard> {
    let seeds = plan.seeds.iter().map(|seed| Address::Ip(*seed));
    let is_cluster = !plan.seeds.is_empty();
    let addresses: Vec<Address> = match is_cluster {
        true => seeds.collect(),
        false => vec![node_address()],
    };
    let all_permits = Permits::new(plan.connections_max);
    let mut ledgers: Vec<_> = (1..plan.count)
        .map(|_| Arc::new(all_permits.share()))
        .collect();
    ledgers.insert(0, Arc::new(all_permits));
    let has_name = prng.chance(300);
    let target = if has_name || is_cluster {
        Target::Name(Arc::from("node.internal"))
    } else {
        Target::Address(addresses[0].clone())
    };
    let roster = is_cluster.then(|| Roster::new(plan.connections_max, None));
    let service = Service {
        id: ServiceId(0),
        name: Arc::from("main"),
        listeners: vec![ListenerId(0)],
        target,
        protocol: plan.protocol,
        is_admin: true,
        auth: plan.auth,
        users: plan.users.clone(),
        shards: plan.count,
        permits: ledgers[0].clone(),
        audience: Arc::default(),
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
        let driver = Driver::new(id, plan.temper, classifier, addresses.clone(), prng.fork());
        let settings = Settings {
            id,
            shards: ledgers.len() as u32,
            seed: seed ^ u64::from(number),
            limits: plan.limits.clone(),
            services: vec![service],
        };
        SimShard {
            shard: Shard::new(settings),
            driver,
            permits,
        }
    };
    (0..plan.count).map(new_shard).collect()
}

//! Redis Sentinels: who the primary is, by what the most recent of them says.
//!
//! Stays with one Sentinel as long as that answers, and goes on to the next otherwise. Knows no
//! node. Invariants: a Sentinel that knows of fewer failovers than another one did is not believed,
//! unless most of them are like that; while none can be asked, what was said last stands.

mod wire;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::resolver::{Answer, Resolver};
use crate::source::{Lead, News, Node, Place, Role, Snapshot, Source, SourceError, Told};
use crate::upstream::Sentinel;

use wire::{Value, Wire};

/// How often a Sentinel is asked though it has said nothing: messages can be missed.
const POLL_TIME: Duration = Duration::from_secs(1);

/// How often at most, and while there is a failover.
const POLL_TIME_MIN: Duration = Duration::from_millis(100);

/// Sentinels that are remembered.
const PLACES_MAX: usize = 64;

/// What is listened to: after each of these, who leads may be somebody else.
const CHANNELS: &[&str] = &[
    "+switch-master",
    "+promoted-slave",
    "+sdown",
    "+odown",
    "-odown",
    "+convert-to-slave",
    "+slave",
    "+reset-master",
];

/// Follows one primary through its Sentinels.
#[derive(Debug)]
pub struct Sentinels {
    configured: Sentinel,
    /// Those that are known; the configured ones, and those that they know.
    places: Vec<Place>,
    resolver: Resolver,
    /// The most recent configuration that any of them has had.
    epoch: Option<u64>,
    said: Option<Snapshot>,
    is_troubled: bool,
}

/// Why a Sentinel is left for the next one.
enum Left {
    /// It has an older configuration than another one.
    Behind,
    /// It cannot be asked.
    Broken(Box<str>),
    /// Nobody listens to us any more.
    Unheard,
    /// It does not know the name.
    Unknown,
}

impl From<io::Error> for Left {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string().into())
    }
}

impl Source for Sentinels {
    async fn follow(mut self, told: Told) {
        let mut round = Round::default();
        for turn in 0_usize.. {
            let place = self.places[turn % self.places.len()].clone();
            let has_said = self.said.clone();
            match self.stay(&place, &told).await {
                Left::Unheard => return,
                // It has been useful: others have their turn from the beginning.
                _ if self.said != has_said => round = Round::default(),
                Left::Behind => round.behind += 1,
                Left::Broken(why) => round.why.push(format!("{place}: {why}")),
                Left::Unknown => round.unknown += 1,
            }
            round.asked += 1;
            if round.asked >= self.places.len() {
                if !self.complain(&told, core::mem::take(&mut round)).await {
                    return;
                }
                sleep(POLL_TIME_MIN).await;
            }
        }
    }
}

/// What came of asking each Sentinel once.
#[derive(Default)]
struct Round {
    asked: usize,
    behind: usize,
    unknown: usize,
    why: Vec<String>,
}

impl Sentinels {
    /// Follows what is configured.
    pub fn new(configured: &Sentinel, nameservers: &[SocketAddr]) -> Self {
        Self {
            configured: configured.clone(),
            places: configured.places.to_vec(),
            resolver: Resolver::new(nameservers),
            epoch: None,
            said: None,
            is_troubled: false,
        }
    }

    /// None of them was of use. Answers whether anybody listens.
    async fn complain(&mut self, told: &Told, round: Round) -> bool {
        if round.behind * 2 > self.places.len() {
            // They have been set up anew, and count from the beginning.
            self.epoch = None;
        }
        if core::mem::replace(&mut self.is_troubled, true) {
            return true;
        }
        let name = self.configured.name.clone();
        let error = match round.unknown {
            0 => SourceError::NoSentinel {
                name,
                why: match round.why.is_empty() {
                    true => "they are behind another one".into(),
                    false => round.why.join("; ").into(),
                },
            },
            _ => SourceError::UnknownPrimary { name },
        };
        told.say(News::Trouble(error)).await
    }

    /// Says what one Sentinel knows for as long as it is of use.
    async fn stay(&mut self, place: &Place, told: &Told) -> Left {
        match self.listen(place, told).await {
            Ok(never) => match never {},
            Err(left) => left,
        }
    }

    async fn listen(
        &mut self,
        place: &Place,
        told: &Told,
    ) -> Result<std::convert::Infallible, Left> {
        let address = self.address(place).await?;
        let mut asking = self.open(address).await?;
        let mut hearing = self.open(address).await?;
        let mut words = vec!["SUBSCRIBE"];
        words.extend(CHANNELS);
        if let Value::Error(error) = hearing.ask(&words).await? {
            return Err(Left::Broken(error.into()));
        }
        loop {
            let asked = Instant::now();
            let (snapshot, is_restless) = self.ask(&mut asking).await?;
            self.is_troubled = false;
            if self.said.as_ref() != Some(&snapshot) {
                self.said = Some(snapshot.clone());
                if !told.say(News::Nodes(snapshot)).await {
                    return Err(Left::Unheard);
                }
            }
            let pause = match is_restless {
                true => POLL_TIME_MIN,
                false => POLL_TIME,
            };
            tokio::select! {
                heard = hearing.hear() => heard?,
                () = sleep_until(asked + pause) => {}
                () = told.doubted() => sleep_until(asked + POLL_TIME_MIN).await,
            }
        }
    }

    /// Connects to a Sentinel, and says who we are if it wants to know.
    async fn open(&self, address: SocketAddr) -> Result<Wire, Left> {
        let mut wire = Wire::open(address).await?;
        if let Some(path) = &self.configured.auth_file {
            let text = tokio::fs::read_to_string(&**path).await;
            let text = text.map_err(|error| Left::Broken(format!("{path}: {error}").into()))?;
            let Some((user, password)) = text.trim().split_once(':') else {
                let why = format!("{path} has no \"user:password\" or \":password\"");
                return Err(Left::Broken(why.into()));
            };
            let words = match user {
                "" => vec!["AUTH", password],
                _ => vec!["AUTH", user, password],
            };
            if let Value::Error(error) = wire.ask(&words).await? {
                return Err(Left::Broken(error.into()));
            }
        }
        Ok(wire)
    }

    async fn address(&mut self, place: &Place) -> Result<SocketAddr, Left> {
        let (host, port) = match place {
            Place::Ip(address) => return Ok(*address),
            Place::Name(host, port) => (host, *port),
        };
        let (four, six) = self.resolver.look_up(host).await;
        for answer in [four, six] {
            if let Answer::Records { records, .. } = answer
                && let Some(&ip) = records.first()
            {
                return Ok(SocketAddr::new(ip, port));
            }
        }
        Err(Left::Broken("it has no address".into()))
    }

    /// What a Sentinel says now, and whether there is a failover.
    async fn ask(&mut self, wire: &mut Wire) -> Result<(Snapshot, bool), Left> {
        let name = self.configured.name.clone();
        let primary = wire.ask(&["SENTINEL", "MASTER", &name]).await?;
        if let Value::Error(error) = primary {
            return Err(match error.contains("No such master") {
                true => Left::Unknown,
                false => Left::Broken(error.into()),
            });
        }
        // During a failover, this leads to the new one earlier.
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &name];
        let leader = match wire.ask(&words).await?.list() {
            [host, port] => read_place(host.text(), port.text()),
            _ => None,
        };
        let replicas = wire.ask(&["SENTINEL", "REPLICAS", &name]).await?;
        let others = wire.ask(&["SENTINEL", "SENTINELS", &name]).await?;
        let epoch = read_epoch(&primary, "config-epoch");
        if self.epoch.is_some_and(|best| epoch < best) {
            return Err(Left::Behind);
        }
        self.epoch = Some(epoch);
        self.learn(&others);
        read_snapshot(&primary, leader, &replicas)
            .ok_or_else(|| Left::Broken("it does not say where the primary is".into()))
    }

    /// Remembers other Sentinels.
    fn learn(&mut self, others: &Value) {
        for place in others.list().iter().filter_map(place_of) {
            if self.places.len() < PLACES_MAX && !self.places.contains(&place) {
                self.places.push(place);
            }
        }
    }
}

/// What is said, and whether it is about to change.
fn read_snapshot(
    primary: &Value,
    leader: Option<Place>,
    replicas: &Value,
) -> Option<(Snapshot, bool)> {
    let before = place_of(primary)?;
    let leader = leader.unwrap_or_else(|| before.clone());
    let has_flag = |value: &Value, flag: &str| {
        let flags = value.field("flags").unwrap_or_default();
        flags.split(',').any(|one| one == flag)
    };
    let is_promoted = leader != before;
    let is_down = has_flag(primary, "o_down") && !is_promoted;
    let lead = match is_down {
        true => Lead::Nobody,
        false => Lead::Held {
            place: leader.clone(),
            term: read_epoch(
                primary,
                match is_promoted {
                    true => "failover-epoch",
                    false => "config-epoch",
                },
            ),
        },
    };
    let mut nodes = vec![Node {
        role: Some(Role::Primary),
        ..Node::at(leader.clone())
    }];
    for replica in replicas.list() {
        let Some(place) = place_of(replica).filter(|place| *place != leader) else {
            continue;
        };
        let is_linked = replica.field("master-link-status") == Some("ok");
        nodes.push(Node {
            role: Some(Role::Replica),
            takes_reads: is_linked && !has_flag(replica, "s_down"),
            ..Node::at(place)
        });
    }
    nodes.sort();
    nodes.dedup_by(|one, other| one.place == other.place);
    let restless = ["s_down", "o_down", "failover_in_progress"];
    let is_restless = restless.iter().any(|flag| has_flag(primary, flag));
    Some((Snapshot { nodes, lead }, is_restless))
}

fn read_epoch(primary: &Value, name: &str) -> u64 {
    let text = primary.field(name).unwrap_or_default();
    text.parse().unwrap_or_default()
}

fn place_of(fields: &Value) -> Option<Place> {
    read_place(fields.field("ip"), fields.field("port"))
}

fn read_place(host: Option<&str>, port: Option<&str>) -> Option<Place> {
    let (host, port) = (host?, port?.parse().ok().filter(|&port| port != 0)?);
    match host.parse() {
        Ok(ip) => Some(Place::Ip(SocketAddr::new(ip, port))),
        Err(_) if host.is_empty() => None,
        Err(_) => Some(Place::Name(host.into(), port)),
    }
}

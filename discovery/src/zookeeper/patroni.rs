//! Patroni: who the members of a cluster are, who leads them, and when that is about to change.
//!
//! Follows `leader` and not what members say of themselves, which they say a second later. Pure but
//! for what it remembers. Invariants: who leads has a member's znode to say where it is, or nobody
//! leads; an announced handover is believed for [`HANDOVER_TIME_MAX`] and no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use super::view::{Garbage, Reading, Znode};
use super::{json, moment, plain};
use crate::source::{Lead, Node, Place, Role, Snapshot};

/// A member that has gone stays for so long: Patroni drops its whole session when it lets go of the
/// lead, and its member's znode is back 17 ms later.
const GONE_GRACE: Duration = Duration::from_secs(2);

/// After an announcement without another leader it is believed that there will be none.
const HANDOVER_TIME_MAX: Duration = Duration::from_secs(10);

/// The longest name of a member, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The port in a URL without one.
const PORT_DEFAULT: u16 = 5432;

/// What is known of a cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    members: BTreeMap<Box<str>, Member>,
    /// The last handover that was announced.
    handover: Option<Handover>,
    /// Who led last, as far as that could be read.
    lead: Option<(Box<str>, u64)>,
}

/// What is known of a member.
#[derive(Debug)]
struct Member {
    node: Node,
    /// When it went away.
    gone: Option<Instant>,
}

/// A handover that was announced.
#[derive(Debug)]
struct Handover {
    /// Which announcement it is.
    modified: u64,
    /// Who led then, as a term; none if nobody did.
    term: Option<u64>,
    /// From when on it may begin.
    begins: Instant,
}

/// What `failover` says.
#[derive(Debug, Default, Eq, PartialEq)]
struct Announced {
    /// Who is to let go.
    leader: Option<String>,
    /// Who is to take over.
    member: Option<String>,
    /// Not before.
    scheduled: Option<SystemTime>,
}

impl Cluster {
    /// Takes in what ZooKeeper has. May be given the same again when time has passed.
    pub fn take(
        &mut self,
        leader: Option<&Znode>,
        failover: Option<&Znode>,
        members: &[Znode],
        now: (Instant, SystemTime),
    ) -> Reading {
        let mut garbage = BTreeSet::new();
        let mut again = self.take_members(members, now.0, &mut garbage);
        match leader.map(name) {
            None => self.lead = None,
            Some(Ok(lead)) => self.lead = Some(lead),
            // Somebody leads. It is believed to be whoever it was.
            Some(Err(wrong)) => _ = garbage.insert(wrong),
        }
        let announced = failover.map(announced).transpose();
        let announced = announced.unwrap_or_else(|wrong| {
            garbage.insert(wrong);
            None
        });
        let modified = failover.map_or(0, |znode| znode.modified);
        let handing = self.take_handover(announced.flatten(), modified, now);
        let is_handing = handing.is_some_and(|(is_now, _)| is_now);
        if let Some((_, until)) = handing {
            again = Some(again.map_or(until, |other| other.min(until)));
        }
        let lead = match &self.lead {
            Some((name, term)) if !is_handing => self.held(name, *term),
            _ => Lead::Nobody,
        };
        let snapshot = Snapshot {
            nodes: self.nodes(),
            lead,
        };
        Reading {
            snapshot,
            garbage,
            again,
        }
    }

    /// Takes in who is there. Says when somebody will be given up.
    fn take_members(
        &mut self,
        znodes: &[Znode],
        now: Instant,
        garbage: &mut BTreeSet<Garbage>,
    ) -> Option<Instant> {
        for znode in znodes {
            match member(znode) {
                Ok(node) => {
                    let name = znode.name.clone();
                    self.members.insert(name, Member { node, gone: None });
                }
                Err(why) => {
                    let path = znode.path.clone();
                    garbage.insert(Garbage { path, why });
                    // It is there; what it said before stands.
                    if let Some(member) = self.members.get_mut(&znode.name) {
                        member.gone = None;
                    }
                }
            }
        }
        let here: BTreeSet<&str> = znodes.iter().map(|znode| &*znode.name).collect();
        self.members.retain(|name, member| {
            here.contains(&**name) || now < *member.gone.get_or_insert(now) + GONE_GRACE
        });
        let gone = self.members.values().filter_map(|member| member.gone);
        gone.min().map(|gone| gone + GONE_GRACE)
    }

    /// Takes in what is announced. While that concerns who leads: whether it happens now, and until
    /// when this is so.
    fn take_handover(
        &mut self,
        announced: Option<Announced>,
        modified: u64,
        (now, clock): (Instant, SystemTime),
    ) -> Option<(bool, Instant)> {
        let Some(announced) = announced else {
            self.handover = None;
            return None;
        };
        let known = self.handover.take();
        let known = known.filter(|it| it.modified == modified);
        let fresh = || {
            let wait = announced
                .scheduled
                .and_then(|at| at.duration_since(clock).ok());
            Handover {
                modified,
                term: self.lead.as_ref().map(|(_, term)| *term),
                // Written years have four digits, and so far every clock goes.
                begins: now + wait.unwrap_or_default(),
            }
        };
        let handover = known.unwrap_or_else(fresh);
        let handover = self.handover.insert(handover);
        let (name, term) = self.lead.as_ref()?;
        let is_other = announced.leader.is_some_and(|it| *it != **name);
        let is_done = announced.member.is_some_and(|it| *it == **name);
        if is_other || is_done || handover.term != Some(*term) {
            return None;
        }
        let (begins, ends) = (handover.begins, handover.begins + HANDOVER_TIME_MAX);
        match now < begins {
            true => Some((false, begins)),
            false => (now < ends).then_some((true, ends)),
        }
    }

    /// The leader of this name, if it is known where that is.
    fn held(&self, name: &str, term: u64) -> Lead {
        match self.members.get(name) {
            Some(member) => Lead::Held {
                place: member.node.place.clone(),
                term,
            },
            None => Lead::Nobody,
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let leader = self.lead.as_ref().map(|(name, _)| name);
        let nodes = self.members.iter().map(|(name, member)| {
            let mut node = member.node.clone();
            match (leader == Some(name), node.role) {
                (true, _) => node.role = Some(Role::Primary),
                // It says so a second longer than it is so.
                (false, Some(Role::Primary)) => node.role = None,
                _ => {}
            }
            node
        });
        nodes.collect()
    }
}

/// Reads who leads, and which leadership it is.
fn name(znode: &Znode) -> Result<(Box<str>, u64), Garbage> {
    let text = std::str::from_utf8(&znode.data).map(str::trim);
    match text {
        Ok(name) if (1..=NAME_BYTES_MAX).contains(&name.len()) => Ok((name.into(), znode.created)),
        _ => Err(Garbage {
            path: znode.path.clone(),
            why: "it names no member".into(),
        }),
    }
}

/// Reads a member.
fn member(znode: &Znode) -> Result<Node, Box<str>> {
    let url = std::str::from_utf8(&znode.data).unwrap_or_default().trim();
    if url.starts_with("postgres") {
        return Ok(Node::at(place_of_url(url)?));
    }
    let member = json::object(&znode.data)?;
    let place = match json::text(&member, "conn_url") {
        Some(url) => place_of_url(url)?,
        None => {
            let given = member.get("conn_kwargs").and_then(|it| it.as_object());
            let given = given.ok_or("it has no \"conn_url\"")?;
            json::place(given, "host")?
        }
    };
    let role = match json::text(&member, "role") {
        Some("primary" | "master") => Some(Role::Primary),
        Some("replica") => Some(Role::Replica),
        _ => None,
    };
    let tags = member.get("tags").and_then(|tags| tags.as_object());
    let is_spared = tags
        .and_then(|tags| tags.get("noloadbalance"))
        .is_some_and(|value| value.as_bool().unwrap_or(true));
    let is_running = json::text(&member, "state") == Some("running");
    Ok(Node {
        role,
        takes_reads: is_running && role.is_some() && !is_spared,
        ..Node::at(place)
    })
}

/// Reads `postgres://host:port/database?...`. Says nothing of what it may have before the host.
fn place_of_url(url: &str) -> Result<Place, Box<str>> {
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or("its \"conn_url\" is none of PostgreSQL")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    plain::written(place, PORT_DEFAULT)
}

/// Reads what `failover` says; nothing if that is over or there was none.
fn announced(znode: &Znode) -> Result<Option<Announced>, Garbage> {
    let wrong = |why: Box<str>| Garbage {
        path: znode.path.clone(),
        why,
    };
    let text = std::str::from_utf8(&znode.data).map_err(|_| wrong("it is no text".into()))?;
    let text = text.trim();
    let named = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    let said = if text.starts_with('{') {
        let object = json::object(text.as_bytes()).map_err(wrong)?;
        let scheduled = json::text(&object, "scheduled_at").map(|at| {
            let when = moment::parse(at);
            when.ok_or_else(|| wrong("its \"scheduled_at\" is no moment".into()))
        });
        Announced {
            leader: json::text(&object, "leader").and_then(named),
            member: json::text(&object, "member").and_then(named),
            scheduled: scheduled.transpose()?,
        }
    } else {
        let (leader, member) = text.split_once(':').unwrap_or((text, ""));
        Announced {
            leader: named(leader),
            member: named(member),
            scheduled: None,
        }
    };
    let is_some = said.leader.is_some() || said.member.is_some();
    Ok(is_some.then_some(said))
}

#[cfg(test)]
mod tests;

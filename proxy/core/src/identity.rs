//! Who clients are at a node, and what is known of the databases they use.
//!
//! Facts learned from logins and replies; holds no connection. Invariant: nobody is granted a login
//! on the strength of what another user was granted.

use std::collections::VecDeque;
use std::rc::Rc;

use manifold_protocols::postgres::authentication::scram::Keys;

use crate::auth::{Credential, Opening};
use crate::ids::{ClientId, DatabaseId, IdentityId, ServiceId};
use crate::map::{FastMap, fast_map};
use crate::proof::Setting;
use crate::time::Instant;
use crate::upstream::postgres::pipe::Chore;

/// A (service, user, database).
#[derive(Debug)]
pub struct Identity {
    /// The service.
    pub service: ServiceId,
    /// The user's name as the client wrote it.
    pub user: Rc<[u8]>,
    /// The database's name.
    pub database_name: Rc<[u8]>,
    /// Its catalog.
    pub database: DatabaseId,
    /// What the node reported at login, by name: the truth of a session without settings.
    pub parameters: Vec<Reported>,
    /// Until when a login is granted because the node granted one without a challenge.
    pub granted_until: Option<Instant>,
    /// How the proxy can open upstreams of it.
    pub opening: Opening,
    /// What `opening`'s password became for the salt that the node asked for last.
    pub keys: Option<Keys>,
    /// Before this the proxy opens none by itself, because the node has refused it.
    pub retry_at: Instant,
    /// The number of the base that the node refused last at a login of the proxy.
    pub refused_base: Option<u64>,
    /// Whether it was said that its clients depend on what their logins brought.
    pub is_dependence_noted: bool,
    /// Clients that are or will be this, and upstreams that are.
    pub users: u32,
    /// Its lanes.
    pub lanes: u32,
    /// Whether it is on the list of those that may be forgotten.
    pub is_idle: bool,
    /// Clients whose login waits for the node's word.
    pub logins: Vec<ClientId>,
    /// Settings that the node has accepted before, with what it reported of each.
    pub accepted: FastMap<Setting, Vec<Reported>>,
    /// A client has asked for currval or lastval: from then on, whoever writes keeps its upstream.
    pub reads_sequences: bool,
    /// Requests of our own that wait for a free upstream of this identity.
    pub chores: VecDeque<Chore>,
}

/// A ParameterStatus: name and value.
pub type Reported = (Box<[u8]>, Box<[u8]>);

/// Settings remembered as accepted, at most; then they are learned anew.
const ACCEPTED_MAX: usize = 10_000;

impl Identity {
    /// One of which nothing is known yet.
    pub fn new(
        service: ServiceId,
        user: Rc<[u8]>,
        database_name: Rc<[u8]>,
        database: DatabaseId,
        seed: u64,
    ) -> Self {
        Self {
            service,
            user,
            database_name,
            database,
            parameters: Vec::new(),
            granted_until: None,
            opening: Opening::Freely,
            keys: None,
            retry_at: Instant(0),
            refused_base: None,
            is_dependence_noted: false,
            users: 0,
            lanes: 0,
            is_idle: false,
            logins: Vec::new(),
            accepted: fast_map(seed),
            reads_sequences: false,
            chores: VecDeque::new(),
        }
    }

    /// Takes in what the proxy can log in with from now on.
    pub fn set_credential(&mut self, credential: Credential) {
        let opening = Opening::WithSecret(credential);
        if self.opening != opening {
            self.opening = opening;
            self.keys = None;
            self.retry_at = Instant(0);
        }
    }

    /// Takes in what the node reported outside of anybody's settings.
    pub fn set_parameter(&mut self, name: &[u8], value: &[u8]) {
        match self
            .parameters
            .iter_mut()
            .find(|(known, _)| **known == *name)
        {
            Some((_, known)) => *known = value.into(),
            None => self.parameters.push((name.into(), value.into())),
        }
    }

    /// What the node reports of a parameter in a session without settings.
    pub fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters
            .iter()
            .find(|(known, _)| **known == *name)
            .map(|(_, value)| &**value)
    }

    /// Remembers that the node has accepted a setting.
    pub fn accept(&mut self, setting: Setting, reported: Vec<Reported>) {
        if self.accepted.len() >= ACCEPTED_MAX {
            self.accepted.clear();
        }
        self.accepted.insert(setting, reported);
    }
}

/// A database of a service, as far as its catalog goes.
#[derive(Debug)]
pub struct Database {
    /// The service.
    pub service: ServiceId,
    /// Its name.
    pub name: Rc<[u8]>,
    /// Identities that use it.
    pub identities: u32,
    /// How often the catalog has been found changed; verdicts of another epoch are void.
    pub epoch: u32,
    /// How far the current catalog is known.
    pub catalog: Catalog,
    /// It has changed since the reading under way began: what is read is not the whole truth.
    pub is_outdated: bool,
    /// Catalogs handed to the classifier and not taken in yet.
    pub learning: u32,
    /// Clients that wait for it.
    pub waiting: Vec<ClientId>,
    /// What the version query answered just before the catalog was read.
    pub version: Option<Box<[u8]>>,
    /// Up to this moment the known catalog is confirmed to be the node's.
    pub confirmed_at: Instant,
    /// When the version was looked at last.
    pub checked_at: Instant,
    /// Whether a version query is under way.
    pub is_checking: bool,
    /// Whether something unproven ran since the version was looked at.
    pub is_suspect: bool,
    /// Whom to read the catalog as: whoever logged in last.
    pub identity: Option<IdentityId>,
}

/// How far a catalog is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Catalog {
    /// Nobody has asked yet, or it has changed.
    Unread,
    /// Being read from the node.
    Reading,
    /// At the classifier.
    Learning,
    /// Known: texts can be classified.
    Known,
}

impl Database {
    /// One of which nothing is known yet.
    pub fn new(service: ServiceId, name: Rc<[u8]>) -> Self {
        Self {
            service,
            name,
            identities: 0,
            epoch: 0,
            catalog: Catalog::Unread,
            is_outdated: false,
            learning: 0,
            waiting: Vec::new(),
            version: None,
            confirmed_at: Instant(0),
            checked_at: Instant(0),
            is_checking: false,
            is_suspect: false,
            identity: None,
        }
    }
}

//! Which identities and databases a shard knows by name, and when it forgets them.
//!
//! Anybody may ask for any name, so names must not pile up. Knows no messages. Invariant: what a
//! client or an upstream names is there; of the rest at most `identities_idle_max` identities are
//! remembered, and only such as the node has let in.

use std::collections::VecDeque;

use crate::identity::{Catalog, Database, Identity};
use crate::ids::{DatabaseId, IdentityId, LaneId, ServiceId};
use crate::map::{FastMap, fast_map};
use crate::shard::Shard;

/// A service, a user and a database.
type IdentityKey = (ServiceId, Box<[u8]>, Box<[u8]>);

/// A service and a database.
type DatabaseKey = (ServiceId, Box<[u8]>);

/// Identities and databases by name, and those that may be forgotten.
#[derive(Debug)]
pub struct Register {
    identities: FastMap<IdentityKey, IdentityId>,
    databases: FastMap<DatabaseKey, DatabaseId>,
    /// Places of databases that were forgotten.
    free: Vec<DatabaseId>,
    /// Identities that have lost their last client or upstream, to be looked at in this pass.
    left: Vec<IdentityId>,
    /// Identities that were without clients and upstreams, the longest first. Some may have come
    /// into use again.
    idle: VecDeque<IdentityId>,
}

impl Register {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        Self {
            identities: fast_map(seed),
            databases: fast_map(seed),
            free: Vec::new(),
            left: Vec::new(),
            idle: VecDeque::new(),
        }
    }

    /// How many names of identities and of databases there are.
    pub fn lens(&self) -> (usize, usize) {
        (self.identities.len(), self.databases.len())
    }
}

impl Shard {
    /// The identity with this name, made if it is new.
    pub(crate) fn identity(
        &mut self,
        service: ServiceId,
        user: &[u8],
        database: &[u8],
    ) -> IdentityId {
        let key = (service, Box::from(user), Box::from(database));
        if let Some(&known) = self.register.identities.get(&key) {
            return known;
        }
        let database_id = self.database(service, database);
        self.databases[database_id.index()].identities += 1;
        let (user, name) = (user.into(), database.into());
        let made = Identity::new(service, user, name, database_id, self.seed);
        let id = self.identities.insert(made);
        self.register.identities.insert(key, id);
        id
    }

    fn database(&mut self, service: ServiceId, name: &[u8]) -> DatabaseId {
        let key = (service, Box::from(name));
        if let Some(&known) = self.register.databases.get(&key) {
            return known;
        }
        let made = Database::new(service, name.into());
        let id = if let Some(id) = self.register.free.pop() {
            // Whatever was proven in the place's last database is of another epoch.
            let epoch = self.databases[id.index()].epoch.wrapping_add(1);
            self.databases[id.index()] = Database { epoch, ..made };
            id
        } else {
            self.databases.push(made);
            DatabaseId(self.databases.len() as u32 - 1)
        };
        self.register.databases.insert(key, id);
        id
    }

    /// A client or an upstream of an identity is gone.
    pub(crate) fn leave_identity(&mut self, id: IdentityId) {
        let known = &mut self.identities[id];
        known.users -= 1;
        if known.users == 0 {
            self.register.left.push(id);
        }
    }

    /// Forgets identities that nobody is any more, but for some of which it is worth knowing what
    /// the node said.
    pub(crate) fn forget_left(&mut self) {
        while let Some(id) = self.register.left.pop() {
            if self.identities.get(id).is_none_or(|known| known.users > 0) {
                continue;
            }
            self.drop_chores(id);
            let known = &mut self.identities[id];
            known.logins.clear();
            if known.parameters.is_empty() {
                self.forget_identity(id);
            } else if !core::mem::replace(&mut known.is_idle, true) {
                self.register.idle.push_back(id);
            }
        }
        while self.register.idle.len() > self.limits.identities_idle_max
            && let Some(id) = self.register.idle.pop_front()
        {
            let known = &mut self.identities[id];
            known.is_idle = false;
            if known.users == 0 {
                self.forget_identity(id);
            }
        }
    }

    fn forget_identity(&mut self, id: IdentityId) {
        let known = self
            .identities
            .remove(id)
            .expect("an identity is forgotten once");
        assert_eq!(known.users, 0, "nobody is what is forgotten");
        assert!(!known.is_idle, "what is forgotten is on no list");
        let key = (
            known.service,
            Box::from(&*known.user),
            Box::from(&*known.database_name),
        );
        self.register.identities.remove(&key);
        if known.lanes > 0 {
            self.forget_lanes(id);
        }
        let database = &mut self.databases[known.database.index()];
        database.identities -= 1;
        if database.identity == Some(id) {
            database.identity = None;
        }
        self.forget_database_if_unused(known.database);
    }

    /// Lanes of an identity without clients and upstreams: whoever waits in them is gone.
    fn forget_lanes(&mut self, identity: IdentityId) {
        let of = self.lanes.iter();
        let of = of.filter(|(_, lane)| lane.identity == identity);
        let of: Vec<LaneId> = of.map(|(id, _)| id).collect();
        for id in of {
            let lane = self.lanes.remove(id).expect("it was just found");
            assert!(lane.upstreams.is_empty(), "an upstream is its identity's");
            self.lanes_by_key.remove(&lane.key());
        }
    }

    /// Forgets a database of which nobody is, once no catalog of it is under way any more.
    pub(crate) fn forget_database_if_unused(&mut self, id: DatabaseId) {
        let known = &mut self.databases[id.index()];
        let key = (known.service, Box::from(&*known.name));
        let is_there = self.register.databases.get(&key) == Some(&id);
        if known.identities > 0 || known.learning > 0 || !is_there {
            return;
        }
        known.catalog = Catalog::Unread;
        known.version = None;
        known.waiting = Vec::new();
        self.register.databases.remove(&key);
        self.register.free.push(id);
    }
}

//! What a shard knows about the services it serves.
//!
//! Plain values, published whole. Holds no connection and no state of one.

use std::sync::Arc;

use crate::audience::Audience;
use crate::auth::{Auth, Users};
use crate::event::Address;
use crate::ids::{ListenerId, ServiceId};
use crate::permits::Permits;
use crate::roster::Roster;

/// A service as configured, and as one shard serves it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its place in the configuration.
    pub id: ServiceId,
    /// The name that users and logs see.
    pub name: Arc<str>,
    /// The listeners that lead to it.
    pub listeners: Vec<ListenerId>,
    /// Where its node is.
    pub target: Target,
    /// Whether several nodes may be meant of which only the primary takes writes: each is asked
    /// what it is before it gets a request.
    pub wants_primary: bool,
    /// What is spoken.
    pub protocol: Protocol,
    /// Whether clients may run what acts on the whole node; Redis only.
    pub is_admin: bool,
    /// How clients are authenticated.
    pub auth: Auth,
    /// Who may log in, for [`Auth::Users`].
    pub users: Arc<Users>,
    /// How many shards serve it.
    pub shards: u32,
    /// The connections that all shards together may hold.
    pub permits: Arc<Permits>,
    /// Who listens through this proxy beyond what the node counts; Redis only.
    pub audience: Arc<Audience>,
    /// The service whose cluster this is a node of. Such a one is made by a shard for itself, and
    /// has no place in the configuration.
    pub part_of: Option<ServiceId>,
    /// What shards have in common about the nodes, if there are many; Redis only.
    pub cluster: Option<Arc<Roster>>,
}

/// What the clients and the node of a service speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// PostgreSQL's frontend/backend protocol.
    Postgres,
    /// RESP.
    Redis,
}

/// Where the node of a service is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// At an address that needs no look-up.
    Address(Address),
    /// Behind a name, or several: `Event::Resolved` says where they lead.
    Name(Arc<str>),
}

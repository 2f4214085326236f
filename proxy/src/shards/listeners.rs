//! The listening sockets of all services, bound before any shard runs.
//!
//! Knows who serves what, and nothing of clients. Invariant: either every address is bound for
//! every shard that serves it, or none is and the error names the one that failed.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use manifold_core::ids::ListenerId;
use manifold_drivers::{ListenAddress, Listener, bind};

use super::plan::Plan;
use crate::config::{Listen, Service};

/// Connections that the kernel completes before a shard has accepted them.
const BACKLOG: i32 = 4_096;

/// How long an address that is taken is tried again.
const TAKEN_TIME_MAX: Duration = Duration::from_secs(1);

/// Who may connect to a unix socket: everybody, as with PostgreSQL's own; logins decide.
const UNIX_MODE: u32 = 0o777;

/// Bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// By shard, the sockets that it accepts on.
    pub by_shard: Vec<Vec<(ListenerId, Listener)>>,
    /// By service, the listeners that lead to it.
    pub by_service: Vec<Vec<ListenerId>>,
    /// By service, where it listens, with the ports that the kernel chose.
    pub addresses: Vec<Vec<ListenAddress>>,
}

/// An address that could not be listened on. The environment is to blame.
#[derive(Debug, thiserror::Error)]
#[error("service {service:?} cannot listen on {address}: {source}")]
pub struct BindError {
    /// Whose address.
    service: Arc<str>,
    /// Which.
    address: Listen,
    /// What the kernel said.
    source: io::Error,
}

impl BindError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "another process listens there",
            io::ErrorKind::AddrNotAvailable => "the address is none of this host's",
            io::ErrorKind::NotFound => "the directory of the socket does not exist",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE, and the directory of a unix socket \
                 has to be writable"
            }
            _ => "",
        }
    }
}

/// Binds an address. One that is taken is tried again for a moment: the kernel lets go of an
/// io_uring, and of what it listens on, only some time after its process has been killed, and
/// whoever starts the next process at once would find the address taken by nobody.
fn bind_patiently(wanted: &ListenAddress) -> io::Result<Listener> {
    let until = Instant::now() + TAKEN_TIME_MAX;
    loop {
        match bind(wanted, false, BACKLOG) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(TAKEN_TIME_MAX / 50);
            }
            done => return done,
        }
    }
}

impl Listeners {
    /// Binds every address of every service for the shards that serve it.
    pub fn bind(services: &[Service], plan: &Plan) -> Result<Self, BindError> {
        let mut bound = Self {
            by_shard: (0..plan.shards).map(|_| Vec::new()).collect(),
            by_service: Vec::with_capacity(services.len()),
            addresses: Vec::with_capacity(services.len()),
        };
        let mut ids = (0..).map(ListenerId);
        for (service, serving) in services.iter().zip(&plan.serving) {
            let mut listeners = Vec::new();
            let mut addresses = Vec::new();
            for (written, id) in service.listen.iter().zip(ids.by_ref()) {
                let address = bound
                    .bind_one(&written.value, id, serving)
                    .map_err(|source| {
                        let (service, address) = (service.name.clone(), written.value.clone());
                        BindError {
                            service,
                            address,
                            source,
                        }
                    })?;
                listeners.push(id);
                addresses.push(address);
            }
            bound.by_service.push(listeners);
            bound.addresses.push(addresses);
        }
        Ok(bound)
    }

    /// Binds one address for some shards; answers what it came to be.
    fn bind_one(
        &mut self,
        listen: &Listen,
        id: ListenerId,
        serving: &[u32],
    ) -> io::Result<ListenAddress> {
        let wanted = match listen {
            Listen::Ip(address) => ListenAddress::Tcp(*address),
            Listen::Unix(path) => ListenAddress::Unix(path.clone()),
        };
        // Not with SO_REUSEPORT at first: it would share the address with another process of the
        // same user, and take half of its clients, without a word.
        let first = bind_patiently(&wanted)?;
        let address = first.address()?;
        if let ListenAddress::Unix(path) = &address {
            fs::set_permissions(path, Permissions::from_mode(UNIX_MODE))?;
        }
        let mut sockets = Vec::with_capacity(serving.len());
        match (&address, serving) {
            (_, [_]) => sockets.push(first),
            (ListenAddress::Unix(_), _) => {
                for _ in serving {
                    sockets.push(first.try_clone()?);
                }
            }
            (ListenAddress::Tcp(_), _) => {
                drop(first);
                for _ in serving {
                    sockets.push(bind(&address, true, BACKLOG)?);
                }
            }
        }
        for (shard, socket) in serving.iter().zip(sockets) {
            self.by_shard[*shard as usize].push((id, socket));
        }
        Ok(address)
    }

    /// The paths of unix sockets, to be removed in the end.
    pub fn unix_paths(&self) -> Vec<PathBuf> {
        let paths = self
            .addresses
            .iter()
            .flatten()
            .filter_map(|address| match address {
                ListenAddress::Tcp(_) => None,
                ListenAddress::Unix(path) => Some(path.clone()),
            });
        paths.collect()
    }
}

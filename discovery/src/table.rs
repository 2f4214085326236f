//! Which source follows what is configured. A new kind of source is a file and a line here.
//!
//! Invariant: what comes out of any of them has addresses only, because every name is followed.

use std::net::SocketAddr;

use crate::list::List;
use crate::lookup::Repeated;
use crate::named::Named;
use crate::sentinel::Sentinels;
use crate::source::{Follower, Place, Source, channel};
use crate::srv::Srv;
use crate::upstream::Whereabouts;
use crate::zookeeper::Registry;

/// Begins to follow a place as configured, until nobody listens any more. None where there
/// is nothing to follow: an address, a socket's path. Must be called within a tokio runtime.
pub fn follow(whereabouts: &Whereabouts, nameservers: &[SocketAddr]) -> Option<Follower> {
    let begin = Begin { nameservers };
    match whereabouts {
        Whereabouts::Ip(_) | Whereabouts::Unix(_) => None,
        Whereabouts::Name(host, port) => Some(begin.list(vec![Place::Name(host.clone(), *port)])),
        Whereabouts::Seeds(places) | Whereabouts::List(places) => Some(begin.list(places.to_vec())),
        Whereabouts::Zookeeper(listed) => Some(begin.named(Registry {
            listed: listed.clone(),
        })),
        Whereabouts::Srv(name) => Some(begin.named(Repeated(Srv::new(name, nameservers)))),
        Whereabouts::Sentinel(sentinel) => Some(begin.named(Sentinels::new(sentinel, nameservers))),
    }
}

struct Begin<'a> {
    nameservers: &'a [SocketAddr],
}

impl Begin<'_> {
    fn list(&self, places: Vec<Place>) -> Follower {
        self.named(List { places })
    }

    fn named(&self, source: impl Source + 'static) -> Follower {
        let (told, follower) = channel();
        let nameservers = self.nameservers.into();
        tokio::spawn(
            Named {
                source,
                nameservers,
            }
            .follow(told),
        );
        follower
    }
}

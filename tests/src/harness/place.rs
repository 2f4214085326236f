//! The places where a test's clients connect: a proxy on each driver.
//!
//! With `MANIFOLD_TESTS_DIRECT` set no proxy is started and the place is the node itself: that shows
//! whether a test is right about PostgreSQL, and whether its transcript is the same every time.

use super::node::Node;
use super::proxy::{Driver, Proxy, ProxyOptions};
use super::wire::Target;

/// Where clients connect.
#[derive(Debug)]
pub struct Place {
    /// What to call it in messages.
    pub name: &'static str,
    /// Its address.
    pub target: Target,
    /// The proxy there, unless it is the node itself.
    pub proxy: Option<Proxy>,
}

/// A fresh proxy on each driver, or the node itself.
pub fn places(node: &Node, options: &ProxyOptions) -> Vec<Place> {
    if std::env::var_os("MANIFOLD_TESTS_DIRECT").is_some() {
        return vec![Place {
            name: "direct again",
            target: node.target(),
            proxy: None,
        }];
    }
    let place = |driver: Driver| {
        let proxy = Proxy::start(
            node,
            &ProxyOptions {
                driver,
                ..options.clone()
            },
        );
        Place {
            name: driver.name(),
            target: proxy.target(),
            proxy: Some(proxy),
        }
    };
    Driver::ALL.into_iter().map(place).collect()
}

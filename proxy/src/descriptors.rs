//! The number of files that this process may open: as many as it is allowed to.
//!
//! Every client and every upstream is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::shards::Plan;

/// Files of a shard besides its connections: ring, doorbell, and what a look-up or a log needs.
const FILES_PER_SHARD: u64 = 8;

/// Files of the process besides its shards.
const FILES_BASE: u64 = 64;

/// Raises the limit as far as it goes, and warns if that is not far enough.
pub fn raise(config: &Config, plan: &Plan) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!("the limit of open files could not be raised: {error}");
            limit.current
        }
    };
    let needed = needed(config, plan);
    // None means that there is no limit.
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            "clients_max and connections_max need {needed} open files, but only {allowed} are \
             allowed: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE) or lower clients_max"
        );
    }
}

/// How many files may be open when every limit is reached.
fn needed(config: &Config, plan: &Plan) -> u64 {
    let upstreams: u64 = config
        .services
        .iter()
        .map(|s| u64::from(s.connections_max))
        .sum();
    let listeners = config.services.iter().zip(&plan.serving);
    let listeners: usize = listeners
        .map(|(s, serving)| s.listen.len() * serving.len())
        .sum();
    u64::from(config.limits.clients_max)
        + upstreams
        + listeners as u64
        + u64::from(plan.shards) * FILES_PER_SHARD
        + FILES_BASE
}

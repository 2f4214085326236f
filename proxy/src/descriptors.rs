//! The number of files that this process may open: as many as it is allowed to.
//!
//! Every client and every upstream is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::shards::Plan;

/// Files of a shard besides its connections: ring (twice), doorbell, and what a look-up or a log
/// needs.
const FILES_PER_SHARD: u64 = 8;

/// Files of the process besides its shards.
const FILES_BASE: u64 = 64;

/// Raises the limit as far as it goes. If that is not far enough, the usual number of clients is
/// lowered to what fits; one that was asked for stays, with a warning.
pub fn raise(config: &mut Config, plan: &Plan) {
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
    // None means that there is no limit.
    if let Some(allowed) = allowed {
        fit(config, needed(config, plan), allowed);
    }
}

/// Makes do with the files that are allowed.
fn fit(config: &mut Config, needed: u64, allowed: u64) {
    if needed <= allowed {
        return;
    }
    let clients_max = config.limits.clients_max;
    let fitting = u64::from(clients_max).saturating_sub(needed - allowed);
    match u32::try_from(fitting) {
        Ok(fitting) if fitting > 0 && !config.is_clients_max_asked => {
            config.limits.clients_max = fitting;
            tracing::info!(
                "clients_max is {fitting} instead of {clients_max}: {allowed} open files are \
                 allowed (RLIMIT_NOFILE)"
            );
        }
        _ => tracing::warn!(
            "clients_max and connections_max need {needed} open files, but only {allowed} are \
             allowed: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE) or lower clients_max"
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(clients_max: u32, is_asked: bool, needed: u64, allowed: u64) -> u32 {
        let mut config = Config::default();
        config.limits.clients_max = clients_max;
        config.is_clients_max_asked = is_asked;
        fit(&mut config, needed, allowed);
        config.limits.clients_max
    }

    #[test]
    fn lowers_only_what_nobody_asked_for() {
        assert_eq!(fitted(20_000, false, 20_100, 20_100), 20_000);
        assert_eq!(fitted(20_000, false, 20_100, 1_024), 924);
        assert_eq!(fitted(20_000, true, 20_100, 1_024), 20_000);
        // Nothing fits: it is said, and not made worse.
        assert_eq!(fitted(20_000, false, 20_100, 100), 20_000);
    }
}

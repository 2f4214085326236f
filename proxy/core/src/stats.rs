//! What a shard counts: plain numbers that only the shard writes.
//!
//! Reading them is the control plane's business, by copies. Invariant: counters only grow; gauges
//! are marked as such.

use crate::proof::Reason;
use crate::topology::Service;
use crate::upstream::schedule::Connections;

/// The counters and gauges of one shard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Clients accepted.
    pub clients_accepted: u64,
    /// Gauge: clients connected.
    pub clients: u64,
    /// Logins refused.
    pub logins_refused: u64,
    /// Upstream connections begun.
    pub upstreams_opened: u64,
    /// Upstream connections lost or refused.
    pub upstreams_failed: u64,
    /// Gauge: upstream connections, whatever their state.
    pub upstreams: u64,
    /// Requests sent as Share.
    pub requests_shared: u64,
    /// Requests sent as Tail.
    pub requests_tail: u64,
    /// Requests that began a lease.
    pub leases: u64,
    /// Gauge: upstreams leased.
    pub leased: u64,
    /// Leases that lasted beyond a transaction, because of session state.
    pub leases_session: u64,
    /// Requests answered by the proxy itself.
    pub requests_local: u64,
    /// Requests that had to wait for an upstream.
    pub requests_queued: u64,
    /// Nanoseconds that requests waited for an upstream, added up.
    pub queue_nanos: u64,
    /// The longest wait for an upstream, in nanoseconds.
    pub queue_nanos_max: u64,
    /// Requests sent again after their upstream was lost.
    pub requests_retried: u64,
    /// Requests issued again because the head of their pipe stalled.
    pub requests_reissued: u64,
    /// Redis requests that nobody audited: alone, with RESET behind them.
    pub requests_unaudited: u64,
    /// Requests whose outcome had to be reported as unknown.
    pub outcomes_unknown: u64,
    /// Replies that came for nobody and were discarded.
    pub replies_discarded: u64,
    /// Cancel requests received.
    pub cancels: u64,
    /// Cancel requests sent on to a node.
    pub cancels_forwarded: u64,
    /// Upstreams closed because what came back was not what had to come.
    pub mismatches: u64,
    /// Texts handed to the classifier.
    pub texts_classified: u64,
    /// Catalogs read.
    pub catalogs_read: u64,
    /// Times an upstream was given other settings.
    pub switches: u64,
    /// Statements prepared on upstreams for the proxy's own names.
    pub statements_prepared: u64,
}

/// What one shard counts for one service: what an operator asks first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Clients accepted.
    pub clients_accepted: u64,
    /// Requests sent as Share.
    pub requests_shared: u64,
    /// Requests sent as Tail.
    pub requests_tail: u64,
    /// Requests sent on a lease.
    pub requests_leased: u64,
    /// Leases begun.
    pub leases: u64,
    /// Those that lasted because of session state, by the place of the reason in `Reason::ALL`.
    pub leases_session: [u64; Reason::ALL.len()],
    /// The longest wait for an upstream, in nanoseconds.
    pub queue_nanos_max: u64,
    /// Upstream connections begun.
    pub upstreams_opened: u64,
}

impl Tally {
    /// Takes in what another shard, or a core before this one, has counted.
    pub fn add(&mut self, other: &Self) {
        self.clients_accepted += other.clients_accepted;
        self.requests_shared += other.requests_shared;
        self.requests_tail += other.requests_tail;
        self.requests_leased += other.requests_leased;
        self.leases += other.leases;
        for (sum, count) in self.leases_session.iter_mut().zip(other.leases_session) {
            *sum += count;
        }
        self.queue_nanos_max = self.queue_nanos_max.max(other.queue_nanos_max);
        self.upstreams_opened += other.upstreams_opened;
    }

    /// Counts a lease that lasts.
    pub fn count_session(&mut self, reason: Reason) {
        self.leases_session[reason as usize] += 1;
    }
}

/// What is counted for each service as configured. What the nodes of a cluster had is among what
/// their service had.
pub(crate) fn tallies(services: &[Service], connections: &[Connections]) -> Vec<Tally> {
    let mut tallies: Vec<Tally> = Vec::new();
    for (service, connections) in services.iter().zip(connections) {
        match service.part_of {
            Some(whole) => tallies[whole.index()].add(&connections.tally),
            None => tallies.push(connections.tally),
        }
    }
    tallies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_reason_at_its_own_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            let mut tally = Tally::default();
            tally.count_session(reason);
            assert_eq!(tally.leases_session[place], 1, "{reason:?}");
            let before = tally;
            tally.add(&before);
            assert_eq!(tally.leases_session.iter().sum::<u64>(), 2);
        }
    }
}

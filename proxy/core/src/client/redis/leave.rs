//! How Redis clients go: at their own wish, because they are lost, or because the proxy goes down.
//!
//! Invariant: a client that is gone is in no queue that matters, and what it had begun on a lease
//! ends as it would with a connection of its own.

use crate::client::redis::errors;
use crate::conns::Owner;
use crate::ids::ClientId;
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::Whose;

impl Redis {
    /// A client goes; what was written to it is still sent.
    pub(crate) fn end_client(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let id = self.front_of(id);
        if let Some(client) = self.clients.get(id) {
            reach.conns.set_owner(client.conn, Owner::Nobody);
            reach.conns.resume(client.conn);
            reach.conns.close_after_flush(client.conn);
            self.forget_client(reach, id);
        }
    }

    /// A client is gone.
    pub(crate) fn drop_client(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let id = self.front_of(id);
        if let Some(client) = self.clients.get(id) {
            reach.conns.close(client.conn);
            self.forget_client(reach, id);
        }
    }

    /// Takes a client out of the table. Its requests in flight are answered to nobody; its places
    /// in queues are passed over when their turn comes.
    fn forget_client(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let Some(mut client) = self.clients.remove(id) else {
            return;
        };
        match client.branch {
            Some(_) => self.branches -= 1,
            None => reach.stats.clients -= 1,
        }
        if let Some(route) = client
            .route
            .filter(|_| reach.planted.is(Bug::ForgetDiscard))
        {
            let pipe = &mut self.upstreams[route.upstream].pipe;
            pipe.retain(|it| !matches!(it.whose, Whose::Client { id: whose, .. } if whose == id));
        }
        let unparsed = client.input.unparsed().len();
        client.input.drop_answered(client.input.len() - unparsed);
        client.input.consume(unparsed);
        client.input.release(&mut reach.conns.pool);
        if let Some(lease) = client.lease {
            reach.stats.leased -= 1;
            // A command that blocks, a transaction, watched keys: all end with the connection.
            self.close_upstream(reach, lease.upstream);
        }
        self.end_subscriptions(reach, id, &mut client);
        if let Some(pending) = client.session.as_mut().and_then(|it| it.pending.take()) {
            self.leave_pool(pending.pool());
        }
        self.leave_pool(client.pool);
        let branches = client.spread.into_iter().flat_map(|it| it.branches);
        for (_, branch) in branches {
            self.forget_client(reach, branch);
        }
    }

    /// A session has nothing at a node any more.
    pub(crate) fn forget_branch(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        self.forget_client(reach, id);
    }

    /// The proxy goes down: those that have nothing running are told good-bye.
    pub(crate) fn end_idle_clients(&mut self, reach: &mut Reach<'_>) {
        let idle = |client: &crate::client::redis::Client| {
            let is_idle = client.is_answered() && client.input.is_empty();
            let branches = client.spread.iter().flat_map(|it| &it.branches);
            let mut branches = branches.filter_map(|(_, id)| self.clients.get(*id));
            let has_lease = client.lease.is_some() || branches.any(|it| it.lease.is_some());
            is_idle && !has_lease && client.branch.is_none()
        };
        let idle: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| idle(client))
            .map(|(id, _)| id)
            .collect();
        for id in idle {
            self.end_client(reach, id);
        }
        if self.clients.is_empty() {
            self.end_upstreams(reach);
        }
    }

    /// The proxy goes down now.
    pub(crate) fn end_all(&mut self, reach: &mut Reach<'_>) {
        let fronts = self.clients.iter().filter(|(_, it)| it.branch.is_none());
        let all: Vec<_> = fronts.map(|(id, _)| id).collect();
        for id in all {
            if let Some(client) = self.clients.get(id).filter(|client| !client.is_answered()) {
                let text = errors::shutdown(&reach.service(client.service).name);
                reach.conns.write(client.conn).extend_from_slice(&text);
            }
            self.end_client(reach, id);
        }
        self.end_upstreams(reach);
    }

    fn end_upstreams(&mut self, reach: &mut Reach<'_>) {
        let all: Vec<_> = self.upstreams.iter().map(|(id, _)| id).collect();
        for id in all {
            self.close_upstream(reach, id);
        }
        // Whoever is still named in a queue is gone, and must not have anything opened.
        for (_, pool) in self.pools.iter_mut() {
            pool.forget_queues();
        }
    }
}

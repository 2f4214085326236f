//! Statements that a lease knows by its holder's own names, as long as SQL may name them too.
//!
//! Knows names and texts; what the texts do is known elsewhere. Invariant: what the client believes
//! to be prepared is prepared on its lease, or is noted to be prepared ahead of its next use.

use std::rc::Rc;

use manifold_protocols::postgres::frontend;

use crate::client::postgres::statements::Statement;
use crate::ids::{ClientId, UpstreamId};
use crate::shard::Shard;
use crate::upstream::postgres::pipe::{Chore, Expectation, Step};

impl Shard {
    /// Prepares a client's statements on its lease under the client's own names, each in a request
    /// of its own: one that no longer fits its tables must not keep the others out.
    pub(crate) fn prepare_raw(&mut self, id: UpstreamId, client: ClientId) {
        self.close_shared_statements(id);
        let session = self.clients[client].session_mut();
        session.unprepared.clear();
        let statements = session.statements.iter();
        let statements: Vec<(Box<[u8]>, Rc<Statement>)> = statements
            .map(|(name, statement)| (name.into(), Rc::clone(statement)))
            .collect();
        for (name, statement) in statements {
            self.prepare_raw_one(id, client, &name, &statement);
        }
    }

    fn prepare_raw_one(
        &mut self,
        id: UpstreamId,
        client: ClientId,
        name: &[u8],
        statement: &Statement,
    ) {
        let upstream = &mut self.upstreams[id];
        let begins_at = self.conns.written_total(upstream.conn);
        let chore = Chore::Raw(client, name.into());
        upstream.push(Expectation::of_chore(chore, self.now, begins_at));
        upstream.steps.extend([Step::ParseProvoking, Step::Sync]);
        let out = self.conns.write(upstream.conn);
        frontend::encode_parse(out, name, &statement.text, &statement.types);
        frontend::encode_sync(out);
    }

    /// A Query of ours has dropped the unnamed statement of a holder whose statements have their
    /// own names.
    pub(super) fn restore_unnamed(&mut self, id: UpstreamId) {
        let Some(holder) = self.upstreams[id].holder else {
            return;
        };
        let session = self.clients.get(holder).map(|holder| holder.session());
        let unnamed = session
            .filter(|session| session.is_raw)
            .and_then(|session| session.statements.find(b"").cloned());
        if let Some(unnamed) = unnamed {
            self.prepare_raw_one(id, holder, b"", &unnamed);
        }
    }

    /// What else the upstream has is none of its holder's.
    fn close_shared_statements(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if upstream.prepared.is_empty() {
            return;
        }
        let begins_at = self.conns.written_total(upstream.conn);
        upstream.push(Expectation::of_chore(Chore::Tidy, self.now, begins_at));
        let out = self.conns.write(upstream.conn);
        for (number, _) in upstream.prepared.drain() {
            let name = [crate::library::NAME_PREFIX, number.to_string().as_bytes()].concat();
            frontend::encode_close(out, frontend::TargetKind::Statement, &name);
            upstream.steps.push_back(Step::CloseOurs);
        }
        upstream.steps.push_back(Step::Sync);
        frontend::encode_sync(out);
    }
}

//! Requests that need no node: settings that are virtual, and the reset that pools send.
//!
//! Answers only what the node would answer in the same words. Invariant: a value is answered here
//! only after the node has accepted that very value once.

use std::rc::Rc;

use manifold_protocols::postgres::backend::{
    Column, Status, encode_command_complete, encode_data_row_text, encode_parameter_status,
    encode_ready_for_query, encode_row_description,
};

use crate::client::postgres::effects::ALL;
use crate::client::postgres::examine::Examined;
use crate::client::postgres::startup::clean_application_name;
use crate::client::postgres::{Session, Waiting, login};
use crate::fingerprint::{APPLICATION_NAME, Fingerprint, MERGED};
use crate::identity::{Identity, Reported};
use crate::ids::ClientId;
use crate::proof::Statement;
use crate::shard::Shard;

/// The part of a session that local answers change.
struct Draft {
    fingerprint: Rc<Fingerprint>,
    application: Option<Rc<[u8]>>,
    drops_statements: bool,
    discards_all: bool,
}

impl Shard {
    /// Answers a request of which every statement can be answered here. Says whether it did; if it
    /// could but the client's earlier requests are unanswered, the client waits for them.
    pub(crate) fn answer_locally(&mut self, id: ClientId, found: &Examined) -> bool {
        let Some(profile) = &found.simple else {
            return false;
        };
        let statements = &profile.verdict.statements;
        let client = &self.clients[id];
        let session = client.session();
        let identity = &self.identities[session.identity];
        let is_local = |statement| is_local(identity, session, statement);
        if statements.is_empty() || !statements.iter().all(is_local) {
            return false;
        }
        if client.in_flight > 0 {
            self.clients[id].waiting = Waiting::Itself;
            return false;
        }
        let mut draft = Draft {
            fingerprint: Rc::clone(&session.fingerprint),
            application: session.application.clone(),
            drops_statements: false,
            discards_all: false,
        };
        for statement in statements {
            self.apply(id, statement, &mut draft);
        }
        for statement in statements {
            let out = self.conns.write(self.clients[id].conn);
            if *statement == Statement::UnlockAll {
                encode_unlocked(out);
            }
            encode_command_complete(out, command_tag(statement));
        }
        self.adopt_draft(id, draft);
        self.clients[id].session_mut().statements.forget(b"");
        let client = &mut self.clients[id];
        encode_ready_for_query(self.conns.write(client.conn), Status::Idle);
        client.input.consume(found.len);
        client.scanned = 0;
        self.stats.requests_local += 1;
        true
    }

    /// What one statement makes of the session.
    fn apply(&mut self, id: ClientId, statement: &Statement, draft: &mut Draft) {
        let session = self.clients[id].session();
        match statement {
            Statement::Set(setting) if &*setting.name == APPLICATION_NAME => {
                draft.application = Some(clean_application_name(&setting.value));
            }
            Statement::Set(setting) => {
                draft.fingerprint = self.fingerprints.with(&draft.fingerprint, setting.clone());
            }
            Statement::Reset(name) | Statement::SetDefault(name) if &**name == APPLICATION_NAME => {
                draft.application = session.startup_application.clone();
            }
            Statement::Reset(name) | Statement::SetDefault(name) => {
                let (source, startup) = (&draft.fingerprint, &session.startup);
                draft.fingerprint = self.fingerprints.reset(source, startup, name);
            }
            Statement::ResetAll | Statement::DiscardAll => {
                draft.fingerprint = Rc::clone(&session.startup);
                draft.application = session.startup_application.clone();
                draft.drops_statements |= *statement == Statement::DiscardAll;
                draft.discards_all |= *statement == Statement::DiscardAll;
            }
            Statement::DeallocateAll => draft.drops_statements = true,
            _ => {}
        }
    }

    /// Makes the session what the draft says, and tells the client what it would be told.
    fn adopt_draft(&mut self, id: ClientId, draft: Draft) {
        if draft.drops_statements {
            self.clients[id].session_mut().statements.clear();
        }
        if draft.discards_all {
            self.clients[id].session_mut().has_drawn = false;
        }
        self.change_settings(id, draft.fingerprint, draft.application, None);
    }

    /// Gives a session other settings and reports to its client every parameter that differs. What
    /// is `reset` is compared with what the node told of it: unproven text may have set it.
    pub(crate) fn change_settings(
        &mut self,
        id: ClientId,
        fingerprint: Rc<Fingerprint>,
        application: Option<Rc<[u8]>>,
        reset: Option<&str>,
    ) {
        let before = self.reported_values(id, reset);
        self.set_fingerprint(id, fingerprint);
        let session = self.clients[id].session_mut();
        session.application = application;
        session.told.retain(|(name, _)| !is_among(reset, name));
        let session = self.clients[id].session();
        let identity = &self.identities[session.identity];
        let after = login::reported(identity, session).zip(&before);
        let changed: Vec<Reported> = after
            .filter(|((_, value), old)| *value != &***old)
            .map(|((name, value), _)| (name.into(), value.into()))
            .collect();
        let client = &mut self.clients[id];
        for (name, value) in changed {
            encode_parameter_status(self.conns.write(client.conn), &name, &value);
            client.session_mut().told.retain(|(told, _)| *told != name);
        }
    }

    fn reported_values(&self, id: ClientId, reset: Option<&str>) -> Vec<Box<[u8]>> {
        let session = self.clients[id].session();
        let identity = &self.identities[session.identity];
        login::reported(identity, session)
            .map(|(name, value)| {
                let told = session.told_value(name);
                told.filter(|_| is_among(reset, name)).unwrap_or(value)
            })
            .map(Into::into)
            .collect()
    }
}

/// Whether a parameter is the setting that is reset, or all are.
fn is_among(reset: Option<&str>, parameter: &[u8]) -> bool {
    reset.is_some_and(|it| it == ALL || parameter.eq_ignore_ascii_case(it.as_bytes()))
}

/// Whether a statement of a session without a lease can be answered without the node.
fn is_local(identity: &Identity, session: &Session, statement: &Statement) -> bool {
    match statement {
        Statement::Set(setting) => {
            let is_part = &*setting.name == MERGED && !setting.value.contains(&b',');
            &*setting.name == APPLICATION_NAME
                || (identity.accepted.contains_key(setting) && !is_part)
        }
        // Of a setting that the session never touched only the node knows whether it exists.
        Statement::Reset(name) | Statement::SetDefault(name) => {
            &**name == APPLICATION_NAME
                || session.fingerprint.value(name).is_some()
                || session.startup.value(name).is_some()
        }
        Statement::CloseAll
        | Statement::DeallocateAll
        | Statement::DiscardAll
        | Statement::ResetAll
        | Statement::UnlistenAll
        | Statement::UnlockAll => true,
        _ => false,
    }
}

/// The row of `pg_advisory_unlock_all()`, which returns void: PostgreSQL sends an empty text.
fn encode_unlocked(out: &mut Vec<u8>) {
    let void = Column {
        name: "pg_advisory_unlock_all",
        type_oid: 2278,
        type_len: 4,
    };
    encode_row_description(out, &[void]);
    encode_data_row_text(out, &[Some(b"")]);
}

fn command_tag(statement: &Statement) -> &'static [u8] {
    match statement {
        Statement::CloseAll => b"CLOSE CURSOR ALL",
        Statement::DeallocateAll => b"DEALLOCATE ALL",
        Statement::DiscardAll => b"DISCARD ALL",
        Statement::Reset(_) | Statement::ResetAll => b"RESET",
        Statement::UnlistenAll => b"UNLISTEN",
        Statement::UnlockAll => b"SELECT 1",
        _ => b"SET",
    }
}

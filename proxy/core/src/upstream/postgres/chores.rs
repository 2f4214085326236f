//! Requests of the proxy's own: settings, catalogs, wiping, tidying.
//!
//! Each is an ordinary request in an ordinary pipe. Invariant: a chore never runs on an upstream
//! that a client holds, except what concerns that very client.

use std::rc::Rc;

use manifold_protocols::postgres::backend::{Fields, columns};
use manifold_protocols::postgres::frontend;

use crate::client::postgres::Waiting;
use crate::event::{Level, Operation};
use crate::fingerprint::{APPLICATION_NAME, write_set};
use crate::identity::{Catalog, Reported};
use crate::ids::{ClientId, DatabaseId, IdentityId, UpstreamId};
use crate::planted::Bug;
use crate::proof::{CATALOG_QUERY, CATALOG_VERSION_QUERY, Setting};
use crate::shard::Shard;
use crate::time::Instant;
use crate::upstream::postgres::State;
use crate::upstream::postgres::pipe::{Chore, Expectation, Requester, Step};
use crate::upstream::postgres::replies::Broken;

/// How often a catalog in use is looked at for changes that were made elsewhere.
const CHECK_NANOS: u64 = 1_000_000_000;

/// How soon it is looked at after something unproven ran.
const CHECK_SUSPECT_NANOS: u64 = 200_000_000;

/// The node's word for a lock that was not to be had in `lock_timeout`.
const LOCK_NOT_AVAILABLE: &[u8] = b"55P03";

impl Shard {
    /// Puts a request of our own, in the simple protocol, into a pipe.
    pub(crate) fn send_chore(&mut self, id: UpstreamId, chore: Chore, text: &[u8]) {
        let upstream = &mut self.upstreams[id];
        let begins_at = self.conns.written_total(upstream.conn);
        upstream.push(Expectation::of_chore(chore, self.now, begins_at));
        upstream.steps.push_back(Step::Query);
        frontend::encode_query(self.conns.write(upstream.conn), text);
        self.restore_unnamed(id);
    }

    /// Begins the next thing to be done for a free upstream's identity. Says whether there was one.
    pub(crate) fn start_chore(&mut self, id: UpstreamId) -> bool {
        let identity = self.upstreams[id].identity;
        let is_plain = self.upstreams[id].is_plain();
        while let Some(chore) = self.identities[identity].chores.pop_front() {
            if matches!(chore, Chore::Trial(..)) && !is_plain {
                // What it leaves out has to be the node's default.
                self.identities[identity].chores.push_front(chore);
                return false;
            }
            match chore {
                Chore::Catalog(_) => {
                    // The version first: what changes between the two is found by the next check.
                    let version = Chore::Version(self.now, Vec::new());
                    self.send_chore(id, version, CATALOG_VERSION_QUERY.as_bytes());
                    self.send_chore(id, chore, CATALOG_QUERY.as_bytes());
                    let database = self.identities[identity].database;
                    self.databases[database.index()].is_outdated = false;
                }
                Chore::Version(..) => {
                    let chore = Chore::Version(self.now, Vec::new());
                    self.send_chore(id, chore, CATALOG_VERSION_QUERY.as_bytes());
                }
                Chore::Trial(client, ..) => {
                    if !self.send_trial(id, client) {
                        continue;
                    }
                }
                _ => continue,
            }
            return true;
        }
        false
    }

    /// Tries the settings that a client begins with. Says whether there is anything to try.
    fn send_trial(&mut self, id: UpstreamId, client: ClientId) -> bool {
        let Some(found) = self.clients.get(client) else {
            return false;
        };
        let target = Rc::clone(&found.session().fingerprint);
        let upstream = &mut self.upstreams[id];
        let source = Rc::clone(&upstream.fingerprint);
        let mut text = Vec::new();
        source.write_difference(&target, &mut text);
        let tried = target.settings.iter();
        let tried = tried
            .filter(|it| source.value(&it.name) != Some(&*it.value))
            .cloned();
        let tried: Vec<Setting> = tried.collect();
        if text.is_empty() {
            self.finish_login(client);
            return false;
        }
        upstream.fingerprint = target;
        upstream.is_on_trial = true;
        self.send_chore(id, Chore::Trial(client, tried, Vec::new()), &text);
        true
    }

    /// Gives an upstream the settings of its lane. They have all been accepted before, so shared
    /// requests may ride behind; if one is refused after all, the upstream is closed.
    pub(crate) fn switch(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let target = Rc::clone(&self.lanes[upstream.lane].fingerprint);
        let mut text = Vec::new();
        upstream.fingerprint.write_difference(&target, &mut text);
        upstream.fingerprint = target;
        if !text.is_empty() && !self.planted.is(Bug::ForgetSwitch) {
            self.stats.switches += 1;
            self.send_chore(id, Chore::Switch, &text);
        }
    }

    /// Sets a client's application_name ahead of a request that may log it. Says whether it had to.
    pub(crate) fn apply_application(&mut self, client: ClientId, id: UpstreamId) -> bool {
        let wanted = &self.clients[client].session().application;
        let upstream = &mut self.upstreams[id];
        if upstream.application == *wanted {
            return false;
        }
        upstream.application.clone_from(wanted);
        let mut text = Vec::new();
        match wanted {
            Some(name) => write_set(APPLICATION_NAME, name, &mut text),
            None => text.extend_from_slice(b"RESET application_name"),
        }
        self.send_chore(id, Chore::Switch, &text);
        true
    }

    /// Closes statements that were to be closed in a request of their own.
    pub(crate) fn tidy(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        if upstream.tidying.is_empty() {
            return;
        }
        let begins_at = self.conns.written_total(upstream.conn);
        upstream.push(Expectation::of_chore(Chore::Tidy, self.now, begins_at));
        let out = self.conns.write(upstream.conn);
        for name in upstream.tidying.drain(..) {
            frontend::encode_close(out, frontend::TargetKind::Statement, &name);
            upstream.steps.push_back(Step::CloseOurs);
        }
        upstream.steps.push_back(Step::Sync);
        frontend::encode_sync(out);
    }

    /// Wipes a session that nobody holds any more.
    pub(crate) fn reset(&mut self, id: UpstreamId) {
        let status = self.upstreams[id].status;
        if status != manifold_protocols::postgres::backend::Status::Idle {
            self.send_chore(id, Chore::Switch, b"ROLLBACK");
        }
        self.send_chore(id, Chore::Reset, b"DISCARD ALL");
    }

    /// An empty request that comes back when everything before it is over.
    pub(crate) fn send_fence(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let begins_at = self.conns.written_total(upstream.conn);
        upstream.push(Expectation::of_chore(Chore::Fence, self.now, begins_at));
        upstream.steps.push_back(Step::Sync);
        frontend::encode_sync(self.conns.write(upstream.conn));
    }

    /// Asks what a transaction has left of the settings that it touched.
    pub(crate) fn send_values(&mut self, id: UpstreamId, client: ClientId, names: Vec<Box<str>>) {
        let mut text = b"SELECT ".to_vec();
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(b"pg_catalog.current_setting('");
            text.extend_from_slice(name.replace('\'', "''").as_bytes());
            text.extend_from_slice(b"',true)");
        }
        self.send_chore(id, Chore::Values(client, names, Vec::new()), &text);
    }

    /// A client cannot go on before the catalog of its database is known, or confirmed.
    pub(crate) fn want_catalog(&mut self, client: ClientId) {
        let session = self.clients[client].session();
        let (identity, database) = (session.identity, session.database);
        self.clients[client].since = self.now;
        let known = &mut self.databases[database.index()];
        if known.waiting.len() >= self.clients.len() {
            // Some of them are gone, and nothing else would ever forget them.
            let clients = &self.clients;
            known.waiting.retain(|&it| clients.get(it).is_some());
        }
        if !known.waiting.contains(&client) {
            known.waiting.push(client);
        }
        match known.catalog {
            Catalog::Unread => self.read_catalog(identity),
            Catalog::Known => self.check_catalog(identity),
            Catalog::Reading | Catalog::Learning => {}
        }
    }

    /// Has the catalog's version looked at as soon as an upstream of the identity is free.
    fn check_catalog(&mut self, identity: IdentityId) {
        let database = self.identities[identity].database;
        let known = &mut self.databases[database.index()];
        if known.is_checking {
            return;
        }
        known.is_checking = true;
        known.is_suspect = false;
        known.checked_at = self.now;
        let chores = &mut self.identities[identity].chores;
        chores.push_back(Chore::Version(self.now, Vec::new()));
        self.add_errand(identity);
    }

    /// Has the catalog read as soon as an upstream of the identity is free.
    pub(crate) fn read_catalog(&mut self, identity: IdentityId) {
        let database = self.identities[identity].database;
        self.databases[database.index()].catalog = Catalog::Reading;
        self.identities[identity]
            .chores
            .push_front(Chore::Catalog(Vec::new()));
        self.add_errand(identity);
    }

    /// Nothing that was proven in this database holds any more.
    pub(crate) fn void_catalog(&mut self, database: DatabaseId) {
        let known = &mut self.databases[database.index()];
        known.epoch += 1;
        known.is_outdated = true;
        if let Some(identity) = known.identity
            && self.identities.get(identity).is_some()
            && matches!(known.catalog, Catalog::Known | Catalog::Learning)
        {
            self.read_catalog(identity);
        } else if known.catalog != Catalog::Reading {
            known.catalog = Catalog::Unread;
        }
    }

    /// The classifier has taken a catalog in.
    pub(crate) fn handle_catalog_ready(&mut self, database: DatabaseId, understood: bool) {
        if !understood {
            let name = String::from_utf8_lossy(&self.databases[database.index()].name).into_owned();
            self.log(
                Level::Warn,
                format!("the catalog of database \"{name}\" was not understood: nothing is shared"),
            );
        }
        let known = &mut self.databases[database.index()];
        known.learning -= 1;
        // Not yet, if another was read meanwhile.
        if known.catalog == Catalog::Learning && known.learning == 0 {
            known.catalog = Catalog::Known;
            self.wake_for_catalog(database);
        }
        self.forget_database_if_unused(database);
    }

    /// Looks, now and then, whether catalogs have been changed by somebody else.
    pub(crate) fn check_catalogs(&mut self) {
        for index in 0..self.databases.len() {
            let known = &self.databases[index];
            let age = self.now.nanos_since(known.checked_at);
            let is_due = age >= CHECK_NANOS || (known.is_suspect && age >= CHECK_SUSPECT_NANOS);
            if known.catalog != Catalog::Known || known.is_checking || !is_due {
                continue;
            }
            // Only where somebody is connected anyway: without an upstream nothing runs.
            let ready = self
                .upstreams
                .iter()
                .map(|(_, upstream)| upstream)
                .find(|upstream| {
                    let database = self.identities[upstream.identity].database;
                    upstream.state == State::Ready && database.index() == index
                });
            let Some(identity) = ready.map(|upstream| upstream.identity) else {
                continue;
            };
            self.check_catalog(identity);
        }
    }

    /// A row of an answer to a chore, or a message of a client's simple Query.
    pub(crate) fn handle_chore_message(
        &mut self,
        id: UpstreamId,
        tag: u8,
        body: &[u8],
    ) -> Result<super::replies::Fate, Broken> {
        let head = self.upstreams[id]
            .pipe
            .front_mut()
            .ok_or(Broken::Mismatch)?;
        let Requester::Chore(chore) = &mut head.owner else {
            return Ok(super::replies::Fate::Pass);
        };
        if tag == b'D' {
            let mut values = columns(body);
            match chore {
                Chore::Catalog(lines) => {
                    lines.extend_from_slice(values.next().flatten().unwrap_or_default());
                    lines.push(b'\n');
                }
                Chore::Version(_, answer) => {
                    answer.extend_from_slice(values.next().flatten().unwrap_or_default());
                }
                Chore::Trial(_, _, spelled) => {
                    spelled.push(values.next().flatten().unwrap_or_default().into());
                }
                Chore::Values(_, _, answers) => {
                    answers.extend(values.map(|value| value.map(Into::into)));
                }
                _ => {}
            }
        }
        Ok(super::replies::Fate::Swallow)
    }

    /// A chore has failed; its ReadyForQuery is still to come.
    pub(crate) fn handle_chore_error(&mut self, id: UpstreamId, body: &[u8]) {
        let head = self.upstreams[id]
            .pipe
            .front()
            .expect("an error answers a request");
        let is_locked = Fields::decode(body).is_ok_and(|it| it.sqlstate() == LOCK_NOT_AVAILABLE);
        if matches!(head.owner, Requester::Chore(Chore::Catalog(_))) && is_locked {
            let database = self.identities[self.upstreams[id].identity].database;
            self.databases[database.index()].is_outdated = true;
        }
        if let Requester::Chore(Chore::Trial(client, ..)) = head.owner
            && let Some(found) = self.clients.get(client)
        {
            // A private connection would have been refused in the same words.
            let out = self.conns.write(found.conn);
            encode_as_fatal(body, out);
            self.stats.logins_refused += 1;
            self.end_client(client);
        }
    }

    /// A chore is answered.
    pub(crate) fn finish_chore(&mut self, id: UpstreamId, chore: Chore, is_failed: bool) {
        match chore {
            Chore::Catalog(lines) => self.finish_catalog(id, lines, is_failed),
            Chore::Fence => self.upstreams[id].fences -= 1,
            Chore::Raw(client, name) => {
                if let Some(client) = self.clients.get_mut(client).filter(|_| is_failed) {
                    client.session_mut().unprepared.push(name);
                }
            }
            Chore::Tidy => {}
            Chore::Reset | Chore::Restore(_) | Chore::Switch if is_failed => {
                self.upstreams[id].is_draining = true;
            }
            Chore::Reset => self.finish_reset(id),
            Chore::Restore(client) => self.finish_restore(client),
            Chore::Switch => {}
            Chore::Trial(client, tried, spelled) => {
                self.finish_trial(id, client, tried, spelled, is_failed);
            }
            Chore::Values(client, names, values) => self.finish_values(id, client, names, values),
            Chore::Version(since, answer) => {
                self.finish_version(id, since, &answer, is_failed);
            }
        }
    }

    fn finish_catalog(&mut self, id: UpstreamId, lines: Vec<u8>, is_failed: bool) {
        let identity = self.upstreams[id].identity;
        let database = self.identities[identity].database;
        self.stats.catalogs_read += 1;
        let known = &mut self.databases[database.index()];
        if known.is_outdated {
            self.read_catalog(identity);
            return;
        }
        known.catalog = Catalog::Learning;
        known.learning += 1;
        known.checked_at = self.now;
        if lines
            .split(|&byte| byte == b'\n')
            .rev()
            .skip(1)
            .any(<[u8]>::is_empty)
        {
            // Partial: the next look at the version finds another than this.
            known.version = Some(Box::default());
        }
        let lines = if is_failed { Vec::new() } else { lines };
        self.conns
            .operations
            .push_back(Operation::Catalog { database, lines });
    }

    /// A look at the catalog's version that was begun at `since` is over.
    fn finish_version(&mut self, id: UpstreamId, since: Instant, answer: &[u8], is_failed: bool) {
        let identity = self.upstreams[id].identity;
        let database = self.identities[identity].database;
        let known = &mut self.databases[database.index()];
        known.is_checking = false;
        if known.catalog == Catalog::Reading {
            known.version = (!is_failed).then(|| answer.into());
            known.confirmed_at = since;
            return;
        }
        if !is_failed && known.version.as_deref().is_some_and(|it| it != answer) {
            self.void_catalog(database);
            return;
        }
        // One that cannot be asked for leaves the doubt as it was: the text gets a lease.
        known.confirmed_at = since;
        if known.version.is_none() && !is_failed {
            known.version = Some(answer.into());
        }
        self.wake_for_catalog(database);
    }

    /// Whoever waits for the catalog looks again, if it is known.
    pub(crate) fn wake_for_catalog(&mut self, database: DatabaseId) {
        let known = &mut self.databases[database.index()];
        if known.catalog == Catalog::Known {
            for client in core::mem::take(&mut known.waiting) {
                self.wake(client, Waiting::Catalog);
            }
        }
    }

    fn finish_reset(&mut self, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        upstream.is_soiled = false;
        upstream.prepared.clear();
        upstream.application = None;
        let base = Rc::clone(&upstream.base);
        upstream.fingerprint = Rc::clone(&base);
        let lane = self.lane_beside(id, &base);
        self.move_upstream(id, lane);
    }

    fn finish_restore(&mut self, client: ClientId) {
        if self.clients.get(client).is_some() {
            self.end_lease_if_over(client);
        }
    }

    fn finish_trial(
        &mut self,
        id: UpstreamId,
        client: ClientId,
        tried: Vec<Setting>,
        spelled: Vec<Box<[u8]>>,
        is_failed: bool,
    ) {
        self.upstreams[id].is_on_trial = false;
        if is_failed {
            // Rolled back as a whole: the upstream has the settings that it had.
            let lane = self.upstreams[id].lane;
            self.upstreams[id].fingerprint = Rc::clone(&self.lanes[lane].fingerprint);
            return;
        }
        let identity = self.upstreams[id].identity;
        for (setting, value) in tried.into_iter().zip(spelled) {
            self.accept(identity, setting, &value);
        }
        let fingerprint = Rc::clone(&self.upstreams[id].fingerprint);
        let lane = self.lane_beside(id, &fingerprint);
        self.move_upstream(id, lane);
        self.finish_login(client);
    }

    /// Remembers that the node has taken a setting, and how it spells the value.
    pub(crate) fn accept(&mut self, identity: IdentityId, setting: Setting, spelled: &[u8]) {
        let known = &mut self.identities[identity];
        let parameter = known
            .parameters
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(setting.name.as_bytes()));
        let reported: Vec<Reported> = parameter
            .map(|(name, _)| (name.clone(), spelled.into()))
            .into_iter()
            .collect();
        known.accept(setting, reported);
    }

    fn finish_values(
        &mut self,
        id: UpstreamId,
        client: ClientId,
        names: Vec<Box<str>>,
        values: Vec<Option<Box<[u8]>>>,
    ) {
        if self.clients.get(client).is_none() {
            return;
        }
        let identity = self.upstreams[id].identity;
        let session = self.clients[client].session();
        let mut fingerprint = Rc::clone(&session.fingerprint);
        let mut application = session.application.clone();
        for (name, value) in names.into_iter().zip(values) {
            let Some(value) = value else {
                fingerprint = self.fingerprints.without(&fingerprint, &name);
                continue;
            };
            if &*name == APPLICATION_NAME {
                application = Some(value.into());
                continue;
            }
            let setting = Setting {
                name,
                value: value.clone(),
            };
            self.accept(identity, setting.clone(), &value);
            fingerprint = self.fingerprints.with(&fingerprint, setting);
        }
        self.upstreams[id].application.clone_from(&application);
        self.upstreams[id].fingerprint = Rc::clone(&fingerprint);
        self.clients[client].session_mut().application = application;
        self.set_fingerprint(client, Rc::clone(&fingerprint));
        let lane = self.lane_beside(id, &fingerprint);
        self.move_upstream(id, lane);
        self.end_lease_if_over(client);
        self.wake(client, Waiting::Itself);
    }
}

/// Writes an ErrorResponse with the fields of `body`, its severity raised to FATAL: during a login
/// every error is.
fn encode_as_fatal(body: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(b"E\0\0\0\0");
    let mut rest = body;
    while let [code, tail @ ..] = rest
        && *code != 0
    {
        let end = tail
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(tail.len());
        out.push(*code);
        let value = if matches!(code, b'S' | b'V') {
            b"FATAL"
        } else {
            &tail[..end]
        };
        out.extend_from_slice(value);
        out.push(0);
        rest = tail.get(end + 1..).unwrap_or_default();
    }
    out.push(0);
    let len = (out.len() - begin - 1) as u32;
    out[begin + 1..begin + 5].copy_from_slice(&len.to_be_bytes());
}

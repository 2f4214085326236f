//! Leases: an upstream held by one client alone, from the grant until its state is gone.
//!
//! What a client does on its lease is followed by what the node answers, never by what was asked.
//! Invariant: an upstream goes back to its pool only without transaction, watched keys or anything
//! else that its client did to it.

use manifold_protocols::redis::resp::number;

use crate::client::redis::{Lease, Waiting};
use crate::ids::{ClientId, UpstreamId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::connect::NAME;
use crate::upstream::redis::pool::{Key, Version};
use crate::upstream::redis::replies::Outcome;
use crate::upstream::redis::{Effect, Own};

impl Redis {
    /// An upstream is the client's alone from now on.
    pub(crate) fn grant(&mut self, reach: &mut Reach<'_>, id: ClientId, target: UpstreamId) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.lease = Some(Lease {
            upstream: target,
            is_queueing: false,
            is_multi: false,
            is_strange: false,
            is_watching: false,
            is_pinned: false,
            is_soiled: false,
            is_in_doubt: false,
            is_stream: false,
        });
        client.waiting = Waiting::No;
        self.upstreams[target].holder = Some(id);
        reach.stats.leases += 1;
        reach.stats.leased += 1;
        reach.connections[client.service.index()].tally.leases += 1;
    }

    /// A request on a lease has been answered.
    pub(crate) fn settle_lease(
        &mut self,
        reach: &mut Reach<'_>,
        id: ClientId,
        target: UpstreamId,
        effect: Effect,
        outcome: Outcome,
    ) {
        let client = &mut self.clients[id];
        let Some(lease) = client.lease.as_mut().filter(|it| it.upstream == target) else {
            return;
        };
        match (effect, outcome) {
            (Effect::Multi, Outcome::Done) => lease.is_multi = true,
            (Effect::Watch, Outcome::Done) if !lease.is_multi => lease.is_watching = true,
            (Effect::Unwatch, Outcome::Done) if !lease.is_multi => lease.is_watching = false,
            (Effect::Exec | Effect::Discard, Outcome::Missing) => lease.is_multi = false,
            (Effect::Exec, Outcome::Done | Outcome::Aborted) | (Effect::Discard, Outcome::Done) => {
                lease.is_multi = false;
                lease.is_watching = false;
                let is_strange = core::mem::take(&mut lease.is_strange);
                // Nothing of it ran otherwise.
                if is_strange && (effect, outcome) == (Effect::Exec, Outcome::Done) {
                    self.ask_what_became(reach, id, target);
                }
            }
            _ => {}
        }
        self.end_lease_if_over(reach, id);
    }

    /// A transaction may have changed what the session is made of: the node is asked, and the
    /// client waits until it has answered.
    fn ask_what_became(&mut self, reach: &mut Reach<'_>, id: ClientId, target: UpstreamId) {
        let client = &mut self.clients[id];
        client.waiting = Waiting::Move;
        client.resends += 1;
        if let Some(lease) = &mut client.lease {
            lease.is_in_doubt = true;
        }
        self.ask(reach, target, Own::Info, &[b"CLIENT", b"INFO"]);
    }

    /// The node says what it knows of a connection that a client has alone.
    pub(crate) fn handle_info(&mut self, reach: &mut Reach<'_>, target: UpstreamId, info: &[u8]) {
        let Some(holder) = self.upstreams[target].holder else {
            return;
        };
        if matches!(info.first(), Some(b'-' | b'!')) {
            return self.ask(reach, target, Own::Version, &[b"HELLO"]);
        }
        let field = |name: &[u8]| {
            let mut fields = info.split(|byte| b" \r\n".contains(byte));
            fields.find_map(|field| field.strip_prefix(name))
        };
        let mut key = self.key_of(holder).clone();
        let database = field(b"db=").and_then(number::parse);
        key.database = database.map_or(key.database, |database| database as u32);
        key.version = match field(b"resp=") {
            Some(b"3") => Version::Three,
            Some(_) => Version::Two,
            None => key.version,
        };
        let own = key.login.as_ref().map(|login| &*login.user);
        let own = own.filter(|user| !user.is_empty()).unwrap_or(b"default");
        // It became somebody else, by a secret that is not known here: the upstream stays its own.
        let is_changed = field(b"user=").is_some_and(|user| user != own);
        if let Some(lease) = &mut self.clients[holder].lease {
            lease.is_pinned |= is_changed;
        }
        let first_name = match self.upstreams[target].is_named {
            true => NAME,
            false => b"",
        };
        let client = &mut self.clients[holder];
        client.resends -= 1;
        client.waiting = Waiting::No;
        if let Some(name) = field(b"name=").filter(|name| *name != first_name) {
            client.session.get_or_insert_default().name = name.into();
        }
        self.shift(holder, &key);
        if let Some(lease) = &mut self.clients[holder].lease {
            lease.is_in_doubt = false;
            // It has the client's name now.
            lease.is_soiled = true;
        }
        self.end_lease_if_over(reach, holder);
        self.clients_to_pump.push_back(holder);
    }

    /// The node does not say what a transaction has made of a session: only this connection knows,
    /// and the client stays on it. What the proxy says itself is in the right version, though. Who
    /// may not ask for that cannot have changed it.
    pub(crate) fn handle_version(&mut self, target: UpstreamId, hello: &[u8]) {
        let Some(holder) = self.upstreams[target].holder else {
            return;
        };
        let mut key = self.key_of(holder).clone();
        key.version = match proto(hello) {
            Some(b'2') => Version::Two,
            Some(b'3') => Version::Three,
            _ => key.version,
        };
        self.shift(holder, &key);
        let client = &mut self.clients[holder];
        client.resends -= 1;
        client.waiting = Waiting::No;
        if let Some(lease) = &mut client.lease {
            lease.is_pinned = true;
        }
        self.clients_to_pump.push_back(holder);
    }

    /// Session and lease are in another pool from now on.
    pub(crate) fn shift(&mut self, id: ClientId, key: &Key) {
        let to = self.pool(key);
        self.enter_pool(to);
        let from = core::mem::replace(&mut self.clients[id].pool, to);
        if let Some(lease) = self.clients[id].lease
            && from != to
        {
            self.upstreams[lease.upstream].pool = to;
            self.pools[from].forget(lease.upstream);
            self.pools[to].leases.push(lease.upstream);
        }
        self.leave_pool(from);
    }

    /// Gives a client's lease back if nothing of it is left.
    pub(crate) fn end_lease_if_over(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let client = &self.clients[id];
        let Some(lease) = client.lease else {
            return;
        };
        let has_state = lease.is_multi || lease.is_watching || lease.is_pinned || lease.is_stream;
        if client.is_settled() && !has_state {
            self.end_lease(reach, id);
        }
    }

    /// Gives a client's lease back. On the upstream, nothing is in flight.
    pub(crate) fn end_lease(&mut self, reach: &mut Reach<'_>, id: ClientId) {
        let Some(lease) = self.clients[id].lease.take() else {
            return;
        };
        reach.stats.leased -= 1;
        let upstream = &mut self.upstreams[lease.upstream];
        upstream.holder = None;
        upstream.since = reach.now;
        let pool = upstream.pool;
        if upstream.is_paused {
            upstream.is_paused = false;
            reach.conns.resume(upstream.conn);
        }
        let has_state = lease.is_multi || lease.is_watching;
        // A node remembers which keys a connection has tracked, even after RESET: whoever tracked
        // on it next would hear of them.
        let is_spent = lease.is_stream || lease.is_pinned || upstream.is_outdated;
        if is_spent || self.is_needed_elsewhere(reach, pool) {
            self.close_upstream(reach, lease.upstream);
        } else if (has_state || lease.is_soiled) && !reach.planted.is(Bug::ForgetReset) {
            self.clean(reach, lease.upstream);
        }
        self.list_pool(pool);
    }

    /// Wipes everything from an upstream and greets again.
    fn clean(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        self.begin_greeting(reach, id);
        self.ask(reach, id, Own::Reset, &[b"RESET"]);
    }
}

/// The version in an answer to HELLO.
fn proto(hello: &[u8]) -> Option<u8> {
    const FIELD: &[u8] = b"$5\r\nproto\r\n:";
    let at = hello
        .windows(FIELD.len())
        .position(|bytes| bytes == FIELD)?;
    hello.get(at + FIELD.len()).copied()
}

/// Puts the client's own number into what a node says of a connection in its answer to HELLO.
pub(crate) fn rename(reply: &mut Vec<u8>, client: u64) {
    const FIELD: &[u8] = b"$2\r\nid\r\n:";
    let Some(at) = reply.windows(FIELD.len()).position(|bytes| bytes == FIELD) else {
        return;
    };
    let at = at + FIELD.len();
    let Some(len) = reply[at..].iter().position(|&byte| byte == b'\r') else {
        return;
    };
    let mut digits = Vec::new();
    number::write(&mut digits, client);
    reply.splice(at..at + len, digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::stage::Stage;

    #[test]
    fn puts_the_number_of_the_client_into_the_answer_to_hello() {
        let mut reply = b"%1\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n".to_vec();
        rename(&mut reply, 1234);
        assert_eq!(reply, b"%1\r\n$2\r\nid\r\n:1234\r\n$4\r\nmode\r\n");
    }

    #[test]
    fn leaves_no_connection_that_has_tracked_keys_to_others() {
        let mut stage = Stage::new();
        for end in ["RESET", ""] {
            let client = stage.client_of_three();
            // In small letters, because the stage answers others by itself.
            stage.send(client, "client tracking on");
            let lease = stage.on("client tracking on");
            stage.say(lease, "+OK");
            match end {
                "" => stage.leave(client),
                _ => stage.send(client, end),
            }
            assert!(stage.is_gone(lease), "{end}");
        }
    }

    #[test]
    fn learns_the_version_of_who_may_not_ask_for_its_own_state() {
        let mut stage = Stage::new();
        let client = stage.client();
        // In small letters, because the stage answers others by itself.
        for (request, reply) in [("multi", "+OK"), ("hello 3", "+QUEUED"), ("exec", "*1 :1")] {
            stage.send(client, request);
            let lease = stage.on("multi");
            stage.say(lease, reply);
        }
        stage.heard(client);
        stage.send(client, "SUBSCRIBE c");
        let hub = stage.hub();
        stage.say(hub, ">3 $9 subscribe $1 c :1");
        assert_eq!(stage.heard(client), ">3 $9 subscribe $1 c :1");
    }

    #[test]
    fn keeps_the_name_of_a_client_whose_transaction_did_not_change_it() {
        for (naming, name) in [("+OK", "manifold"), ("-BUSY a script runs", "")] {
            let mut stage = Stage::new();
            stage.naming = naming;
            let info = format!("id=3 name={name} db=2 user=default resp=2");
            stage.info = format!("${}\r\n{info}", info.len());
            let client = stage.client();
            assert_eq!(stage.ask(client, "CLIENT SETNAME mine"), "+OK");
            for (request, reply) in [
                ("multi", "+OK"),
                ("select 2", "+QUEUED"),
                ("exec", "*1 +OK"),
            ] {
                stage.send(client, request);
                let lease = stage.on("multi");
                stage.say(lease, reply);
            }
            stage.heard(client);
            assert_eq!(stage.ask(client, "CLIENT GETNAME"), "$4 mine", "{naming}");
        }
    }

    #[test]
    fn shares_again_after_a_transaction_that_did_not_run() {
        for end in ["exec", "discard"] {
            let mut stage = Stage::new();
            let client = stage.client();
            for (request, reply) in [("multi", "+OK"), ("hello 3", "+QUEUED")] {
                stage.send(client, request);
                let lease = stage.on("multi");
                stage.say(lease, reply);
            }
            let lease = stage.on("multi");
            stage.send(client, end);
            stage.say(lease, if end == "exec" { "-EXECABORT" } else { "+OK" });
            stage.send(client, "GET k");
            assert_ne!(stage.on("GET k"), lease, "after {end}");
        }
    }

    #[test]
    fn keeps_the_upstream_that_watches_when_there_is_no_transaction_to_end() {
        let mut stage = Stage::new();
        let client = stage.client();
        let without = "-ERR EXEC without MULTI";
        stage.send(client, "WATCH k");
        let lease = stage.on("WATCH k");
        stage.say(lease, "+OK");
        stage.send(client, "EXEC");
        stage.say_raw(lease, format!("{without}\r\n").as_bytes());
        assert_eq!(stage.heard(client), format!("+OK {without}"));
        stage.lose(lease);
        assert!(stage.is_closed(client), "nobody watches for it any more");
    }
}

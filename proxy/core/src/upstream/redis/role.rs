//! Only the primary will do: nodes are asked what they are, and requests wait while there is none.
//!
//! Knows what nodes and the control thread say, and no failover. Invariants: where a service wants
//! its primary, nothing is sent to a node that says that it is a replica; who waits while there is
//! no node is told after `hold_max`, and before only if the node was never there.

use crate::client::redis::errors;
use crate::event::Level;
use crate::ids::{ServiceId, UpstreamId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::time::Instant;
use crate::topology::Target;
use crate::upstream::redis::{Own, State, Upstream};

/// What is missing while nobody leads.
const NOBODY: &str = "no node is the primary at the moment";

impl Redis {
    /// Asks a node what it is, as part of a greeting, if that matters.
    pub(crate) fn ask_for_role(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let service = self.upstreams[id].service;
        if reach.service(service).wants_primary {
            self.ask(reach, id, Own::Role, &[b"ROLE"]);
        }
    }

    /// What a node says that it is.
    pub(crate) fn handle_role(&mut self, reach: &mut Reach<'_>, id: UpstreamId, reply: &[u8]) {
        if is_primary(reply) || reply.starts_with(b"-NOAUTH") {
            // Who has not logged in gets nothing done anywhere.
            return;
        }
        if reply.starts_with(b"*") {
            return self.handle_upstream_down(reach, id, "the node is a replica");
        }
        if reply.starts_with(b"-BUSY") {
            return self.handle_upstream_down(reach, id, "a script keeps it from saying its role");
        }
        let service = self.upstreams[id].service;
        if core::mem::replace(&mut self.nodes[service.index()].has_refused_role, true) {
            return;
        }
        let name = &reach.service(service).name;
        let why = String::from_utf8_lossy(reply.trim_ascii_end());
        let text = format!(
            "service \"{name}\": the role of its node could not be verified, so it is believed to \
             be the primary; allow ROLE to all users: {why}"
        );
        reach.log(Level::Warn, text);
    }

    /// Whether nobody leads, so that nothing is opened. Whoever does will be said.
    pub(crate) fn is_leaderless(&mut self, reach: &Reach<'_>, service: ServiceId) -> bool {
        let node = &mut self.nodes[service.index()];
        let is_leaderless = reach.service(service).wants_primary && node.whereabouts.is_nobody();
        if is_leaderless {
            node.failing_since.get_or_insert(reach.now);
            node.missing = NOBODY.into();
        }
        is_leaderless
    }

    /// Whether an upstream that could not be had leads to the address that is tried at the moment:
    /// of several that were begun together, one is enough to go on to the next.
    pub(crate) fn is_tried_now(&self, reach: &Reach<'_>, upstream: &Upstream) -> bool {
        let node = &self.nodes[upstream.service.index()];
        let service = reach.service(upstream.service);
        let is_plain = !service.wants_primary || matches!(service.target, Target::Address(_));
        is_plain || upstream.address.is_none() || node.whereabouts.current() == upstream.address
    }

    /// A node has said that it is a replica: nothing more goes there.
    pub(crate) fn leave_demoted(&mut self, reach: &mut Reach<'_>, id: UpstreamId) {
        let upstream = &mut self.upstreams[id];
        let (service, address) = (upstream.service, upstream.address.clone());
        let node = &mut self.nodes[service.index()];
        node.failing_since.get_or_insert(reach.now);
        node.missing = "the node is a replica".into();
        self.doubt(reach, service);
        let same = |upstream: &Upstream| {
            upstream.service == service && upstream.address == address && !upstream.is_outdated
        };
        let all = self.upstreams.iter().filter(|(_, upstream)| same(upstream));
        let all: Vec<_> = all.map(|(id, _)| id).collect();
        if all.is_empty() {
            return;
        }
        let name = &reach.service(service).name;
        let text = format!("service \"{name}\": its node has become a replica; it is left");
        reach.log(Level::Warn, text);
        for id in all {
            // What is not ready yet is about to hear the same.
            if self.upstreams.get(id).map(|it| it.state) == Some(State::Ready) {
                self.leave_one(reach, id);
            }
        }
    }

    /// What somebody is told who has waited since then, if that is too long.
    pub(crate) fn too_long(
        &self,
        reach: &Reach<'_>,
        service: ServiceId,
        since: Instant,
    ) -> Option<Vec<u8>> {
        let node = &self.nodes[service.index()];
        let name = &reach.service(service).name;
        let is_alone = node.cluster.is_none() && node.part_of.is_none();
        if let Some(failing) = node.failing_since
            && node.was_reached
            && is_alone
            && !self.is_reached(service)
        {
            let limit = reach.limits.hold_max;
            let is_late = reach.now - since.max(failing) >= limit;
            let lasted = reach.now - failing;
            return is_late.then(|| errors::held_too_long(name, &node.missing, lasted, limit));
        }
        let limit = reach.limits.queue_wait_max;
        let is_late = reach.now - since.max(node.reached_at) >= limit;
        let missing = node.failing_since.map(|_| &*node.missing);
        is_late.then(|| errors::waited_too_long(name, limit, missing))
    }

    /// Whether some upstream of a service takes requests.
    fn is_reached(&self, service: ServiceId) -> bool {
        let is_ready =
            |it: &Upstream| it.service == service && it.state == State::Ready && !it.is_outdated;
        self.upstreams
            .iter()
            .any(|(_, upstream)| is_ready(upstream))
    }
}

/// Whether a node's answer to ROLE says that it is the primary.
fn is_primary(reply: &[u8]) -> bool {
    let word = reply.splitn(4, |&byte| byte == b'\n').nth(2);
    reply.starts_with(b"*") && word == Some(b"master\r")
}

#[cfg(test)]
mod tests {
    use crate::event::Lead;
    use crate::redis::stage::{Stage, at};

    #[test]
    fn goes_on_to_the_next_node_at_once_when_one_is_a_replica() {
        let mut stage = Stage::before_nodes(&[7001, 7002]);
        stage.replicas = vec![7001];
        let client = stage.client();
        stage.send(client, "INCR n");
        stage.wait(1);
        assert_eq!(stage.asked_at(7001), "");
        assert_eq!(stage.asked_at(7002), "INCR n");
        stage.say_at(7002, ":1");
        assert_eq!(stage.heard(client), ":1");
    }

    #[test]
    fn believes_a_node_that_does_not_let_somebody_ask() {
        let mut stage = Stage::before_nodes(&[7001]);
        stage.role_refused = "-NOPERM no\r\n";
        let client = stage.client();
        stage.send(client, "INCR n");
        assert_eq!(stage.asked_at(7001), "INCR n");
    }

    #[test]
    fn waits_while_nobody_leads() {
        let mut stage = Stage::before_nodes(&[7001]);
        let client = stage.client();
        stage.send(client, "INCR n");
        assert_eq!(stage.asked_at(7001), "INCR n");
        stage.lead(Lead::Nobody);
        stage.say_at(7001, ":1");
        assert_eq!(stage.heard(client), ":1");
        stage.send(client, "INCR n");
        stage.wait(29_000);
        assert_eq!(
            (stage.heard(client), stage.asked_at(7001)),
            Default::default()
        );
        stage.lead(Lead::Among(vec![at(7002)]));
        stage.wait(1);
        assert_eq!(stage.asked_at(7002), "INCR n");
    }

    #[test]
    fn says_what_is_missing_after_hold_max() {
        let mut stage = Stage::before_nodes(&[7001]);
        let client = stage.client();
        assert_eq!(stage.ask(client, "GET n"), "");
        stage.say_at(7001, "$-1");
        stage.heard(client);
        stage.kill(7001);
        stage.send(client, "INCR n");
        stage.wait(29_000);
        assert_eq!(stage.heard(client), "");
        stage.wait(3_000);
        let heard = stage.heard(client);
        assert!(heard.contains("hold_max"), "{heard}");
        assert!(heard.contains("nobody listens there"), "{heard}");
    }

    #[test]
    fn asks_elsewhere_when_a_node_has_been_demoted() {
        for refusal in ["READONLY no", "MASTERDOWN no"] {
            let mut stage = Stage::before_nodes(&[7001, 7002]);
            stage.replicas = vec![7002];
            let client = stage.client();
            stage.send(client, "INCR n");
            assert_eq!(stage.asked_at(7001), "INCR n");
            stage.replicas = vec![7001];
            stage.refuse_at(7001, refusal);
            stage.wait(300);
            assert_eq!(stage.heard(client), "");
            assert_eq!(stage.asked_at(7002), "INCR n");
            stage.say_at(7002, ":1");
            assert_eq!(stage.heard(client), ":1");
        }
    }
}

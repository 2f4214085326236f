//! An upstream is lost: who is asked again elsewhere, and who is told that nobody knows.
//!
//! The rules are those of H16 in the hazards: what the kernel had not taken did not run; a read of
//! which nothing was delivered may run again, even where it may then see a later write of its own
//! client, whose outcome is unknown; everything else is unknown. Invariant: a write that the node
//! may have seen is never sent again.

use crate::client::redis::{Client, errors};
use crate::ids::{ClientId, UpstreamId};
use crate::planted::Bug;
use crate::reach::Reach;
use crate::redis::Redis;
use crate::upstream::redis::pool::{Lane, Post, Resend};
use crate::upstream::redis::{Effect, Expectation, Own, State, Upstream, Whose};

/// How often one request is sent again.
const RESENDS_MAX: u8 = 3;

impl Expectation {
    /// Whether it does no harm to send it again, where the kernel was given so many bytes.
    fn may_run_again(&self, given: u64) -> bool {
        self.position >= given || self.effect == Effect::Read
    }
}

impl Redis {
    /// An upstream has ended, or could not be had.
    pub(crate) fn handle_upstream_down(
        &mut self,
        reach: &mut Reach<'_>,
        id: UpstreamId,
        why: &str,
    ) {
        let Some(upstream) = self.upstreams.get(id) else {
            return;
        };
        let service = upstream.service;
        let is_new = upstream.state != State::Ready;
        let given = reach.conns.given_total(upstream.conn);
        let upstream = self.upstreams.remove(id).expect("it was there just now");
        reach.stats.upstreams -= 1;
        reach.close_upstream(upstream.payer, upstream.conn);
        self.pools[upstream.pool].forget(id);
        if upstream.post == Post::Hub {
            self.lose_hub(reach, upstream.pool);
        }
        if self.nodes[service.index()].is_asked_on == Some(id) {
            self.nodes[service.index()].is_asked_on = None;
        }
        self.lose_map_question(service, id);
        if is_new && self.is_tried_now(reach, &upstream) {
            self.back_off(reach, service, why);
        }
        let mut resends = Vec::new();
        for lost in &upstream.pipe {
            self.lose_request(reach, &upstream, lost, given, &mut resends);
        }
        if let Some(holder) = upstream.holder {
            self.lose_lease(reach, holder);
        }
        if let Some(pool) = self.pools.get_mut(upstream.pool) {
            let lane = match upstream.post {
                Post::Lane(lane) => lane,
                Post::Lease | Post::Hub => Lane::Slow,
            };
            // Behind those that were lost before, and before everybody who has not been sent.
            pool.lanes[lane as usize].resends.extend(resends);
        }
        self.list_pool(upstream.pool);
    }

    /// What becomes of one request of an upstream that is lost.
    fn lose_request(
        &mut self,
        reach: &mut Reach<'_>,
        upstream: &Upstream,
        lost: &Expectation,
        given: u64,
        resends: &mut Vec<Resend>,
    ) {
        let Whose::Client {
            id,
            number,
            at,
            len,
            is_mute,
        } = lost.whose
        else {
            if let Whose::Own(Own::Permission(id) | Own::PermissionToEnd(id)) = lost.whose {
                self.lose_permission(id);
            }
            return;
        };
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if let Some(route) = &mut client.route {
            route.count -= 1;
            if route.count == 0 {
                client.route = None;
            }
        }
        let is_amid = client.is_amid && client.answered == number
            || client
                .parked
                .as_ref()
                .is_some_and(|parked| parked.contains_key(&number));
        if is_amid {
            // Half a reply cannot be taken back.
            return self.drop_client(reach, id);
        }
        // Of what was passed on while it came, nothing is there any more.
        let is_kept = len > 0;
        let may_run_again = lost.may_run_again(given) || reach.planted.is(Bug::RetryWrite);
        let may_run_again = may_run_again && is_kept;
        if client.branch.is_some() && may_run_again {
            // It may be another node's business by now.
            self.lose_part(reach, id, number, len);
            return self.wake(id);
        }
        if may_run_again && is_movable(client, lost) && client.retries < RESENDS_MAX {
            // Those behind the oldest were not at fault.
            client.retries += u8::from(client.answered == number);
            client.resends += 1;
            reach.stats.requests_retried += 1;
            resends.push(Resend {
                client: id,
                number,
                at,
                len,
                is_mute,
                replies: lost.replies,
                effect: lost.effect,
            });
            return;
        }
        self.say_unknown(reach, upstream, lost);
    }

    /// Nobody knows whether a request of an upstream that is lost has run.
    fn say_unknown(&mut self, reach: &mut Reach<'_>, upstream: &Upstream, lost: &Expectation) {
        let Whose::Client {
            id,
            number,
            len,
            is_mute,
            ..
        } = lost.whose
        else {
            return;
        };
        let name = reach.service(upstream.service).name.clone();
        let text = match self.lose_passing(id, number) {
            true => errors::not_whole(&name),
            false => {
                reach.stats.outcomes_unknown += 1;
                errors::outcome_unknown(&name)
            }
        };
        let is_at_hand = upstream.pipe.front().map(|it| it.position) == Some(lost.position);
        if is_at_hand {
            self.take_back(id, upstream.passed);
        }
        for _ in 0..lost.replies {
            if !is_mute {
                self.deliver(reach, id, number, &text);
            }
        }
        self.complete(reach, id, number, len);
        self.fail_move(reach, id);
        self.wake(id);
    }

    /// Requests that could not be sent again for too long are given up.
    pub(crate) fn end_long_resends(&mut self, reach: &mut Reach<'_>) {
        for index in 0..self.nodes.len() {
            let since = self.nodes[index].failing_since;
            let service = reach.services[index].id;
            let text = since.and_then(|since| self.too_long(reach, service, since));
            let Some(text) = text else {
                continue;
            };
            let mut given_up = Vec::new();
            for (_, pool) in self.pools.iter_mut() {
                if pool.key.service.index() == index {
                    let lanes = pool.lanes.iter_mut();
                    given_up.extend(lanes.flat_map(|pipes| pipes.resends.drain(..)));
                }
            }
            for resend in given_up {
                self.give_up(reach, &resend, &text);
            }
        }
    }

    /// A request that was to be sent again gets an error.
    fn give_up(&mut self, reach: &mut Reach<'_>, it: &Resend, text: &[u8]) {
        let Some(client) = self.clients.get_mut(it.client) else {
            return;
        };
        client.resends -= 1;
        for _ in 0..it.replies {
            if !it.is_mute {
                self.deliver(reach, it.client, it.number, text);
            }
        }
        self.complete(reach, it.client, it.number, it.len);
        self.fail_move(reach, it.client);
        self.wake(it.client);
    }

    /// A lease is lost, and with it what the client had built up there.
    fn lose_lease(&mut self, reach: &mut Reach<'_>, holder: ClientId) {
        let Some(client) = self.clients.get_mut(holder) else {
            return;
        };
        let Some(lease) = client.lease.take() else {
            return;
        };
        reach.stats.leased -= 1;
        if lease.has_state() {
            // It would go on as if its transaction were still there. It is told what a node that
            // dies tells it.
            self.end_client(reach, holder);
        } else {
            self.wake(holder);
        }
    }

    /// Sends a request again.
    pub(crate) fn send_again(&mut self, reach: &mut Reach<'_>, target: UpstreamId, it: &Resend) {
        let Some(client) = self.clients.get_mut(it.client) else {
            return;
        };
        client.resends -= 1;
        let upstream = &mut self.upstreams[target];
        let position = reach.conns.written_total(upstream.conn);
        let bytes = client.input.kept(it.at, it.len as usize);
        reach.conns.write(upstream.conn).extend_from_slice(bytes);
        let whose = Whose::Client {
            id: it.client,
            number: it.number,
            at: it.at,
            len: it.len,
            is_mute: it.is_mute,
        };
        upstream.pipe.push_back(Expectation {
            whose,
            replies: it.replies,
            position,
            effect: it.effect,
        });
        client.follow(target);
    }
}

/// Whether a request may be sent on a lane: one that had a lease for its size alone can, too, and
/// so can one that reads behind what nobody has audited.
fn is_movable(client: &Client, lost: &Expectation) -> bool {
    let Some(lease) = &client.lease else {
        return true;
    };
    let is_plain = match lost.effect {
        Effect::Read => true,
        Effect::Write => !lease.is_soiled,
        _ => false,
    };
    is_plain && !lease.has_state()
}

#[cfg(test)]
mod tests {
    use crate::limits::Limits;
    use crate::redis::stage::{Shared, Stage};

    /// Two clients have asked on one lane, which is lost; gives what they hear and what the node
    /// is asked after that.
    fn after_losing(first: &[&str], second: &[&str]) -> (String, String, String) {
        let mut stage = Stage::new();
        let clients = [stage.client(), stage.client()];
        for (client, requests) in clients.into_iter().zip([first, second]) {
            requests.iter().for_each(|words| stage.send(client, words));
        }
        let lane = stage.on(first[0]);
        stage.asked(lane);
        stage.lose(lane);
        stage.wait(1_000);
        let asked = (0..stage.connections()).map(|place| stage.asked(place));
        let asked: Vec<_> = asked.filter(|asked| !asked.is_empty()).collect();
        let [first, second] = clients.map(|client| stage.heard(client));
        (first, second, asked.join("; "))
    }

    #[test]
    fn keeps_what_a_client_asks_again_on_one_upstream() {
        let mut stage = Stage::with(Limits::default(), 16, &Shared::default());
        stage.threads = 3;
        for _ in 0..40 {
            let other = stage.client();
            stage.send(other, "GET k");
        }
        assert_eq!(stage.lanes(), 3);
        let client = stage.client();
        for words in ["GET a", "GET b", "GET c"] {
            stage.send(client, words);
        }
        let lost = stage.on("GET a");
        stage.asked(lost);
        stage.lose(lost);
        let asked = stage.on("GET a");
        let asked = stage.asked(asked);
        assert!(asked.ends_with("GET a; GET b; GET c"), "{asked}");
    }

    #[test]
    fn asks_again_for_what_reads() {
        let (first, second, asked) = after_losing(&["GET a", "GET b"], &["GET c"]);
        assert_eq!((&*first, &*second), ("", ""));
        assert_eq!(asked, "GET a; GET b; GET c");
    }

    #[test]
    fn asks_again_for_reads_on_both_sides_of_a_write_that_may_have_run() {
        let (first, second, asked) = after_losing(&["GET n", "INCR n", "GET n"], &["GET n"]);
        assert_eq!(
            first, "",
            "the replies come in order, and the first is not there"
        );
        assert_eq!(second, "");
        assert_eq!(asked, "GET n; GET n; GET n");
    }
}

//! How the simulated driver carries out operations, and what it checks on the way.
//!
//! Knows the contract of `event`. Invariant: an operation against the contract is noted and not
//! carried out.

use core::time::Duration;
use std::sync::Arc;

use manifold_core::event::{Address, Lead, Operation, Socket};
use manifold_core::ids::ConnId;
use manifold_core::time::Instant;

use super::watch::Watch;
use super::{Conn, Connecting, Dialled, Driver, Happening, Sending};
use crate::simulator::classifier::understands;
use crate::simulator::network::{End, LinkId, Network};

impl Driver {
    /// Carries out one operation.
    pub fn apply(
        &mut self,
        now: Instant,
        operation: Operation,
        network: &mut Network,
        dial: impl FnOnce(&mut Network, &Address) -> Dialled,
    ) {
        match operation {
            Operation::Adopt { conn, socket } => self.adopt(now, conn, socket),
            Operation::Reject { socket } => match self.offered.remove(&socket.0) {
                Some(link) => network.close(now, link, End::Far),
                None => self.breach(format!("rejects {socket:?}, which was not offered")),
            },
            Operation::Connect { conn, address } => {
                self.connect(now, conn, &address, network, dial);
            }
            Operation::Send { conn, buffer } => self.send(conn, buffer),
            Operation::Pause { conn } => self.pause(conn),
            Operation::Resume { conn } => {
                if let Some(conn) = self.open(conn, "resumes") {
                    conn.is_paused = false;
                }
            }
            Operation::Close { conn } => self.close(now, conn, network),
            Operation::AcceptOff => self.is_accepting = false,
            Operation::Classify { ticket, text, .. } => {
                if !self.tickets.insert(ticket) {
                    self.breach(format!("uses ticket {ticket} twice at once"));
                }
                let verdict = Arc::new(self.classifier.judge(&text));
                let at = self.later(now, self.temper.classify_max);
                self.post(at, Happening::Classified(ticket, verdict));
            }
            Operation::Catalog { database, lines } => {
                let at = self.later(now, self.temper.classify_max);
                self.post(at, Happening::CatalogReady(database, understands(&lines)));
            }
            Operation::Resolve { service } => {
                let at = self.later(now, self.temper.classify_max);
                self.post(
                    at,
                    Happening::Resolved(service, Lead::Among(self.addresses.clone())),
                );
            }
            Operation::ToShard { shard, message } => self.outbox.push((shard, message)),
            Operation::Log { level, text } => self.log.push(format!("{level:?}: {text}")),
            Operation::Drained => {
                if !self.conns.is_empty() {
                    self.breach("says Drained with connections open".to_owned());
                }
                self.has_drained = true;
            }
        }
    }

    /// Checks what must hold after every pass: each accepted socket was answered.
    pub fn end_pass(&mut self, now: Instant, network: &mut Network) {
        for (socket, link) in core::mem::take(&mut self.offered) {
            self.breach(format!(
                "left socket {socket} unanswered at the end of a pass"
            ));
            network.close(now, link, End::Far);
        }
    }

    fn breach(&mut self, text: String) {
        self.violations
            .push(format!("driver contract: shard {} {text}", self.shard.0));
    }

    pub(super) fn later(&mut self, now: Instant, longest: Duration) -> Instant {
        now + Duration::from_nanos(self.prng.between(0, longest.as_nanos() as u64))
    }

    /// Whether the id is new: its place is free and its generation was not the last one there.
    fn is_fresh(&mut self, id: ConnId) -> bool {
        let is_free = self.conns.keys().all(|other| other.index != id.index);
        let last = self.generations.insert(id.index, id.generation);
        if !is_free {
            self.breach(format!("uses the place of {id:?} before Closed"));
        } else if last == Some(id.generation) {
            self.breach(format!("uses {id:?} again"));
        }
        is_free && last != Some(id.generation)
    }

    fn insert(
        &mut self,
        now: Instant,
        id: ConnId,
        link: Option<LinkId>,
        end: End,
        to: Option<Connecting>,
    ) {
        let conn = Conn {
            link,
            end,
            connecting: to,
            is_paused: false,
            burst: 0,
            send: None,
            late: None,
            closed_at: None,
            is_eof_told: false,
            is_failure_told: false,
            opened_at: now,
            failed_at: None,
            is_deaf: self.temper.is_deaf,
            watch: (end == End::Near).then(Watch::default),
        };
        self.conns.insert(id, conn);
    }

    fn adopt(&mut self, now: Instant, id: ConnId, socket: Socket) {
        let Some(link) = self.offered.remove(&socket.0) else {
            self.breach(format!("adopts {socket:?}, which was not offered"));
            return;
        };
        if self.is_fresh(id) {
            self.insert(now, id, Some(link), End::Far, None);
        }
    }

    fn connect(
        &mut self,
        now: Instant,
        id: ConnId,
        address: &Address,
        network: &mut Network,
        dial: impl FnOnce(&mut Network, &Address) -> Dialled,
    ) {
        if self.is_fresh(id) {
            self.connects += 1;
            let (result, time) = dial(network, address);
            self.insert(
                now,
                id,
                None,
                End::Near,
                Some(Connecting {
                    at: now + time,
                    result,
                }),
            );
        }
    }

    /// A connection on which operations are allowed.
    fn open(&mut self, id: ConnId, verb: &str) -> Option<&mut Conn> {
        let state = match self.conns.get(&id) {
            None => "which is not there",
            Some(conn) if conn.closed_at.is_some() => "which is being closed",
            Some(conn) if conn.connecting.is_some() => "which is not connected",
            Some(_) => return self.conns.get_mut(&id),
        };
        self.breach(format!("{verb} {id:?}, {state}"));
        None
    }

    fn send(&mut self, id: ConnId, buffer: Vec<u8>) {
        let length = buffer.len();
        if length == 0 {
            self.breach(format!("sends nothing on {id:?}"));
            return;
        }
        let Some(conn) = self.open(id, "sends on") else {
            return;
        };
        if conn.send.is_some() {
            self.breach(format!("sends on {id:?} while a send is under way"));
            return;
        }
        if let Some(watch) = &mut conn.watch {
            watch.see_sent(&buffer);
        }
        conn.send = Some(Sending {
            buffer,
            sent: 0,
            told_at: None,
        });
        self.sending_bytes += length;
    }

    fn pause(&mut self, id: ConnId) {
        let burst = self.prng.size(0, self.temper.burst_max);
        if let Some(conn) = self.open(id, "pauses")
            && !conn.is_paused
        {
            conn.is_paused = true;
            conn.burst = burst;
        }
    }

    fn close(&mut self, now: Instant, id: ConnId, network: &mut Network) {
        let at = self.later(now, self.temper.delay_max);
        let is_late = self.prng.chance(self.temper.late_bytes);
        let conn = match self.conns.get_mut(&id) {
            Some(conn) if conn.closed_at.is_none() => conn,
            _ => {
                self.breach(format!("closes {id:?}, which is not open"));
                return;
            }
        };
        conn.closed_at = Some(at);
        if let Some(Connecting {
            result: Ok(link), ..
        }) = conn.connecting.take()
        {
            network.close(now, link, End::Near);
        }
        if let Some(send) = &mut conn.send {
            send.told_at.get_or_insert(at);
        }
        if let Some(link) = conn.link.take() {
            if is_late && !conn.is_paused && !conn.is_failure_told {
                let late = network.read(now, link, conn.end, 100);
                conn.late = Some(late).filter(|late| !late.is_empty());
            }
            network.close(now, link, conn.end);
        }
    }
}

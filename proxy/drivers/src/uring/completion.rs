//! What each completion means for its connection.
//!
//! Knows nothing of waiting. Invariant: a completion of an earlier use of an index changes
//! nothing; if it carries a buffer, the buffer goes back.

use io_uring::cqueue;
use manifold_core::event::Event;

use super::Uring;
use super::ring::Completion;
use crate::sending::Sending;
use crate::sink::Sink;
use crate::socket;
use crate::token::{Kind, Place, decode_token};

impl Uring {
    /// Takes one completion in.
    pub(super) fn handle_completion(&mut self, completion: Completion, sink: &mut Sink<'_>) {
        let Some((kind, place)) = decode_token(completion.token) else {
            self.counters.stale += 1;
            return;
        };
        match kind {
            Kind::Receive => self.handle_receive(place, completion, sink),
            Kind::Send => self.handle_send(place, completion.result, sink),
            Kind::Cancel => self.handle_cancel(place, completion.result, sink),
            Kind::Connect => self.handle_connect(place, completion.result, sink),
            Kind::Accept => self.handle_accept(place, completion, sink),
            Kind::AcceptCancel => self.handle_accept_cancel(place, completion),
            Kind::Bell => self.handle_bell(completion.result),
            Kind::Knock => self.has_rung = true,
            Kind::LostKnock => self.handle_lost_knock(place),
        }
    }

    /// Bytes, the end of them, or the end of the receive.
    fn handle_receive(&mut self, place: Place, completion: Completion, sink: &mut Sink<'_>) {
        let Completion { result, flags, .. } = completion;
        let len = result.max(0) as usize;
        let bytes = cqueue::buffer_select(flags).map(|id| self.buffers.take(id, len));
        let Some((conn, connection)) = self.table.at(place) else {
            self.counters.stale += 1;
            return;
        };
        if !cqueue::more(flags) {
            connection.is_armed = false;
            connection.in_flight -= 1;
        }
        if result > 0 {
            let bytes = bytes.expect("bytes come in a buffer");
            connection.has_discarded = connection.is_closing;
            let is_wanted = !connection.is_closing;
            let must_arm = connection.wants_receive();
            let must_cancel = connection.wants_cancel();
            self.counters.receives += 1;
            self.counters.bytes_received += len as u64;
            if is_wanted {
                sink.deliver(Event::Received { conn, bytes });
            }
            if must_arm {
                self.arm(place);
            }
            if must_cancel {
                self.cancel(place);
            }
        } else {
            self.handle_receive_end(place, -result, sink);
        }
        self.finish_if_done(place, sink);
    }

    /// A receive has ended without bytes.
    fn handle_receive_end(&mut self, place: Place, errno: i32, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            return;
        };
        match errno {
            0 => {
                connection.has_ended = true;
                if !connection.is_closing && !connection.has_failed {
                    sink.deliver(Event::Eof { conn });
                }
            }
            libc::ENOBUFS => {
                connection.is_starved = true;
                self.starved.push(place);
                self.counters.starved += 1;
            }
            // Paused, or resumed before the cancel was through.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.arm(place),
            errno => {
                connection.has_ended = true;
                self.fail(place, errno, sink);
            }
        }
    }

    /// The kernel took all, a part, or nothing.
    fn handle_send(&mut self, place: Place, result: i32, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            self.counters.stale += 1;
            return;
        };
        connection.in_flight -= 1;
        let Some(sending) = &mut connection.sending else {
            unreachable!("a send that completes was begun");
        };
        let taken = result.max(0) as usize;
        let asked = sending.rest().len().min(super::SEND_BYTES_MAX);
        sending.sent += taken;
        let has_rest = !sending.rest().is_empty();
        if taken > 0 {
            self.counters.sends += 1;
            self.counters.bytes_sent += taken as u64;
            self.counters.sends_short += u64::from(taken < asked);
        }
        if has_rest && may_go_on(result) {
            return self.push_send(place);
        }
        if let Some(Sending { buffer, sent }) = connection.sending.take() {
            if has_rest {
                self.fail(place, if result < 0 { -result } else { libc::EPIPE }, sink);
            }
            sink.deliver(Event::Sent { conn, buffer, sent });
        }
        self.finish_if_done(place, sink);
    }

    fn handle_connect(&mut self, place: Place, result: i32, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            self.counters.stale += 1;
            return;
        };
        connection.in_flight -= 1;
        connection.is_connecting = false;
        connection.target = None;
        match result {
            // The cancel came too late, and the close of the socket does.
            0 if connection.is_closing => {}
            0 => {
                self.arm(place);
                sink.deliver(Event::Connected { conn });
            }
            result => {
                connection.has_ended = true;
                self.fail(place, -result, sink);
            }
        }
        self.finish_if_done(place, sink);
    }

    /// A cancel may come before or after what it cancelled. That the kernel knows of nothing to
    /// cancel is believed only on the second asking.
    fn handle_cancel(&mut self, place: Place, result: i32, sink: &mut Sink<'_>) {
        let Some((_, connection)) = self.table.at(place) else {
            self.counters.stale += 1;
            return;
        };
        connection.in_flight -= 1;
        connection.is_cancelling = false;
        let is_missed = matches!(-result, libc::ENOENT | libc::EALREADY);
        if is_missed && connection.wants_cancel() && !connection.is_cancel_retried {
            self.cancel_by_descriptor(place);
        }
        self.finish_if_done(place, sink);
    }

    fn handle_bell(&mut self, result: i32) {
        self.is_bell_armed = false;
        if result != -libc::ECANCELED {
            self.has_rung = true;
            self.arm_bell();
        }
    }

    /// Tells the core, once, that a connection is broken.
    pub(super) fn fail(&mut self, place: Place, errno: i32, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            return;
        };
        if connection.has_failed || connection.is_closing {
            return;
        }
        connection.has_failed = true;
        sink.deliver(Event::Failed {
            conn,
            failure: socket::failure(errno),
        });
    }

    fn finish_if_done(&mut self, place: Place, sink: &mut Sink<'_>) {
        if let Some(conn) = self.remove_if_done(place) {
            sink.deliver(Event::Closed { conn });
        }
    }
}

/// Whether the rest of a buffer can be sent after a send came to this.
fn may_go_on(result: i32) -> bool {
    result > 0 || matches!(-result, libc::EAGAIN | libc::ECANCELED | libc::EINTR)
}

//! What a connection's readiness leads to.
//!
//! Knows nothing of waiting. Invariant: one connection brings at most a burst of bytes in a pass;
//! the rest is for the next, after everybody else's turn.

use manifold_core::event::Event;
use socket2::SockRef;

use super::{Epoll, READ_INTEREST, WRITE_INTEREST, poller};
use crate::sending::Sending;
use crate::sink::Sink;
use crate::socket;
use crate::token::{Kind, Place, encode_token};

/// What one connection may bring in a pass, in bytes: as much as with io_uring, whose receive
/// takes 33 buffers of 4 KiB before it lets others run.
const BURST_BYTES: usize = 132 << 10;

impl Epoll {
    /// Sends what the core has asked for since the last pass.
    pub(super) fn flush(&mut self, sink: &mut Sink<'_>) {
        let mut unsent = std::mem::take(&mut self.unsent);
        for place in unsent.drain(..) {
            self.send_some(place, sink);
        }
        self.unsent = unsent;
    }

    /// Serves every connection that was queued before this call.
    pub(super) fn serve_all(&mut self, sink: &mut Sink<'_>) {
        let mut serving = std::mem::take(&mut self.serving);
        std::mem::swap(&mut self.ready, &mut serving);
        for place in serving.drain(..) {
            self.serve(place, sink);
        }
        self.serving = serving;
    }

    fn serve(&mut self, place: Place, sink: &mut Sink<'_>) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        connection.is_queued = false;
        if connection.is_connecting {
            if !connection.is_writable {
                return;
            }
            self.finish_connect(place, sink);
        }
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        if connection.is_writable && connection.has_write_interest {
            self.send_some(place, sink);
        }
        self.receive_some(place, sink);
    }

    fn finish_connect(&mut self, place: Place, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            return;
        };
        connection.is_connecting = false;
        let error = connection
            .socket
            .as_ref()
            .map(|socket| SockRef::from(socket).take_error());
        match error {
            Some(Ok(None)) => {
                self.set_write_interest(place, false);
                sink.deliver(Event::Connected { conn });
            }
            Some(Ok(Some(error)) | Err(error)) => {
                connection.has_ended = true;
                self.fail(place, socket::errno(&error), sink);
            }
            None => unreachable!("what is being connected has a socket"),
        }
    }

    /// Sends until everything is sent or the kernel takes no more.
    fn send_some(&mut self, place: Place, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            return;
        };
        let fd = connection.raw();
        let Some(sending) = &mut connection.sending else {
            return;
        };
        let mut failed = None;
        while !sending.rest().is_empty() {
            match poller::send(fd, sending.rest()) {
                Ok(len) => {
                    self.counters.sends += 1;
                    self.counters.bytes_sent += len as u64;
                    self.counters.sends_short += u64::from(len < sending.rest().len());
                    sending.sent += len;
                }
                Err(libc::EAGAIN) => {
                    connection.is_writable = false;
                    return self.set_write_interest(place, true);
                }
                Err(errno) => {
                    failed = Some(errno);
                    break;
                }
            }
        }
        if let Some(Sending { buffer, sent }) = connection.sending.take() {
            self.set_write_interest(place, false);
            if let Some(errno) = failed {
                self.fail(place, errno, sink);
            }
            sink.deliver(Event::Sent { conn, buffer, sent });
        }
    }

    /// Receives until nothing is left or the burst is used up.
    fn receive_some(&mut self, place: Place, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            return;
        };
        let fd = connection.raw();
        let mut left = BURST_BYTES;
        while connection.wants_receive() {
            if left == 0 {
                return self.queue(place);
            }
            let asked = left.min(self.scratch.len());
            match poller::receive(fd, &mut self.scratch[..asked]) {
                Ok(0) => {
                    connection.has_ended = true;
                    if !connection.has_failed {
                        sink.deliver(Event::Eof { conn });
                    }
                }
                Ok(len) => {
                    // A short receive has emptied the socket; what comes later is reported anew.
                    connection.is_readable = len == asked || connection.is_hung_up;
                    left -= len;
                    self.counters.receives += 1;
                    self.counters.bytes_received += len as u64;
                    sink.deliver(Event::Received {
                        conn,
                        bytes: &mut self.scratch[..len],
                    });
                }
                Err(libc::EAGAIN) => connection.is_readable = false,
                Err(errno) => {
                    connection.has_ended = true;
                    return self.fail(place, errno, sink);
                }
            }
        }
    }

    /// Has the kernel report, or not, when a send may go on. Asked for only while one is blocked.
    fn set_write_interest(&mut self, place: Place, is_wanted: bool) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        if connection.has_write_interest == is_wanted {
            return;
        }
        connection.has_write_interest = is_wanted;
        let interest = if is_wanted {
            WRITE_INTEREST
        } else {
            READ_INTEREST
        };
        let changed = self.poller.modify(
            connection.raw(),
            interest,
            encode_token(Kind::Receive, place),
        );
        changed.expect("a watched descriptor can be watched for something else");
    }

    /// Tells the core, once, that a connection is broken.
    pub(super) fn fail(&mut self, place: Place, errno: i32, sink: &mut Sink<'_>) {
        let Some((conn, connection)) = self.table.at(place) else {
            return;
        };
        if !connection.has_failed {
            connection.has_failed = true;
            sink.deliver(Event::Failed {
                conn,
                failure: socket::failure(errno),
            });
        }
    }
}

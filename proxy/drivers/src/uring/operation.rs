//! What each operation begins.
//!
//! Knows nothing of completions. Invariant: nothing is delivered here; what an operation leads to
//! by itself is due with the next pass.

use std::os::fd::OwnedFd;

use manifold_core::event::{Address, Event, Socket};
use manifold_core::ids::ConnId;

use super::Uring;
use super::connection::Connection;
use crate::sending::Sending;
use crate::socket::{self, Outbound};
use crate::token::Place;

impl Uring {
    /// Takes a connected, blocking socket on.
    pub(crate) fn adopt_socket(&mut self, conn: ConnId, socket: OwnedFd) {
        let place = self.table.insert(conn, Connection::over(socket));
        self.arm(place);
    }

    pub(super) fn adopt(&mut self, conn: ConnId, socket: Socket) {
        let socket = self.waiting.remove(socket);
        self.adopt_socket(conn, socket);
    }

    pub(super) fn reject(&mut self, socket: Socket) {
        drop(self.waiting.remove(socket));
        self.retry_accept();
    }

    pub(super) fn connect(&mut self, conn: ConnId, address: &Address) {
        self.counters.connects += 1;
        let outbound = socket::open_outbound(address, &self.config).and_then(|outbound| {
            // Blocking, so that no kernel has a reason to answer EAGAIN rather than wait.
            socket::set_nonblocking(&outbound.socket, false).map(|()| outbound)
        });
        match outbound {
            Ok(Outbound {
                socket,
                target: Some(target),
            }) => {
                let mut connection = Connection::over(socket);
                connection.target = Some(Box::new(target));
                let place = self.table.insert(conn, connection);
                self.push_connect(place);
            }
            Ok(Outbound {
                socket,
                target: None,
            }) => {
                self.due.push(Event::Connected { conn });
                self.adopt_socket(conn, socket);
            }
            Err(error) => {
                let connection = Connection {
                    has_failed: true,
                    has_ended: true,
                    ..Connection::default()
                };
                self.table.insert(conn, connection);
                let failure = socket::failure(socket::errno(&error));
                self.due.push(Event::Failed { conn, failure });
            }
        }
    }

    pub(super) fn send(&mut self, conn: ConnId, buffer: Vec<u8>) {
        let (place, connection) = self
            .table
            .find(conn)
            .expect("the core sends to what is open");
        assert!(!buffer.is_empty(), "a send has something to send");
        assert!(connection.sending.is_none(), "one send at a time: {conn:?}");
        assert!(!connection.is_closing, "no send after Close: {conn:?}");
        assert!(
            !connection.is_connecting,
            "no send before Connected: {conn:?}"
        );
        connection.sending = Some(Sending::new(buffer));
        self.push_send(place);
    }

    pub(super) fn pause(&mut self, conn: ConnId) {
        let (place, connection) = self.table.find(conn).expect("the core pauses what is open");
        connection.is_paused = true;
        self.cancel(place);
    }

    pub(super) fn resume(&mut self, conn: ConnId) {
        let (place, connection) = self
            .table
            .find(conn)
            .expect("the core resumes what is open");
        connection.is_paused = false;
        self.arm(place);
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        let (place, connection) = self.table.find(conn).expect("the core closes what is open");
        assert!(
            !connection.is_closing,
            "one Close for each connection: {conn:?}"
        );
        self.close_place(place);
    }

    /// Makes everything of a connection that is in flight end, and the connection with it.
    pub(super) fn close_place(&mut self, place: Place) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        connection.is_closing = true;
        match &connection.socket {
            // Documented to end a connect, which a shutdown is not.
            Some(_) if connection.is_connecting => self.cancel(place),
            Some(socket) => socket::shutdown(socket),
            None => {}
        }
        if let Some(conn) = self.remove_if_done(place) {
            self.due.push(Event::Closed { conn });
        }
    }

    /// Closes the socket and frees the index, if nothing is in flight any more.
    pub(super) fn remove_if_done(&mut self, place: Place) -> Option<ConnId> {
        let (_, connection) = self.table.at(place)?;
        if !connection.is_done() {
            return None;
        }
        let (conn, connection) = self.table.remove(place)?;
        debug_assert!(connection.sending.is_none() && !connection.is_armed);
        if let Some(socket) = connection
            .socket
            .as_ref()
            .filter(|_| connection.has_discarded)
        {
            socket::reset_at_close(socket);
        }
        drop(connection);
        self.retry_accept();
        Some(conn)
    }
}

//! What is pushed for the kernel, and why the memory behind each entry lives long enough.
//!
//! Decides nothing about connections. Invariant: every entry pushed for a connection raises its
//! `in_flight` by one.

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};

use super::{NOWHERE, SEND_BYTES_MAX, Uring, buffers};
use crate::token::{Kind, Place, encode_token};

impl Uring {
    /// Starts a multishot receive, if one is wanted.
    pub(super) fn arm(&mut self, place: Place) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        if !connection.wants_receive() {
            return;
        }
        connection.is_armed = true;
        connection.in_flight += 1;
        let receive = opcode::RecvMulti::new(Fd(connection.raw()), buffers::GROUP).build();
        let receive = receive.user_data(encode_token(Kind::Receive, place));
        // SAFETY: it points to no memory; the buffers it takes live as long as the ring.
        unsafe { self.ring.push(&receive) };
    }

    /// Ends what should end before its time: the receive of a paused connection, or the connect of
    /// a closing one.
    pub(super) fn cancel(&mut self, place: Place) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        if !connection.wants_cancel() {
            return;
        }
        connection.is_cancel_retried = false;
        let kind = if connection.is_connecting {
            Kind::Connect
        } else {
            Kind::Receive
        };
        let cancel = opcode::AsyncCancel::new(encode_token(kind, place)).build();
        self.push_cancel(place, cancel);
    }

    /// Tries it by the descriptor, after the kernel claimed to know nothing of an operation that
    /// has not completed. This hits a send too, which is then sent again from where it stopped.
    pub(super) fn cancel_by_descriptor(&mut self, place: Place) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        connection.is_cancel_retried = true;
        let target = CancelBuilder::fd(Fd(connection.raw())).all();
        self.push_cancel(place, opcode::AsyncCancel2::new(target).build());
    }

    fn push_cancel(&mut self, place: Place, cancel: squeue::Entry) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        connection.is_cancelling = true;
        connection.in_flight += 1;
        let cancel = cancel.user_data(encode_token(Kind::Cancel, place));
        // SAFETY: a cancel points to no memory.
        unsafe { self.ring.push(&cancel) };
    }

    pub(super) fn push_connect(&mut self, place: Place) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        connection.is_connecting = true;
        connection.in_flight += 1;
        let fd = Fd(connection.raw());
        let target = connection
            .target
            .as_ref()
            .expect("what is being connected has a target");
        let connect = opcode::Connect::new(fd, target.as_ptr().cast(), target.len()).build();
        let connect = connect.user_data(encode_token(Kind::Connect, place));
        // SAFETY: the boxed address stays in the connection until its connect has completed, and
        // the connection in the table until nothing is in flight.
        unsafe { self.ring.push(&connect) };
    }

    /// Sends what is left of the buffer, or as much as one operation may carry.
    pub(super) fn push_send(&mut self, place: Place) {
        let Some((_, connection)) = self.table.at(place) else {
            return;
        };
        let fd = Fd(connection.raw());
        let Some(sending) = &connection.sending else {
            return;
        };
        let left = sending.rest();
        let len = left.len().min(SEND_BYTES_MAX);
        let send = opcode::Send::new(fd, left.as_ptr(), len as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(encode_token(Kind::Send, place));
        connection.in_flight += 1;
        // SAFETY: the buffer stays in the connection, untouched, until this send has completed,
        // and the connection in the table until nothing is in flight. The vector may move with
        // the table; its bytes do not.
        unsafe { self.ring.push(&send) };
    }

    pub(super) fn arm_bell(&mut self) {
        let target: *mut u64 = &mut **self.bell;
        let read = opcode::Read::new(Fd(self.doorbell.raw()), target.cast(), 8).build();
        let read = read.user_data(encode_token(Kind::Bell, NOWHERE));
        self.is_bell_armed = true;
        // SAFETY: the eight bytes are boxed, nobody of ours reads or writes them, and they are
        // freed only if this read has completed.
        unsafe { self.ring.push(&read) };
    }
}

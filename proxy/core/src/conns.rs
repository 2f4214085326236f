//! Connections as the core sees them: who owns one, and what waits to be sent on it.
//!
//! Both sides use it and it knows neither's protocol. Invariants: at most one send is under way per
//! connection; a connection is closed once; after `close` nothing is sent on it any more.

use std::collections::VecDeque;

use crate::event::{Address, Operation, Socket};
use crate::ids::{ClientId, ConnId, ServiceId, UpstreamId};
use crate::output::Pool;
use crate::slab::Slab;

/// Whom the events of a connection concern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// A connection that asks a node to cancel a request of this upstream.
    Canceller(UpstreamId),
    /// A client's.
    Client(ClientId),
    /// A Redis client's.
    RedisClient(ClientId),
    /// An upstream's to a Redis node.
    RedisUpstream(UpstreamId),
    /// Nobody's: the owner is gone and the connection about to be.
    Nobody,
    /// An upstream's.
    Upstream(UpstreamId),
}

/// How far a connection is on its way to the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// Its id has been given out; the driver does not know of it yet.
    Reserved,
    /// In use.
    Open,
    /// `Close` follows as soon as everything is sent.
    Flushing,
    /// `Close` has been pushed.
    Closing,
}

/// One connection.
#[derive(Debug)]
struct Conn {
    owner: Owner,
    /// What waits for the send under way, or for the end of the pass.
    output: Vec<u8>,
    /// The length of the send under way, zero if there is none.
    sending: usize,
    /// Whether it is on the list of connections that have something to send.
    is_dirty: bool,
    is_paused: bool,
    ending: Ending,
    /// Bytes that the kernel has taken since the connection began.
    sent_total: u64,
    /// The service whose permit comes back when the connection has ended.
    permit: Option<ServiceId>,
}

/// All connections of a shard, the buffers they use and the operations they need.
#[derive(Debug, Default)]
pub struct Conns {
    table: Slab<ConnId, Conn>,
    dirty: Vec<ConnId>,
    /// Closed before they were opened.
    ended: Vec<ConnId>,
    /// Takes what is written to a connection that is closing; emptied each time.
    sink: Vec<u8>,
    /// Buffers for whoever needs one.
    pub pool: Pool,
    /// What the driver is to do, in order.
    pub operations: VecDeque<Operation>,
}

impl Conns {
    /// Takes an accepted socket on.
    pub fn adopt(&mut self, socket: Socket, owner: Owner) -> ConnId {
        let conn = self.table.insert(Conn::new(owner));
        self.operations.push_back(Operation::Adopt { conn, socket });
        conn
    }

    /// Gives an id to a connection that is going to be opened. It holds a permit of `permit` until
    /// it has ended.
    pub fn reserve(&mut self, permit: Option<ServiceId>) -> ConnId {
        let mut conn = Conn::new(Owner::Nobody);
        conn.ending = Ending::Reserved;
        conn.permit = permit;
        self.table.insert(conn)
    }

    /// Opens a reserved connection.
    pub fn connect(&mut self, id: ConnId, address: Address) {
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        assert!(
            conn.ending == Ending::Reserved,
            "a connection is opened once"
        );
        conn.ending = Ending::Open;
        self.operations
            .push_back(Operation::Connect { conn: id, address });
    }

    /// Whose connection it is; `Nobody` for one that has ended.
    pub fn owner(&self, conn: ConnId) -> Owner {
        self.table
            .get(conn)
            .map_or(Owner::Nobody, |conn| conn.owner)
    }

    /// Says whose connection it is.
    pub fn set_owner(&mut self, conn: ConnId, owner: Owner) {
        if let Some(conn) = self.table.get_mut(conn) {
            conn.owner = owner;
        }
    }

    /// Where to append what is to be sent at the end of the pass.
    pub fn write(&mut self, id: ConnId) -> &mut Vec<u8> {
        let Some(conn) = self
            .table
            .get_mut(id)
            .filter(|conn| conn.ending == Ending::Open)
        else {
            self.sink.clear();
            return &mut self.sink;
        };
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
        if conn.output.capacity() == 0 {
            conn.output = self.pool.take();
        }
        &mut conn.output
    }

    /// Bytes written and not yet taken by the kernel.
    pub fn unsent(&self, conn: ConnId) -> usize {
        self.table
            .get(conn)
            .map_or(0, |conn| conn.output.len() + conn.sending)
    }

    /// Bytes that the driver has been given since the connection began: none behind them can have
    /// been sent.
    pub fn given_total(&self, conn: ConnId) -> u64 {
        self.table
            .get(conn)
            .map_or(0, |conn| conn.sent_total + conn.sending as u64)
    }

    /// Bytes ever written, sent or not: the position of the next byte to be written.
    pub fn written_total(&self, conn: ConnId) -> u64 {
        self.table.get(conn).map_or(0, |conn| {
            conn.sent_total + (conn.output.len() + conn.sending) as u64
        })
    }

    /// Whether the driver has been given nothing of what was written from a position on.
    pub fn can_take_back(&self, id: ConnId, from: u64) -> bool {
        let is_open = self
            .table
            .get(id)
            .is_some_and(|conn| conn.ending == Ending::Open);
        is_open && from >= self.given_total(id)
    }

    /// Takes back everything written from a position on, which the driver has not been given.
    pub fn take_back(&mut self, id: ConnId, from: u64) {
        assert!(self.can_take_back(id, from), "taken back once it was given");
        let given_total = self.given_total(id);
        if let Some(conn) = self.table.get_mut(id) {
            conn.output.truncate((from - given_total) as usize);
        }
    }

    /// Stops receiving, if it goes on.
    pub fn pause(&mut self, id: ConnId) {
        self.set_paused(id, true);
    }

    /// Goes on receiving, if it was stopped.
    pub fn resume(&mut self, id: ConnId) {
        self.set_paused(id, false);
    }

    fn set_paused(&mut self, id: ConnId, paused: bool) {
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        if conn.is_paused == paused || conn.ending != Ending::Open {
            return;
        }
        conn.is_paused = paused;
        self.operations.push_back(if paused {
            Operation::Pause { conn: id }
        } else {
            Operation::Resume { conn: id }
        });
    }

    /// Closes as soon as everything written so far is sent. Nothing more can be written.
    pub fn close_after_flush(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        if conn.ending != Ending::Open {
            return;
        }
        if conn.output.is_empty() && conn.sending == 0 {
            self.close(id);
        } else {
            conn.ending = Ending::Flushing;
        }
    }

    /// Closes at once; what is not sent is lost.
    pub fn close(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        let was_reserved = conn.ending == Ending::Reserved;
        if conn.ending == Ending::Closing {
            return;
        }
        conn.ending = Ending::Closing;
        conn.owner = Owner::Nobody;
        self.pool.give(core::mem::take(&mut conn.output));
        if was_reserved {
            self.ended.push(id);
        } else {
            self.operations.push_back(Operation::Close { conn: id });
        }
    }

    /// Connections that ended before they were opened; each is to be told to `handle_closed`.
    pub fn take_ended(&mut self) -> Option<ConnId> {
        self.ended.pop()
    }

    /// A buffer came back.
    pub fn handle_sent(&mut self, id: ConnId, buffer: Vec<u8>, sent: usize) {
        self.pool.give(buffer);
        let Some(conn) = self.table.get_mut(id) else {
            return;
        };
        conn.sending = 0;
        conn.sent_total += sent as u64;
        if conn.output.is_empty() {
            if conn.ending == Ending::Flushing {
                self.close(id);
            }
        } else if !conn.is_dirty && conn.ending != Ending::Closing {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// The connection has ended. Says whose permit comes back with it.
    pub fn handle_closed(&mut self, id: ConnId) -> Option<ServiceId> {
        let conn = self.table.remove(id)?;
        assert!(
            conn.ending == Ending::Closing,
            "a connection ends only after Close"
        );
        conn.permit
    }

    /// One send for each connection that has something to send and no send under way.
    pub fn flush(&mut self) {
        let mut dirty = core::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(conn) = self.table.get_mut(id) else {
                continue;
            };
            conn.is_dirty = false;
            if conn.sending > 0 || conn.output.is_empty() || conn.ending == Ending::Closing {
                continue;
            }
            let buffer = core::mem::take(&mut conn.output);
            conn.sending = buffer.len();
            self.operations
                .push_back(Operation::Send { conn: id, buffer });
        }
        self.dirty = dirty;
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl Conn {
    fn new(owner: Owner) -> Self {
        Self {
            owner,
            output: Vec::new(),
            sending: 0,
            is_dirty: false,
            is_paused: false,
            ending: Ending::Open,
            sent_total: 0,
            permit: None,
        }
    }
}

//! A pass in the steady state allocates nothing: counted by an allocator of the test's own.
//!
//! Knows only what the crate offers. Goal: an echo of many rounds, over buffers that come back with
//! `Sent`, without one call of the allocator on the driver's thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use manifold_core::event::{Event, Operation};
use manifold_core::ids::{ConnId, ListenerId};
use manifold_drivers::{Config, Driver, Kind, ListenAddress, Wanted, bind, choose};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts the calls of each thread.
struct Counting;

// SAFETY: every call is handed on as it is; counting touches no memory of the allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches for both.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENTS: u32 = 8;
const ROUNDS_OF_WARMTH: u64 = 50;
const ROUNDS: u64 = 500;

#[test]
fn allocates_nothing_in_the_steady_state_of_epoll() {
    check(Kind::Epoll);
}

#[test]
fn allocates_nothing_in_the_steady_state_of_io_uring() {
    match choose(Wanted::Auto).unwrap() {
        (Kind::IoUring, _) => check(Kind::IoUring),
        (Kind::Epoll, reason) => eprintln!("NOT TESTED with io_uring: {reason}"),
    }
}

/// An echo whose buffers go round.
struct Echo {
    operations: Vec<Operation>,
    buffers: Vec<Option<Vec<u8>>>,
    echoed: u64,
}

impl Echo {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { socket, .. } => {
                let conn = ConnId {
                    index: self.buffers.len() as u32,
                    generation: 0,
                };
                self.buffers.push(Some(Vec::with_capacity(1 << 10)));
                self.operations.push(Operation::Adopt { conn, socket });
            }
            Event::Received { conn, bytes } => {
                let mut buffer = self.buffers[conn.index as usize].take().unwrap();
                buffer.extend_from_slice(bytes);
                self.operations.push(Operation::Send { conn, buffer });
            }
            Event::Sent {
                conn, mut buffer, ..
            } => {
                buffer.clear();
                self.buffers[conn.index as usize] = Some(buffer);
                self.echoed += 1;
            }
            _ => {}
        }
    }
}

fn check(kind: Kind) {
    let mut driver = Driver::open(kind, &Config::default()).unwrap();
    let any = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
    let listener = bind(&any, false, 64).unwrap();
    let ListenAddress::Tcp(address) = listener.address().unwrap() else {
        unreachable!()
    };
    driver.listen(ListenerId(0), listener).unwrap();
    let clients = thread::spawn(move || {
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for _ in 0..ROUNDS_OF_WARMTH + ROUNDS {
            // All of them before any is read from, so that passes bring several events.
            clients
                .iter_mut()
                .for_each(|client| client.write_all(b"a question").unwrap());
            clients
                .iter_mut()
                .for_each(|client| client.read_exact(&mut [0; 10]).unwrap());
        }
        clients
    });
    let mut echo = Echo {
        operations: Vec::with_capacity(64),
        buffers: Vec::new(),
        echoed: 0,
    };
    let mut before = 0;
    while echo.echoed < (ROUNDS_OF_WARMTH + ROUNDS) * u64::from(CLIENTS) {
        if echo.echoed < ROUNDS_OF_WARMTH * u64::from(CLIENTS) {
            before = ALLOCATIONS.get();
        }
        driver.wait(None, &mut |event| echo.take(event)).unwrap();
        echo.operations
            .drain(..)
            .for_each(|operation| driver.submit(operation));
    }
    assert_eq!(
        ALLOCATIONS.get() - before,
        0,
        "allocations in {ROUNDS} rounds"
    );
    clients.join().unwrap();
}

//! A fresh core over the driver of one that has panicked.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};

use manifold_core::event::{Address, Operation};
use manifold_drivers::Config;

use crate::closing::unanswering;
use crate::core::{Core, keep_port};
use crate::{Kind, MOMENT, client, pattern, read, read_to_end};

/// More than the buffers of both ends of a loopback connection hold.
const MUCH: usize = 24 << 20;

/// The echo works for a new client.
fn check_echo(core: &mut Core, mut client: TcpStream) {
    core.is_echo = true;
    let conn = core.accepted();
    client.write_all(&pattern(9, 10_000)).unwrap();
    core.until("the echo", |core| core[conn].received.len() == 10_000);
    core.until("the echo", |core| {
        core[conn].sent.iter().map(|sent| sent.1).sum::<usize>() == 10_000
    });
    assert!(
        read(&client, 10_000) == pattern(9, 10_000),
        "the bytes of this client"
    );
    core.close(conn);
    assert_eq!(core.driver.counters().stale, 0);
}

pub fn begins_anew_after_the_core_has_panicked(kind: Kind) {
    let mut core = Core::open_with(
        kind,
        &Config {
            buffers: 4,
            ..Config::default()
        },
    );
    let address = core.listen_tcp();
    // More rounds than buffers: a panic may not cost one.
    for _ in 0..10 {
        let mut clients = [client(address), client(address)];
        let conns = [core.accepted(), core.accepted()];
        core.panics_at_bytes = true;
        clients[0].write_all(&pattern(1, 3_000)).unwrap();
        clients[1].write_all(&pattern(2, 3_000)).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| core.run(MOMENT * 10)));
        assert!(
            panicked.is_err(),
            "the core was to panic at the first bytes"
        );
        core.begin_anew();
        for client in clients {
            assert_eq!(read_to_end(client), b"");
        }
        check_echo(&mut core, client(address));
        core.begin_anew();
        assert!(
            conns.iter().all(|conn| conn.generation == 0),
            "ids begin anew, too"
        );
    }
}

pub fn begins_anew_with_everything_in_flight(kind: Kind) {
    let (hanging, _listener, _attempts) = unanswering();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut core = Core::open_with(
        kind,
        &Config {
            buffers: 2,
            ..Config::default()
        },
    );
    let address = core.listen_tcp();
    let clients: Vec<_> = (0..6).map(|_| client(address)).collect();
    let conns: Vec<_> = (0..6).map(|_| core.accepted()).collect();
    core.send(conns[0], pattern(1, MUCH));
    core.submit(Operation::Pause { conn: conns[1] });
    core.connect(Address::Ip(hanging));
    core.run(MOMENT);
    // In the same pass: pausing, resuming, closing, sending, connecting, and one not yet accepted.
    core.submit(Operation::Pause { conn: conns[2] });
    core.submit(Operation::Resume { conn: conns[1] });
    core.submit(Operation::Close { conn: conns[3] });
    core.send(conns[4], pattern(2, 100));
    core.connect(Address::Ip(elsewhere.local_addr().unwrap()));
    core.connect(Address::Ip(hanging));
    core.begin_anew();
    for client in clients {
        assert!(read_to_end(client).len() < MUCH);
    }
    check_echo(&mut core, client(address));
}

pub fn stays_closed_to_clients_after_close_all(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let _port = keep_port(address);
    core.submit(Operation::AcceptOff);
    core.run(MOMENT);
    core.begin_anew();
    core.run(MOMENT / 4);
    TcpStream::connect(address).expect_err("nobody listens");
}

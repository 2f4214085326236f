//! The end of connections, whatever is under way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use manifold_core::event::{Address, Failure, Operation};
use manifold_core::ids::ConnId;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::core::{Core, keep_port};
use crate::{Kind, MOMENT, client, pattern, read_to_end};

/// More than the buffers of both ends of a loopback connection hold.
const MUCH: usize = 24 << 20;

/// A connection whose peer does not read, with a send that cannot go on.
fn blocked_send(core: &mut Core) -> (TcpStream, ConnId) {
    let address = core.listen_tcp();
    let client = client(address);
    let conn = core.accepted();
    core.send(conn, pattern(1, MUCH));
    core.run(MOMENT);
    assert!(core[conn].is_sending, "nobody reads");
    (client, conn)
}

pub fn returns_the_buffer_when_closed_with_a_blocked_send(kind: Kind) {
    let mut core = Core::open(kind);
    let (client, conn) = blocked_send(&mut core);
    core.close(conn);
    let (len, sent) = core[conn].sent[0];
    assert!(
        len == MUCH && 0 < sent && sent < MUCH,
        "{sent} of {len} were sent"
    );
    let received = read_to_end(client);
    assert!(
        received == pattern(1, MUCH)[..received.len()],
        "nothing but what was sent"
    );
}

pub fn returns_the_buffer_when_closed_in_the_pass_of_the_send(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let client = client(address);
    let conn = core.accepted();
    core.send(conn, pattern(1, 1000));
    core.close(conn);
    assert_eq!(core[conn].sent, [(1000, 0)]);
    assert_eq!(read_to_end(client), b"");
}

pub fn fails_and_returns_the_buffer_when_the_peer_leaves_a_blocked_send(kind: Kind) {
    let mut core = Core::open(kind);
    let (mut client, conn) = blocked_send(&mut core);
    // Whoever closes without having read all resets.
    client.read_exact(&mut [0; 1000]).unwrap();
    drop(client);
    core.until("Sent", |core| !core[conn].is_sending);
    core.until("Failed", |core| core[conn].failed.is_some());
    assert_eq!(core[conn].failed, Some(Failure::Reset));
    let (len, sent) = core[conn].sent[0];
    assert!(
        len == MUCH && 0 < sent && sent < MUCH,
        "{sent} of {len} were sent"
    );
    core.close(conn);
}

pub fn closes_with_bytes_not_received(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut client = client(address);
    let conn = core.accepted();
    core.submit(Operation::Pause { conn });
    core.run(MOMENT / 4);
    client.write_all(&pattern(1, 100_000)).unwrap();
    core.run(MOMENT / 4);
    core.close(conn);
    assert_eq!(read_to_end(client), b"");
}

pub fn delivers_what_was_sent_before_the_close(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let client = client(address);
    let conn = core.accepted();
    core.send(conn, pattern(1, 50_000));
    core.until("Sent", |core| !core[conn].is_sending);
    core.close(conn);
    assert!(
        read_to_end(client) == pattern(1, 50_000),
        "Sent means that it will arrive"
    );
}

/// The peer of an earlier use of the index sends until the very moment of the close, and beyond.
pub fn never_delivers_bytes_of_an_earlier_use_of_an_index(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut last: Option<(ConnId, thread::JoinHandle<()>)> = None;
    for round in 0..100_u8 {
        let mut stream = client(address);
        let writer = thread::spawn(move || while stream.write_all(&[round; 4096]).is_ok() {});
        // Closed first, so that the index is free for the client that waits to be accepted.
        if let Some((conn, writer)) = last.take() {
            core.close(conn);
            writer.join().unwrap();
        }
        let conn = core.accepted();
        core.until("bytes", |core| core[conn].received.len() > 10_000);
        assert!(
            core[conn].received.iter().all(|byte| *byte == round),
            "bytes of another"
        );
        assert!(conn.index <= 1, "indexes are used again");
        last = Some((conn, writer));
    }
    core.close(last.unwrap().0);
    assert_eq!(
        core.driver.counters().stale,
        0,
        "no completion outlives its connection"
    );
}

/// A listener whose queue is full, so that a connect to it hangs. Keep the streams.
pub fn unanswering() -> (SocketAddr, TcpListener, Vec<Socket>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let attempts = (0..8).map(|_| {
        let attempt = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        attempt.set_nonblocking(true).unwrap();
        let _ = attempt.connect(&SockAddr::from(address));
        attempt
    });
    let attempts = attempts.collect();
    thread::sleep(MOMENT);
    (address, listener, attempts)
}

pub fn closes_while_connecting(kind: Kind) {
    let (address, _listener, _attempts) = unanswering();
    let mut core = Core::open(kind);
    let conn = core.connect(Address::Ip(address));
    core.run(MOMENT);
    assert!(
        !core[conn].is_connected && core[conn].failed.is_none(),
        "it hangs"
    );
    let begin = std::time::Instant::now();
    core.close(conn);
    assert!(
        begin.elapsed() < MOMENT * 10,
        "{:?} to close",
        begin.elapsed()
    );
}

pub fn closes_in_the_pass_of_the_connect(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let refusing = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nowhere = Address::Unix("/nowhere/at/all".into());
    let (hanging, _listener, _attempts) = unanswering();
    for address in [
        Address::Ip(address),
        Address::Ip(refusing),
        nowhere,
        Address::Ip(hanging),
    ] {
        let conn = core.connect(address);
        core.close(conn);
        assert!(!core[conn].is_connected && core[conn].failed.is_none());
    }
}

pub fn survives_a_close_that_nobody_may_ask_for(kind: Kind) {
    let mut core = Core::open(kind);
    core.is_echo = true;
    let address = core.listen_tcp();
    let mut client = client(address);
    let conn = core.accepted();
    let dead = ConnId {
        generation: conn.generation + 1,
        ..conn
    };
    let refused = catch_unwind(AssertUnwindSafe(|| {
        core.driver.submit(Operation::Close { conn: dead });
    }));
    assert!(refused.is_err(), "an id that was never given out");
    client.write_all(b"still here").unwrap();
    core.until("the echo", |core| core[conn].sent.len() == 1);
    core.close(conn);
    assert_eq!(read_to_end(client), b"still here");
}

pub fn lets_go_of_every_socket_when_dropped(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let _port = keep_port(address);
    let clients: Vec<_> = (0..3).map(|_| client(address)).collect();
    let conns: Vec<_> = clients.iter().map(|_| core.accepted()).collect();
    core.send(conns[0], pattern(1, MUCH));
    core.submit(Operation::Pause { conn: conns[1] });
    core.run(MOMENT);
    drop(core);
    let lens: Vec<_> = clients
        .into_iter()
        .map(|client| read_to_end(client).len())
        .collect();
    assert!(lens[0] < MUCH && lens[1] == 0 && lens[2] == 0, "{lens:?}");
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
}

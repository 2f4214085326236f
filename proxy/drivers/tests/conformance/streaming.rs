//! Bytes in both directions, and their end.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use manifold_core::event::Failure;
use socket2::SockRef;
use std::time::Duration;

use crate::core::Core;
use crate::{Kind, MOMENT, client, pattern, read, read_to_end};

/// More than the buffers of both ends of a loopback connection hold.
const MUCH: usize = 24 << 20;

pub fn echoes_bytes_in_order(kind: Kind) {
    let mut core = Core::open(kind);
    core.is_echo = true;
    let address = core.listen_tcp();
    let client = thread::spawn(move || {
        let mut client = client(address);
        let bytes = pattern(1, 100_000);
        let reader = client.try_clone().unwrap();
        let reader = thread::spawn(move || read(reader, 100_000));
        for chunk in bytes.chunks(1_237) {
            client.write_all(chunk).unwrap();
        }
        assert!(
            reader.join().unwrap() == bytes,
            "what comes back is what was sent"
        );
        client.shutdown(Shutdown::Write).unwrap();
    });
    let conn = core.accepted();
    core.until("Eof", |core| core[conn].has_eof);
    client.join().unwrap();
    core.close(conn);
    assert_eq!(core.driver.counters().bytes_received, 100_000);
    assert_eq!(core.driver.counters().bytes_sent, 100_000);
    assert_eq!(core.driver.counters().stale, 0);
}

pub fn receives_more_than_fits_into_the_socket(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let writer = thread::spawn(move || client(address).write_all(&pattern(2, MUCH)).unwrap());
    let conn = core.accepted();
    core.until("Eof", |core| core[conn].has_eof);
    writer.join().unwrap();
    assert!(
        core[conn].received == pattern(2, MUCH),
        "all bytes, in order"
    );
    core.close(conn);
}

pub fn sends_more_than_fits_into_the_socket(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let client = client(address);
    let conn = core.accepted();
    core.send(conn, pattern(3, MUCH));
    core.run(MOMENT);
    assert!(
        core[conn].is_sending,
        "it cannot all be sent before anybody reads"
    );
    let reader = thread::spawn(move || read(client, MUCH));
    core.until("Sent", |core| !core[conn].is_sending);
    assert_eq!(core[conn].sent, [(MUCH, MUCH)]);
    assert!(
        reader.join().unwrap() == pattern(3, MUCH),
        "all bytes, in order"
    );
    if kind == Kind::IoUring {
        let short = core.driver.counters().sends_short;
        assert_eq!(short, 0, "the kernel waits until all of a send is taken");
    }
    core.close(conn);
}

pub fn sends_on_after_the_peer_has_ended(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut client = client(address);
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let conn = core.accepted();
    core.until("Eof", |core| core[conn].has_eof);
    assert_eq!(core[conn].received, b"last words");
    for _ in 0..2 {
        core.send(conn, b"answer".to_vec());
        core.until("Sent", |core| !core[conn].is_sending);
    }
    core.close(conn);
    assert_eq!(read_to_end(client), b"answeranswer");
}

/// A receive that is shorter than asked for is usually the last for now; not if the end came along.
pub fn delivers_bytes_before_the_end_that_came_with_them(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    for round in 0..20 {
        let mut client = client(address);
        client.write_all(&pattern(round, 10)).unwrap();
        drop(client);
        let conn = core.accepted();
        core.until("Eof", |core| core[conn].has_eof);
        assert_eq!(core[conn].received, pattern(round, 10));
        core.close(conn);
    }
}

pub fn reports_a_reset_once(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let client = client(address);
    let conn = core.accepted();
    SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    core.until("Failed", |core| core[conn].failed.is_some());
    assert_eq!(core[conn].failed, Some(Failure::Reset));
    core.run(MOMENT);
    core.close(conn);
}

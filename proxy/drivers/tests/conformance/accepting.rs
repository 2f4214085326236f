//! Clients that come, and clients that are not wanted.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use manifold_core::event::{Operation, Peer};
use manifold_core::ids::ListenerId;
use manifold_drivers::{ListenAddress, Listener, bind};

use crate::core::{Core, keep_port};
use crate::{Directory, Kind, MOMENT, client, read_to_end};

pub fn refuses_clients_after_accepting_was_turned_off(kind: Kind) {
    let mut core = Core::open(kind);
    let directory = Directory::new();
    let tcp = core.listen_tcp();
    let _port = keep_port(tcp);
    let path = directory.path("socket");
    core.listen(&ListenAddress::Unix(path.clone()));
    let kept = client(tcp);
    let conn = core.accepted();
    core.submit(Operation::AcceptOff);
    core.run(MOMENT / 4);
    for _ in 0..3 {
        let refused = TcpStream::connect(tcp).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let refused = UnixStream::connect(&path).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
    let passes = core.driver.counters().passes;
    core.run(MOMENT);
    let passes = core.driver.counters().passes - passes;
    assert!(passes <= 3, "{passes} passes without anything to do");
    assert_eq!(core.accepted_so_far(), 1, "accepting is off");
    // Who is in stays.
    core.send(conn, b"still here".to_vec());
    core.run(MOMENT / 4);
    core.close(conn);
    assert_eq!(read_to_end(kept), b"still here");
}

pub fn leaves_no_client_hanging_when_accepting_is_turned_off(kind: Kind) {
    for _ in 0..5 {
        let mut core = Core::open(kind);
        core.is_rejecting = true;
        let address = core.listen_tcp();
        let early = client(address);
        core.submit(Operation::AcceptOff);
        core.run(MOMENT / 4);
        // Accepted in time and rejected, or reset with the listener: it hears of it.
        let mut byte = [0];
        let heard = (&early).read(&mut byte);
        assert!(
            heard.as_ref().is_ok_and(|len| *len == 0)
                || heard.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
        );
    }
}

pub fn leaves_a_shared_port_to_others_after_accepting_was_turned_off(kind: Kind) {
    let mut core = Core::open(kind);
    let address = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
    let first = bind(&address, true, 64).unwrap();
    let address = first.address().unwrap();
    let other = bind(&address, true, 64).unwrap();
    core.driver.listen(ListenerId(0), first).unwrap();
    core.run(MOMENT / 4);
    core.submit(Operation::AcceptOff);
    core.run(MOMENT / 4);
    let ListenAddress::Tcp(address) = address else {
        unreachable!("bound to TCP")
    };
    let Listener::Tcp(other) = other else {
        unreachable!("bound to TCP")
    };
    other.set_nonblocking(true).unwrap();
    let clients: Vec<_> = (0..20).map(|_| client(address)).collect();
    core.run(MOMENT / 4);
    let reached = clients.iter().filter(|_| other.accept().is_ok()).count();
    assert_eq!(reached, clients.len(), "all of them reach the other");
}

pub fn closes_rejected_clients(kind: Kind) {
    let mut core = Core::open(kind);
    core.is_rejecting = true;
    let address = core.listen_tcp();
    let clients: Vec<_> = (0..5).map(|_| client(address)).collect();
    core.until("all are rejected", |core| core.rejected == 5);
    for client in clients {
        assert_eq!(read_to_end(client), b"");
    }
    core.is_rejecting = false;
    let _client = client(address);
    let conn = core.accepted();
    core.close(conn);
}

pub fn tells_listeners_and_peers_apart(kind: Kind) {
    let mut core = Core::open(kind);
    let directory = Directory::new();
    let tcp = core.listen_tcp();
    let path = directory.path("socket");
    assert_eq!(
        core.listen(&ListenAddress::Unix(path.clone())),
        ListenAddress::Unix(path.clone())
    );
    let other = core.listen_tcp();

    let first = client(tcp);
    let conn = core.accepted();
    let peer = Peer::Ip(first.local_addr().unwrap());
    assert_eq!(core[conn].accepted, Some((ListenerId(0), peer)));
    let _second = UnixStream::connect(path).unwrap();
    let conn = core.accepted();
    assert_eq!(core[conn].accepted, Some((ListenerId(1), Peer::Unix)));
    let third = client(other);
    let conn = core.accepted();
    let peer = Peer::Ip(third.local_addr().unwrap());
    assert_eq!(core[conn].accepted, Some((ListenerId(2), peer)));
}

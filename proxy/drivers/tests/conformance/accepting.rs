//! Clients that come, and clients that are not wanted.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use manifold_core::event::{Operation, Peer};
use manifold_core::ids::ListenerId;
use manifold_drivers::ListenAddress;

use crate::core::Core;
use crate::{Directory, Kind, MOMENT, client, read_to_end};

pub fn leaves_clients_waiting_while_accepting_is_off(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    core.run(MOMENT / 4);
    for round in 1..=3 {
        core.submit(Operation::AcceptOff);
        core.run(MOMENT / 4);
        let _waiting = TcpStream::connect(address).unwrap();
        let passes = core.driver.counters().passes;
        core.run(MOMENT);
        let passes = core.driver.counters().passes - passes;
        assert!(passes <= 3, "{passes} passes without anything to do");
        assert_eq!(core.accepted_so_far(), round - 1, "accepting is off");
        core.submit(Operation::AcceptOn);
        let conn = core.accepted();
        core.close(conn);
    }
}

pub fn accepts_all_after_switching_off_and_on_in_one_pass(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    for _ in 0..20 {
        core.submit(Operation::AcceptOff);
        core.submit(Operation::AcceptOn);
        let _client = client(address);
        core.pass(Some(MOMENT / 10));
        core.submit(Operation::AcceptOff);
        core.pass(Some(MOMENT / 30));
        core.submit(Operation::AcceptOn);
        let conn = core.accepted();
        core.close(conn);
    }
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

//! Connections that the core asks for.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use manifold_core::event::{Address, Failure};
use manifold_core::ids::ConnId;

use crate::core::Core;
use crate::{Directory, Kind, MOMENT, read_to_end};

/// Both sides say something, and the core closes.
fn converse(core: &mut Core, conn: ConnId, mut peer: impl Read + Write) {
    core.until("Connected", |core| core[conn].is_connected);
    core.send(conn, b"question".to_vec());
    core.until("Sent", |core| !core[conn].is_sending);
    let mut question = [0; 8];
    peer.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"question");
    peer.write_all(b"answer").unwrap();
    core.until("the answer", |core| core[conn].received == b"answer");
    core.close(conn);
    assert_eq!(read_to_end(peer), b"");
}

pub fn connects_and_converses_over_tcp(kind: Kind) {
    let mut core = Core::open(kind);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        let conn = core.connect(Address::Ip(listener.local_addr().unwrap()));
        core.until("Connected", |core| core[conn].is_connected);
        converse(&mut core, conn, listener.accept().unwrap().0);
    }
}

pub fn connects_and_converses_over_a_unix_socket(kind: Kind) {
    let mut core = Core::open(kind);
    let directory = Directory::new();
    let path = directory.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let address = Address::Unix(path.to_str().unwrap().into());
    for _ in 0..3 {
        let conn = core.connect(address.clone());
        assert!(!core[conn].is_connected, "events come only with a pass");
        converse(&mut core, conn, listener.accept().unwrap().0);
    }
}

pub fn reports_a_refused_connect(kind: Kind) {
    let mut core = Core::open(kind);
    // Nobody listens on a port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let conn = core.connect(Address::Ip(address));
    core.until("Failed", |core| core[conn].failed.is_some());
    assert_eq!(core[conn].failed, Some(Failure::Refused));
    core.run(MOMENT);
    assert!(!core[conn].is_connected);
    core.close(conn);
}

pub fn reports_a_unix_path_that_leads_nowhere(kind: Kind) {
    let mut core = Core::open(kind);
    let directory = Directory::new();
    let abandoned = directory.path("abandoned");
    drop(UnixListener::bind(&abandoned).unwrap());
    for path in [
        directory.path("missing"),
        directory.path("no/such/directory"),
        abandoned,
    ] {
        let conn = core.connect(Address::Unix(path.to_str().unwrap().into()));
        core.until("Failed", |core| core[conn].failed.is_some());
        assert_eq!(core[conn].failed, Some(Failure::Refused), "{path:?}");
        core.close(conn);
    }
    // Longer than the kernel's addresses are.
    let conn = core.connect(Address::Unix("/long".repeat(100).into()));
    core.until("Failed", |core| core[conn].failed.is_some());
    assert!(
        matches!(core[conn].failed, Some(Failure::Other(_))),
        "{:?}",
        core[conn].failed
    );
    core.close(conn);
}

pub fn returns_a_buffer_sent_to_what_has_failed(kind: Kind) {
    let mut core = Core::open(kind);
    let conn = core.connect(Address::Unix("/nowhere/at/all".into()));
    core.until("Failed", |core| core[conn].failed.is_some());
    core.send(conn, b"in vain".to_vec());
    core.until("Sent", |core| !core[conn].is_sending);
    assert_eq!(core[conn].sent, [(7, 0)]);
    core.close(conn);
}

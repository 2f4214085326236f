//! A process that has no descriptor left. The limit is the whole process's, so this test has a
//! process of its own.
//!
//! Knows only what the crate offers. Goal: no client is lost, nothing spins, and accepting goes on
//! as soon as there are descriptors again, whoever has freed them.

#[path = "conformance/core.rs"]
#[expect(
    dead_code,
    reason = "shared with the conformance suite, which uses the rest"
)]
mod core;

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use manifold_core::event::{Address, Failure};
use manifold_core::ids::ConnId;
use manifold_drivers::{Kind, Wanted, choose};
use socket2::{Domain, Socket, Type};

use crate::core::Core;

const MOMENT: Duration = Duration::from_millis(60);

#[test]
fn accepts_again_when_descriptors_are_free_again() {
    lower_limit(256);
    check(Kind::Epoll);
    match choose(Wanted::Auto).unwrap() {
        (Kind::IoUring, _) => check(Kind::IoUring),
        (Kind::Epoll, reason) => eprintln!("NOT TESTED with io_uring: {reason}"),
    }
}

/// Allows so many descriptors. Nothing else runs in this process.
fn lower_limit(files: u64) {
    let limit = libc::rlimit {
        rlim_cur: files,
        rlim_max: files,
    };
    // SAFETY: the kernel reads one struct of ours.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Takes every descriptor that is left.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Sockets that need no further descriptor to connect.
fn sockets(count: usize) -> Vec<Socket> {
    (0..count)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap())
        .collect()
}

fn connect(socket: &Socket, address: SocketAddr) {
    socket.connect(&address.into()).unwrap();
}

fn check(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let clients = sockets(5);
    connect(&clients[0], address);
    let first = core.accepted();
    let mut files = take_all();
    for client in &clients[1..] {
        connect(client, address);
    }
    rest(&mut core);
    cannot_connect(&mut core, address);
    closing_frees_a_descriptor(&mut core, first);
    core.accepted();
    files.pop();
    // Nobody tells the driver of this one.
    core.accepted();
    drop(files);
    core.accepted();
    core.accepted();
    assert_eq!(core.accepted_so_far(), 5, "no client was lost");
}

/// Clients wait in the kernel, and the driver does not try again and again.
fn rest(core: &mut Core) {
    core.until("accepting fails", |core| {
        core.driver.counters().accept_errors > 0
    });
    let before = *core.driver.counters();
    core.run(MOMENT * 5);
    let after = *core.driver.counters();
    assert!(
        after.passes - before.passes <= 10,
        "{} passes",
        after.passes - before.passes
    );
    let tries = after.accept_errors - before.accept_errors;
    assert!((1..=4).contains(&tries), "{tries} tries");
    assert_eq!(core.accepted_so_far(), 1);
}

fn cannot_connect(core: &mut Core, address: SocketAddr) {
    let conn = core.connect(Address::Ip(address));
    core.until("Failed", |core| core[conn].failed.is_some());
    assert_eq!(core[conn].failed, Some(Failure::Exhausted));
    core.close(conn);
}

/// A descriptor that the driver frees is used at once, not only after the rest.
fn closing_frees_a_descriptor(core: &mut Core, first: ConnId) {
    core.until("accepting fails anew", {
        let errors = core.driver.counters().accept_errors;
        move |core| core.driver.counters().accept_errors > errors
    });
    core.close(first);
    for _ in 0..3 {
        core.pass(Some(Duration::ZERO));
    }
    assert_eq!(
        core.accepted_so_far(),
        2,
        "a client waits, and a descriptor is free"
    );
}

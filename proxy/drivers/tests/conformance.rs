//! One suite for both drivers: real sockets on loopback, and the smallest core that can keep to
//! the seam. What holds here is what the core may rely on, whichever driver it runs on.

mod core;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use core::Core;
use manifold_drivers::Kind;

/// Runs every test with both drivers.
macro_rules! conformance {
    ($($test:ident)*) => {
        mod epoll {
            $(#[test] fn $test() { super::$test(super::Kind::Epoll) })*
        }
        mod io_uring {
            $(#[test] fn $test() { super::$test(super::Kind::IoUring) })*
        }
    };
}

conformance! {
    echoes_bytes_in_order
}

/// Bytes whose order can be checked: no two stretches of them are alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64 / 8 + 1)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(len)
        .collect()
}

fn echoes_bytes_in_order(kind: Kind) {
    let mut core = Core::open(kind);
    core.is_echo = true;
    let address = core.listen_tcp();
    let client = thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        let bytes = pattern(100_000);
        let mut back = vec![0; bytes.len()];
        let mut reader = client.try_clone().unwrap();
        let reader = thread::spawn(move || {
            reader.read_exact(&mut back).unwrap();
            back
        });
        for chunk in bytes.chunks(1_237) {
            client.write_all(chunk).unwrap();
        }
        assert!(reader.join().unwrap() == bytes);
        client.shutdown(Shutdown::Write).unwrap();
    });
    let conn = core.accepted();
    core.until("the client is done", |core| core[conn].has_eof);
    client.join().unwrap();
    core.close(conn);
}

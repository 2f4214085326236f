//! Many connections at once, and too little for all of them.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;

use manifold_drivers::Config;

use crate::core::Core;
use crate::{Kind, MOMENT, client, pattern, read};

/// Clients that each send bytes of their own and expect them back, twice.
fn crowd(address: SocketAddr, size: usize, len: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut clients: Vec<_> = (0..size).map(|_| client(address)).collect();
        for round in 0..2 {
            for (n, client) in clients.iter_mut().enumerate() {
                client
                    .write_all(&pattern((n * 2 + round) as u64, len))
                    .unwrap();
            }
            for (n, client) in clients.iter_mut().enumerate() {
                let back = read(client, len);
                assert!(
                    back == pattern((n * 2 + round) as u64, len),
                    "client {n} got other bytes"
                );
            }
        }
        for client in clients {
            client.shutdown(Shutdown::Write).unwrap();
        }
    })
}

/// Serves a crowd until all of it has left.
fn serve(core: &mut Core, size: usize, crowd: thread::JoinHandle<()>) {
    let conns: Vec<_> = (0..size).map(|_| core.accepted()).collect();
    core.until("all have left", |core| {
        conns.iter().all(|conn| core[*conn].has_eof)
    });
    crowd.join().unwrap();
    for conn in conns {
        core.close(conn);
    }
    assert_eq!(core.driver.counters().stale, 0);
}

pub fn serves_a_thousand_clients(kind: Kind) {
    let mut core = Core::open(kind);
    core.is_echo = true;
    let address = core.listen_tcp();
    serve(&mut core, 1000, crowd(address, 1000, 300));
    assert_eq!(core.driver.counters().accepts, 1000);
}

pub fn recovers_from_want_of_receive_buffers(kind: Kind) {
    let mut core = Core::open_with(
        kind,
        &Config {
            buffers: 2,
            buffer_bytes: 64,
            ..Config::default()
        },
    );
    core.is_echo = true;
    let address = core.listen_tcp();
    serve(&mut core, 30, crowd(address, 30, 5_000));
    if kind == Kind::IoUring {
        assert!(
            core.driver.counters().starved > 0,
            "there were too few buffers"
        );
    }
    // Whoever found no buffer waits for one, not for the next try.
    let _idle: Vec<_> = (0..30).map(|_| client(address)).collect();
    let _idle: Vec<_> = (0..30).map(|_| core.accepted()).collect();
    core.run(MOMENT);
    let passes = core.driver.counters().passes;
    core.run(MOMENT);
    let passes = core.driver.counters().passes - passes;
    assert!(passes <= 3, "{passes} passes without anything to do");
}

pub fn loses_nothing_when_completions_overflow(kind: Kind) {
    let mut core = Core::open_with(
        kind,
        &Config {
            completions: 256,
            ..Config::default()
        },
    );
    core.is_echo = true;
    let address = core.listen_tcp();
    let crowd = crowd(address, 700, 20);
    let conns: Vec<_> = (0..700).map(|_| core.accepted()).collect();
    core.until("all have left", |core| {
        conns.iter().all(|conn| core[*conn].has_eof)
    });
    crowd.join().unwrap();
    for conn in &conns {
        core.send(*conn, b"all at once".to_vec());
    }
    core.until("all are sent", |core| {
        conns.iter().all(|conn| !core[*conn].is_sending)
    });
    if kind == Kind::IoUring {
        assert!(
            core.driver.counters().overflows > 0,
            "more completions than places"
        );
    }
}

/// One pass brings a burst from the noisy client at most, and then the quiet one has its turn.
pub fn gives_quiet_clients_their_turn_beside_a_noisy_one(kind: Kind) {
    const BURST: usize = 132 << 10;
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut noisy = client(address);
    let noisy_conn = core.accepted();
    let mut quiet = client(address);
    let quiet_conn = core.accepted();
    let noise = thread::spawn(move || while noisy.write_all(&[0; 1 << 20]).is_ok() {});
    core.until("noise", |core| core[noisy_conn].received.len() > 4 << 20);
    for round in 1..=20 {
        quiet.write_all(b".").unwrap();
        thread::sleep(MOMENT / 30);
        for pass in 0.. {
            let before = core[noisy_conn].received.len();
            core.pass(Some(MOMENT));
            let burst = core[noisy_conn].received.len() - before;
            assert!(burst <= BURST, "{burst} bytes in one pass");
            if core[quiet_conn].received.len() == round {
                break;
            }
            assert!(pass < 3, "the quiet client waits for {pass} passes");
        }
    }
    core.close(noisy_conn);
    noise.join().unwrap();
}

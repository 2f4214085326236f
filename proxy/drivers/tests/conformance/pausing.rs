//! Backpressure: what `Pause` and `Resume` promise.

use std::io::Write;
use std::net::Shutdown;
use std::thread;

use manifold_core::event::Operation;

use crate::core::Core;
use crate::{Kind, MOMENT, client, pattern, read};

/// What may still come after `Pause`.
const BURST: usize = 132 << 10;

pub fn loses_nothing_when_paused_in_the_middle_of_a_stream(kind: Kind) {
    const LEN: usize = 12 << 20;
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let writer = thread::spawn(move || client(address).write_all(&pattern(1, LEN)).unwrap());
    let conn = core.accepted();
    let mut rounds = 0;
    while !core[conn].has_eof {
        core.submit(Operation::Pause { conn });
        match rounds % 4 {
            // Resumed before the driver has even begun to pause.
            0 => {}
            1 => {
                core.submit(Operation::Resume { conn });
                core.submit(Operation::Pause { conn });
            }
            2 => drop(core.pass(Some(MOMENT / 30))),
            _ => {
                let before = core[conn].received.len();
                core.run(MOMENT / 6);
                assert!(
                    core[conn].received.len() - before <= BURST,
                    "more than a burst"
                );
            }
        }
        core.submit(Operation::Resume { conn });
        core.pass(Some(MOMENT));
        rounds += 1;
        assert!(rounds < 100_000, "the stream does not end");
    }
    assert!(rounds > 20, "paused {rounds} times only");
    writer.join().unwrap();
    assert!(
        core[conn].received == pattern(1, LEN),
        "all bytes, in order"
    );
    core.close(conn);
}

/// Nothing but the driver itself brings the receive back that the pause had begun to cancel.
pub fn goes_on_after_pause_and_resume_in_one_pass(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut client = client(address);
    let conn = core.accepted();
    core.run(MOMENT / 4);
    for round in 1..=5 {
        core.submit(Operation::Pause { conn });
        core.submit(Operation::Resume { conn });
        core.run(MOMENT / 4);
        client.write_all(b"heard").unwrap();
        core.until("the bytes", |core| core[conn].received.len() == 5 * round);
    }
    core.close(conn);
}

pub fn brings_nothing_and_rests_while_paused(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut client = client(address);
    let conn = core.accepted();
    core.submit(Operation::Pause { conn });
    core.run(MOMENT);
    for _ in 0..10 {
        client.write_all(b"unheard").unwrap();
        core.run(MOMENT / 10);
    }
    let passes = core.driver.counters().passes;
    core.run(MOMENT);
    assert_eq!(core[conn].received, b"", "paused");
    let passes = core.driver.counters().passes - passes;
    assert!(passes <= 3, "{passes} passes without anything to do");
    core.submit(Operation::Resume { conn });
    core.until("the bytes", |core| core[conn].received.len() == 70);
    core.close(conn);
}

pub fn brings_the_end_after_resuming(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut client = client(address);
    let conn = core.accepted();
    core.submit(Operation::Pause { conn });
    core.run(MOMENT / 4);
    client.write_all(b"bye").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    core.run(MOMENT);
    assert!(!core[conn].has_eof && core[conn].received.is_empty());
    core.submit(Operation::Resume { conn });
    core.until("Eof", |core| core[conn].has_eof);
    assert_eq!(core[conn].received, b"bye");
    core.close(conn);
}

pub fn goes_on_sending_while_paused(kind: Kind) {
    const LEN: usize = 24 << 20;
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let client = client(address);
    let conn = core.accepted();
    core.send(conn, pattern(4, LEN));
    core.run(MOMENT / 4);
    core.submit(Operation::Pause { conn });
    core.run(MOMENT / 4);
    let reader = thread::spawn(move || read(client, LEN));
    core.until("Sent", |core| !core[conn].is_sending);
    assert_eq!(core[conn].sent, [(LEN, LEN)]);
    assert!(
        reader.join().unwrap() == pattern(4, LEN),
        "all bytes, in order"
    );
    core.close(conn);
}

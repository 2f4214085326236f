//! What only the inside of the io_uring driver can show: completions that the kernel should not
//! send, and answers that it gives only in rare races.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use io_uring::types::Fd;

use super::connection::Connection;
use super::ring::Completion;
use super::*;
use crate::sending::Sending;
use manifold_core::event::Address;
use manifold_core::ids::ConnId;

const CONN: ConnId = ConnId {
    index: 5,
    generation: 77,
};

/// Events as far as these tests tell them apart.
#[derive(Debug, Eq, PartialEq)]
enum Told {
    Received(Vec<u8>),
    Sent(usize),
    Closed,
    Other,
}

/// A driver, if the kernel offers it.
fn open(config: &Config) -> Option<Uring> {
    match Uring::open(config) {
        Ok(uring) => Some(uring),
        Err(error @ DriverError::Unavailable { .. }) => {
            eprintln!("NOT TESTED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn adopt(uring: &mut Uring) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    uring.adopt_socket(CONN, ours.into());
    theirs
}

/// Passes until nothing has happened for a moment.
fn settle(uring: &mut Uring) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        let woken = uring.wait(Some(Duration::from_millis(30)), &mut |event| {
            told.push(match event {
                Event::Received { bytes, .. } => Told::Received(bytes.to_vec()),
                Event::Sent { sent, .. } => Told::Sent(sent),
                Event::Closed { .. } => Told::Closed,
                _ => Told::Other,
            });
        });
        if woken.unwrap().events == 0 {
            return told;
        }
    }
}

fn connection(uring: &mut Uring) -> (Place, &mut Connection) {
    uring.table.find(CONN).expect("it is open")
}

/// A receive of an earlier use of the index is armed behind the driver's back.
#[test]
fn ignores_stale_receives_and_takes_their_buffers_back() {
    let Some(mut uring) = open(&Config {
        buffers: 2,
        ..Config::default()
    }) else {
        return;
    };
    let mut current = adopt(&mut uring);
    let place = connection(&mut uring).0;
    let stale = Place {
        generation: place.generation + 1,
        ..place
    };
    let (old, mut old_peer) = UnixStream::pair().unwrap();
    let fd = Fd(std::os::fd::AsRawFd::as_raw_fd(&old));
    let receive = opcode::RecvMulti::new(fd, buffers::GROUP).build();
    let receive = receive.user_data(encode_token(Kind::Receive, stale));
    // SAFETY: it points to no memory.
    unsafe { uring.ring.push(&receive) };
    // More often than there are buffers: each has to come back.
    for round in 1..=5 {
        old_peer.write_all(b"not for you").unwrap();
        assert_eq!(settle(&mut uring), []);
        assert_eq!(uring.counters.stale, round);
    }
    current.write_all(b"for you").unwrap();
    assert_eq!(settle(&mut uring), [Told::Received(b"for you".to_vec())]);
    drop(old_peer);
    settle(&mut uring);
    assert_eq!(uring.counters.stale, 6, "its end is stale, too");
}

#[test]
fn ignores_every_other_kind_of_stale_completion() {
    let Some(mut uring) = open(&Config::default()) else {
        return;
    };
    let mut peer = adopt(&mut uring);
    let place = connection(&mut uring).0;
    let stale = Place {
        generation: place.generation + 1,
        ..place
    };
    let absent = Place {
        index: 4_000_000,
        generation: 0,
    };
    let kinds = [Kind::Send, Kind::Cancel, Kind::Connect];
    let tokens = kinds
        .iter()
        .flat_map(|kind| [stale, absent].map(|at| encode_token(*kind, at)));
    let tokens: Vec<_> = tokens.chain([0, u64::MAX]).collect();
    let in_flight = connection(&mut uring).1.in_flight;
    for token in &tokens {
        let nop = opcode::Nop::new().build().user_data(*token);
        // SAFETY: it points to no memory.
        unsafe { uring.ring.push(&nop) };
    }
    assert_eq!(settle(&mut uring), []);
    assert_eq!(uring.counters.stale, tokens.len() as u64);
    assert_eq!(connection(&mut uring).1.in_flight, in_flight);
    peer.write_all(b"alive").unwrap();
    assert_eq!(settle(&mut uring), [Told::Received(b"alive".to_vec())]);
}

/// Pretends that a pause was answered with "there is nothing to cancel", while the receive lives.
fn miss_a_cancel(uring: &mut Uring) {
    let (place, connection) = connection(uring);
    connection.is_paused = true;
    connection.is_cancelling = true;
    connection.is_cancel_retried = false;
    connection.in_flight += 1;
    let token = encode_token(Kind::Cancel, place);
    let missed = Completion {
        token,
        result: -libc::ENOENT,
        flags: 0,
    };
    uring.handle_completion(missed, &mut Sink::new(&mut |event| panic!("{event:?}")));
}

#[test]
fn pauses_by_descriptor_when_the_kernel_finds_nothing_to_cancel() {
    let Some(mut uring) = open(&Config::default()) else {
        return;
    };
    let mut peer = adopt(&mut uring);
    assert_eq!(settle(&mut uring), []);
    miss_a_cancel(&mut uring);
    assert_eq!(settle(&mut uring), []);
    let connection = connection(&mut uring).1;
    assert!(!connection.is_armed && !connection.is_cancelling && connection.in_flight == 0);
    peer.write_all(b"later").unwrap();
    assert_eq!(settle(&mut uring), []);
    uring.submit(Operation::Resume { conn: CONN });
    assert_eq!(settle(&mut uring), [Told::Received(b"later".to_vec())]);
}

/// The second way to cancel ends the send as well, which has to go on as if nothing had happened.
#[test]
fn sends_on_after_a_cancel_by_descriptor() {
    const LEN: usize = 4 << 20;
    let Some(mut uring) = open(&Config::default()) else {
        return;
    };
    let mut peer = adopt(&mut uring);
    let buffer: Vec<u8> = (0..LEN).map(|n| (n / 251) as u8).collect();
    uring.submit(Operation::Send {
        conn: CONN,
        buffer: buffer.clone(),
    });
    assert_eq!(settle(&mut uring), []);
    // The first cancel finds a part of the send done, the next ones find none.
    for _ in 0..3 {
        miss_a_cancel(&mut uring);
        assert_eq!(settle(&mut uring), []);
        assert!(!connection(&mut uring).1.is_armed);
        uring.submit(Operation::Resume { conn: CONN });
        assert_eq!(settle(&mut uring), []);
    }
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; LEN];
        peer.read_exact(&mut bytes).unwrap();
        (bytes, peer)
    });
    let mut told = Vec::new();
    while told.is_empty() {
        told = settle(&mut uring);
    }
    assert_eq!(told, [Told::Sent(LEN)]);
    let (bytes, _peer) = reader.join().unwrap();
    assert!(bytes == buffer, "all bytes, in order");
    uring.submit(Operation::Close { conn: CONN });
    assert_eq!(settle(&mut uring), [Told::Closed]);
}

/// If even the second cancel misses, the next bytes ask again.
#[test]
fn asks_again_to_pause_when_bytes_still_come() {
    let Some(mut uring) = open(&Config::default()) else {
        return;
    };
    let mut peer = adopt(&mut uring);
    assert_eq!(settle(&mut uring), []);
    connection(&mut uring).1.is_paused = true;
    peer.write_all(b"too late").unwrap();
    assert_eq!(settle(&mut uring), [Told::Received(b"too late".to_vec())]);
    assert!(!connection(&mut uring).1.is_armed, "paused by now");
}

/// DEFER_TASKRUN posts completions only in an enter that asks for them, and TASKRUN_FLAG is what
/// tells that there are some. Without the flag a spinning driver would never see any.
#[test]
fn sees_without_a_system_call_that_work_is_pending() {
    let Some(mut uring) = open(&Config::default()) else {
        return;
    };
    let mut peer = adopt(&mut uring);
    assert_eq!(settle(&mut uring), []);
    assert!(!uring.ring.has_work());
    peer.write_all(b"work").unwrap();
    assert!(uring.ring.has_work());
    assert_eq!(settle(&mut uring), [Told::Received(b"work".to_vec())]);
}

/// A short send is possible in spite of MSG_WAITALL; the rest has to follow.
#[test]
fn sends_the_rest_after_a_short_send() {
    let Some(mut uring) = open(&Config::default()) else {
        return;
    };
    let mut peer = adopt(&mut uring);
    assert_eq!(settle(&mut uring), []);
    let (place, connection) = connection(&mut uring);
    connection.sending = Some(Sending::new(b"0123456789".to_vec()));
    connection.in_flight += 1;
    let short = Completion {
        token: encode_token(Kind::Send, place),
        result: 4,
        flags: 0,
    };
    uring.handle_completion(short, &mut Sink::new(&mut |event| panic!("{event:?}")));
    assert_eq!(settle(&mut uring), [Told::Sent(10)]);
    let mut rest = [0; 6];
    peer.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"456789");
    assert_eq!(uring.counters.sends_short, 1);
}

/// Fills the completion queue, so that what completes next does not fit.
fn fill_completions(uring: &mut Uring) {
    for _ in 0..600 {
        // SAFETY: it points to no memory.
        unsafe { uring.ring.push(&opcode::Nop::new().build().user_data(0)) };
    }
}

/// With no place left for its completions a multishot receive ends, and its last one has bytes.
#[test]
fn receives_on_after_a_receive_that_ended_with_bytes() {
    let Some(mut uring) = open(&Config {
        completions: 256,
        ..Config::default()
    }) else {
        return;
    };
    let mut peer = adopt(&mut uring);
    assert_eq!(settle(&mut uring), []);
    peer.write_all(b"first").unwrap();
    fill_completions(&mut uring);
    let mut told = Vec::new();
    while told.is_empty() {
        told = settle(&mut uring);
    }
    assert_eq!(told, [Told::Received(b"first".to_vec())]);
    assert!(uring.counters.overflows > 0);
    peer.write_all(b"second").unwrap();
    assert_eq!(settle(&mut uring), [Told::Received(b"second".to_vec())]);
}

#[test]
fn tells_of_a_failure_once_and_of_no_end_after_it() {
    let Some(mut uring) = open(&Config::default()) else {
        return;
    };
    let peer = adopt(&mut uring);
    assert_eq!(settle(&mut uring), []);
    let place = connection(&mut uring).0;
    let mut failures = 0;
    for errno in [libc::EPIPE, libc::ECONNRESET] {
        uring.fail(place, errno, &mut Sink::new(&mut |_| failures += 1));
    }
    assert_eq!(failures, 1);
    drop(peer);
    assert_eq!(settle(&mut uring), []);
    assert!(connection(&mut uring).1.has_ended);
}

/// A driver that listens, and its path.
fn listening(config: &Config, name: &str) -> Option<(Uring, std::path::PathBuf)> {
    let mut uring = open(config)?;
    let path = std::env::temp_dir().join(format!("manifold-{}-{name}", std::process::id()));
    let address = crate::ListenAddress::Unix(path.clone());
    let listener = crate::bind(&address, false, 8).unwrap();
    uring.listen(ListenerId(0), listener).unwrap();
    Some((uring, path))
}

/// Passes for a moment, rejects every client, and says how many there were.
fn reject_all(uring: &mut Uring) -> usize {
    let mut count = 0;
    for _ in 0..8 {
        let mut sockets = Vec::new();
        let woken = uring.wait(Some(Duration::from_millis(10)), &mut |event| match event {
            Event::Accepted { socket, .. } => sockets.push(socket),
            event => panic!("{event:?}"),
        });
        woken.unwrap();
        count += sockets.len();
        for socket in sockets {
            uring.submit(Operation::Reject { socket });
        }
    }
    count
}

#[test]
fn accepts_on_after_an_accept_that_ended_with_a_client() {
    let config = Config {
        completions: 256,
        ..Config::default()
    };
    let Some((mut uring, path)) = listening(&config, "ended-accept") else {
        return;
    };
    assert_eq!(reject_all(&mut uring), 0);
    let _first = UnixStream::connect(&path).unwrap();
    fill_completions(&mut uring);
    assert_eq!(reject_all(&mut uring), 1);
    assert!(uring.counters.overflows > 0);
    let _second = UnixStream::connect(&path).unwrap();
    assert_eq!(reject_all(&mut uring), 1);
    std::fs::remove_file(path).unwrap();
}

/// A cancel of the accept that missed is repeated by descriptor; if that misses as well, the next
/// client asks again.
#[test]
fn stops_accepting_although_a_cancel_missed() {
    let Some((mut uring, path)) = listening(&Config::default(), "missed-cancel") else {
        return;
    };
    assert_eq!(reject_all(&mut uring), 0);
    uring.is_accepting = false;
    let token = encode_token(
        Kind::AcceptCancel,
        Place {
            index: 0,
            generation: 0,
        },
    );
    let missed = Completion {
        token,
        result: -libc::ENOENT,
        flags: 0,
    };
    uring.handle_completion(missed, &mut Sink::new(&mut |event| panic!("{event:?}")));
    assert_eq!(reject_all(&mut uring), 0);
    assert!(!uring.listeners[0].is_armed, "cancelled by descriptor");
    UnixStream::connect(&path).expect_err("nobody listens");
    std::fs::remove_file(path).unwrap();

    let Some((mut uring, path)) = listening(&Config::default(), "missed-cancels") else {
        return;
    };
    assert_eq!(reject_all(&mut uring), 0);
    uring.is_accepting = false;
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(reject_all(&mut uring), 1);
    assert!(!uring.listeners[0].is_armed, "asked again by the client");
    UnixStream::connect(&path).expect_err("nobody listens");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn cancels_a_connect_that_is_closed_and_keeps_sockets_blocking() {
    let Some((mut uring, path)) = listening(&Config::default(), "connect") else {
        return;
    };
    let address = Address::Unix(path.to_str().unwrap().into());
    uring.submit(Operation::Connect {
        conn: CONN,
        address,
    });
    let socket = connection(&mut uring).1.socket.as_ref().unwrap();
    assert!(!socket2::SockRef::from(socket).nonblocking().unwrap());
    std::fs::remove_file(path).unwrap();

    let other = ConnId {
        index: 6,
        generation: 0,
    };
    let address = Address::Ip(([127, 0, 0, 1], 1).into());
    uring.submit(Operation::Connect {
        conn: other,
        address,
    });
    uring.submit(Operation::Close { conn: other });
    assert!(uring.table.find(other).unwrap().1.is_cancelling);
}

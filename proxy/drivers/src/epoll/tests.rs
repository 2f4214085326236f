//! What only the inside of the epoll driver can show.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::*;

const CONN: ConnId = ConnId {
    index: 5,
    generation: 77,
};

/// Passes once, and counts the bytes.
fn pass(epoll: &mut Epoll) -> usize {
    let mut received = 0;
    let woken = epoll.wait(Some(Duration::from_millis(30)), &mut |event| match event {
        Event::Received { bytes, .. } => received += bytes.len(),
        event => panic!("{event:?}"),
    });
    woken.unwrap();
    received
}

/// A socket is watched under the token of another use of its index.
#[test]
fn ignores_readiness_of_an_earlier_use_of_an_index() {
    let mut epoll = Epoll::open(&Config::default()).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    epoll.establish(CONN, ours.into());
    assert_eq!(pass(&mut epoll), 0);
    let (place, connection) = epoll.table.find(CONN).unwrap();
    let fd = connection.raw();
    let stale = Place {
        generation: place.generation + 1,
        ..place
    };
    epoll
        .poller
        .modify(fd, READ_INTEREST, encode_token(Kind::Receive, stale))
        .unwrap();
    theirs.write_all(b"not for you").unwrap();
    assert_eq!(pass(&mut epoll), 0);
    assert_eq!(epoll.counters.stale, 1);
    epoll
        .poller
        .modify(fd, READ_INTEREST, encode_token(Kind::Receive, place))
        .unwrap();
    assert_eq!(pass(&mut epoll), 11);
    assert_eq!(epoll.counters.stale, 1);
}

/// Being watched for room to send costs a wake-up whenever the peer reads, so it ends with the
/// send.
#[test]
fn is_watched_for_room_only_while_a_send_is_blocked() {
    let mut epoll = Epoll::open(&Config::default()).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    epoll.establish(CONN, ours.into());
    let has_interest = |epoll: &mut Epoll| epoll.table.find(CONN).unwrap().1.has_write_interest;
    assert!(!has_interest(&mut epoll));
    epoll.submit(Operation::Send {
        conn: CONN,
        buffer: vec![1; 4 << 20],
    });
    assert_eq!(pass(&mut epoll), 0);
    assert!(has_interest(&mut epoll));
    let mut reader = theirs.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        std::io::Read::read_exact(&mut reader, &mut vec![0; 4 << 20]).unwrap();
    });
    let mut has_sent = false;
    while !has_sent {
        let woken = epoll.wait(None, &mut |event| {
            has_sent |= matches!(event, Event::Sent { sent, .. } if sent == 4 << 20);
        });
        woken.unwrap();
    }
    assert!(!has_interest(&mut epoll));
    reader.join().unwrap();
}

#[test]
fn tells_of_a_failure_once_and_of_no_end_after_it() {
    let mut epoll = Epoll::open(&Config::default()).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    epoll.establish(CONN, ours.into());
    let place = epoll.table.find(CONN).unwrap().0;
    let mut failures = 0;
    for errno in [libc::EPIPE, libc::ECONNRESET] {
        epoll.fail(place, errno, &mut Sink::new(&mut |_| failures += 1));
    }
    assert_eq!(failures, 1);
    drop(theirs);
    assert_eq!(pass(&mut epoll), 0);
    assert!(epoll.table.find(CONN).unwrap().1.has_ended);
}

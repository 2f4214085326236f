//! Waking other shards from ring to ring.
//!
//! A shard that wakes another puts a message among the operations of its pass, which the kernel
//! posts as a completion into the other's ring: no system call of its own, and no read to be armed
//! anew at the other end. Whatever the kernel does not post, it says; then the doorbell's own file
//! is rung, as everybody else does. Knows nothing of letters. Invariant: a ring is never lost, as
//! long as the driver that rings goes on or is dropped.
//!
//! Measured on two virtual cores, both threads pinned, from the ring to the return of the other's
//! `wait`, medians of ten runs of 2 000: 33 us by a message, 35 us by the file, within the noise of
//! each other. Nearly all of it is the waking of a sleeping thread, of which the one that rings
//! pays 10 to 18 us either way. What a message saves is the system calls around that.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::ring::Ring;
use super::{NOWHERE, Uring};
use crate::config::SUBMISSIONS;
use crate::doorbell::Doorbell;
use crate::token::{Kind, Place, encode_token};

/// How long the probe waits for its message.
const PROBE_TIME_MAX: Duration = Duration::from_millis(500);
/// By then the other thread of the probe sleeps.
const PROBE_REST: Duration = Duration::from_millis(2);

impl Uring {
    /// Wakes the driver of a doorbell up, with what this pass submits.
    pub(crate) fn ring(&mut self, doorbell: &Doorbell) {
        let Some(line) = doorbell.line() else {
            return doorbell.ring();
        };
        let knock = knock(line, self.place_of_bell(doorbell));
        self.counters.knocks += 1;
        // SAFETY: a message points to no memory; its descriptor stays open with the doorbell, which
        // `knocked` keeps for as long as the ring is there.
        unsafe { self.ring.push(&knock) };
    }

    /// A message was not posted: the driver is gone, the kernel out of memory, whatever.
    pub(super) fn handle_lost_knock(&mut self, place: Place) {
        self.counters.knocks_lost += 1;
        if let Some(doorbell) = self.knocked.get(place.index as usize) {
            doorbell.ring();
        }
    }

    /// Where a doorbell is kept for what becomes of its messages. There are as many as drivers.
    fn place_of_bell(&mut self, doorbell: &Doorbell) -> Place {
        let known = self.knocked.iter().position(|it| it.is(doorbell));
        let index = known.unwrap_or_else(|| {
            self.knocked.push(doorbell.clone());
            self.knocked.len() - 1
        });
        Place {
            index: index as u32,
            generation: 0,
        }
    }
}

/// A message to the ring at this descriptor. Only its failure comes back.
fn knock(line: &OwnedFd, place: Place) -> squeue::Entry {
    let token = encode_token(Kind::Knock, NOWHERE);
    let message = opcode::MsgRingData::new(Fd(line.as_raw_fd()), 0, token, None);
    let message = message.build().flags(squeue::Flags::SKIP_SUCCESS);
    message.user_data(encode_token(Kind::LostKnock, place))
}

/// The descriptor at which other rings reach this one, if the kernel wakes a sleeping ring by it.
pub(super) fn line_of(ring: &Ring) -> Option<OwnedFd> {
    static IS_HEARD: OnceLock<bool> = OnceLock::new();
    if !*IS_HEARD.get_or_init(is_heard) {
        return None;
    }
    ring.descriptor().as_fd().try_clone_to_owned().ok()
}

/// Whether a ring that sleeps on another thread is woken by a message, found out by trying: that
/// the kernel knows the operation does not say so of rings with deferred completions.
fn is_heard() -> bool {
    let (lines, line) = channel();
    let sleeper = thread::Builder::new().spawn(move || sleep(&lines));
    sleeper.is_ok_and(|sleeper| {
        if let Ok(line) = line.recv() {
            thread::sleep(PROBE_REST);
            send_once(&line);
        }
        sleeper.join().unwrap_or(false)
    })
}

/// Sleeps in a ring of its own. Answers whether a message woke it.
fn sleep(lines: &Sender<OwnedFd>) -> bool {
    let Ok(mut ring) = Ring::open(SUBMISSIONS) else {
        return false;
    };
    let Ok(line) = ring.descriptor().as_fd().try_clone_to_owned() else {
        return false;
    };
    if lines.send(line).is_err() || ring.enter(1, Some(PROBE_TIME_MAX)).is_err() {
        return false;
    }
    let woken = ring.pop();
    woken.is_some_and(|it| it.token == encode_token(Kind::Knock, NOWHERE))
}

fn send_once(line: &OwnedFd) {
    if let Ok(mut ring) = Ring::open(SUBMISSIONS) {
        // SAFETY: a message points to no memory, and its descriptor is open until the call returns.
        unsafe { ring.push(&knock(line, NOWHERE)) };
        // If it fails the other end says that nothing came.
        let _ = ring.enter(0, None);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::mpsc::Receiver;
    use std::thread::JoinHandle;

    use super::*;
    use crate::config::{Config, DriverError};

    const TIME_MAX: Duration = Duration::from_secs(5);

    /// A driver that other rings can reach, if the kernel offers it.
    fn open(config: &Config) -> Option<Uring> {
        match Uring::open(config) {
            Ok(uring) if uring.doorbell().line().is_some() => Some(uring),
            Ok(_) => {
                eprintln!("NOT TESTED: no ring is woken by another");
                None
            }
            Err(error @ DriverError::Unavailable { .. }) => {
                eprintln!("NOT TESTED: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn pass(uring: &mut Uring, timeout: Duration) -> bool {
        uring.wait(Some(timeout), &mut |_| ()).unwrap().doorbell
    }

    /// Whether the file of a doorbell has been rung and nobody has answered.
    fn is_file_rung(doorbell: &Doorbell) -> bool {
        let mut poll = libc::pollfd {
            fd: doorbell.raw(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, which outlives the call.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// A driver on a thread of its own that sleeps until it is rung, and says whether it was.
    fn sleeper() -> (JoinHandle<bool>, Receiver<Doorbell>) {
        let (bells, bell) = channel();
        let sleeper = thread::spawn(move || {
            let mut uring = Uring::open(&Config::default()).unwrap();
            bells.send(uring.doorbell()).unwrap();
            pass(&mut uring, TIME_MAX)
        });
        (sleeper, bell)
    }

    #[test]
    fn wakes_sleeping_ring_by_message_alone() {
        let Some(mut uring) = open(&Config::default()) else {
            return;
        };
        let (sleeper, bell) = sleeper();
        let bell = bell.recv().unwrap();
        thread::sleep(PROBE_REST * 10);
        uring.ring(&bell);
        pass(&mut uring, Duration::ZERO);
        assert!(sleeper.join().unwrap());
        assert_eq!((uring.counters.knocks, uring.counters.knocks_lost), (1, 0));
        assert!(!is_file_rung(&bell));
    }

    #[test]
    fn rings_file_when_message_cannot_be_posted() {
        let Some(mut uring) = open(&Config::default()) else {
            return;
        };
        let line = File::open("/dev/null").unwrap().into();
        let bells = [Doorbell::new(), Doorbell::new()].map(Result::unwrap);
        let [other, bell] = bells;
        let (other, bell) = (other.with_line(None), bell.with_line(Some(line)));
        for rings in 1..=3 {
            uring.ring(&bell);
            pass(&mut uring, Duration::ZERO);
            assert_eq!(uring.counters.knocks_lost, rings);
            assert!(is_file_rung(&bell) && !is_file_rung(&other));
            bell.answer();
        }
        // As the last that a driver does.
        uring.ring(&bell);
        drop(uring);
        assert!(is_file_rung(&bell));
    }

    #[test]
    fn goes_on_when_who_is_rung_has_gone() {
        let Some(mut uring) = open(&Config::default()) else {
            return;
        };
        let (gone, bell) = sleeper();
        let bell = bell.recv().unwrap();
        bell.ring();
        assert!(gone.join().unwrap());
        uring.ring(&bell);
        pass(&mut uring, PROBE_REST);
        let (sleeper, bell) = sleeper();
        uring.ring(&bell.recv().unwrap());
        pass(&mut uring, Duration::ZERO);
        assert!(sleeper.join().unwrap());
    }

    #[test]
    fn keeps_ring_when_completions_overflow() {
        let few = Config {
            completions: SUBMISSIONS,
            ..Config::default()
        };
        let (Some(mut target), Some(mut uring)) = (open(&few), open(&Config::default())) else {
            return;
        };
        let bell = target.doorbell();
        // Something else fills the queue, of which nothing is taken out.
        for _ in 0..4 * SUBMISSIONS {
            let idle = opcode::Nop::new().build().user_data(0);
            // SAFETY: it points to no memory.
            unsafe { target.ring.push(&idle) };
        }
        target.ring.enter(0, None).unwrap();
        uring.ring(&bell);
        pass(&mut uring, Duration::ZERO);
        target.ring.enter(0, None).unwrap();
        assert!(target.ring.is_overflown());
        let mut has_rung = false;
        for _ in 0..8 {
            has_rung |= pass(&mut target, PROBE_REST);
        }
        assert!(has_rung && !target.ring.is_overflown());
        assert_eq!((uring.counters.knocks, uring.counters.knocks_lost), (1, 0));
        uring.ring(&bell);
        pass(&mut uring, Duration::ZERO);
        assert!(pass(&mut target, TIME_MAX));
    }
}

//! What ends a wait.

use std::io::Write;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use manifold_drivers::{Driver, Patience};

use crate::core::Core;
use crate::{Kind, MOMENT, client};

pub fn wakes_when_another_thread_rings(kind: Kind) {
    let mut core = Core::open(kind);
    for _ in 0..5 {
        let bell = core.driver.doorbell();
        let ringer = thread::spawn(move || {
            thread::sleep(MOMENT / 4);
            bell.ring();
        });
        // Without an end, so that only the ring can end it.
        while !core.pass(None).doorbell {}
        ringer.join().unwrap();
        assert!(
            !core.pass(Some(MOMENT / 10)).doorbell,
            "one ring is one ring"
        );
    }
}

pub fn wakes_when_another_driver_rings(kind: Kind) {
    const ROUNDS: usize = 5;
    let (bells, bell) = channel();
    let (wakes, woken) = channel();
    let sleeper = thread::spawn(move || {
        let mut core = Core::open(kind);
        bells.send(core.driver.doorbell()).unwrap();
        for _ in 0..ROUNDS {
            while !core.pass(None).doorbell {}
            let again = core.pass(Some(MOMENT / 10)).doorbell;
            assert!(!again, "one ring is one ring");
            wakes.send(()).unwrap();
        }
    });
    let bell = bell.recv().unwrap();
    let mut ringer = Core::open(kind);
    for _ in 0..ROUNDS {
        thread::sleep(MOMENT / 4);
        ringer.driver.ring(&bell);
        let own = ringer.pass(Some(Duration::ZERO)).doorbell;
        assert!(!own, "who rings is not rung");
        woken.recv_timeout(MOMENT * 100).expect("it wakes");
    }
    sleeper.join().unwrap();
    // Nobody is there any more.
    ringer.driver.ring(&bell);
    ringer.pass(Some(MOMENT / 10));
}

pub fn keeps_a_ring_until_the_next_wait(kind: Kind) {
    let mut core = Core::open(kind);
    let bell = core.driver.doorbell();
    for _ in 0..3 {
        bell.clone().ring();
        bell.ring();
        core.until("the ring", |core| core.rings > 0);
        assert_eq!(core.rings, 1, "rings before the shard looks are one");
        core.rings = 0;
        core.run(MOMENT / 4);
        assert_eq!(core.rings, 0);
    }
    drop(core);
    bell.ring();
}

pub fn waits_as_long_as_it_is_told(kind: Kind) {
    let mut core = Core::open(kind);
    core.listen_tcp();
    core.pass(Some(Duration::ZERO));
    let begin = Instant::now();
    let woken = core.pass(Some(MOMENT));
    let passed = begin.elapsed();
    assert!(passed >= MOMENT && passed < MOMENT * 10, "{passed:?}");
    assert_eq!((woken.doorbell, woken.events), (false, 0));
    let begin = Instant::now();
    core.pass(Some(Duration::ZERO));
    assert!(begin.elapsed() < MOMENT, "{:?}", begin.elapsed());
    let (begin, begin_of_driver) = (Instant::now(), Driver::now());
    core.pass(Some(MOMENT));
    let difference = Driver::now()
        .since(begin_of_driver)
        .abs_diff(begin.elapsed());
    assert!(difference < MOMENT, "the clock is off by {difference:?}");
}

/// What was submitted is not held back by the spinning.
pub fn submits_before_it_spins(kind: Kind) {
    let spin = MOMENT * 50;
    let mut core = Core::open(kind);
    core.driver.set_patience(Patience::Look(spin));
    core.is_echo = true;
    let address = core.listen_tcp();
    let mut client = client(address);
    client.write_all(b"x").unwrap();
    let begin = Instant::now();
    while core.driver.counters().bytes_sent == 0 {
        core.pass(Some(spin));
    }
    assert!(begin.elapsed() < spin, "{:?}", begin.elapsed());
}

pub fn spins_before_it_sleeps(kind: Kind) {
    let mut core = Core::open(kind);
    core.driver.set_patience(Patience::Look(MOMENT / 2));
    core.is_echo = true;
    let address = core.listen_tcp();
    // Longer than the spin, as long as the spin, and shorter.
    for timeout in [MOMENT, MOMENT / 2, MOMENT / 4] {
        let begin = Instant::now();
        core.pass(Some(timeout));
        let passed = begin.elapsed();
        assert!(
            passed >= timeout && passed < timeout + MOMENT * 10,
            "{passed:?}"
        );
    }
    let mut client = client(address);
    let conn = core.accepted();
    for round in 1..=3 {
        client.write_all(b"x").unwrap();
        core.until("the echo", |core| core[conn].sent.len() == round);
    }
    let bell = core.driver.doorbell();
    let ringer = thread::spawn(move || {
        thread::sleep(MOMENT);
        bell.ring();
    });
    while !core.pass(None).doorbell {}
    ringer.join().unwrap();
}

/// However much has arrived, one pass brings all of it.
pub fn delivers_at_once_what_has_arrived(kind: Kind) {
    const COUNT: usize = 100;
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut clients: Vec<_> = (0..COUNT).map(|_| client(address)).collect();
    core.until("all clients", |core| core.accepted_so_far() == COUNT);
    core.run(MOMENT / 4);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    assert_eq!(core.pass(None).events, COUNT as u32);
}

pub fn gathers_events_but_not_for_long(kind: Kind) {
    let mut core = Core::open(kind);
    let address = core.listen_tcp();
    let mut clients: Vec<_> = (0..3).map(|_| client(address)).collect();
    core.until("all clients", |core| core.accepted_so_far() == 3);
    core.run(MOMENT / 4);
    let patience = |time| Patience::Gather { events: 3, time };
    core.driver.set_patience(patience(MOMENT));
    clients[0].write_all(b"x").unwrap();
    let begin = Instant::now();
    assert_eq!(core.pass(None).events, 1);
    if kind == Kind::IoUring {
        assert!(begin.elapsed() >= MOMENT, "{:?}", begin.elapsed());
    }
    core.driver.set_patience(patience(MOMENT * 100));
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    let begin = Instant::now();
    assert_eq!(core.pass(None).events, 3);
    assert!(begin.elapsed() < MOMENT * 50, "{:?}", begin.elapsed());
    core.driver.set_patience(patience(MOMENT));
    let begin = Instant::now();
    assert_eq!(core.pass(Some(MOMENT * 3)).events, 0);
    assert!(begin.elapsed() >= MOMENT * 3, "{:?}", begin.elapsed());
}

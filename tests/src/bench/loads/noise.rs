//! Fast readers beside clients that are slow for two reasons: they sleep, or they wait for a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::catalog::NOISY;
use super::{Load, Row};
use crate::bench::options::Options;
use crate::bench::sample::Sample;
use crate::bench::systems::Running;
use crate::harness::{Login, Node, Target, Wire, frames};

/// How many clients sleep, and how many wait for the lock.
const EACH: usize = 4;

/// What the sleepers run, again and again.
const SLEEP: &str = "SELECT pg_sleep(0.2)";

/// What the others want; the row is locked from a direct connection.
const WANT: &str = "UPDATE pgbench_branches SET bbalance = bbalance WHERE bid = 1";

/// One run of the fast readers.
pub fn run(load: &Load, row: Row, running: &Running, node: &Node, options: &Options) -> Sample {
    let readers = load.generator("select", Vec::new(), options);
    if row.variant != NOISY {
        return readers.run(running, node, || ());
    }
    let mut holder = node.admin("postgres");
    holder.query("BEGIN");
    holder.query(WANT);
    let stop = Arc::new(AtomicBool::new(false));
    let target = Target::Tcp(running.address());
    let slow: Vec<_> = (0..2 * EACH)
        .map(|number| {
            let text = if number < EACH { SLEEP } else { WANT };
            repeat(target.clone(), text, Arc::clone(&stop))
        })
        .collect();
    // The slow ones take their connections first: the worse case for the fast ones.
    thread::sleep(Duration::from_millis(500));
    let sample = readers.run(running, node, || ());
    stop.store(true, Ordering::Relaxed);
    holder.query("ROLLBACK");
    for thread in slow {
        thread.join().expect("a slow client does not panic");
    }
    sample
}

/// A client that runs one statement until it is told to stop.
fn repeat(target: Target, text: &'static str, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        let Ok(mut wire) = Wire::login(&target, &Login::new("postgres", "postgres")) else {
            return;
        };
        while !stop.load(Ordering::Relaxed) {
            if wire.try_send(&frames::query(text)).is_err() || !is_answered(&mut wire, &stop) {
                return;
            }
        }
    })
}

/// Waits for the end of the reply; false if it will not come.
fn is_answered(wire: &mut Wire, stop: &AtomicBool) -> bool {
    loop {
        match wire.try_frame(Duration::from_millis(500)) {
            Ok(Some(frame)) if frame.tag == b'Z' => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) if stop.load(Ordering::Relaxed) => return false,
            Err(_) => {}
        }
    }
}

//! The saboteur: kills connections of the proxy's node, makes it hang, kills it and starts it again.
//!
//! What hangs loses nothing, so nobody may notice; the others leave marks, and the epoch says when.
//! Invariant: the epoch is odd from before something breaks until after everything works again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::simulator::prng::Prng;

use super::world::{Tally, World};

/// How long after a fault the proxy may still find broken connections.
const GRACE: Duration = Duration::from_millis(400);

/// Breaks things until told to stop.
pub(super) fn sabotage(world: &World, seed: u64, stop: &AtomicBool) {
    let mut prng = Prng::new(seed);
    let mut node = world.to_node();
    while !stop.load(Ordering::Relaxed) {
        rest(prng.between(300, 1500), stop);
        match prng.weighted(&[5, 4, 3]) {
            0 => {
                world.epoch.fetch_add(1, Ordering::SeqCst);
                kill_some(world, &mut node, &mut prng);
                recover(world);
            }
            1 => {
                Tally::add(&world.tally.pauses, 1);
                world.node.freeze();
                rest(prng.between(20, 900), &AtomicBool::new(false));
                world.node.thaw();
            }
            _ => {
                world.epoch.fetch_add(1, Ordering::SeqCst);
                Tally::add(&world.tally.crashes, 1);
                world.node.crash();
                rest(prng.below(400), &AtomicBool::new(false));
                world.node.launch();
                recover(world);
            }
        }
    }
}

/// Kills some of the proxy's connections.
fn kill_some(world: &World, node: &mut super::connection::Control, prng: &mut Prng) {
    let list = node.say("CLIENT LIST");
    let list = String::from_utf8_lossy(&list).into_owned();
    let ours = list.lines().filter(|line| line.contains(" name=manifold "));
    let share = *prng.pick(&[100, 500, 1000]);
    for line in ours {
        let number = line.split(' ').find_map(|it| it.strip_prefix("id="));
        if let Some(number) = number.filter(|_| prng.chance(share)) {
            Tally::add(&world.tally.kills, 1);
            node.say(&format!("CLIENT KILL ID {number}"));
        }
    }
}

/// Waits until the proxy has found out and everything works again.
fn recover(world: &World) {
    thread::sleep(GRACE);
    // The proxy waits longer and longer before it tries again, so ask until it does.
    world.to_proxy().say("PING");
    thread::sleep(GRACE);
    world.epoch.fetch_add(1, Ordering::SeqCst);
}

fn rest(millis: u64, stop: &AtomicBool) {
    let until = Instant::now() + Duration::from_millis(millis);
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
}

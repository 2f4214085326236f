//! Rounds of play: each with a world of its own, one half in peace and one with faults.
//!
//! Knows the clock and the command's options. Invariant: the first difference ends everything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Driver;
use crate::simulator::prng::{Prng, splitmix};

use super::faults::sabotage;
use super::plan::{Mood, Planner};
use super::troupe::Troupe;
use super::world::{Scenery, World};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For how long.
    pub seconds: u64,
    /// What everything follows from.
    pub seed: u64,
    /// How many troupes play at once, of two or three sessions each.
    pub troupes: usize,
    /// Only this troupe of each round, again and again.
    pub only: Option<u64>,
    /// Only this round.
    pub round: Option<u64>,
    /// Some rounds with nodes that want a password from everybody.
    pub has_passwords: bool,
    /// No round in which the proxy's node is broken.
    pub is_peaceful: bool,
    /// Go on after a difference, and count them.
    pub keeps_going: bool,
}

/// The longest round.
const ROUND_SECONDS_MAX: u64 = 60;

/// The shortest.
const ROUND_SECONDS_MIN: u64 = 5;

/// Runs rounds until the time is over. Prints a line for each; the error is a difference.
pub fn run(options: &Options) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let length = (options.seconds / 4).clamp(ROUND_SECONDS_MIN, ROUND_SECONDS_MAX);
    let mut round = options.round.unwrap_or(0);
    let mut differences = 0;
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        let time = Duration::from_secs(length).min(left);
        differences += play_round(options, round, time)?;
        if options.round.is_none() {
            round += 1;
        }
    }
    let (seconds, seed) = (options.seconds, options.seed);
    if differences > 0 {
        return Err(format!(
            "{differences} differences in {seconds} s, seed {seed}"
        ));
    }
    println!("no difference in {seconds} s, seed {seed}");
    Ok(())
}

/// What a round is made of: every driver with and without faults comes in any four.
fn scenery(options: &Options, round: u64) -> Scenery {
    let mut prng = Prng::new(options.seed ^ round.wrapping_mul(0x9e37_79b9));
    Scenery {
        driver: Driver::ALL[(round / 2 % 2) as usize],
        shards: *prng.pick(&[1, 1, 2]),
        connections_max: *prng.pick(&[128, 256]),
        mood: Mood {
            is_locked: options.has_passwords && prng.chance(500),
            is_faulty: round % 2 == 1 && !options.is_peaceful,
        },
    }
}

/// Plays a round. Says how many differences it had, if it may have any.
fn play_round(options: &Options, round: u64, time: Duration) -> Result<usize, String> {
    let scenery = scenery(options, round);
    let world = World::new(&scenery);
    let until = Instant::now() + time;
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let differences = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let saboteur = scenery
            .mood
            .is_faulty
            .then(|| scope.spawn(|| sabotage(&world, options.seed ^ round, &stop)));
        let troupes: Vec<_> = (0..options.troupes)
            .map(|_| {
                scope.spawn(|| {
                    while Instant::now() < until && !is_over(options, &differences) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let played = options.only.unwrap_or(number);
                        if let Err(text) = play(&world, options.seed, round, played, number) {
                            let seed = options.seed;
                            let command = format!("--seed {seed} --round {round} --only {played}");
                            let mut differences =
                                differences.lock().expect("nobody panics with it");
                            differences.push(format!("DIFFERENCE, {command}, {text}"));
                        }
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = troupes.into_iter().map(|it| it.join()).collect();
        stop.store(true, Ordering::Relaxed);
        if let Some(saboteur) = saboteur {
            saboteur.join().expect("the saboteur does not panic");
        }
        for outcome in outcomes {
            if outcome.is_err() {
                let mut differences = differences.lock().expect("nobody panics with it");
                differences.push("a troupe panicked".to_owned());
            }
        }
    });
    print_round(&scenery, round, &world);
    let differences = differences.into_inner().expect("nobody panics with it");
    if options.keeps_going {
        differences.iter().for_each(|text| println!("{text}"));
        return Ok(differences.len());
    }
    differences.first().map_or(Ok(0), |text| {
        let log = last_lines(&world.proxy.log());
        Err(format!("{scenery:?}\n{text}\nthe proxy's log:\n{log}"))
    })
}

fn is_over(options: &Options, differences: &Mutex<Vec<String>>) -> bool {
    let differences = differences.lock().expect("nobody panics with it");
    !options.keeps_going && !differences.is_empty()
}

/// Plays the troupe of a number.
fn play(world: &World, seed: u64, round: u64, played: u64, number: u64) -> Result<(), String> {
    let mut mixed = seed ^ (round << 32) ^ played;
    let seed = splitmix(&mut mixed);
    let prefix = format!("t{number}:");
    let (sessions, acts) = Planner::plan(seed, &prefix, world.mood);
    Troupe::play(world, &prefix, sessions, &acts).map_err(|text| format!("troupe {played}, {text}"))
}

fn print_round(scenery: &Scenery, round: u64, world: &World) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let tally = &world.tally;
    println!(
        "round {round} ({}, {} shards{}{}): {} troupes, {} sessions, {} acts, {} replies compared, \
         {} clients vanished; {} connections killed, {} hangs, {} crashes: {} outcomes unknown, {} \
         sessions ended, {} troupes renewed",
        scenery.driver.name(),
        scenery.shards,
        if scenery.mood.is_locked {
            ", password"
        } else {
            ""
        },
        if scenery.mood.is_faulty {
            ", faults"
        } else {
            ""
        },
        of(&tally.troupes),
        of(&tally.sessions),
        of(&tally.acts),
        of(&tally.replies),
        of(&tally.vanished),
        of(&tally.kills),
        of(&tally.pauses),
        of(&tally.crashes),
        of(&tally.unknown),
        of(&tally.ended),
        of(&tally.renewed),
    );
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

//! Runs seeds of the simulator: `simulate --seeds 1000`, or one with `--seed S --trace`.
//!
//! Knows the command line and nothing of the simulation. A failure prints its seed and the command
//! that has it again.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use manifold_tests::simulator::{Between, Bug, Failure, Protocol, Report, Setup, simulate};

/// Runs seeds of the simulator.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every step.
    #[arg(long)]
    trace: bool,
    /// Go on for ever.
    #[arg(long)]
    forever: bool,
    /// Go on after a failure, and count.
    #[arg(long)]
    keep_going: bool,
    /// Shards between clients and node; 0 connects the clients directly. By default the seed says.
    #[arg(long)]
    shards: Option<u32>,
    /// What clients and node speak.
    #[arg(long, value_enum, default_value_t = Spoken::Both)]
    protocol: Spoken,
    /// Leave out silent connections and storms of cancels.
    #[arg(long)]
    mild: bool,
    /// Plant a bug in the core, by its name.
    #[arg(long, value_parser = bug_named)]
    bug: Option<Bug>,
}

/// What clients and node speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Spoken {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// Each seed is run with one and then with the other.
    Both,
}

impl Spoken {
    fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Postgres => &[Protocol::Postgres],
            Self::Redis => &[Protocol::Redis],
            Self::Both => &[Protocol::Postgres, Protocol::Redis],
        }
    }
}

fn bug_named(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| format!("the bugs are {:?}", Bug::ALL))
}

impl Arguments {
    fn setup(&self, seed: u64, protocol: Protocol) -> Setup {
        let between = match self.shards {
            Some(0) => Between::Nothing,
            Some(count) => Between::Shards(count),
            None => Setup::of(seed).between,
        };
        Setup {
            protocol,
            between,
            is_harsh: !self.mild,
            bug: self.bug,
            is_printed: self.trace,
        }
    }
}

/// Every so many seeds one is run twice, to see that it takes the same steps.
const REPEAT_EVERY: u64 = 20;

/// What a thread that has no seed is said to run.
const NO_SEED: u64 = u64::MAX;

/// How often the watch looks.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// A seed that runs for so long is named.
const LONG: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None if arguments.forever => (arguments.from, u64::MAX - arguments.from),
        None => (arguments.from, arguments.seeds),
    };
    let begun = Instant::now();
    let totals = run_all(&arguments, first, count);
    println!(
        "{} seeds, {} failed, {} requests, {} excused, {} steps, {:.1} s",
        totals.seeds.into_inner(),
        totals.failed.load(Ordering::Relaxed),
        totals.answered.into_inner(),
        totals.excused.into_inner(),
        totals.steps.into_inner(),
        begun.elapsed().as_secs_f64(),
    );
    if totals.failed.into_inner() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Debug, Default)]
struct Totals {
    seeds: AtomicU64,
    failed: AtomicU64,
    answered: AtomicU64,
    excused: AtomicU64,
    steps: AtomicU64,
}

fn run_all(arguments: &Arguments, first: u64, count: u64) -> Totals {
    let totals = Totals::default();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let current: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(NO_SEED)).collect();
    let begin = |current: &AtomicU64| {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let goes_on = place < count && !stop.load(Ordering::Relaxed);
        current.store(
            if goes_on { first + place } else { NO_SEED },
            Ordering::Relaxed,
        );
        goes_on.then_some(first + place)
    };
    std::thread::scope(|scope| {
        for current in &current {
            let (begin, totals, stop) = (&begin, &totals, &stop);
            scope.spawn(move || {
                while let Some(seed) = begin(current) {
                    if !run_one(arguments, seed, totals) && !arguments.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        watch(&current);
    });
    totals
}

/// Names the seeds that run for long: an endless loop inside the core ends no other way.
fn watch(current: &[AtomicU64]) {
    let seeds = || -> Vec<u64> {
        current
            .iter()
            .map(|seed| seed.load(Ordering::Relaxed))
            .collect()
    };
    let mut since: Vec<(u64, Instant)> = seeds()
        .into_iter()
        .map(|seed| (seed, Instant::now()))
        .collect();
    std::thread::sleep(WATCH_EVERY);
    while seeds().iter().any(|&seed| seed != NO_SEED) {
        for (seed, (seen, begun)) in seeds().into_iter().zip(&mut since) {
            if seed != *seen {
                (*seen, *begun) = (seed, Instant::now());
            } else if seed != NO_SEED && begun.elapsed() > LONG {
                println!("SEED={seed} has been running for {:?}", begun.elapsed());
                *begun = Instant::now();
            }
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn run_one(arguments: &Arguments, seed: u64, totals: &Totals) -> bool {
    totals.seeds.fetch_add(1, Ordering::Relaxed);
    let mut all_held = true;
    for &protocol in arguments.protocol.protocols() {
        all_held &= run_with(arguments, seed, protocol, totals);
    }
    all_held
}

fn run_with(arguments: &Arguments, seed: u64, protocol: Protocol, totals: &Totals) -> bool {
    match run_checked(arguments, seed, protocol) {
        Ok(report) => {
            totals
                .answered
                .fetch_add(report.answered, Ordering::Relaxed);
            totals.excused.fetch_add(report.excused, Ordering::Relaxed);
            totals.steps.fetch_add(report.steps, Ordering::Relaxed);
            if arguments.seed.is_some() {
                println!("{report:?}");
            }
            true
        }
        Err(failure) => {
            totals.failed.fetch_add(1, Ordering::Relaxed);
            let shards = arguments
                .shards
                .map_or(String::new(), |count| format!(" --shards {count}"));
            let bug = arguments
                .bug
                .map_or(String::new(), |bug| format!(" --bug {bug:?}"));
            let mild = if arguments.mild { " --mild" } else { "" };
            let spoken = match protocol {
                Protocol::Postgres => "postgres",
                Protocol::Redis => "redis",
            };
            println!(
                "{failure}\n  cargo run --release -p manifold-tests --bin simulate -- \
                 --protocol {spoken} --seed {seed}{shards}{mild}{bug} --trace"
            );
            false
        }
    }
}

/// Runs a seed, some of them twice.
fn run_checked(arguments: &Arguments, seed: u64, protocol: Protocol) -> Result<Report, Failure> {
    let setup = arguments.setup(seed, protocol);
    let report = simulate(seed, setup)?;
    if seed.is_multiple_of(REPEAT_EVERY) && arguments.seed.is_none() {
        let again = simulate(
            seed,
            Setup {
                is_printed: false,
                ..setup
            },
        )?;
        if again != report {
            let violation = format!("I12: {:x} and then {:x}", report.hash, again.hash);
            return Err(Failure {
                seed,
                violation,
                steps: again.steps,
            });
        }
    }
    Ok(report)
}

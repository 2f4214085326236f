//! Runs seeds of the simulator: `simulate --seeds 1000`, or one with `--seed S --trace`.
//!
//! Knows the command line and nothing of the simulation. A failure prints its seed and the command
//! that has it again.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use manifold_tests::simulator::{Between, Failure, Report, simulate};

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
}

/// Every so many seeds one is run twice, to see that it takes the same steps.
const REPEAT_EVERY: u64 = 20;

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
    std::thread::scope(|scope| {
        for _ in 0..threads.min(usize::try_from(count).unwrap_or(threads)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count {
                        return;
                    }
                    let held = run_one(arguments, first + place, &totals);
                    if !held && !arguments.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    totals
}

fn run_one(arguments: &Arguments, seed: u64, totals: &Totals) -> bool {
    totals.seeds.fetch_add(1, Ordering::Relaxed);
    match run_checked(arguments, seed) {
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
            println!(
                "{failure}\n  cargo run --release -p manifold-tests --bin simulate -- \
                 --seed {seed}{shards} --trace"
            );
            false
        }
    }
}

/// Runs a seed, some of them twice.
fn run_checked(arguments: &Arguments, seed: u64) -> Result<Report, Failure> {
    let between = match arguments.shards {
        Some(0) => Between::Nothing,
        Some(count) => Between::Shards(count),
        None => Between::Shards(1 + (seed % 3) as u32),
    };
    let report = simulate(seed, between, arguments.trace)?;
    if seed.is_multiple_of(REPEAT_EVERY) && arguments.seed.is_none() {
        let again = simulate(seed, between, false)?;
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

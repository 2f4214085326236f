//! Random Redis sessions against private connections: `redis_differential --seconds 600 --seed 1`.
//!
//! Knows the command line and nothing of the sessions. A difference prints what has it again, and
//! the exit code is 1.

use std::process::ExitCode;

use clap::Parser;
use manifold_tests::differential::run::{Options, run};

/// Random Redis sessions, direct and through the proxy: what they see has to be the same.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What everything follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many troupes of two or three sessions play at once.
    #[arg(long, default_value_t = 24)]
    troupes: usize,
    /// Only the troupe of this number, again and again.
    #[arg(long)]
    only: Option<u64>,
    /// Only the round of this number, again and again.
    #[arg(long)]
    round: Option<u64>,
    /// Some rounds with nodes that want a password from everybody.
    #[arg(long)]
    passwords: bool,
    /// The proxy's node is never broken.
    #[arg(long)]
    peaceful: bool,
    /// Go on after a difference, and print of each only what it is.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        seconds: arguments.seconds,
        seed: arguments.seed,
        troupes: arguments.troupes,
        only: arguments.only,
        round: arguments.round,
        has_passwords: arguments.passwords,
        is_peaceful: arguments.peaceful,
        keeps_going: arguments.keep_going,
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(difference) => {
            println!("{difference}");
            ExitCode::FAILURE
        }
    }
}

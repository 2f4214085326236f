//! The benchmark's own generator as a program, so that its processor time can be told apart.

use clap::Parser;
use manifold_tests::bench::traffic::run::{Settings, run};

fn main() -> std::io::Result<()> {
    run(&Settings::parse())
}

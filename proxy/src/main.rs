//! The binary `manifold`.

use std::process::ExitCode;

fn main() -> ExitCode {
    manifold::command::run()
}

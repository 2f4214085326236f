//! Runs the benchmark's own generator as a process and reads the clocks of the others at the
//! moments between which it measures.

use std::process::Command;
use std::time::Duration;

use super::cost::tree_cpu_us;
use super::sample::{Cost, Sample};
use super::systems::{KEYS, Running, program};
use crate::harness::Node;
use crate::harness::process::{Folder, Process, wait_for};

/// How the generator is run.
#[derive(Clone, Debug)]
pub struct Generator {
    /// What the clients do, as the program names it.
    pub mode: &'static str,
    /// How many clients.
    pub clients: u32,
    /// How long it measures.
    pub time: Duration,
    /// More arguments.
    pub more: Vec<String>,
}

/// A generator under way.
pub struct Started {
    /// The process.
    process: Process,
    /// Where its output is.
    _folder: Folder,
}

impl Generator {
    /// One run against a system, with something to do while it measures.
    pub fn run(&self, running: &Running, node: &Node, mut meanwhile: impl FnMut()) -> Sample {
        let mut started = self.start(running);
        if !started.reaches("begin") {
            return started.failure();
        }
        let before = started.cost(running, node);
        let ends = wait_for(self.time + Duration::from_secs(30), || {
            meanwhile();
            started.has_printed("end").then_some(())
        });
        let cost = started.cost(running, node).since(before);
        let exit = started.process.wait(Duration::from_secs(30));
        if ends.is_none() || !exit.is_some_and(|status| status.success()) {
            return started.failure();
        }
        read_sample(&started.process.output(), cost)
    }

    /// Starts it.
    pub fn start(&self, running: &Running) -> Started {
        let folder = Folder::new("generate");
        let mut command = Command::new(program("generate"));
        command
            .arg("--address")
            .arg(running.address().to_string())
            .args(["--mode", self.mode, "--clients", &self.clients.to_string()])
            .args(["--seconds", &self.time.as_secs().to_string()])
            .args(["--keys", &KEYS.to_string()])
            .args(&self.more);
        let process = Process::spawn(command, "generate", &folder.join("output"));
        Started {
            process,
            _folder: folder,
        }
    }
}

impl Started {
    /// Waits until it has printed a line.
    pub fn reaches(&mut self, line: &str) -> bool {
        let reached = wait_for(Duration::from_secs(120), || {
            if self.has_printed(line) {
                return Some(true);
            }
            self.process.poll().map(|_| false)
        });
        reached.unwrap_or(false)
    }

    /// A sample that says what went wrong.
    pub fn failure(&self) -> Sample {
        let output = self.process.output();
        let line = output.lines().find(|line| line.contains("rror"));
        Sample {
            errors: 1.0,
            error: Some(
                line.unwrap_or("the generator did not end in time")
                    .to_owned(),
            ),
            ..Sample::default()
        }
    }

    /// Whether a line is there.
    fn has_printed(&self, line: &str) -> bool {
        self.process.output().lines().any(|found| found == line)
    }

    /// What everybody has cost so far.
    fn cost(&self, running: &Running, node: &Node) -> Cost {
        Cost {
            generator_us: tree_cpu_us(self.process.pid()),
            ..running.cost(node)
        }
    }
}

/// Reads the results.
fn read_sample(output: &str, cost: Cost) -> Sample {
    let text = |name: &str| {
        let mut lines = output.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
    let requests = number("requests").unwrap_or(0);
    let time = Duration::from_micros(number("time_us").unwrap_or(0));
    let mut sample = Sample {
        p50_us: number("p50_us").unwrap_or(0) as f64,
        p99_us: number("p99_us").unwrap_or(0) as f64,
        longest_us: number("longest_us").unwrap_or(0) as f64,
        errors: number("errors").unwrap_or(0) as f64,
        error: text("error").map(str::to_owned),
        ..Sample::default()
    };
    sample.set_rate(requests, time);
    sample.set_cost(requests, cost);
    sample
}

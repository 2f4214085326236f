//! Runs pgbench and reads what it prints and logs.
//!
//! Percentiles come from its log of single transactions, thinned out so that writing it does not
//! count. Processor times count from the first report of progress on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::cost::tree_cpu_us;
use super::sample::{Cost, Sample};
use super::systems::Running;
use crate::harness::process::{Folder, Process, wait_for};
use crate::harness::{Node, node};

/// How pgbench is run.
#[derive(Clone, Debug)]
pub struct Pgbench {
    /// Its script: `-S` for single reads, `-b tpcb-like` for transactions.
    pub script: &'static [&'static str],
    /// Its query mode.
    pub mode: &'static str,
    /// How many clients.
    pub clients: u32,
    /// How many threads.
    pub jobs: u32,
    /// How long.
    pub time: Duration,
}

/// Roughly how many log lines a run should write for each second.
const LOG_LINES_PER_SECOND: f64 = 8_000.0;

/// Clients that connect in a second at worst; pgbench's time runs while they do.
const CONNECTS_PER_SECOND: u64 = 500;

/// How long after the end the clocks are read.
const SETTLE: Duration = Duration::from_millis(200);

/// How the first of pgbench's lines begins that says how far it is.
const PROGRESS: &str = "progress: ";

impl Pgbench {
    /// One run against a system.
    pub fn run(&self, running: &Running, node: &Node) -> Sample {
        let folder = Folder::new("pgbench");
        let mut process = self.spawn(running, &folder);
        // Costs count from the first report of progress on, when everybody is connected.
        let has_begun = wait_for(self.time_max(), || {
            let has_ended = process.poll().is_some();
            (has_ended || process.output().contains(PROGRESS)).then_some(())
        });
        let before = Cost {
            generator_us: tree_cpu_us(process.pid()),
            ..running.cost(node)
        };
        let exit = has_begun.and_then(|()| process.wait(self.time_max()));
        let output = process.output();
        // Until PostgreSQL has waited for the processes of clients that have left.
        thread::sleep(SETTLE);
        let mut cost = running.cost(node);
        cost.generator_us = number_after(&output, "generator cpu us: ") as u64;
        let mut sample = read_sample(&output, folder.path());
        sample.set_cost(counted(&output), cost.since(before));
        if exit.is_none() {
            sample.errors = sample.errors.max(1.0);
            sample.error = Some("pgbench did not end".to_owned());
        }
        sample
    }

    /// Starts it.
    fn spawn(&self, running: &Running, folder: &Folder) -> Process {
        let clients = self.clients.to_string();
        let jobs = self.jobs.min(self.clients).to_string();
        let connecting = u64::from(self.clients) / CONNECTS_PER_SECOND;
        let seconds = (self.time.as_secs() + connecting).to_string();
        let rate = self.sampling_rate().to_string();
        let port = running.address().port().to_string();
        let mut command = Command::new("bash");
        command
            .args(["-c", TIMED, "pgbench"])
            .arg(node::bin("pgbench"))
            .args([
                "-n", "-P", "1", "-M", self.mode, "-c", &clients, "-j", &jobs,
            ])
            .args(["-T", &seconds, "-l", "--sampling-rate", &rate])
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port])
            .args(self.script)
            .arg("postgres")
            .current_dir(folder.path());
        Process::spawn(command, "pgbench", &folder.join("output"))
    }

    /// How long to wait for it.
    fn time_max(&self) -> Duration {
        self.time + Duration::from_secs(60)
    }

    /// The share of transactions that are logged, guessed so that percentiles of slow loads still
    /// have enough lines.
    fn sampling_rate(&self) -> f64 {
        let fast = self.script.contains(&"-S");
        let expected = if fast { 40_000.0 } else { 4_000.0 };
        let expected = if self.clients == 1 { 8_000.0 } else { expected };
        f64::min(1.0, LOG_LINES_PER_SECOND / expected)
    }
}

/// Runs its arguments and prints their processor time in microseconds.
const TIMED: &str = r#"
TIMEFORMAT='generator seconds: %U %S'
{ time "$@" 2>&1; } 2>times
cat times
awk '/^generator seconds/ { printf "generator cpu us: %d\n", ($3 + $4) * 1e6 }' times
"#;

/// Rate, latencies and errors.
fn read_sample(output: &str, folder: &Path) -> Sample {
    let latencies = latencies_us(folder);
    let mut sample = Sample {
        rate: number_after(output, "\ntps = "),
        p50_us: percentile(&latencies, 0.5),
        p99_us: percentile(&latencies, 0.99),
        longest_us: percentile(&latencies, 1.0),
        errors: number_after(output, "number of failed transactions: "),
        ..Sample::default()
    };
    if sample.rate == 0.0 || output.contains("aborted") || output.contains("rror:") {
        sample.errors = sample.errors.max(1.0);
        let line = output.lines().find(|line| line.contains("rror"));
        sample.error = Some(line.unwrap_or("pgbench did nothing").to_owned());
    }
    sample
}

/// The queries after the first report of progress, "progress: 1.0 s, 20000.0 tps, …".
fn counted(output: &str) -> u64 {
    let all = number_after(output, "number of transactions actually processed: ");
    let seconds = number_after(output, PROGRESS);
    let rate = number_after(output, " s, ");
    (all - seconds * rate).max(0.0) as u64
}

/// The number that follows a text, or zero.
fn number_after(output: &str, text: &str) -> f64 {
    let Some((_, rest)) = output.split_once(text) else {
        return 0.0;
    };
    let digits: String = rest
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    digits.parse().unwrap_or(0.0)
}

/// The third field of every log line of every thread, sorted.
fn latencies_us(folder: &Path) -> Vec<f64> {
    let mut all: Vec<f64> = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry
            .file_name()
            .to_string_lossy()
            .starts_with("pgbench_log")
        {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        all.extend(
            text.lines()
                .filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()),
        );
    }
    all.sort_by(f64::total_cmp);
    all
}

/// The value below which this share of a sorted list lies.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    sorted[(last as f64 * share).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_out_of_text() {
        let output = "number of transactions actually processed: 120/500\n\ntps = 12.5 (without)";
        assert_eq!(number_after(output, "actually processed: "), 120.0);
        assert_eq!(number_after(output, "\ntps = "), 12.5);
        assert_eq!(number_after(output, "missing "), 0.0);
    }

    #[test]
    fn counts_queries_after_first_progress() {
        let output = "progress: 1.0 s, 100.0 tps, lat 1\nprogress: 2.0 s, 9.0 tps\n\
            number of transactions actually processed: 350\n";
        assert_eq!(counted(output), 250);
    }

    #[test]
    fn takes_percentiles_of_sorted_values() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 99.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}

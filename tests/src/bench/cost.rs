//! What a process costs: processor time and resident memory, as /proc counts them.
//!
//! Knows nothing of what the process does. The kernel counts processor time in ticks of 10 ms, so a
//! difference over a second or more is good to one percent.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::process::{descendants, run};

/// Processor time of a process, of all that came from it and still run, and of those of its
/// children that it has waited for, in microseconds.
pub fn tree_cpu_us(pid: u32) -> u64 {
    let own = ticks(pid).map_or(0, |ticks| ticks.own + ticks.waited);
    let others: u64 = descendants(pid)
        .into_iter()
        .filter_map(|pid| ticks(pid).map(|ticks| ticks.own))
        .sum();
    (own + others) * tick_us()
}

/// Processor time of all processes that this one has started and that have ended, in microseconds.
pub fn ended_cpu_us() -> u64 {
    ticks(std::process::id()).map_or(0, |ticks| ticks.waited) * tick_us()
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Processor time of one process in ticks.
struct Ticks {
    /// In user mode and in the kernel.
    own: u64,
    /// Of children that it has waited for.
    waited: u64,
}

/// Reads the 14th to 17th field of the status line.
fn ticks(pid: u32) -> Option<Ticks> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything.
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Ticks {
        own: field(14)? + field(15)?,
        waited: field(16)? + field(17)?,
    })
}

/// How long a tick is.
fn tick_us() -> u64 {
    static TICK_US: OnceLock<u64> = OnceLock::new();
    *TICK_US.get_or_init(|| {
        let printed = run(Command::new("getconf").arg("CLK_TCK"));
        let per_second: u64 = String::from_utf8_lossy(&printed)
            .trim()
            .parse()
            .expect("a number of ticks");
        1_000_000 / per_second
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_cpu_of_this_process_while_it_works() {
        let before = tree_cpu_us(std::process::id());
        let mut sum = 0_u64;
        while tree_cpu_us(std::process::id()) < before + 3 * tick_us() {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(resident_kib(std::process::id()) > 500);
    }
}

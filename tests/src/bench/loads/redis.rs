//! Redis: what redis-benchmark measures with each system in front of one node.
//!
//! The node holds 100 000 keys of 64 bytes. How many requests make a run of the wanted time is
//! found by a short run before it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::catalog::NOISY;
use super::{Load, Row};
use crate::bench::cost::{ended_cpu_us, tree_cpu_us};
use crate::bench::options::Options;
use crate::bench::sample::{Cost, Sample};
use crate::bench::systems::{Running, Setup, System};
use crate::harness::resp::{command, request};
use crate::harness::{RedisNode, RedisOptions, Resp};

/// Keys on the node.
const KEYS: u64 = 100_000;

/// Bytes of a value.
const VALUE_BYTES: usize = 64;

/// What redis-benchmark is told.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark {
    /// GET or SET.
    pub test: &'static str,
    /// Requests that a client sends at once.
    pub depth: u32,
}

/// Starts Redis and fills it.
pub fn start_node() -> RedisNode {
    let node = RedisNode::start(&RedisOptions::with(&[
        "maxclients 20000",
        "tcp-backlog 4096",
        "hz 10",
    ]));
    let mut direct = node.direct();
    let value = [b'x'; VALUE_BYTES];
    for first in (0..KEYS).step_by(1_000) {
        let sets = (first..first + 1_000).flat_map(|number| {
            // As redis-benchmark names them.
            let key = format!("key:{number:012}");
            request(&[b"SET", key.as_bytes(), &value])
        });
        direct.send(&sets.collect::<Vec<u8>>());
        direct.replies(1_000);
    }
    node
}

/// All runs of a load, the systems taking turns.
pub fn run(load: &Load, rows: &[Row], options: &Options) -> Vec<Vec<Sample>> {
    let node = start_node();
    let setup = Setup::new(options);
    let mut systems: Vec<System> = rows.iter().map(|row| row.system).collect();
    systems.dedup();
    let start = |system: System| (system, Running::start_before_redis(system, &node, &setup));
    let shared: Vec<_> = match load.is_fresh() {
        true => Vec::new(),
        false => systems.into_iter().map(start).collect(),
    };
    let mut samples = vec![Vec::new(); rows.len()];
    for round in 1..=options.rounds() {
        for (row, samples) in rows.iter().zip(&mut samples) {
            let name = row.system.name();
            eprintln!("{} round {round}: {name} {}", load.name, row.variant);
            let sample = match shared.iter().find(|(system, _)| *system == row.system) {
                Some((_, running)) => run_once(load, *row, running, &node, options),
                None => run_once(load, *row, &start(row.system).1, &node, options),
            };
            samples.push(sample);
        }
    }
    samples
}

/// One run against one system.
fn run_once(
    load: &Load,
    row: Row,
    running: &Running,
    node: &RedisNode,
    options: &Options,
) -> Sample {
    let Some(benchmark) = load.benchmark() else {
        return measure_idle(load, running);
    };
    if row.variant != NOISY {
        return benchmark.run(load.clients, running, node, options);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let neighbour = repeat_keys(running.address(), Arc::clone(&stop));
    let sample = benchmark.run(load.clients, running, node, options);
    stop.store(true, Ordering::Relaxed);
    neighbour.join().expect("the neighbour does not panic");
    sample
}

/// A client that lists all keys until it is told to stop.
fn repeat_keys(address: SocketAddr, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut resp = Resp::open(address).expect("clients are accepted");
        while !stop.load(Ordering::Relaxed) {
            let reply = resp.ask("KEYS *");
            assert!(reply.starts_with(b"*100000\r\n"), "all keys are listed");
        }
    })
}

impl Benchmark {
    /// One run of the wanted length.
    fn run(&self, clients: u32, running: &Running, node: &RedisNode, options: &Options) -> Sample {
        let few = 20_000.max(u64::from(clients) * 8);
        let Some(first) = self.measure(clients, few, running.address()) else {
            return failure();
        };
        let requests = (first.rate * options.time().as_secs_f64()) as u64;
        let requests = requests.max(few);
        let before = cost(running, node);
        let Some(mut sample) = self.measure(clients, requests, running.address()) else {
            return failure();
        };
        sample.set_cost(requests, cost(running, node).since(before));
        sample
    }

    /// So many requests, and what redis-benchmark says of them.
    fn measure(&self, clients: u32, requests: u64, address: SocketAddr) -> Option<Sample> {
        let mut command = Command::new("redis-benchmark");
        command
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &address.port().to_string(),
                "--csv",
            ])
            .args(["-t", self.test, "-d", &VALUE_BYTES.to_string()])
            .args(["-c", &clients.to_string(), "-n", &requests.to_string()])
            .args(["-P", &self.depth.to_string(), "-r", &KEYS.to_string()]);
        let output = command.output().ok()?;
        read_sample(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Reads a line of redis-benchmark: test, requests per second, and latencies in milliseconds: mean,
/// least, median, 95th, 99th percentile, longest.
fn read_sample(output: &str) -> Option<Sample> {
    let line = output.lines().rfind(|line| line.starts_with('"'))?;
    let fields: Vec<f64> = line
        .split(',')
        .skip(1)
        .filter_map(|field| field.trim_matches('"').parse().ok())
        .collect();
    let [rate, _, _, p50, _, p99, longest] = fields[..] else {
        return None;
    };
    Some(Sample {
        rate,
        p50_us: p50 * 1e3,
        p99_us: p99 * 1e3,
        longest_us: longest * 1e3,
        ..Sample::default()
    })
}

/// A sample that says that there is none.
fn failure() -> Sample {
    Sample {
        errors: 1.0,
        error: Some("redis-benchmark did not come to its end".to_owned()),
        ..Sample::default()
    }
}

/// What the proxy, the node and all runs of redis-benchmark have cost so far.
fn cost(running: &Running, node: &RedisNode) -> Cost {
    Cost {
        proxy_us: running.pid().map_or(0, tree_cpu_us),
        node_us: tree_cpu_us(node.pid()),
        generator_us: ended_cpu_us(),
    }
}

/// Resident memory with all clients there, less what it was before, for each of them.
///
/// Before, some clients have worked and left, so that what the proxy keeps for work is not taken
/// for what it keeps for each client.
fn measure_idle(load: &Load, running: &Running) -> Sample {
    let work = Benchmark {
        test: "get",
        depth: 1,
    };
    if work.measure(50, 50_000, running.address()).is_none() {
        return failure();
    }
    thread::sleep(Duration::from_secs(1));
    let before = running.resident_kib();
    let mut clients: Vec<Resp> = (0..load.clients)
        .map(|_| Resp::open(running.address()).expect("clients are accepted"))
        .collect();
    // One after the other: what many at once need is kept for the next time, up to a bound, and
    // belongs to no client.
    for client in &mut clients {
        client.send(&command("GET key:000000000001"));
        client.reply();
    }
    thread::sleep(Duration::from_secs(2));
    let after = running.resident_kib();
    Sample {
        client_kib: after.saturating_sub(before) as f64 / f64::from(load.clients),
        ..Sample::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_redis_benchmark_prints() {
        let output = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\"\n\
                      \"GET\",\"1000.50\",\"0.2\",\"0.1\",\"0.25\",\"0.3\",\"0.5\",\"1.5\"\n";
        let sample = read_sample(output).expect("it is a result");
        assert_eq!((sample.rate, sample.p50_us), (1000.5, 250.0));
        assert_eq!((sample.p99_us, sample.longest_us), (500.0, 1500.0));
        assert!(read_sample("WARNING: nothing").is_none());
    }
}

//! The list of Redis's loads with their targets.

use super::catalog::{NOISY, QUIET, both, load, over, rate};
use super::redis::Benchmark;
use super::target::{Bound, Metric, Place, Target};
use super::{Kind, Load};
use crate::bench::systems::System;

use System::{Direct, EchoEpoll, EchoIoUring, Epoll, IoUring, Nutcracker};

/// GET, one request at a time.
const GET: Kind = Kind::Redis(Some(Benchmark {
    test: "get",
    depth: 1,
}));

/// SET, one request at a time.
const SET: Kind = Kind::Redis(Some(Benchmark {
    test: "set",
    depth: 1,
}));

/// GET, 16 requests at a time.
const PIPELINED_GET: Kind = Kind::Redis(Some(Benchmark {
    test: "get",
    depth: 16,
}));

/// SET, 16 requests at a time.
const PIPELINED_SET: Kind = Kind::Redis(Some(Benchmark {
    test: "set",
    depth: 16,
}));

/// All of Redis's loads, in the order in which they run.
pub fn all() -> Vec<Load> {
    let mut loads = plain();
    loads.extend(other());
    loads
}

/// Values of 64 bytes by more and more clients.
fn plain() -> Vec<Load> {
    let four = [Direct, Nutcracker, IoUring, Epoll];
    // What no proxy on this loop can exceed.
    let six = [Direct, Nutcracker, IoUring, Epoll, EchoIoUring, EchoEpoll];
    let proxy_cpu = over(Metric::ProxyCpu, IoUring, Nutcracker, Bound::AtMost(0.75));
    let node_cpu = over(Metric::NodeCpu, IoUring, Direct, Bound::AtMost(0.5));
    let few = || vec![rate(Direct, 1.2), rate(Nutcracker, 1.7)];
    let many = || vec![rate(Direct, 1.2), rate(Nutcracker, 1.5)];
    let costs = || [many(), vec![proxy_cpu, node_cpu]].concat();
    let one = |name, title, kind, clients, systems, targets| Load {
        targets,
        ..load(name, title, kind, clients, systems)
    };
    vec![
        one("redis-get-50", "GET, 64 bytes", GET, 50, &four, few()),
        one("redis-set-50", "SET, 64 bytes", SET, 50, &four, few()),
        one("redis-get-500", "GET, 64 bytes", GET, 500, &six, costs()),
        one("redis-set-500", "SET, 64 bytes", SET, 500, &six, costs()),
        one("redis-get-5000", "GET, 64 bytes", GET, 5_000, &six, many()),
        one("redis-set-5000", "SET, 64 bytes", SET, 5_000, &six, many()),
    ]
}

/// Pipelines, one client, neighbours, memory.
fn other() -> Vec<Load> {
    let four = [Direct, Nutcracker, IoUring, Epoll];
    let latency = over(Metric::P50, IoUring, Nutcracker, Bound::AtMost(1.0));
    let beside = |system| Place {
        variant: NOISY,
        ..Place::here(system)
    };
    let pipelined = |name, title, kind| Load {
        targets: vec![rate(Direct, 1.0)],
        ..load(name, title, kind, 50, &four)
    };
    vec![
        pipelined("redis-get-p16", "GET, 64 bytes, -P 16", PIPELINED_GET),
        pipelined("redis-set-p16", "SET, 64 bytes, -P 16", PIPELINED_SET),
        Load {
            targets: vec![latency],
            ..load("redis-one", "GET, 64 bytes", GET, 1, &four)
        },
        Load {
            rows: both(&[Direct, IoUring, Epoll], &[QUIET, NOISY]),
            targets: vec![Target {
                metric: Metric::P99,
                of: beside(IoUring),
                over: Some(beside(Direct)),
                bound: Bound::AtMost(1.0),
            }],
            note: "nutcracker: left out, it knows no KEYS",
            ..load(
                "redis-noise",
                "GET beside one that lists 100 000 keys",
                GET,
                50,
                &[],
            )
        },
        Load {
            targets: vec![Target {
                metric: Metric::ClientMemory,
                of: Place::here(IoUring),
                over: None,
                bound: Bound::AtMost(0.5),
            }],
            ..load(
                "redis-idle",
                "idle clients that have read one key",
                Kind::Redis(None),
                10_000,
                &[Nutcracker, IoUring, Epoll],
            )
        },
    ]
}

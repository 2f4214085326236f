//! The list of loads with their targets.

use super::target::{Bound, Metric, Place, Target};
use super::{Kind, Load, Row, redis_catalog};
use crate::bench::systems::System;

use System::{Direct, EchoEpoll, EchoIoUring, Epoll, IoUring, PgBouncer};

/// pgbench's single reads with prepared statements.
const PREPARED: Kind = Kind::Pgbench {
    script: &["-S"],
    mode: "prepared",
};

/// pgbench's single reads as plain text.
const SIMPLE: Kind = Kind::Pgbench {
    script: &["-S"],
    mode: "simple",
};

/// pgbench's transactions as plain text.
const TPCB: Kind = Kind::Pgbench {
    script: &["-b", "tpcb-like"],
    mode: "simple",
};

/// Single reads by the generator.
const GENERATED: Kind = Kind::Generated {
    mode: "select",
    parameters: &[],
};

/// Four sets of settings that applications use.
const SETTINGS: Kind = Kind::Generated {
    mode: "select",
    parameters: &[
        "search_path=public;TimeZone=UTC",
        "search_path=public,pg_catalog;TimeZone=Europe/Berlin",
        "search_path=pg_catalog,public;TimeZone=America/New_York",
        "TimeZone=Asia/Tokyo",
    ],
};

/// Clients without settings.
pub const PLAIN: &str = "";

/// Clients with four different sets of settings.
pub const FINGERPRINTS: &str = "4 fingerprints";

/// Fast readers alone.
pub const QUIET: &str = "alone";

/// Fast readers beside sleepers and lock waiters.
pub const NOISY: &str = "beside slow ones";

/// Idle clients that have only logged in.
pub const LOGGED_IN: &str = "logged in";

/// Idle clients that have run a prepared query.
pub const TOUCHED: &str = "after a query";

/// All loads, in the order in which they run.
pub fn all() -> Vec<Load> {
    let mut loads = prepared();
    loads.extend(generated());
    loads.extend(simple());
    loads.extend(other());
    loads.extend(redis_catalog::all());
    loads
}

/// Single reads with prepared statements.
fn prepared() -> Vec<Load> {
    let four = [Direct, PgBouncer, IoUring, Epoll];
    let epoll = over(Metric::Rate, Epoll, IoUring, Bound::AtLeast(0.75));
    let cpu = over(Metric::ProxyCpu, IoUring, PgBouncer, Bound::AtMost(0.28));
    vec![
        Load {
            targets: vec![rate(PgBouncer, 2.0), rate(Direct, 1.2), epoll],
            ..load(
                "prepared-10",
                "select-only, -M prepared",
                PREPARED,
                10,
                &four,
            )
        },
        Load {
            targets: vec![rate(PgBouncer, 2.5), rate(Direct, 1.5), cpu, epoll],
            ..load(
                "prepared-50",
                "select-only, -M prepared",
                PREPARED,
                50,
                &four,
            )
        },
        Load {
            targets: vec![rate(PgBouncer, 2.6), rate(Direct, 3.0), cpu, epoll],
            ..load(
                "prepared-500",
                "select-only, -M prepared",
                PREPARED,
                500,
                &four,
            )
        },
        Load {
            targets: vec![rate(PgBouncer, 2.5), cpu, epoll],
            ..load(
                "prepared-1000",
                "select-only, -M prepared",
                PREPARED,
                1_000,
                &four,
            )
        },
    ]
}

/// The generator, beside the bare echo.
fn generated() -> Vec<Load> {
    let five = [PgBouncer, IoUring, Epoll, EchoIoUring, EchoEpoll];
    let echo = |bound| over(Metric::ProxyCpu, IoUring, EchoIoUring, Bound::AtMost(bound));
    let title = "select-only, prepared, the bench's own generator";
    let growth = Target {
        metric: Metric::ProxyCpu,
        of: Place::here(IoUring),
        over: Some(Place {
            load: "generated-50",
            ..Place::here(IoUring)
        }),
        bound: Bound::AtMost(1.3),
    };
    vec![
        Load {
            targets: vec![echo(1.5)],
            ..load("generated-50", title, GENERATED, 50, &five)
        },
        Load {
            targets: vec![echo(1.4)],
            ..load("generated-500", title, GENERATED, 500, &five)
        },
        Load {
            targets: vec![rate(PgBouncer, 2.5), growth],
            note: "direct: left out, PostgreSQL would need 5 000 processes",
            ..load("generated-5000", title, GENERATED, 5_000, &five)
        },
    ]
}

/// Plain text, one client, transactions.
fn simple() -> Vec<Load> {
    let four = [Direct, PgBouncer, IoUring, Epoll];
    let latency = over(Metric::P50, IoUring, PgBouncer, Bound::AtMost(1.0));
    let tpcb_cpu = over(Metric::ProxyCpu, IoUring, PgBouncer, Bound::AtMost(0.6));
    vec![
        Load {
            targets: vec![rate(PgBouncer, 1.8), rate(Direct, 1.5)],
            ..load("simple-50", "select-only, -M simple", SIMPLE, 50, &four)
        },
        Load {
            targets: vec![rate(PgBouncer, 2.0), rate(Direct, 3.0)],
            ..load("simple-500", "select-only, -M simple", SIMPLE, 500, &four)
        },
        Load {
            targets: vec![latency],
            ..load("one-client", "select-only, -M prepared", PREPARED, 1, &four)
        },
        Load {
            targets: vec![rate(PgBouncer, 1.1), tpcb_cpu],
            ..load("tpcb-50", "TPC-B transactions, -M simple", TPCB, 50, &four)
        },
    ]
}

/// Neighbours, memory, settings, drivers, few connections.
fn other() -> Vec<Load> {
    vec![
        Load {
            rows: both(&[Direct, PgBouncer, IoUring, Epoll], &[QUIET, NOISY]),
            targets: vec![pair(Metric::P99, IoUring, NOISY, QUIET, Bound::AtMost(1.5))],
            ..load(
                "noise",
                "fast readers beside 4 that sleep and 4 that wait for a row lock",
                Kind::Noise,
                50,
                &[],
            )
        },
        Load {
            rows: both(&[PgBouncer, IoUring, Epoll], &[LOGGED_IN, TOUCHED]),
            targets: vec![memory(IoUring, LOGGED_IN), memory(IoUring, TOUCHED)],
            ..load("idle", "idle logged-in clients", Kind::Idle, 10_000, &[])
        },
        Load {
            rows: both(&[IoUring, Epoll], &[PLAIN, FINGERPRINTS]),
            targets: vec![pair(
                Metric::Rate,
                IoUring,
                FINGERPRINTS,
                PLAIN,
                Bound::AtLeast(0.9),
            )],
            ..load("settings", "clients in 4 fingerprints", SETTINGS, 50, &[])
        },
        Load {
            targets: vec![
                rate(PgBouncer, 1.1),
                alone(Metric::Longest, IoUring, Bound::AtMost(1.0)),
                alone(Metric::Errors, IoUring, Bound::AtMost(0.0)),
            ],
            ..load(
                "drivers",
                "what drivers and object mappers send",
                Kind::Generated {
                    mode: "application",
                    parameters: &[],
                },
                100,
                &[Direct, PgBouncer, IoUring, Epoll],
            )
        },
        Load {
            targets: vec![
                alone(Metric::Connections, IoUring, Bound::AtMost(4.0)),
                alone(Metric::Longest, IoUring, Bound::AtMost(1.0)),
                alone(Metric::Errors, IoUring, Bound::AtMost(0.0)),
            ],
            ..load(
                "shards",
                "shards = 8, connections_max = 4, 5 users",
                Kind::Shards,
                200,
                &[IoUring, Epoll],
            )
        },
    ]
}

/// A load without targets.
pub(super) fn load(
    name: &'static str,
    title: &'static str,
    kind: Kind,
    clients: u32,
    systems: &[System],
) -> Load {
    Load {
        name,
        title,
        kind,
        clients,
        rows: both(systems, &[""]),
        targets: Vec::new(),
        note: "",
    }
}

/// Every system in every way.
pub(super) fn both(systems: &[System], variants: &[&'static str]) -> Vec<Row> {
    let rows = systems.iter().flat_map(|system| {
        variants.iter().map(|variant| Row {
            system: *system,
            variant,
        })
    });
    rows.collect()
}

/// manifold's throughput over another's.
pub(super) fn rate(system: System, bound: f64) -> Target {
    over(Metric::Rate, IoUring, system, Bound::AtLeast(bound))
}

/// One system's number over another's.
pub(super) fn over(metric: Metric, of: System, over: System, bound: Bound) -> Target {
    Target {
        metric,
        of: Place::here(of),
        over: Some(Place::here(over)),
        bound,
    }
}

/// A number by itself.
fn alone(metric: Metric, system: System, bound: Bound) -> Target {
    Target {
        metric,
        of: Place::here(system),
        over: None,
        bound,
    }
}

/// One way over the other.
fn pair(
    metric: Metric,
    system: System,
    of: &'static str,
    over: &'static str,
    bound: Bound,
) -> Target {
    let place = |variant| Place {
        variant,
        ..Place::here(system)
    };
    Target {
        metric,
        of: place(of),
        over: Some(place(over)),
        bound,
    }
}

/// The memory of an idle client.
fn memory(system: System, variant: &'static str) -> Target {
    Target {
        metric: Metric::ClientMemory,
        of: Place {
            variant,
            ..Place::here(system)
        },
        over: None,
        bound: Bound::AtMost(0.7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_load_once_and_each_target_of_a_row_that_is_measured() {
        let loads = all();
        for load in &loads {
            let same = loads.iter().filter(|other| other.name == load.name);
            assert_eq!(same.count(), 1, "{}", load.name);
            for target in &load.targets {
                for place in [Some(target.of), target.over].into_iter().flatten() {
                    let name = if place.load.is_empty() {
                        load.name
                    } else {
                        place.load
                    };
                    let there = loads.iter().any(|other| {
                        other.name == name
                            && other.rows.iter().any(|row| {
                                row.system == place.system && row.variant == place.variant
                            })
                    });
                    assert!(there, "{}: {}", load.name, target.text());
                }
            }
        }
    }
}

//! Prints what was measured: one table for each load, and the targets with what became of them.

use super::loads::{Kind, Load, Row, Target};
use super::sample::Sample;
use super::systems::System;

/// A row with the middle of its runs.
pub type Line = (Row, Sample);

/// Prints the table of one load.
pub fn print_load(load: &Load, lines: &[Line], rounds: u32, seconds: u64) {
    println!();
    println!(
        "{}: {}, {} clients ({rounds} x {seconds} s, medians)",
        load.name, load.title, load.clients
    );
    if load.is_memory() {
        print_memory(lines);
    } else {
        print_rates(load, lines);
    }
    for (row, sample) in lines {
        if let Some(error) = &sample.error {
            let errors = sample.errors;
            println!(
                "  ! {} {}: {errors} errors: {error}",
                row.system.name(),
                row.variant
            );
        }
    }
    if !load.note.is_empty() {
        println!("  {}", load.note);
    }
}

/// Prints one target and says whether it is reached.
pub fn print_target(target: &Target, value: Option<f64>) {
    let (shown, verdict) = match value {
        Some(value) if target.is_met(value) => (format!("{value:.2}"), "ok"),
        Some(value) => (format!("{value:.2}"), "SHORT"),
        None => ("-".to_owned(), "not measured"),
    };
    println!("  {verdict:<12} {shown:>8}  {}", target.text());
}

/// Throughput, latency and processor time.
fn print_rates(load: &Load, lines: &[Line]) {
    let has_connections = matches!(load.kind, Kind::Shards);
    let (peer, peer_title) = match load.is_redis() {
        true => (System::Nutcracker, "x nutcracker"),
        false => (System::PgBouncer, "x pgbouncer"),
    };
    println!(
        "  {:<36} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12}{}",
        "",
        "per s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "proxy us",
        "node us",
        "load us",
        "x direct",
        peer_title,
        if has_connections { " connections" } else { "" },
    );
    let rate_of = |system: System, variant: &str| {
        let found = lines
            .iter()
            .find(|(row, _)| row.system == system && row.variant == variant);
        found.map(|(_, sample)| sample.rate)
    };
    for (row, sample) in lines {
        let ratio = |other: System| match rate_of(other, row.variant) {
            Some(rate) if rate > 0.0 && !row.system.is_echo() => {
                format!("{:.2}", sample.rate / rate)
            }
            _ => "-".to_owned(),
        };
        println!(
            "  {:<36} {:>9.0} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12}{}",
            name(*row),
            sample.rate,
            milliseconds(sample.p50_us),
            milliseconds(sample.p99_us),
            milliseconds(sample.longest_us),
            microseconds(sample.proxy_us),
            microseconds(sample.node_us),
            microseconds(sample.generator_us),
            ratio(System::Direct),
            ratio(peer),
            if has_connections {
                format!(" {:>11.0}", sample.connections)
            } else {
                String::new()
            },
        );
    }
}

/// Memory only.
fn print_memory(lines: &[Line]) {
    println!("  {:<36} {:>14}", "", "KiB per client");
    for (row, sample) in lines {
        println!("  {:<36} {:>14.2}", name(*row), sample.client_kib);
    }
}

/// The first column.
fn name(row: Row) -> String {
    if row.variant.is_empty() {
        return row.system.name().to_owned();
    }
    format!("{}, {}", row.system.name(), row.variant)
}

/// A latency, or a dash where there was none.
fn milliseconds(us: f64) -> String {
    if us == 0.0 {
        return "-".to_owned();
    }
    format!("{:.2}", us / 1e3)
}

/// A processor time, or a dash where there was none.
fn microseconds(us: f64) -> String {
    if us == 0.0 {
        return "-".to_owned();
    }
    format!("{us:.1}")
}

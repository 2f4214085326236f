//! The benchmark: starts nodes, PgBouncer or nutcracker, and manifold, lets them take turns under every load,
//! and prints the tables. `tests/bench` builds what it needs and runs it.

use clap::Parser;
use manifold_tests::bench::loads::{Kind, Load, Place, Row, catalog, redis, shards};
use manifold_tests::bench::options::Options;
use manifold_tests::bench::sample::{Sample, middle};
use manifold_tests::bench::systems::{Running, System, start_node};
use manifold_tests::bench::table::{Line, print_load, print_target};
use manifold_tests::bench::traffic::application;
use manifold_tests::harness::Node;

fn main() {
    let options = Options::parse();
    let loads = catalog::all();
    if options.list {
        list(&loads);
        return;
    }
    let wanted: Vec<_> = loads
        .iter()
        .filter(|load| options.wants_load(load.name))
        .collect();
    assert!(!wanted.is_empty(), "no such load; --list names them");
    let needs_node = wanted.iter().any(|load| !load.is_redis());
    let node = needs_node.then(|| start_node(&options));
    node.iter().for_each(shards::prepare);
    let mut results: Vec<(&Load, Vec<Line>)> = Vec::new();
    for load in wanted {
        let rows = load.rows.iter().copied();
        let rows: Vec<Row> = rows
            .filter(|row| options.wants_system(row.system.name()))
            .collect();
        let samples = match &node {
            Some(node) if !load.is_redis() => run(load, &rows, node, &options),
            _ => redis::run(load, &rows, &options),
        };
        let middles = samples.iter().map(|samples| middle(samples));
        let lines: Vec<Line> = rows.into_iter().zip(middles).collect();
        print_load(load, &lines, options.rounds(), options.time().as_secs());
        results.push((load, lines));
        for target in &load.targets {
            print_target(target, target.value(|place| find(&results, load, place)));
        }
    }
    summarize(&results);
}

/// All runs of a load, the systems taking turns.
fn run(load: &Load, rows: &[Row], node: &Node, options: &Options) -> Vec<Vec<Sample>> {
    if let Kind::Generated {
        mode: "application",
        ..
    } = load.kind
    {
        node.execute(application::SCHEMA);
    }
    let setup = load.setup(options);
    let mut systems: Vec<System> = rows.iter().map(|row| row.system).collect();
    systems.dedup();
    let start = |system: System| (system, Running::start(system, node, &setup));
    let shared: Vec<(System, Running)> = match load.is_fresh() {
        true => Vec::new(),
        false => systems.into_iter().map(start).collect(),
    };
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); rows.len()];
    for round in 1..=options.rounds() {
        for (row, samples) in rows.iter().zip(&mut samples) {
            eprintln!(
                "{} round {round}: {} {}",
                load.name,
                row.system.name(),
                row.variant
            );
            let sample = match shared.iter().find(|(system, _)| *system == row.system) {
                Some((_, running)) => load.run(*row, running, node, options),
                None => load.run(*row, &start(row.system).1, node, options),
            };
            samples.push(sample);
        }
    }
    samples
}

/// The sample of a place, as seen from a load.
fn find(results: &[(&Load, Vec<Line>)], from: &Load, place: &Place) -> Option<Sample> {
    let name = if place.load.is_empty() {
        from.name
    } else {
        place.load
    };
    let (_, lines) = results.iter().find(|(load, _)| load.name == name)?;
    let line = lines
        .iter()
        .find(|(row, _)| row.system == place.system && row.variant == place.variant);
    line.map(|(_, sample)| sample.clone())
}

/// How many targets are reached, and which are not.
fn summarize(results: &[(&Load, Vec<Line>)]) {
    let mut met = 0;
    let mut short = Vec::new();
    for (load, _) in results {
        for target in &load.targets {
            match target.value(|place| find(results, load, place)) {
                Some(value) if target.is_met(value) => met += 1,
                value => short.push((load, target, value)),
            }
        }
    }
    println!("\n{met} targets reached, {} not:", short.len());
    for (load, target, value) in short {
        let value = value.map_or("not measured".to_owned(), |value| format!("{value:.2}"));
        println!("  {}: {}: {value}", load.name, target.text());
    }
}

/// Prints the catalog.
fn list(loads: &[Load]) {
    for load in loads {
        println!("{:<15} {}, {} clients", load.name, load.title, load.clients);
        for target in &load.targets {
            println!("{:<15}   {}", "", target.text());
        }
    }
}

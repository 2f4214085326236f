//! The command line: `manifold serve`, `manifold check`, `manifold --version`.
//!
//! Knows how words become options and what is printed; what is done is in `serve` and `config`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use manifold_drivers::Wanted;

use crate::config::{Config, DRIVER_WORDS, LOG_WORDS, Log, Options, Problem, Severity};
use crate::serve;

/// What went wrong was the configuration.
const EXIT_CONFIG: u8 = 1;

/// A proxy that multiplexes database sessions onto a few pipelined connections.
#[derive(Debug, Parser)]
#[command(name = "manifold", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what a configuration file or options describe.
    Serve(Serve),
    /// Say what is wrong with a configuration file.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Serve {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["postgres", "redis"])]
    config: Option<PathBuf>,
    /// A service without a file; may be repeated.
    #[arg(long, value_name = "LISTEN=HOST:PORT")]
    postgres: Vec<String>,
    /// A Redis service without a file; may be repeated.
    #[arg(long, value_name = "LISTEN=HOST:PORT")]
    redis: Vec<String>,
    /// How many threads carry clients; one per core by default.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    shards: Option<u32>,
    /// What sockets are driven with: auto, io_uring or epoll.
    #[arg(long, value_parser = |word: &str| parse_word(word, &DRIVER_WORDS))]
    driver: Option<Wanted>,
    /// Connections to the node of each service, all shards together.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    connections_max: Option<u32>,
    /// How much is logged: error, warn, info or debug.
    #[arg(long, value_parser = |word: &str| parse_word(word, &LOG_WORDS))]
    log: Option<Log>,
}

/// Does what the command line of this process says.
pub fn run() -> ExitCode {
    match CommandLine::parse().command {
        Command::Serve(options) => serve::serve(options.into()),
        Command::Check { config } => check(config),
    }
}

impl From<Serve> for Options {
    fn from(serve: Serve) -> Self {
        Self {
            config: serve.config,
            postgres: serve.postgres,
            redis: serve.redis,
            shards: serve.shards,
            driver: serve.driver,
            connections_max: serve.connections_max,
            log: serve.log,
        }
    }
}

fn parse_word<T: Copy>(word: &str, words: &[(&str, T)]) -> Result<T, String> {
    let all = || {
        words
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = words.iter().find(|(known, _)| *known == word);
    found
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| format!("it is one of {}", all()))
}

/// Prints what is wrong, or what would be served.
fn check(file: PathBuf) -> ExitCode {
    let options = Options {
        config: Some(file),
        ..Options::default()
    };
    let (config, problems) = options.load();
    print_problems(&problems, None);
    let Some(config) = config else {
        return ExitCode::from(EXIT_CONFIG);
    };
    println!("{}", summary(&config));
    ExitCode::SUCCESS
}

/// Prints problems on standard output, those of one severity if one is named.
fn print_problems(problems: &[Problem], severity: Option<Severity>) {
    let wanted = |problem: &&Problem| severity.is_none_or(|wanted| wanted == problem.severity);
    problems
        .iter()
        .filter(wanted)
        .for_each(|problem| println!("{problem}"));
}

/// What would be served, one line each.
fn summary(config: &Config) -> String {
    let mut lines = vec![format!(
        "the configuration is good: at most {} shards",
        config.shards
    )];
    for service in &config.services {
        let listen: Vec<_> = service
            .listen
            .iter()
            .map(|listen| listen.value.to_string())
            .collect();
        lines.push(format!(
            "service {:?}: {} -> {}, at most {} connections",
            service.name,
            listen.join(", "),
            service.upstream,
            service.connections_max,
        ));
    }
    lines.join("\n")
}

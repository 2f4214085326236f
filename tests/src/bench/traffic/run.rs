//! One run of the generator: connect all clients, warm up, measure, tell.
//!
//! Prints `begin` and `end` around the measured time, so that whoever started it can read the
//! clocks of other processes at the same moments, then one `name=value` line per result.

use std::io::{Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::application::Application;
use super::client::{Client, Progress};
use super::login::{connect, exchange};
use super::script::Script;

/// Longest latency that the histogram holds, in microseconds; longer ones count as this.
const LATENCY_MAX_US: u64 = 600_000_000;

/// How long the clients stay connected after the end.
const SETTLE: Duration = Duration::from_millis(300);

/// What a client does, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Mode {
    /// What drivers and object mappers send.
    Application,
    /// Logged in and silent.
    Idle,
    /// Point reads by a named statement.
    Select,
    /// The bytes of `Select` without login or preparation, for the bare echo.
    Raw,
}

/// What a run is told.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "generate")]
pub struct Settings {
    /// Whom to load; loopback only.
    #[arg(long)]
    pub address: SocketAddr,
    /// How many clients.
    #[arg(long)]
    pub clients: u32,
    /// What they do.
    #[arg(long, value_enum)]
    pub mode: Mode,
    /// How long to measure.
    #[arg(long)]
    pub seconds: u64,
    /// How long to run before, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pub warm_up_ms: u64,
    /// The users, taken in turn.
    #[arg(long, value_delimiter = ',', default_value = "postgres")]
    pub users: Vec<String>,
    /// Startup parameters as `name=value;name=value`, one set for each occurrence, taken in turn.
    #[arg(long)]
    pub parameters: Vec<String>,
    /// The highest key of pgbench_accounts.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// One query of each idle client before it falls silent.
    #[arg(long)]
    pub touch: bool,
}

/// Everything that is measured.
struct Measured {
    /// Latencies in microseconds.
    latencies: Histogram<u64>,
    /// The longest latency in microseconds, and the number of the client that had it.
    longest: (u64, usize),
    /// Batches with an error among their answers.
    errors: u64,
    /// Whether the warm-up is over.
    is_measuring: bool,
}

/// Runs and prints.
pub fn run(settings: &Settings) -> Result<()> {
    assert!(settings.address.ip().is_loopback(), "loopback only");
    let mut poll = Poll::new()?;
    let mut clients = connect_all(settings, &poll)?;
    let mut measured = Measured {
        latencies: Histogram::new_with_max(LATENCY_MAX_US, 3).expect("valid bounds"),
        longest: (0, 0),
        errors: 0,
        is_measuring: false,
    };
    let now = Instant::now();
    for client in &mut clients {
        client.begin(now)?;
    }
    let warm_up = Duration::from_millis(settings.warm_up_ms);
    turn(&mut poll, &mut clients, &mut measured, warm_up)?;
    measured.is_measuring = true;
    say("begin")?;
    let begin = Instant::now();
    let time = Duration::from_secs(settings.seconds.min(120));
    turn(&mut poll, &mut clients, &mut measured, time)?;
    let seconds = begin.elapsed();
    say("end")?;
    tell(&clients, &measured, seconds)?;
    // Whoever reads the clocks of the others finds their processes still there.
    std::thread::sleep(SETTLE);
    Ok(())
}

/// Connects, logs in and prepares, one after another.
fn connect_all(settings: &Settings, poll: &Poll) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(settings.clients as usize);
    for number in 0..settings.clients {
        let script = script(settings, number);
        let mut stream = connect(settings.address, &parameters(settings, number))?;
        if settings.mode != Mode::Raw {
            let (requests, ready) = script.preparation();
            exchange(&mut stream, &requests, ready)?;
        }
        if settings.touch {
            touch(&mut stream, settings.keys)?;
        }
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let token = Token(number as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, token, interest)?;
        clients.push(Client::new(stream, script, u64::from(number)));
    }
    Ok(clients)
}

/// One prepared query of a client that then falls silent.
fn touch(stream: &mut TcpStream, keys: u64) -> Result<()> {
    let mut select = Script::Select { keys };
    let (mut requests, ready) = select.preparation();
    let mut random = super::script::Random::new(1);
    let more = select.append_next(&mut random, &mut requests);
    exchange(stream, &requests, ready + more)
}

/// What the client with this number does.
fn script(settings: &Settings, number: u32) -> Script {
    match settings.mode {
        Mode::Application => Script::Application(Application::new(number)),
        Mode::Idle => Script::Idle,
        Mode::Select | Mode::Raw => Script::Select {
            keys: settings.keys,
        },
    }
}

/// The startup parameters of the client with this number; none where nobody logs in.
fn parameters(settings: &Settings, number: u32) -> Vec<(String, String)> {
    if settings.mode == Mode::Raw {
        return Vec::new();
    }
    let user = &settings.users[number as usize % settings.users.len()];
    let mut all = vec![
        ("user".to_owned(), user.clone()),
        ("database".to_owned(), "postgres".to_owned()),
    ];
    if settings.mode == Mode::Application {
        all.extend(Application::parameters(number));
    }
    if !settings.parameters.is_empty() {
        let set = &settings.parameters[number as usize % settings.parameters.len()];
        let pairs = set.split(';').filter_map(|pair| pair.split_once('='));
        all.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    all
}

/// Lets all clients go round for a time.
fn turn(
    poll: &mut Poll,
    clients: &mut [Client],
    measured: &mut Measured,
    time: Duration,
) -> Result<()> {
    let deadline = Instant::now() + time;
    let mut events = Events::with_capacity(1024);
    let mut bytes = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        match poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let number = event.token().0;
            let client = &mut clients[number];
            if event.is_readable() {
                advance(number, client, measured, &mut bytes)?;
            } else if event.is_writable() {
                client.flush()?;
            }
        }
    }
}

/// Takes what came for a client and sends its next batch.
fn advance(
    number: usize,
    client: &mut Client,
    measured: &mut Measured,
    bytes: &mut [u8],
) -> Result<()> {
    match client.receive(bytes)? {
        Progress::None => Ok(()),
        Progress::Answered {
            latency_us,
            has_error,
        } => {
            if measured.is_measuring {
                measured.latencies.saturating_record(latency_us);
                measured.longest = measured.longest.max((latency_us, number));
                measured.errors += u64::from(has_error);
            }
            client.begin(Instant::now())
        }
        Progress::Closed => {
            measured.errors += 1;
            Ok(())
        }
    }
}

/// Prints the results.
fn tell(clients: &[Client], measured: &Measured, time: Duration) -> Result<()> {
    let now = Instant::now();
    let waiting = clients.iter().enumerate();
    let oldest = waiting
        .map(|(number, client)| (client.age_us(now), number))
        .max();
    let (longest_us, number) = measured.longest.max(oldest.unwrap_or_default());
    let latencies = &measured.latencies;
    say(&format!("requests={}", latencies.len()))?;
    say(&format!("time_us={}", time.as_micros()))?;
    say(&format!("p50_us={}", latencies.value_at_quantile(0.5)))?;
    say(&format!("p99_us={}", latencies.value_at_quantile(0.99)))?;
    say(&format!("longest_us={longest_us}"))?;
    say(&format!("longest_client={number}"))?;
    say(&format!("longest_batch={}", clients[number].describe()))?;
    say(&format!("errors={}", measured.errors))?;
    if let Some(client) = clients
        .iter()
        .find(|client| !client.error_text().is_empty())
    {
        say(&format!("error={}", client.error_text()))?;
    }
    Ok(())
}

/// One line, at once.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

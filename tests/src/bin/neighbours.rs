//! Noisy neighbours for the conformance run: sessions that change all they can, and leave.
//!
//! `neighbours ADDRESS USER DATABASE COUNT` runs until it is killed. Each neighbour logs in, sets
//! settings, prepares statements, makes temporary tables, takes advisory locks, listens, and goes,
//! politely or not; then it comes again. Whatever of that reaches another session is a fault of
//! what is in between.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use manifold_tests::harness::frames::{parse, query, sync, terminate};
use manifold_tests::harness::{Login, Target, Wire};

/// The pause after each step, so that the neighbours do not eat the processors.
const PAUSE: Duration = Duration::from_millis(4);

/// How long a neighbour waits for an answer before it goes: its requests may stand behind a lock
/// that a test holds.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What neighbours change, one life of a session each.
const LIVES: &[&[&str]] = &[
    &[
        "set search_path = ''",
        "set client_min_messages = error",
        "select 1",
        "prepare noise as select 1",
        "create temp table noise (v int)",
        "insert into noise values (1), (2)",
    ],
    &[
        "set search_path = pg_catalog, nowhere",
        "set DateStyle = 'SQL, DMY'",
        "set client_min_messages = debug1",
        "select pg_advisory_lock(987654321)",
        "select now()::text, '01/02/2024'::date",
        "select pg_advisory_unlock(987654321)",
        "listen noise",
    ],
    &[
        "set enable_seqscan = off",
        "set enable_hashjoin = off",
        "set enable_mergejoin = off",
        "set enable_nestloop = off",
        "set enable_sort = off",
        "set enable_hashagg = off",
        "set plan_cache_mode = force_generic_plan",
        "set work_mem = '64kB'",
        "select count(*) from pg_class",
    ],
    &[
        "set timezone = 'Asia/Kathmandu'",
        "set intervalstyle = 'iso_8601'",
        "set extra_float_digits = -5",
        "set bytea_output = 'escape'",
        "select now()::text, '1 day'::interval::text, 1.1::float8::text",
        "begin",
        "set local search_path = nowhere",
        "select 2",
        "commit",
        "select pg_try_advisory_lock_shared(1)",
    ],
    &[
        "set DateStyle = 'German'",
        "select set_config('search_path', 'nowhere', false)",
        "prepare noise (int) as select $1 + 1",
        "execute noise (1)",
        "declare noise cursor with hold for select 1",
        "listen regression",
        "discard all",
        "set client_min_messages = fatal",
    ],
    &[
        "set application_name = 'neighbour'",
        "set default_transaction_isolation = 'serializable'",
        "set default_transaction_read_only = on",
        "set row_security = off",
        "set standard_conforming_strings = off",
        "set check_function_bodies = off",
        "select 3",
        "reset all",
        "set constraint_exclusion = on",
    ],
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, database, count] = &arguments[..] else {
        eprintln!("usage: neighbours ADDRESS USER DATABASE COUNT");
        std::process::exit(2);
    };
    let address: SocketAddr = address.parse().expect("an address such as 127.0.0.1:5432");
    let count: usize = count.parse().expect("a count");
    let neighbours: Vec<_> = (0..count)
        .map(|number| {
            let login = Login::new(user, database);
            thread::spawn(move || live(number, &Target::Tcp(address), &login))
        })
        .collect();
    neighbours
        .into_iter()
        .for_each(|neighbour| neighbour.join().expect("a neighbour lives on"));
}

/// Life after life, each neighbour beginning with another one.
fn live(number: usize, target: &Target, login: &Login) {
    for life in number.. {
        if let Ok(mut wire) = Wire::login(target, login) {
            let whole = disturb(&mut wire, LIVES[life % LIVES.len()]);
            if whole && life % 3 != 0 {
                let _ = wire.try_send(&terminate());
            }
        }
        thread::sleep(PAUSE);
    }
}

/// One life; false if it ended before its time.
fn disturb(wire: &mut Wire, steps: &[&str]) -> bool {
    let named = [parse("noise_named", "select 'noise'", &[]), sync()].concat();
    step(wire, &named)
        && steps.iter().all(|text| {
            thread::sleep(PAUSE);
            step(wire, &query(text))
        })
}

/// One request; false if it was not answered in time or the connection ended.
fn step(wire: &mut Wire, bytes: &[u8]) -> bool {
    if wire.try_send(bytes).is_err() {
        return false;
    }
    loop {
        match wire.try_frame(ANSWER_MAX) {
            Ok(Some(frame)) if frame.tag == b'Z' => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

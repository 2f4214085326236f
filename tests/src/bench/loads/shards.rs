//! Few connections for many shards and users: the limit holds, and nobody starves.

use std::time::{Duration, Instant};

use super::Load;
use crate::bench::options::Options;
use crate::bench::sample::Sample;
use crate::bench::systems::{Running, Setup};
use crate::harness::Node;

/// How many users take turns.
const USERS: u32 = 5;

/// How often the node is asked who is connected.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Counts the connections of everybody but the one who asks.
const COUNT: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// More shards than connections, more users than connections.
pub fn setup() -> Setup {
    Setup {
        connections_max: 4,
        shards: 8,
        users: users(),
    }
}

/// Makes the users; they may read everything.
pub fn prepare(node: &Node) {
    for user in users() {
        node.execute(&format!(
            "DO $$ BEGIN CREATE ROLE {user} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
             GRANT pg_read_all_data TO {user}"
        ));
    }
}

/// One run, with the node asked all the time.
pub fn run(load: &Load, running: &Running, node: &Node, options: &Options) -> Sample {
    let more = vec!["--users".to_owned(), users().join(",")];
    let mut admin = node.admin("postgres");
    let mut most: u32 = 0;
    let mut asked_at = Instant::now();
    let mut sample = load
        .generator("select", more, options)
        .run(running, node, || {
            if asked_at.elapsed() >= ASK_EVERY {
                asked_at = Instant::now();
                most = most.max(admin.value(COUNT).parse().unwrap_or(u32::MAX));
            }
        });
    sample.connections = f64::from(most);
    sample
}

/// Their names.
fn users() -> Vec<String> {
    (1..=USERS).map(|number| format!("user_{number}")).collect()
}

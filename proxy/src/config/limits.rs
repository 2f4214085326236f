//! The `[limits]` table: every bound of the proxy under the name that its errors give it.
//!
//! Invariant: whatever comes out is usable, so that no shard has to ask again whether two bounds
//! contradict each other.

use std::time::Duration;

use manifold_core::limits::Limits;
use toml::de::DeTable;

use super::problem::{Place, Problems};
use super::section::{Section, Source};
use super::value::{Count, Size, Time};

/// The largest message that PostgreSQL knows, in bytes.
const MESSAGE_BYTES_MAX: usize = (1 << 30) - 1;

/// The smallest startup packet that leaves room for a user and a database, in bytes.
const STARTUP_BYTES_MIN: usize = 256;

/// The deepest pipe that is accepted: replies have to be told apart by counting.
const PIPE_DEPTH_MAX: usize = 65_536;

/// Every key of `[limits]`.
pub const KEYS: &[&str] = &[
    "clients_max",
    "startup_bytes_max",
    "login_time_max",
    "request_bytes_max",
    "whole_bytes_max",
    "message_bytes_max",
    "node_message_bytes_max",
    "output_high",
    "reply_bytes_max",
    "subscriber_bytes_max",
    "input_high",
    "pipe_depth_max",
    "upstream_output_high",
    "queue_wait_max",
    "hold_max",
    "connect_time_max",
    "upstream_statements_max",
    "client_statements_max",
    "texts_max",
    "texts_bytes_max",
    "upstream_idle_max",
    "identities_idle_max",
    "trust_memory",
    "stall_time",
];

/// Reads the table over the defaults.
pub fn read(source: &Source, table: &DeTable<'_>, place: Place, problems: &mut Problems) -> Limits {
    let mut limits = Limits::default();
    let mut reader = Reader {
        section: Section::new(source, table, "[limits]"),
        problems,
    };
    reader.number("clients_max", &mut limits.clients_max);
    reader.size("startup_bytes_max", &mut limits.startup_bytes_max);
    reader.time("login_time_max", &mut limits.login_time_max);
    reader.size("request_bytes_max", &mut limits.request_bytes_max);
    reader.size("whole_bytes_max", &mut limits.whole_bytes_max);
    reader.size("message_bytes_max", &mut limits.message_bytes_max);
    reader.size("node_message_bytes_max", &mut limits.node_message_bytes_max);
    reader.size("output_high", &mut limits.output_high);
    reader.size("reply_bytes_max", &mut limits.reply_bytes_max);
    reader.size("subscriber_bytes_max", &mut limits.subscriber_bytes_max);
    reader.size("input_high", &mut limits.input_high);
    reader.count("pipe_depth_max", &mut limits.pipe_depth_max);
    reader.size("upstream_output_high", &mut limits.upstream_output_high);
    reader.time("queue_wait_max", &mut limits.queue_wait_max);
    reader.time("hold_max", &mut limits.hold_max);
    reader.time("connect_time_max", &mut limits.connect_time_max);
    reader.count(
        "upstream_statements_max",
        &mut limits.upstream_statements_max,
    );
    reader.count("client_statements_max", &mut limits.client_statements_max);
    reader.count("texts_max", &mut limits.texts_max);
    reader.size("texts_bytes_max", &mut limits.texts_bytes_max);
    reader.time("upstream_idle_max", &mut limits.upstream_idle_max);
    reader.count("identities_idle_max", &mut limits.identities_idle_max);
    reader.time("trust_memory", &mut limits.trust_memory);
    reader.time("stall_time", &mut limits.stall_time);
    reader.section.finish(&[], reader.problems);
    check(&limits, &place, problems);
    limits
}

/// Notes every pair of bounds that cannot both hold.
fn check(limits: &Limits, place: &Place, problems: &mut Problems) {
    let mut refuse = |wrong: bool, message: &str, hint: &str| {
        if wrong {
            problems.error(place.clone(), message, hint);
        }
    };
    refuse(
        limits.message_bytes_max > MESSAGE_BYTES_MAX,
        "message_bytes_max is above PostgreSQL's own bound",
        "the largest message has 1073741823B",
    );
    refuse(
        limits.request_bytes_max > limits.message_bytes_max,
        "request_bytes_max is above message_bytes_max",
        "a request that is buffered whole has at least one message",
    );
    refuse(
        limits.request_bytes_max > limits.whole_bytes_max,
        "request_bytes_max is above whole_bytes_max",
        "whatever is not passed on while it comes is kept until it is whole",
    );
    refuse(
        limits.startup_bytes_max < STARTUP_BYTES_MIN,
        "startup_bytes_max leaves no room for a user and a database",
        "the smallest value is \"256B\"",
    );
    refuse(
        limits.output_high > limits.reply_bytes_max,
        "output_high is above reply_bytes_max",
        "reading a client's requests has to pause before its connection is closed",
    );
    refuse(
        limits.pipe_depth_max > PIPE_DEPTH_MAX,
        "pipe_depth_max is too large",
        "the largest value is 65536",
    );
}

/// The table and what is wrong with it.
struct Reader<'r, 't> {
    section: Section<'t>,
    problems: &'r mut Problems,
}

impl Reader<'_, '_> {
    fn number(&mut self, key: &'static str, limit: &mut u32) {
        if let Some(Count(count)) = self.section.take(key, self.problems).map(|w| w.value) {
            *limit = count;
        }
    }

    fn count(&mut self, key: &'static str, limit: &mut usize) {
        if let Some(Count(count)) = self.section.take(key, self.problems).map(|w| w.value) {
            *limit = count as usize;
        }
    }

    fn size(&mut self, key: &'static str, limit: &mut usize) {
        if let Some(Size(size)) = self.section.take(key, self.problems).map(|w| w.value) {
            *limit = size;
        }
    }

    fn time(&mut self, key: &'static str, limit: &mut Duration) {
        if let Some(Time(time)) = self.section.take(key, self.problems).map(|w| w.value) {
            *limit = time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The core may gain a limit at any time; one that nobody can set would go unnoticed.
    #[test]
    fn knows_every_limit_of_the_core() {
        let debug = format!("{:#?}", Limits::default());
        let fields: Vec<_> = debug
            .lines()
            .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
            .filter_map(|line| line.trim().split_once(':').map(|(name, _)| name))
            .collect();
        assert_eq!(fields, KEYS);
    }

    #[test]
    fn sets_every_limit_it_knows() {
        let default = format!("{:#?}", Limits::default());
        let defaults: Vec<_> = default.lines().collect();
        for (index, key) in KEYS.iter().enumerate() {
            let value = match *key {
                "clients_max" | "identities_idle_max" | "pipe_depth_max" | "texts_max" => "77",
                key if key.ends_with("statements_max") => "77",
                "hold_max" | "trust_memory" | "stall_time" => "\"77s\"",
                key if key.contains("_time_") || key.contains("wait") || key.contains("idle") => {
                    "\"77s\""
                }
                "output_high" => "\"777KiB\"",
                _ => "\"7777777B\"",
            };
            let text = format!("{key} = {value}\n");
            let source = Source {
                name: "m".into(),
                text: text.clone(),
            };
            let table = DeTable::parse(&text).unwrap();
            let place = source.place(&(0..0));
            let mut problems = Problems::default();
            let limits = read(&source, table.get_ref(), place, &mut problems);
            assert_eq!(problems.into_sorted(), [], "{text}");
            let changed = format!("{limits:#?}");
            let different: Vec<_> = (0..)
                .zip(changed.lines().zip(&defaults))
                .filter(|(_, (now, before))| now != *before)
                .map(|(line, _)| line)
                .collect();
            assert_eq!(different, [index + 1], "{text}");
        }
    }
}

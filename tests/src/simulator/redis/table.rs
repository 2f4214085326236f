//! The commands of the simulated node: those rows of a recorded table that it knows how to run.
//!
//! Knows what a real node says of its commands. Invariant: what is not in the table is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::resp::{Value, Version};

/// COMMAND of a 7.0.15.
const RECORDED: &[u8] =
    include_bytes!("../../../../protocols/tests/corpus/redis/command-7.0.15.resp");

/// What the simulated node can do.
const KNOWN: [&str; 51] = [
    "append",
    "asking",
    "auth",
    "blpop",
    "brpop",
    "client",
    "cluster",
    "command",
    "config",
    "dbsize",
    "decr",
    "del",
    "discard",
    "echo",
    "exec",
    "exists",
    "get",
    "getdel",
    "getset",
    "hello",
    "hgetall",
    "hset",
    "incr",
    "llen",
    "lpop",
    "lpush",
    "lrange",
    "mget",
    "mset",
    "multi",
    "ping",
    "psubscribe",
    "publish",
    "punsubscribe",
    "quit",
    "reset",
    "rpop",
    "rpush",
    "select",
    "set",
    "setnx",
    "spublish",
    "ssubscribe",
    "strlen",
    "subscribe",
    "sunsubscribe",
    "type",
    "unsubscribe",
    "unwatch",
    "wait",
    "watch",
];

/// One command.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// `client|id` for a subcommand.
    pub name: String,
    /// How many words it has; negative: at least so many.
    pub arity: i64,
    flags: BTreeSet<String>,
}

impl Row {
    /// Whether it has a flag.
    pub fn is(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// Whether it may have so many words.
    pub fn takes(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        count == wanted || self.arity < 0 && count > wanted
    }
}

/// What only a node of a cluster knows how to run.
const OF_CLUSTERS: [&str; 2] = ["asking", "cluster"];

/// The rows, and the replies to COMMAND.
#[derive(Debug)]
pub struct Table {
    rows: BTreeMap<String, Row>,
    /// What COMMAND answers.
    pub reply: Vec<u8>,
    /// What it answers at a node of a cluster.
    pub reply_of_cluster: Vec<u8>,
}

/// The table of every simulated node.
pub static TABLE: LazyLock<Table> = LazyLock::new(Table::read);

impl Table {
    fn read() -> Self {
        let taken = Value::take(RECORDED).expect("the record is a reply");
        let Some((Value::List(all), _)) = taken else {
            panic!("the record is a list");
        };
        let known: Vec<Value> = all
            .into_iter()
            .filter(|row| KNOWN.contains(&&*name_of(row)))
            .collect();
        assert_eq!(known.len(), KNOWN.len(), "every known command is recorded");
        let mut rows = BTreeMap::new();
        known.iter().for_each(|row| add(&mut rows, row));
        let reply_of_cluster = Value::List(known.clone()).bytes(Version::Two);
        let is_plain = |row: &Value| !OF_CLUSTERS.contains(&&*name_of(row));
        let plain = known.into_iter().filter(is_plain).collect();
        Self {
            rows,
            reply: Value::List(plain).bytes(Version::Two),
            reply_of_cluster,
        }
    }

    /// The row of a request.
    pub fn find(&self, words: &[Vec<u8>]) -> Option<&Row> {
        let lower = |word: &Vec<u8>| String::from_utf8_lossy(word).to_ascii_lowercase();
        let name = words.first().map(lower)?;
        let sub = words.get(1).map(|sub| format!("{name}|{}", lower(sub)));
        let sub = sub.and_then(|sub| self.rows.get(&sub));
        sub.or_else(|| self.rows.get(&name))
    }
}

fn fields_of(row: &Value) -> &[Value] {
    match row {
        Value::List(fields) => fields,
        _ => panic!("a row is a list"),
    }
}

fn name_of(row: &Value) -> String {
    let name = fields_of(row)[0].as_bulk().expect("a row has a name");
    String::from_utf8_lossy(name).into_owned()
}

fn add(rows: &mut BTreeMap<String, Row>, row: &Value) {
    let fields = fields_of(row);
    let Value::Int(arity) = fields[1] else {
        panic!("a row has an arity");
    };
    let flags = fields_of(&fields[2]).iter().map(|flag| match flag {
        Value::Simple(flag) => flag.clone(),
        other => panic!("{other:?} is no flag"),
    });
    let name = name_of(row);
    let flags = flags.collect();
    let one = Row {
        name: name.clone(),
        arity,
        flags,
    };
    rows.insert(name, one);
    fields_of(&fields[9]).iter().for_each(|sub| add(rows, sub));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_commands_and_subcommands_in_any_case() {
        let words = |text: &str| -> Vec<Vec<u8>> {
            text.split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect()
        };
        let found = TABLE.find(&words("Client iD")).unwrap();
        assert_eq!(found.name, "client|id");
        assert!(TABLE.find(&words("GET k")).unwrap().is("readonly"));
        assert!(!TABLE.find(&words("set k v")).unwrap().takes(2));
        assert!(TABLE.find(&words("keys x")).is_none());
    }
}

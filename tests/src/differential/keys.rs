//! The keys of a troupe as the nodes have them, asked past the proxy.
//!
//! Invariant: a digest says whether two nodes hold the same, whatever the order in their tables.

use super::compare::{integer, text, values};
use super::connection::Control;

/// Databases that troupes go to.
pub(super) const DATABASES: u32 = 3;

/// What kinds of keys there are, by the letter that is their names' first.
pub(super) const KINDS: [&str; 9] = ["s", "l", "h", "S", "z", "x", "b", "p", "g"];

/// Keys of each kind.
pub(super) const KEYS: u64 = 3;

/// All names that a troupe may use.
pub(super) fn names(prefix: &str) -> Vec<String> {
    let kinds = KINDS.iter();
    let names = kinds.flat_map(|kind| (0..KEYS).map(move |key| format!("{prefix}{kind}{key}")));
    names.chain([ledger(prefix)]).collect()
}

/// The list in which unique words are written down.
pub(super) fn ledger(prefix: &str) -> String {
    format!("{prefix}ledger")
}

/// What a node holds of a troupe's, database by database.
pub(super) fn digest(node: &mut Control, prefix: &str) -> Vec<Vec<u8>> {
    let names = names(prefix);
    let mut words: Vec<&[u8]> = vec![b"DEBUG", b"DIGEST-VALUE"];
    words.extend(names.iter().map(String::as_bytes));
    let digests = (0..DATABASES).map(|database| {
        node.say(&format!("SELECT {database}"));
        node.ask(&words)
    });
    digests.collect()
}

/// Gives one node what the other holds.
pub(super) fn copy(from: &mut Control, to: &mut Control, prefix: &str) {
    for database in 0..DATABASES {
        from.say(&format!("SELECT {database}"));
        to.say(&format!("SELECT {database}"));
        for name in names(prefix) {
            let dump = from.ask(&[b"DUMP", name.as_bytes()]);
            let Some(dump) = text(&dump) else {
                to.ask(&[b"DEL", name.as_bytes()]);
                continue;
            };
            let end = integer(&from.ask(&[b"PEXPIRETIME", name.as_bytes()])).unwrap_or(-1);
            let end = end.max(0).to_string();
            let (name, end) = (name.as_bytes(), end.as_bytes());
            let reply = to.ask(&[b"RESTORE", name, end, dump, b"REPLACE", b"ABSTTL"]);
            assert_eq!(reply, b"+OK\r\n", "a key can be copied");
        }
    }
}

/// Removes a troupe's keys.
pub(super) fn remove(node: &mut Control, prefix: &str) {
    let names = names(prefix);
    let mut words: Vec<&[u8]> = vec![b"UNLINK"];
    words.extend(names.iter().map(String::as_bytes));
    for database in 0..DATABASES {
        node.say(&format!("SELECT {database}"));
        node.ask(&words);
    }
}

/// The words in a troupe's list of them.
pub(super) fn written(node: &mut Control, prefix: &str) -> Vec<String> {
    node.say("SELECT 0");
    let reply = node.say(&format!("LRANGE {} 0 -1", ledger(prefix)));
    let words = values(&reply);
    let words = words.iter().filter_map(|word| text(word));
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

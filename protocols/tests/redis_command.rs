//! The table of commands against what nodes say.
//!
//! Goal: the audited list is what a node of its version says, exceptions apart, and nothing that is
//! not audited is shared. Method: replies of redis-server 7.0.15, recorded in `corpus/redis`.

use std::collections::BTreeMap;

use manifold_protocols::redis::command::{
    Class, ClientCommand, Command, Handling, SessionCommand, Table,
};

const LIVE: &[u8] = include_bytes!("corpus/redis/command-7.0.15.resp");

fn live() -> Table {
    Table::from_reply(LIVE).expect("the reply is a node's")
}

/// The command of a request that is written as a line.
fn find<'a>(table: &'a Table, line: &str) -> &'a Command {
    let mut words = line.split(' ').map(str::as_bytes);
    let command = table.find(words.next().expect("a name"), words.next());
    command.unwrap_or_else(|| panic!("{line} is not found"))
}

fn handling(table: &Table, line: &str) -> Handling {
    find(table, line).handling_of(line.split(' ').map(str::as_bytes))
}

fn class(table: &Table, line: &str) -> Class {
    find(table, line).class_of(line.split(' ').map(str::as_bytes))
}

/// redis.md counts the same for 7.0.15, but for WAIT: the list takes it for blocking.
#[test]
fn counts_classes_when_node_is_recorded() {
    let mut counts = BTreeMap::new();
    for command in live().iter().filter(|command| !command.is_container) {
        let is_keyless = matches!(command.class, Class::Read | Class::Write);
        let is_keyless = is_keyless && command.keys.is_empty();
        *counts
            .entry((format!("{:?}", command.class), is_keyless))
            .or_insert(0) += 1;
    }
    let expected = [
        (("Admin", false), 57),
        (("Blocking", false), 11),
        (("Keyed", false), 4),
        (("Keyless", false), 48),
        (("Read", false), 84),
        (("Read", true), 5),
        (("Session", false), 44),
        (("Write", false), 91),
        (("Write", true), 7),
    ];
    let expected =
        expected.map(|((class, is_keyless), count)| ((class.to_owned(), is_keyless), count));
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn finds_audited_row_when_node_names_command() {
    let builtin = Table::builtin();
    for command in &live() {
        assert!(command.is_audited, "{} is not audited", command.name);
        let audited = builtin.iter().find(|row| row.name == command.name);
        let audited = audited.expect("it is audited");
        let mut expected = audited.clone();
        if command.is_container {
            // The node listed the subcommands, so that it refuses any other.
            expected.is_gated = false;
        }
        assert_eq!(*command, expected);
    }
}

#[test]
fn decides_by_arguments_when_they_matter() {
    let table = live();
    let client = |command| Handling::Session(SessionCommand::Client(command));
    for (line, expected) in [
        ("GET k", Handling::Share),
        ("get k", Handling::Share),
        ("XREAD COUNT 1 STREAMS s 0", Handling::Share),
        ("XREAD COUNT 1 BLOCK 0 STREAMS s $", Handling::Lease),
        ("XREADGROUP GROUP block block STREAMS s >", Handling::Share),
        (
            "XREADGROUP GROUP g c NOACK BLOCK 5 STREAMS s >",
            Handling::Lease,
        ),
        ("FLUSHALL", Handling::Lease),
        ("FLUSHALL SYNC", Handling::Lease),
        ("FLUSHALL ASYNC", Handling::Share),
        ("CLIENT TRACKING ON", Handling::Pin),
        ("CLIENT TRACKING OFF", client(ClientCommand::Tracking)),
        ("client id", client(ClientCommand::Id)),
        ("CLIENT FOO", Handling::Unaudited),
        ("COMMAND FOO", Handling::Unaudited),
        ("SCRIPT DEBUG YES", Handling::Refuse),
        ("MONITOR", Handling::Stream),
        ("BLPOP k 0", Handling::Lease),
        ("WAIT 1 0", Handling::Session(SessionCommand::Wait)),
        ("QUIT", Handling::Session(SessionCommand::Quit)),
    ] {
        assert_eq!(handling(&table, line), expected, "{line}");
    }
    for (line, expected) in [
        ("SORT k LIMIT 0 1 BY store", Class::Read),
        ("SORT k LIMIT 0 1 STORE to", Class::Write),
        ("GEORADIUS k 0 0 1 m", Class::Read),
        ("GEORADIUS k 0 0 1 m STOREDIST to", Class::Write),
        ("GEORADIUSBYMEMBER store store 1 m", Class::Read),
        ("GEORADIUSBYMEMBER store store 1 m STORE to", Class::Write),
        ("BITFIELD k GET u8 0 OVERFLOW WRAP", Class::Read),
        ("BITFIELD k GET u8 0 SET u8 0 1", Class::Write),
        ("XREAD STREAMS s 0", Class::Read),
        ("XREAD BLOCK 0 STREAMS s 0", Class::Blocking),
        ("XREADGROUP GROUP g c STREAMS s >", Class::Write),
        ("SET k v GET", Class::Write),
    ] {
        assert_eq!(class(&table, line), expected, "{line}");
    }
}

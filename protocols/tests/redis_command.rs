//! The table of commands against what nodes say.
//!
//! Goal: the audited list is what a node of its version says, exceptions apart, and nothing that is
//! not audited is shared. Method: replies of redis-server 7.0.15, recorded in `corpus/redis`; other
//! versions are the matter of `redis_versions.rs`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use manifold_protocols::redis::cluster::slot;
use manifold_protocols::redis::command::{
    Class, ClientCommand, Command, Fault, Handling, RequestPolicy, SessionCommand, Table, Unknown,
};
use proptest::prelude::*;

const LIVE: &[u8] = include_bytes!("corpus/redis/command-7.0.15.resp");

fn live() -> &'static Table {
    static TABLE: LazyLock<Table> =
        LazyLock::new(|| Table::from_reply(LIVE).expect("the reply is a node's"));
    &TABLE
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

/// The rule by itself, over the 351 leaves of 7.0.15. The list differs in WAIT alone.
#[test]
fn counts_classes_when_node_is_recorded() {
    let mut counts = BTreeMap::new();
    let is_told = |command: &&Command| {
        !command.is_container && (!command.is_kept || &*command.name == "quit")
    };
    for command in live().iter().filter(is_told) {
        let is_keyless = matches!(command.class_told, Class::Read | Class::Write);
        let is_keyless = is_keyless && command.keys.is_empty();
        let class = format!("{:?}", command.class_told);
        *counts.entry((class, is_keyless)).or_insert(0) += 1;
    }
    let expected = [
        (("Admin", false), 57),
        (("Blocking", false), 10),
        (("Keyed", false), 4),
        (("Keyless", false), 48),
        (("Read", false), 84),
        (("Read", true), 5),
        (("Session", false), 45),
        (("Write", false), 91),
        (("Write", true), 7),
    ];
    let expected =
        expected.map(|((class, is_keyless), count)| ((class.to_owned(), is_keyless), count));
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn equals_audited_row_when_version_is_the_audited_one() {
    let builtin = Table::builtin();
    for command in live() {
        let audited = builtin.iter().find(|row| row.name == command.name);
        let mut expected = audited.expect("it is audited").clone();
        expected.class_told = command.class_told;
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
        ("SCRIPT KILL", Handling::Lease),
        ("EVAL x 0", Handling::Share),
        ("CONFIG GET a", Handling::Share),
        ("CONFIG SET a b", Handling::Lease),
        ("CLIENT NO-EVICT ON", client(ClientCommand::NoEvict)),
        ("MONITOR", Handling::Stream),
        ("BLPOP k 0", Handling::Lease),
        ("WAIT 1 0", Handling::Session(SessionCommand::Wait)),
        ("QUIT", Handling::Session(SessionCommand::Quit)),
    ] {
        assert_eq!(handling(table, line), expected, "{line}");
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
        assert_eq!(class(table, line), expected, "{line}");
    }
}

/// What came after 7.0, by the list alone.
#[test]
fn decides_by_list_when_no_node_has_told() {
    let table = Table::builtin();
    for (line, expected) in [
        ("HIMPORT SET k f v", Handling::Pin),
        ("HIMPORT PREPARE f a", Handling::Pin),
        ("CLIENT NO-TOUCH ON", Handling::Pin),
        ("CLIENT CAPA redirect", Handling::Pin),
        ("BLMOVEM a b LEFT RIGHT 0", Handling::Lease),
        ("SFLUSH 0 1", Handling::Lease),
        ("VSIM k ELE e", Handling::Lease),
        ("HGETDEL k FIELDS 1 f", Handling::Share),
        ("WAITAOF 1 0 0", Handling::Session(SessionCommand::WaitAof)),
        ("STRALGO LCS KEYS a b", Handling::Share),
        ("POST / HTTP/1.1", Handling::Refuse),
    ] {
        assert_eq!(handling(&table, line), expected, "{line}");
    }
    let keys = |line: &str| {
        let keys = find(&table, line).keys(line.split(' ').map(str::as_bytes));
        keys.expect("they are known")
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("MSETEX 2 a 1 b 2 NX"), [b"a", b"b"]);
    assert_eq!(keys("STRALGO LCS KEYS a b"), [b"a", b"b"]);
    assert_eq!(keys("LMOVEM a b LEFT RIGHT"), [b"a", b"b"]);
}

#[test]
fn holds_nothing_up_when_inside_multi() {
    let table = live();
    for (line, expected) in [
        ("BLPOP k 0", Handling::Share),
        ("XREAD BLOCK 0 STREAMS s 0", Handling::Share),
        ("FLUSHALL", Handling::Share),
        ("GET k", Handling::Share),
        ("SAVE", Handling::Lease),
        ("WAIT 1 0", Handling::Session(SessionCommand::Wait)),
        ("CLIENT TRACKING ON", Handling::Pin),
    ] {
        let words = line.split(' ').map(str::as_bytes);
        assert_eq!(
            find(table, line).handling_in_multi(words),
            expected,
            "{line}"
        );
    }
}

#[test]
fn gates_what_acts_on_all_clients() {
    let table = live();
    let gated = [
        "CONFIG SET a b",
        "FLUSHALL",
        "CLIENT KILL a",
        "SHUTDOWN",
        "DEBUG a",
        "MONITOR",
    ];
    for line in gated {
        assert!(find(table, line).is_gated, "{line}");
    }
    let open = [
        "CONFIG GET a",
        "INFO",
        "KEYS *",
        "CLIENT LIST",
        "ACL WHOAMI",
        "SLOWLOG HELP",
        "CLIENT FOO",
    ];
    for line in open {
        assert!(!find(table, line).is_gated, "{line}");
    }
    assert!(find(&Table::builtin(), "CONFIG FOO").is_gated);
}

#[test]
fn judges_count_of_words_as_node_does() {
    let table = live();
    let takes = |line: &str| find(table, line).takes(line.split(' ').count());
    for line in [
        "GET k",
        "DEL a",
        "DEL a b c",
        "CLIENT ID",
        "CLIENT KILL a b",
        "COMMAND",
        "PING",
    ] {
        assert!(takes(line), "{line}");
    }
    for line in [
        "GET",
        "GET a b",
        "DEL",
        "CLIENT",
        "CLIENT ID a",
        "CLIENT KILL",
        "EXEC a",
    ] {
        assert!(!takes(line), "{line}");
    }
}

/// The words of a line; `""` is an empty one.
fn words(line: &str) -> Vec<&[u8]> {
    line.split_whitespace()
        .map(|word| {
            if word == "\"\"" {
                &[][..]
            } else {
                word.as_bytes()
            }
        })
        .collect()
}

#[test]
fn finds_keys_that_node_names() {
    let table = live();
    for line in include_str!("corpus/redis/getkeys-7.0.15.txt").lines() {
        let (request, expected) = line.split_once(" =>").expect("an arrow");
        let request = words(request);
        let command = table
            .find(request[0], request.get(1).copied())
            .expect("it is known");
        let found = command
            .keys(request.iter().copied())
            .map(Iterator::collect::<Vec<_>>);
        match expected.trim() {
            // The node refuses such a request, or says that it has no keys.
            "!" => assert!(found.unwrap_or_default().is_empty(), "{line}"),
            // Scripts that announce more keys than follow, which the node refuses when it runs them.
            "" => assert!(found.unwrap_or_default().is_empty(), "{line}"),
            expected => assert_eq!(found, Ok(words(expected)), "{line}"),
        }
    }
}

#[test]
fn says_why_when_keys_are_not_known() {
    let table = live();
    let keys = |line: &str| {
        let words = words(line);
        find(table, line)
            .keys(words.into_iter())
            .map(Iterator::count)
    };
    assert_eq!(keys("EVAL x many a"), Err(Unknown::Arguments));
    assert_eq!(keys("EVAL x 2 a"), Err(Unknown::Arguments));
    assert_eq!(
        keys("EVAL x 18446744073709551615 a"),
        Err(Unknown::Arguments)
    );
    assert_eq!(keys("EVAL x 0"), Ok(0));
    assert_eq!(keys("PING"), Ok(0));
    let channels = |line: &str| {
        let words = words(line);
        let channels = find(table, line).channels(words.clone().into_iter());
        channels.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(channels("SPUBLISH c m"), [b"c"]);
    assert_eq!(channels("SSUBSCRIBE c d"), [b"c", b"d"]);
    assert!(channels("SUNSUBSCRIBE").is_empty());
}

/// Rows as 6.2 tells them: no subcommands, tips or places of keys.
#[test]
fn fills_in_when_node_tells_less() {
    let reply = b"*4\r\n\
        *7\r\n$6\r\nclient\r\n:-2\r\n*2\r\n+admin\r\n+noscript\r\n:0\r\n:0\r\n:0\r\n*1\r\n+@connection\r\n\
        *7\r\n$6\r\nselect\r\n:2\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*1\r\n+@keyspace\r\n\
        *7\r\n$4\r\neval\r\n:-3\r\n*2\r\n+noscript\r\n+movablekeys\r\n:0\r\n:0\r\n:0\r\n*0\r\n\
        *7\r\n$5\r\nblpop\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:-2\r\n:1\r\n*1\r\n+@blocking\r\n";
    let table = Table::from_reply(reply).expect("it is a node's");
    let client = |command| Handling::Session(SessionCommand::Client(command));
    assert_eq!(handling(&table, "CLIENT ID"), client(ClientCommand::Id));
    assert_eq!(handling(&table, "CLIENT FOO"), Handling::Unaudited);
    assert!(find(&table, "CLIENT FOO").is_gated);
    assert_eq!(
        handling(&table, "SELECT 1"),
        Handling::Session(SessionCommand::Select)
    );
    assert_eq!(
        handling(&table, "QUIT"),
        Handling::Session(SessionCommand::Quit)
    );
    assert_eq!(handling(&table, "BLPOP a b 0"), Handling::Lease);
    let keys = |line: &str| {
        find(&table, line)
            .keys(words(line).into_iter())
            .map(Iterator::count)
    };
    assert_eq!(keys("EVAL x 2 a b c"), Ok(2));
    assert_eq!(keys("BLPOP a b 0"), Ok(2));
    assert!(table.find(b"get", None).is_none());
}

/// A command that nobody looked at, or that a node says is stricter, is not shared.
#[test]
fn shares_nothing_when_it_is_not_audited() {
    let reply = b"*7\r\n\
        *7\r\n$6\r\nlinger\r\n:2\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n*1\r\n+@blocking\r\n\
        *7\r\n$5\r\nfresh\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n\
        *7\r\n$3\r\nGET\r\n:2\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n*0\r\n\
        *7\r\n$8\r\nremember\r\n:2\r\n*0\r\n:0\r\n:0\r\n:0\r\n*1\r\n+@connection\r\n\
        *7\r\n$9\r\nft.search\r\n:-3\r\n*3\r\n+readonly\r\n+module\r\n+movablekeys\r\n:1\r\n:1\r\n:1\r\n*0\r\n\
        *7\r\n$7\r\nzip.zap\r\n:-3\r\n*1\r\n+module\r\n:0\r\n:0\r\n:0\r\n*0\r\n\
        *7\r\n$5\r\nsetex\r\n:4\r\n*2\r\n+write\r\n+blocking\r\n:1\r\n:1\r\n:1\r\n*0\r\n";
    let table = Table::from_reply(reply).expect("it is a node's");
    assert_eq!(class(&table, "linger k"), Class::Blocking);
    assert_eq!(handling(&table, "fresh k"), Handling::Unaudited);
    assert_eq!(class(&table, "fresh k"), Class::Read);
    assert_eq!(handling(&table, "get k"), Handling::Unaudited);
    assert_eq!(class(&table, "get k"), Class::Write);
    assert_eq!(handling(&table, "remember k"), Handling::Pin);
    assert_eq!(handling(&table, "ft.search i q"), Handling::Lease);
    assert_eq!(handling(&table, "zip.zap a b"), Handling::Unaudited);
    assert_eq!(class(&table, "setex k 1 v"), Class::Blocking);
    assert_eq!(handling(&table, "setex k 1 v"), Handling::Unaudited);
    let words = words("ft.search i q");
    let keys = find(&table, "ft.search i q").keys(words.into_iter());
    assert_eq!(keys.map(Iterator::count), Err(Unknown::Specification));
}

#[test]
fn reads_the_same_when_node_speaks_resp3() {
    let two = Table::from_reply(include_bytes!("corpus/command/info-7.0.15.resp2"));
    let three = Table::from_reply(include_bytes!("corpus/command/info-7.0.15.resp3"));
    let (two, three) = (two.expect("a node's"), three.expect("a node's"));
    assert!(two.iter().eq(three.iter()));
    assert_eq!(
        find(&three, "FLUSHALL").request_policy,
        RequestPolicy::AllShards
    );
    assert!(three.find(b"nosuch", None).is_none());
}

/// Fields that are not known are passed over, whatever they hold.
#[test]
fn reads_on_when_row_has_more_fields() {
    let more =
        b"*2\r\n*11\r\n+get\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n\
        *3\r\n%1\r\n+a\r\n*2\r\n:1\r\n_\r\n|1\r\n+b\r\n:1\r\n$4\r\n\r\n*9\r\n*-1\r\n";
    let row = b"*6\r\n+set\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n";
    let table = Table::from_reply(&[&more[..], row].concat()).expect("it is a node's");
    assert_eq!(find(&table, "GET k").arity, 2);
    assert_eq!(find(&table, "SET k v").arity, -3);
}

#[test]
fn refuses_reply_when_it_is_not_whole() {
    for end in (0..LIVE.len()).step_by(97) {
        assert!(Table::from_reply(&LIVE[..end]).is_err(), "{end}");
    }
    let fault = |reply: &[u8]| Table::from_reply(reply).map(|_| ()).unwrap_err().fault;
    assert_eq!(fault(&[LIVE, b"+OK\r\n"].concat()), Fault::Excess);
    assert_eq!(fault(b"-NOPERM no\r\n"), Fault::Refused);
    assert_eq!(fault(b"+OK\r\n"), Fault::Kind);
    assert_eq!(fault(b"*9999999\r\n"), Fault::Number);
    // Of 6 fields at least, so that it holds more rows than are taken.
    let row = b"*6\r\n+a\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n".repeat(9000);
    assert_eq!(fault(&[b"*9000\r\n", &row[..]].concat()), Fault::Rows);
    let deep = [
        b"*1\r\n*11\r\n+a\r\n:1\r\n*0\r\n:0\r\n:0\r\n:0\r\n*0\r\n*0\r\n*0\r\n*0\r\n",
        &b"*1\r\n".repeat(100_000)[..],
        b":1\r\n",
    ];
    assert!(Table::from_reply(&deep.concat()).is_ok());
}

/// Numbers that a node of a cluster answered to CLUSTER KEYSLOT.
#[test]
fn answers_slot_that_node_answers() {
    let long = "k".repeat(100);
    let tagged = format!("{{tag}}{}", "r".repeat(60));
    for (key, expected) in [
        ("", 0),
        ("a", 15_495),
        ("foo", 12_182),
        ("{user}.a", 5_474),
        ("x{user}.b", 5_474),
        ("{}", 15_257),
        ("{}x", 10_595),
        ("{", 4_092),
        ("}", 12_090),
        ("a}{b}", 3_300),
        ("{{a}}", 10_276),
        ("a{b}{c}", 3_300),
        ("{a", 10_276),
        ("foo{", 7_673),
        ("foo{}{bar}", 8_363),
        ("foo{{bar}}zap", 4_015),
        ("foo{bar}{zap}", 5_061),
        ("123456789", 12_739),
        ("ключ", 10_303),
        (&long, 12_619),
        (&tagged, 8_338),
    ] {
        assert_eq!(slot(key.as_bytes()), expected, "{key}");
    }
}

fn in_any_case(name: &str, cases: u64) -> Vec<u8> {
    let cased = |(index, byte): (usize, u8)| match cases >> (index % 64) & 1 {
        0 => byte,
        _ => byte.to_ascii_uppercase(),
    };
    name.bytes().enumerate().map(cased).collect()
}

proptest! {
    #[test]
    fn finds_command_when_named_in_any_case(pick: prop::sample::Index, cases: u64, other in "[a-z|]{0,70}") {
        let table = live();
        let rows = table.iter().collect::<Vec<_>>();
        let row = *pick.get(&rows);
        let (name, subcommand) = match row.name.split_once('|') {
            Some((name, subcommand)) => (name, Some(in_any_case(subcommand, cases.rotate_left(7)))),
            None => (&*row.name, None),
        };
        let found = table.find(&in_any_case(name, cases), subcommand.as_deref());
        prop_assert_eq!(found, Some(row));
        // A word behind what is no container, or that no container has, changes nothing.
        let found = table.find(name.as_bytes(), Some(other.as_bytes())).expect("it is there");
        let full = format!("{name}|{other}");
        let by_hand = rows.iter().find(|row| *row.name == *full);
        let plain = rows.iter().find(|row| *row.name == *name);
        prop_assert_eq!(Some(found), by_hand.or(plain).copied());
    }

    #[test]
    fn finds_nothing_when_no_command_has_the_name(name in "[a-z]{0,80}", subcommand: Option<Vec<u8>>) {
        let table = live();
        let found = table.find(name.as_bytes(), subcommand.as_deref());
        let by_hand = table.iter().any(|row| *row.name == *name);
        prop_assert_eq!(found.is_some(), by_hand);
    }
}

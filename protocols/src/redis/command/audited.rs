//! The commands that somebody looked at.
//!
//! Holds how the list in `audited.txt` is read. It must not know what nodes answer. Its invariant:
//! the list is ours, so that a line which cannot be read is a mistake of ours.

use super::arguments::Variant;
use super::keys::{Access, Begin, Find, KeySpec};
use super::{Class, Command, Handling, RequestPolicy, ResponsePolicy, rule};

/// Commands and families of commands, one a line; what its columns mean stands at its top.
const LIST: &str = include_str!("audited.txt");

/// All commands that have a line each.
pub fn commands() -> impl Iterator<Item = Command> {
    words_of_lines()
        .filter(|words| !words[0].ends_with(".*"))
        .map(read)
}

/// How the commands of a module are sent that bears no name of its own here.
pub fn handling_of_family(name: &str) -> Option<Handling> {
    let (family, _) = name.split_once('.')?;
    let mut families = words_of_lines().filter(|words| words[0].ends_with(".*"));
    let words = families.find(|words| words[0].strip_suffix(".*") == Some(family))?;
    Some(handling(words[4], Class::Keyless, words[0]))
}

fn words_of_lines() -> impl Iterator<Item = [&'static str; COLUMNS]> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines.filter(|line| !line.is_empty()).map(|line| {
        let mut words = line.split(' ');
        let columns = std::array::from_fn(|_| words.next().unwrap_or_default());
        assert!(
            words.next().is_none() && columns.iter().all(|word| !word.is_empty()),
            "not {COLUMNS} columns: {line}"
        );
        columns
    })
}

const COLUMNS: usize = 9;

fn read(words: [&str; COLUMNS]) -> Command {
    let [name, arity, class, flags, sent, keys, request, response, _] = words;
    let has = |flag| flags.contains(flag);
    let class = read_class(class);
    Command {
        name: name.into(),
        arity: number(arity),
        class,
        class_told: class,
        handling: handling(sent, class, name),
        is_audited: true,
        is_container: has('c'),
        is_dangerous: has('d'),
        is_fast: has('f'),
        is_gated: has('g'),
        is_kept: has('k'),
        is_nondeterministic: has('n'),
        is_open: has('o'),
        is_readonly: has('r'),
        is_refused_in_multi: has('m'),
        keys: keys
            .split(',')
            .filter(|spec| *spec != "-")
            .map(read_spec)
            .collect(),
        request_policy: match request {
            "-" => RequestPolicy::default(),
            policy => RequestPolicy::named(policy.as_bytes()),
        },
        response_policy: match response {
            "-" => ResponsePolicy::default(),
            policy => ResponsePolicy::named(policy.as_bytes()),
        },
        variant: Variant::named(name),
    }
}

fn read_class(text: &str) -> Class {
    match text {
        "A" => Class::Admin,
        "B" => Class::Blocking,
        "I" => Class::Keyless,
        "R" => Class::Read,
        "S" => Class::Session,
        "W" => Class::Write,
        "X" => Class::Keyed,
        _ => panic!("no class: {text}"),
    }
}

fn handling(text: &str, class: Class, name: &str) -> Handling {
    match text {
        "-" => rule::handling(class, name),
        "lease" => Handling::Lease,
        "pin" => Handling::Pin,
        "refuse" => Handling::Refuse,
        "session" => rule::handling(Class::Session, name),
        "share" => Handling::Share,
        "stream" => Handling::Stream,
        "unaudited" => Handling::Unaudited,
        _ => panic!("no handling: {text}"),
    }
}

fn read_spec(text: &str) -> KeySpec {
    let (access, rest) = text.split_at(1);
    let (rest, is_incomplete) = match rest.strip_suffix('!') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (begin, find) = rest.split_at(rest.find([':', '#']).unwrap_or(rest.len()));
    KeySpec {
        access: match access {
            "c" => Access::Channel,
            "d" => Access::Remove,
            "o" => Access::Overwrite,
            "r" => Access::Read,
            "w" => Access::Write,
            _ => panic!("no access: {text}"),
        },
        begin: match begin.split_once('@') {
            _ if begin == "?" => Begin::Unknown,
            Some((word, from)) => Begin::Keyword {
                word: word.as_bytes().into(),
                from: number(from),
            },
            None => Begin::Index(number(begin)),
        },
        find: if begin == "?" {
            Find::Unknown
        } else {
            read_find(find)
        },
        is_incomplete,
    }
}

/// `#step`: the count of keys, then the keys; `:last:step:limit`: a range.
fn read_find(text: &str) -> Find {
    if let Some(step) = text.strip_prefix('#') {
        let step = if step.is_empty() { 1 } else { number(step) };
        return Find::KeyNum {
            at: 0,
            first: 1,
            step,
        };
    }
    let mut numbers = text.split(':').skip(1);
    Find::Range {
        last: numbers.next().map_or(0, number),
        step: numbers.next().map_or(1, number),
        limit: numbers.next().map_or(0, number),
    }
}

fn number<N: std::str::FromStr>(text: &str) -> N {
    text.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

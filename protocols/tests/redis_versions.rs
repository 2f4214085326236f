//! The table of commands against what all recorded versions say.
//!
//! Goal: no version says of a command what nobody looked at. Method: replies to COMMAND, one file a
//! version in `corpus/redis`; what each says otherwise than the audited list stands in
//! `differences.txt` there, and nothing else may.

// The bans are for the crate; a test reads files.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use manifold_protocols::redis::command::{
    Access, Begin, Class, Command, Find, Handling, KeySpec, Table,
};

const REVIEWED: &str = include_str!("corpus/redis/differences.txt");

/// All recordings, by version.
fn recordings() -> BTreeMap<String, Table> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/redis");
    let mut recordings = BTreeMap::new();
    for file in folder.read_dir().expect("the corpus is there") {
        let path = file.expect("the folder is readable").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix("command-")?.strip_suffix(".resp"));
        let Some(version) = version else { continue };
        let reply = std::fs::read(&path).expect("the file is readable");
        let table = Table::from_reply(&reply).expect("the reply is a node's");
        recordings.insert(version.to_owned(), table);
    }
    recordings
}

/// Where keys are, as the audited list writes it.
fn keys(specs: &[KeySpec]) -> String {
    let specs = specs.iter().map(|spec| {
        let access = match spec.access {
            Access::Channel => 'c',
            Access::Overwrite => 'o',
            Access::Read => 'r',
            Access::Remove => 'd',
            Access::Write => 'w',
        };
        let begin = match &spec.begin {
            Begin::Index(index) => index.to_string(),
            Begin::Keyword { word, from } => format!("{}@{from}", word.escape_ascii()),
            Begin::Unknown => "?".to_owned(),
        };
        let find = match spec.find {
            Find::KeyNum { at, first, step } => format!("#{at}:{first}:{step}"),
            Find::Range { last, step, limit } => format!(":{last}:{step}:{limit}"),
            Find::Unknown => String::new(),
        };
        let end = if spec.is_incomplete { "!" } else { "" };
        format!("{access}{begin}{find}{end}")
    });
    specs.collect::<Vec<_>>().join(",")
}

/// All that a node can say of a command, and what follows from it, a field each.
fn fields(command: &Command, class: Class) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("arity", command.arity.to_string()),
        ("container", command.is_container.to_string()),
        ("handling", format!("{:?}", command.handling)),
    ];
    if command.is_container {
        // The rest is for its subcommands to say.
        return fields;
    }
    fields.extend([
        ("class", format!("{class:?}")),
        ("dangerous", command.is_dangerous.to_string()),
        ("fast", command.is_fast.to_string()),
        ("gated", command.is_gated.to_string()),
        ("keys", keys(&command.keys)),
        ("no_multi", command.is_refused_in_multi.to_string()),
        ("nondeterministic", command.is_nondeterministic.to_string()),
        ("open", command.is_open.to_string()),
        ("readonly", command.is_readonly.to_string()),
        ("request", format!("{:?}", command.request_policy)),
        ("response", format!("{:?}", command.response_policy)),
    ]);
    fields
}

/// `command: field audited -> told: versions`, in the order of names.
fn differences(recordings: &BTreeMap<String, Table>) -> BTreeSet<String> {
    let builtin = Table::builtin();
    let mut versions_of = BTreeMap::<String, Vec<&str>>::new();
    for (version, table) in recordings {
        for told in table {
            let audited = builtin.iter().find(|row| row.name == told.name);
            let audited = audited.unwrap_or_else(|| panic!("{}: unknown: {version}", told.name));
            let fields_told = fields(told, told.class_told);
            for ((field, one), (_, other)) in fields(audited, audited.class).iter().zip(fields_told)
            {
                if *one != other {
                    let line = format!("{}: {field} {one} -> {other}", told.name);
                    versions_of.entry(line).or_default().push(version);
                }
            }
        }
    }
    let lines = versions_of.iter();
    lines
        .map(|(line, versions)| format!("{line}: {}", versions.join(" ")))
        .collect()
}

#[test]
fn differs_from_audited_list_only_as_reviewed_when_version_is_recorded() {
    let recordings = recordings();
    let found = differences(&recordings);
    let lines = REVIEWED.lines().filter(|line| !line.starts_with('#'));
    let reviewed = lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let fresh = found.difference(&reviewed).cloned().collect::<Vec<_>>();
    let gone = reviewed.difference(&found).cloned().collect::<Vec<_>>();
    assert!(fresh.is_empty(), "not reviewed:\n{}", fresh.join("\n"));
    assert!(gone.is_empty(), "no version says it:\n{}", gone.join("\n"));
}

#[test]
fn audits_every_command_when_version_is_recorded() {
    let recordings = recordings();
    assert!(recordings.len() >= 9, "{:?}", recordings.keys());
    for (version, table) in &recordings {
        for command in table {
            assert!(
                command.is_audited,
                "{version}: {} is not audited",
                command.name
            );
            let is_container = command.is_container;
            let is_unaudited = command.handling == Handling::Unaudited;
            assert!(is_container || !is_unaudited, "{version}: {}", command.name);
        }
    }
}

/// What a connection would remember, or what would hold it up, is shared by no version's word.
#[test]
fn shares_the_same_when_versions_differ() {
    let builtin = Table::builtin();
    for (version, table) in recordings() {
        for command in &table {
            let audited = builtin.iter().find(|row| row.name == command.name);
            let audited = audited.expect("it is audited");
            assert_eq!(
                command.handling, audited.handling,
                "{version}: {}",
                command.name
            );
            assert_eq!(command.class, audited.class, "{version}: {}", command.name);
        }
    }
}

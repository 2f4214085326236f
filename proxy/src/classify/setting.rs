//! SET and RESET: which setting, and which value in the form that set_config takes.
//!
//! Knows no catalog. Invariant: a value is what PostgreSQL itself would make of the arguments, or
//! the statement is refused.

use manifold_core::proof::{Reason, Setting, Statement};
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{KeywordKind, Node, VariableSetKind, VariableSetStmt};

use super::grammar;

/// Settings that are lists of names, quoted where needed.
const QUOTED_LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Settings that are lists, joined as they are.
const PLAIN_LISTS: &[&str] = &[
    "createrole_self_grant",
    "datestyle",
    "debug_io_direct",
    "log_connections",
    "log_destination",
    "plpgsql.extra_errors",
    "plpgsql.extra_warnings",
    "restrict_nonsystem_relation_kind",
    "synchronous_standby_names",
    "wal_consistency_checking",
];

/// What a SET or RESET does.
pub(super) fn statement(set: &VariableSetStmt) -> Result<Statement, Reason> {
    let name = set.name.to_ascii_lowercase();
    match VariableSetKind::try_from(set.kind) {
        Ok(VariableSetKind::VarReset) => reset(&name, set),
        Ok(VariableSetKind::VarSetDefault) => Ok(match reset(&name, set)? {
            Statement::Reset(name) => Statement::SetDefault(name),
            other => other,
        }),
        Ok(VariableSetKind::VarResetAll) => Ok(Statement::ResetAll),
        Ok(VariableSetKind::VarSetMulti) => several(set),
        Ok(VariableSetKind::VarSetValue) => {
            let value = flatten(&name, &set.args)?;
            if set.is_local {
                check_local(&name, Some(&value))?;
                return Ok(Statement::Inside);
            }
            session(&name, &value)
        }
        _ => Err(Reason::SessionState),
    }
}

/// What setting a value for the session does.
pub(super) fn session(name: &str, value: &str) -> Result<Statement, Reason> {
    check_known(name)?;
    check_path(name, Some(value))?;
    match name {
        "role" | "session_authorization" => Err(Reason::Role),
        _ if is_of_transaction(name) => Ok(Statement::Inside),
        // What the text says in bytes beyond ASCII depends on the encoding it came in.
        _ if !value.is_ascii() => Err(Reason::SessionState),
        _ => Ok(Statement::Set(Setting {
            name: name.into(),
            value: value.as_bytes().into(),
        })),
    }
}

/// Whether setting a value for the transaction leaves nothing beyond it; the value may be unknown.
pub(super) fn check_local(name: &str, value: Option<&str>) -> Result<(), Reason> {
    check_known(name)?;
    // These decide how the texts that follow are read.
    if ["client_encoding", "standard_conforming_strings"].contains(&name) {
        return Err(Reason::SessionState);
    }
    check_path(name, value)
}

/// Whether a function may be declared with this setting: it is put back when the function returns.
pub(super) fn check_attached(assignment: &str) -> Result<(), Reason> {
    let name = assignment.split('=').next().unwrap_or_default();
    match name.to_ascii_lowercase().as_str() {
        "seed" => Err(Reason::Process),
        "standard_conforming_strings" | "client_encoding" => Err(Reason::SessionState),
        _ => Ok(()),
    }
}

fn check_known(name: &str) -> Result<(), Reason> {
    match name {
        // It does not come back with the transaction, nor with RESET or DISCARD.
        "seed" => Err(Reason::Process),
        _ if !name.is_ascii() => Err(Reason::SessionState),
        _ => Ok(()),
    }
}

/// With the temporary schema on the path, plain CREATE makes temporary objects.
fn check_path(name: &str, value: Option<&str>) -> Result<(), Reason> {
    if name != "search_path" {
        return Ok(());
    }
    let value = value.ok_or(Reason::Temporary)?.to_ascii_lowercase();
    if value.contains("pg_temp") {
        Err(Reason::Temporary)
    } else {
        Ok(())
    }
}

fn is_of_transaction(name: &str) -> bool {
    [
        "transaction_deferrable",
        "transaction_isolation",
        "transaction_read_only",
    ]
    .contains(&name)
}

fn reset(name: &str, set: &VariableSetStmt) -> Result<Statement, Reason> {
    check_known(name)?;
    match name {
        _ if set.is_local => check_local(name, Some("")).map(|()| Statement::Inside),
        "role" | "session_authorization" => Err(Reason::Role),
        _ if is_of_transaction(name) => Ok(Statement::Inside),
        _ => Ok(Statement::Reset(name.into())),
    }
}

/// SET TRANSACTION and SET SESSION CHARACTERISTICS AS TRANSACTION.
fn several(set: &VariableSetStmt) -> Result<Statement, Reason> {
    match (set.name.as_str(), set.args.as_slice()) {
        ("TRANSACTION" | "TRANSACTION SNAPSHOT", _) => Ok(Statement::Inside),
        ("SESSION CHARACTERISTICS", [mode]) => {
            let Some(Tree::DefElem(mode)) = &mode.node else {
                return Err(Reason::Unrecognised);
            };
            let value = mode.arg.as_ref().ok_or(Reason::Unrecognised)?;
            session(
                &format!("default_{}", mode.defname),
                &characteristic(value)?,
            )
        }
        _ => Err(Reason::SessionState),
    }
}

/// Modes are strings or 0 and 1.
fn characteristic(node: &Node) -> Result<String, Reason> {
    match constant(node)? {
        Val::Ival(flag) => Ok(if flag.ival != 0 { "on" } else { "off" }.into()),
        Val::Sval(string) => Ok(string.sval.clone()),
        _ => Err(Reason::Unrecognised),
    }
}

fn constant(node: &Node) -> Result<&Val, Reason> {
    match &node.node {
        Some(Tree::AConst(constant)) => constant.val.as_ref().ok_or(Reason::SessionState),
        _ => Err(Reason::SessionState),
    }
}

fn flatten(name: &str, args: &[Node]) -> Result<String, Reason> {
    let is_quoted = QUOTED_LISTS.contains(&name);
    if args.is_empty() || (args.len() > 1 && !is_quoted && !PLAIN_LISTS.contains(&name)) {
        return Err(Reason::Unrecognised);
    }
    let parts = args.iter().map(|arg| match constant(arg)? {
        Val::Fval(float) => Ok(float.fval.clone()),
        Val::Ival(integer) => Ok(integer.ival.to_string()),
        Val::Sval(string) if is_quoted => Ok(quoted(&string.sval)),
        Val::Sval(string) => Ok(string.sval.clone()),
        _ => Err(Reason::Unrecognised),
    });
    Ok(parts.collect::<Result<Vec<_>, Reason>>()?.join(", "))
}

/// A name as PostgreSQL quotes it: only where it would not be read back as it is.
fn quoted(name: &str) -> String {
    let mut bytes = name.bytes();
    let is_plain = bytes
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if is_plain && !is_keyword(name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn is_keyword(name: &str) -> bool {
    let free = [
        KeywordKind::NoKeyword as i32,
        KeywordKind::UnreservedKeyword as i32,
    ];
    match grammar::scan(name).as_deref() {
        Ok([token]) => !free.contains(&token.keyword_kind),
        _ => true,
    }
}

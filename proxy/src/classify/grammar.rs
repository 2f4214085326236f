//! PostgreSQL's own grammar, with bounds in front of it.
//!
//! The only door to the parser. Knows nothing of catalogs or verdicts. Invariant: whatever the
//! bytes are, the answer is a tree or a reason, and the parser's stack is never at risk.

use std::sync::{Mutex, PoisonError};

use manifold_core::proof::Reason;
use manifold_protocols::postgres::sql::lexer::{Kind, Lexer, Token};
use manifold_protocols::postgres::sql::shape::{Bounds, Outcome, shape_within};
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{ScanToken, SelectStmt};

/// The parser points the process's stderr elsewhere for the time of a call, so two calls at once
/// would leave it closed.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The bounds for a text that a client sent.
const TEXT_BOUNDS: Bounds = Bounds {
    bytes_max: 64 << 10,
    nesting_max: 200,
    operators_max: 2_000,
};

/// How deep what nests without brackets may nest: operators, and the words below. A level takes up
/// to 16 KiB of stack in a build without optimisation.
const DEPTH_MAX: usize = 1_000;

/// Words that nest like operators.
const NESTING_WORDS: &[&[u8]] = &[
    b"at",
    b"between",
    b"case",
    b"collate",
    b"except",
    b"ilike",
    b"in",
    b"intersect",
    b"is",
    b"isnull",
    b"join",
    b"like",
    b"not",
    b"notnull",
    b"operator",
    b"overlaps",
    b"similar",
    b"union",
];

/// The bounds for a body that the catalog holds, in bytes.
const BODY_BYTES_MAX: usize = 512 << 10;

/// The statements of a client's text.
pub(super) fn parse_text(text: &[u8]) -> Result<Vec<Tree>, Reason> {
    check_bounds(text, &TEXT_BOUNDS)?;
    parse(&to_str(text))
}

/// The statements of a text out of the catalog.
pub(super) fn parse_body(text: &str) -> Result<Vec<Tree>, Reason> {
    let bounds = Bounds {
        bytes_max: BODY_BYTES_MAX,
        operators_max: 4_000,
        ..TEXT_BOUNDS
    };
    check_bounds(text.as_bytes(), &bounds)?;
    parse(text)
}

/// An expression, or several with commas between, as the targets of a SELECT.
pub(super) fn parse_expression(text: &str) -> Result<Box<SelectStmt>, Reason> {
    let mut trees = parse_body(&format!("SELECT {text}"))?;
    match (trees.pop(), trees.pop()) {
        (Some(Tree::SelectStmt(select)), None) => Ok(select),
        _ => Err(Reason::Syntax),
    }
}

/// The tokens of a text, without comments.
pub(super) fn scan(text: &str) -> Result<Vec<ScanToken>, Reason> {
    if text.len() > BODY_BYTES_MAX || text.contains('\0') {
        return Err(Reason::Complexity);
    }
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let scanned = pg_query::scan(text).map_err(|_| Reason::Syntax)?;
    Ok(scanned.tokens)
}

fn check_bounds(text: &[u8], bounds: &Bounds) -> Result<(), Reason> {
    match shape_within(text, bounds, &mut Vec::new()) {
        Outcome::Malformed => Err(Reason::Syntax),
        Outcome::Shaped if depth_of(text) > DEPTH_MAX => Err(Reason::Complexity),
        Outcome::Shaped => Ok(()),
        Outcome::TooComplex => Err(Reason::Complexity),
    }
}

/// How deep a text nests at most, beside its brackets.
fn depth_of(text: &[u8]) -> usize {
    let is_level = |token: &Token<'_>| match token.kind {
        Kind::Cast | Kind::Operator => true,
        Kind::Word => NESTING_WORDS
            .iter()
            .any(|word| token.text.eq_ignore_ascii_case(word)),
        _ => false,
    };
    Lexer::new(text).filter(is_level).count()
}

/// Bytes beyond ASCII become characters beyond ASCII, one each where the text is not UTF-8. No name
/// with such a character is ever proven, so which character it is does not matter.
fn to_str(text: &[u8]) -> String {
    match core::str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        Err(_) => text.iter().copied().map(char::from).collect(),
    }
}

fn parse(text: &str) -> Result<Vec<Tree>, Reason> {
    if text.contains('\0') {
        return Err(Reason::Syntax);
    }
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let parsed = pg_query::parse(text, 0);
    drop(guard);
    match parsed {
        Ok(parsed) => parsed
            .protobuf
            .stmts
            .into_iter()
            .map(|raw| raw.stmt.and_then(|node| node.node).ok_or(Reason::Syntax))
            .collect(),
        // Too deep for what carries the tree over from C, in either language.
        Err(pg_query::Error::Decode(_)) => Err(Reason::Complexity),
        Err(pg_query::Error::Parse(error)) if error.contains("too deep") => Err(Reason::Complexity),
        Err(_) => Err(Reason::Syntax),
    }
}

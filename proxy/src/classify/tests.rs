//! Texts and what they must come to, by a catalog written out here.
//!
//! Each table below is a list of (text, verdict); the words for verdicts are in `word`.

use manifold_core::proof::{Scope, Setting, Statement};

use super::{Catalog, CatalogError, classify};

mod bodies;
mod fixture;
mod hostile;
mod ordinary;
mod sessions;

/// A verdict in short: one word for each statement.
fn words(text: &str, catalog: &Catalog) -> String {
    let verdict = classify(text.as_bytes(), Some(catalog));
    let words: Vec<String> = verdict.statements.iter().map(word).collect();
    words.join(" ")
}

fn word(statement: &Statement) -> String {
    let setting =
        |Setting { name, value }: &Setting| format!("{name}={}", String::from_utf8_lossy(value));
    match statement {
        Statement::Opaque(reason) => format!("opaque:{reason:?}"),
        Statement::Reset(name) => format!("reset:{name}"),
        Statement::SetDefault(name) => format!("default:{name}"),
        Statement::Set(set) => format!("set:{}", setting(set)),
        Statement::SetConfig(set) => format!("set_config:{}", setting(set)),
        Statement::Show(name) => format!("show:{name}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Checks a table and reports everything that differs at once.
fn check(table: &[(&str, &str)]) {
    let catalog = fixture::catalog();
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(text, expected)| {
            let found = words(text, &catalog);
            (found != *expected).then(|| format!("{text}\n    {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn refuses_a_catalog_that_is_not_whole() {
    let error = |lines: &str| Catalog::from_lines(lines.as_bytes()).err();
    assert_eq!(error(""), Some(CatalogError::NoHead));
    assert_eq!(
        error(r#"{"is":"head","strings":"off","temporary":false}"#),
        Some(CatalogError::Strings)
    );
    for line in [
        "{}",
        "nonsense",
        r#"{"is":"unheard of"}"#,
        r#"{"is":"function","oid":1}"#,
    ] {
        assert!(
            matches!(error(line), Some(CatalogError::Line { line: 1, .. })),
            "{line}"
        );
    }
}

#[test]
fn judges_without_a_catalog_only_what_needs_none() {
    let word_of = |text: &str| word(&classify(text.as_bytes(), None).statements[0]);
    for (text, expected) in [
        ("SELECT 1", "read"),
        ("BEGIN", "begin"),
        ("SET work_mem = '4MB'", "set:work_mem=4MB"),
        ("SELECT a FROM t", "opaque:CatalogUnknown"),
        ("SELECT now()", "opaque:CatalogUnknown"),
        ("SELECT 1 + 1", "opaque:CatalogUnknown"),
        ("SELECT $1", "opaque:CatalogUnknown"),
        ("CREATE TABLE t (a int)", "opaque:CatalogUnknown"),
    ] {
        assert_eq!(word_of(text), expected, "{text}");
    }
}

#[test]
fn says_for_which_texts_a_verdict_holds() {
    let catalog = fixture::catalog();
    let scope = |text: &str| classify(text.as_bytes(), Some(&catalog)).scope;
    for text in [
        "SELECT a FROM plain WHERE a = 1",
        "BEGIN",
        "INSERT INTO plain VALUES (1, 'x')",
        "SELECT * FROM missing WHERE a = 1",
        "SELECT sneaky(1)",
    ] {
        assert_eq!(scope(text), Scope::Shape, "{text}");
    }
    for text in [
        "SET work_mem = '4MB'",
        "SELECT current_setting('work_mem')",
        "SELECT set_config('work_mem', '4MB', false)",
        "SELECT a FROM plain WHERE b = current_setting('app.b')",
        "DO 'begin end'",
        "SELECT 1; SET work_mem = '4MB'",
    ] {
        assert_eq!(scope(text), Scope::Text, "{text}");
    }
}

#[test]
fn says_which_literals_freeze_the_clock() {
    let catalog = fixture::catalog();
    let freezes = |text: &str| classify(text.as_bytes(), Some(&catalog)).freezes;
    assert!(freezes("SELECT 'now'::timestamptz"));
    assert!(freezes("SELECT a FROM plain WHERE b > 'Yesterday'"));
    assert!(freezes("INSERT INTO plain VALUES (1, E'to\\x64ay')"));
    assert!(!freezes("SELECT now()"));
    assert!(!freezes("SELECT 'snow'"));
}

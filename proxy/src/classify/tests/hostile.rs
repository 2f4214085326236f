//! Texts and objects that hide what they do, or are made to break the parser.

use std::sync::Arc;
use std::sync::mpsc::channel;

use manifold_core::ids::{DatabaseId, ShardId};
use manifold_core::proof::{Reason, Statement, Verdict};
use serde_json::json;

use super::fixture::{self, body, catalog, catalog_with, function, relation, with};
use super::{check, word, words};
use crate::classify::{Answer, Classifier, Request, classify};

#[test]
fn finds_what_objects_hide() {
    check(&[
        ("SELECT sneaky(1)", "opaque:SessionState"),
        ("SELECT public.sneaky(1)", "opaque:SessionState"),
        ("SELECT indirect(1)", "opaque:SessionState"),
        ("SELECT dynamic(1)", "opaque:Object"),
        ("SELECT locker(1)", "opaque:AdvisoryLock"),
        ("SELECT perl()", "opaque:Process"),
        ("SELECT unknown_c()", "opaque:Object"),
        ("SELECT limiter()", "opaque:Process"),
        ("SELECT nameless()", "opaque:Object"),
        ("SELECT bad_sum(a) FROM plain", "opaque:Process"),
        ("SELECT unquoted()", "opaque:SessionState"),
        ("SELECT missing_function()", "opaque:Object"),
        ("SELECT lower('X')", "opaque:SessionState"),
        ("SELECT pg_catalog.lower('X')", "read"),
        ("SELECT p.fullname FROM plain p", "opaque:Process"),
        ("SELECT (p).fullname FROM plain p", "opaque:Process"),
        ("SELECT fullname FROM plain", "read"),
        ("SELECT * FROM view_sneaky", "opaque:SessionState"),
        ("SELECT * FROM view_nested", "opaque:SessionState"),
        ("SELECT * FROM view_secret", "opaque:Relation"),
        ("SELECT * FROM secret", "opaque:Relation"),
        ("SELECT * FROM remote", "opaque:Relation"),
        ("SELECT * FROM mixed", "opaque:Relation"),
        ("SELECT * FROM checked", "opaque:SessionState"),
        ("SELECT * FROM defaulted", "read"),
        ("INSERT INTO defaulted VALUES (1)", "opaque:SessionState"),
        ("SELECT * FROM twice", "opaque:Relation"),
        ("SELECT * FROM public.twice", "read"),
        ("SELECT * FROM other.twice", "opaque:Relation"),
        ("SELECT * FROM pg_class", "opaque:SessionState"),
        ("SELECT * FROM pg_catalog.pg_class", "read"),
        ("SELECT * FROM missing", "opaque:Relation"),
        ("INSERT INTO spied VALUES (1)", "opaque:Trigger"),
        ("UPDATE loud_parent SET a = 1", "opaque:Trigger"),
        ("UPDATE view_writable SET a = 1", "opaque:Trigger"),
        ("INSERT INTO miscounted VALUES (1)", "opaque:Trigger"),
        ("UPDATE pg_settings SET setting = 'x'", "opaque:Relation"),
        ("DELETE FROM pg_class", "opaque:Relation"),
        ("COPY spied FROM STDIN", "opaque:Trigger"),
        ("COPY (SELECT sneaky(1)) TO STDOUT", "opaque:SessionState"),
        (
            "SELECT schema_to_xml('public', true, true, '')",
            "opaque:Object",
        ),
        (
            "SELECT query_to_xml('SELECT sneaky(1)', true, true, '')",
            "opaque:Object",
        ),
        ("SELECT ts_stat('SELECT sneaky(1)')", "opaque:Object"),
        ("SELECT pg_read_file('x')", "opaque:Object"),
        ("SELECT xmlelement(name a, 1)", "opaque:Unrecognised"),
        (
            "WITH x AS (INSERT INTO spied VALUES (1) RETURNING 1) SELECT 1",
            "opaque:Trigger",
        ),
        (
            "WITH x AS (SELECT set_config('a.b', 'c', false)) SELECT 1",
            "opaque:SessionState",
        ),
        (
            "WITH x AS (SELECT * FROM secret), secret AS (SELECT 1) SELECT * FROM x",
            "opaque:Relation",
        ),
        ("WITH secret AS (SELECT 1) SELECT * FROM secret", "read"),
        (
            "WITH secret AS (SELECT 1) SELECT * FROM public.secret",
            "opaque:Relation",
        ),
        (
            "SELECT * FROM (WITH secret AS (SELECT 1) SELECT 1) x, secret",
            "opaque:Relation",
        ),
        (
            "WITH spied AS (SELECT 1) DELETE FROM spied",
            "opaque:Trigger",
        ),
        ("EXPLAIN SELECT sneaky(1)", "opaque:SessionState"),
        ("EXPLAIN ANALYZE SELECT sneaky(1)", "opaque:SessionState"),
        ("DO $$ BEGIN EXECUTE 'SET x.y = 1'; END $$", "opaque:Object"),
        (
            "DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$",
            "opaque:SessionState",
        ),
        ("DO LANGUAGE plperlu 'x'", "opaque:Object"),
        ("CALL sneaky()", "opaque:SessionState"),
        ("SELECT 1; SELECT sneaky(1)", "read opaque:SessionState"),
        (
            "/* */ SELECT /* nested /* */ */ sneaky -- x\n (1)",
            "opaque:SessionState",
        ),
        ("SELECT 1 ORDER BY sneaky(1)", "opaque:SessionState"),
        ("SELECT 1 LIMIT sneaky(1)", "opaque:SessionState"),
        (
            "SELECT count(*) FILTER (WHERE sneaky(1) > 0)",
            "opaque:SessionState",
        ),
        (
            "SELECT sum(1) OVER (ORDER BY sneaky(1))",
            "opaque:SessionState",
        ),
        (
            "SELECT array_agg(1 ORDER BY sneaky(1))",
            "opaque:SessionState",
        ),
        (
            "SELECT ARRAY[sneaky(1)], ROW(1, sneaky(1))",
            "opaque:SessionState",
        ),
        (
            "SELECT CASE WHEN sneaky(1) > 0 THEN 1 END",
            "opaque:SessionState",
        ),
        ("SELECT (ARRAY[1])[sneaky(1)]", "opaque:SessionState"),
        ("VALUES (sneaky(1))", "opaque:SessionState"),
        ("SELECT * FROM sneaky(1)", "opaque:SessionState"),
        (
            "SELECT * FROM plain JOIN log ON sneaky(1) > 0",
            "opaque:SessionState",
        ),
        (
            "SELECT * FROM plain TABLESAMPLE bernoulli (sneaky(1))",
            "opaque:SessionState",
        ),
        (
            "SELECT 1 GROUP BY GROUPING SETS ((sneaky(1)))",
            "opaque:SessionState",
        ),
        (
            "INSERT INTO plain VALUES (1) ON CONFLICT (a) DO UPDATE SET a = sneaky(1)",
            "opaque:SessionState",
        ),
        (
            "INSERT INTO plain VALUES (1) RETURNING sneaky(1)",
            "opaque:SessionState",
        ),
        ("UPDATE plain SET a = sneaky(1)", "opaque:SessionState"),
        (
            "DELETE FROM plain WHERE sneaky(1) > 0",
            "opaque:SessionState",
        ),
        ("SELECT json_object('a': sneaky(1))", "opaque:SessionState"),
        (
            "SELECT 1 FROM plain WHERE a = ANY (SELECT sneaky(1))",
            "opaque:SessionState",
        ),
        (
            "COPY plain FROM STDIN WHERE sneaky(a) > 0",
            "opaque:SessionState",
        ),
        ("SELECT \"Sneaky\"(1)", "opaque:Object"),
        ("SELECT \"sneaky\"(1)", "opaque:SessionState"),
        ("SELECT U&\"sne\\0061ky\"(1)", "opaque:SessionState"),
        ("SELECT * FROM plàin", "opaque:Relation"),
        ("SELEC 1", "opaque:Syntax"),
        ("SELECT 'unterminated", "opaque:Syntax"),
        ("SELECT 1; nonsense", "opaque:Syntax"),
    ]);
}

#[test]
fn refuses_everything_under_an_unproven_cast_or_type() {
    let catalog = catalog_with(&[json!({"is": "implicit", "uses": [20_002], "expressions": []})]);
    assert_eq!(
        words("SELECT * FROM plain", &catalog),
        "opaque:SessionState"
    );
    assert_eq!(words("SELECT 1", &catalog), "read");
    let catalog = catalog_with(&[
        json!({"is": "implicit", "uses": [], "expressions": ["(sneaky(VALUE) > 0)"]}),
    ]);
    assert_eq!(words("SELECT 'x'::text", &catalog), "opaque:SessionState");
}

#[test]
fn sees_a_function_of_the_databases_own_behind_a_newer_form() {
    let catalog = catalog_with(&[
        body(43_000, "json_value", "sql", "SELECT sneaky(1)"),
        body(43_001, "normalize", "sql", "SELECT sneaky(1)"),
        body(43_002, "merge_action", "sql", "SELECT 1"),
    ]);
    assert_eq!(
        words("SELECT json_value('{}', '$')", &catalog),
        "opaque:Object"
    );
    assert_eq!(
        words("SELECT normalize('x')", &catalog),
        "opaque:SessionState"
    );
}

#[test]
fn survives_texts_made_to_break_the_parser() {
    let repeated = |piece: &str, times: usize| format!("SELECT {}1", piece.repeat(times));
    let chained = |piece: &str, times: usize| format!("SELECT 1{}", piece.repeat(times));
    let texts = [
        (repeated("1+", 64 << 10), "opaque:Complexity"),
        (repeated("1+", 1_900), "opaque:Complexity"),
        (repeated("1+", 900), "read"),
        (repeated("(", 10_000), "opaque:Complexity"),
        (repeated("- ", 5_000), "opaque:Complexity"),
        (repeated("- ", 900), "read"),
        (repeated("NOT ", 15_000), "opaque:Complexity"),
        (repeated("NOT ", 7_000), "opaque:Complexity"),
        (repeated("CASE WHEN true THEN ", 900), "opaque:Syntax"),
        (
            format!(
                "SELECT {}1{}",
                "CASE WHEN true THEN ".repeat(500),
                " END".repeat(500)
            ),
            "read",
        ),
        (
            format!("SELECT {}1{}", "abs(".repeat(190), ")".repeat(190)),
            "read",
        ),
        (chained(" UNION SELECT 1", 900), "read"),
        (chained(" UNION SELECT 1", 3_000), "opaque:Complexity"),
        (
            format!("SELECT 1 FROM plain{}", " NATURAL JOIN plain".repeat(900)),
            "read",
        ),
        (format!("SELECT 1 {}", "COLLATE \"C\" ".repeat(900)), "read"),
        (
            format!("SELECT 1 {}", "COLLATE \"C\" ".repeat(4_000)),
            "opaque:Complexity",
        ),
        ("x".repeat(70 << 10), "opaque:Complexity"),
        ("SELECT 1\0".into(), "opaque:Syntax"),
        ("SELECT 1; ".repeat(5_000), "opaque:Complexity"),
    ];
    for ((text, expected), verdict) in texts.iter().zip(classified(texts.iter().map(|(t, _)| t))) {
        let start: String = text.chars().take(40).collect();
        let words: Vec<String> = verdict.statements.iter().map(word).collect();
        assert_eq!(words.join(" "), *expected, "{start}…");
    }
}

/// The verdicts of the thread that has the stack for such texts.
fn classified<'t>(texts: impl Iterator<Item = &'t String>) -> Vec<Arc<Verdict>> {
    let (answers, received) = channel();
    let classifier = Classifier::spawn(move |_, answer| drop(answers.send(answer)))
        .expect("a thread can be started");
    let (shard, database) = (ShardId(0), DatabaseId(0));
    let catalog = Request::Catalog {
        shard,
        database,
        lines: fixture::lines(&[]).into_bytes(),
    };
    classifier.ask(catalog).expect("there is room");
    for (text, ticket) in texts.zip(0..) {
        let text = text.as_bytes().into();
        let request = Request::Classify {
            shard,
            ticket,
            database,
            text,
        };
        classifier.ask(request).expect("there is room");
    }
    drop(classifier);
    received
        .iter()
        .filter_map(|answer| match answer {
            Answer::Catalog { result, .. } => {
                assert_eq!(result, Ok(()));
                None
            }
            Answer::Verdict { verdict, .. } => Some(verdict),
        })
        .collect()
}

#[test]
fn judges_texts_that_are_not_utf8() {
    let catalog = catalog();
    let verdict = classify(b"SELECT a FROM plain WHERE b = 'caf\xe9'", Some(&catalog));
    assert_eq!(*verdict.statements, [Statement::Read]);
    let verdict = classify(b"SELECT caf\xe9()", Some(&catalog));
    assert_eq!(*verdict.statements, [Statement::Opaque(Reason::Relation)]);
}

#[test]
fn follows_triggers_written_in_reviewed_c() {
    let stamp = with(
        function(43_000, "moddatetime", "c", "$libdir/moddatetime"),
        &[("symbol", json!("moddatetime"))],
    );
    let table = with(
        relation(43_001, "dated", "r"),
        &[("triggers", json!([[43_000, null, null]]))],
    );
    let catalog = catalog_with(&[stamp, table]);
    assert_eq!(words("UPDATE dated SET a = 1", &catalog), "write");
}

#[test]
fn sees_calls_that_look_like_columns() {
    check(&[
        ("SELECT (0.5).setseed", "opaque:Process"),
        ("SELECT (1).pg_advisory_lock", "opaque:AdvisoryLock"),
        (
            "SELECT ('application_name').current_setting",
            "opaque:Object",
        ),
        ("SELECT (1).sneaky", "opaque:SessionState"),
        ("SELECT ($1).sneaky", "opaque:SessionState"),
        ("SELECT (1).abs, ('x').length", "read"),
        (
            "SELECT (log_id_seq.last_value).nextval FROM log_id_seq",
            "write",
        ),
        ("SELECT p.sneaky FROM plain p", "read"),
    ]);
    for text in [
        "SELECT a.setseed",
        "SELECT f.a.sneaky",
        "SELECT (a).dynamic",
    ] {
        let catalog = catalog_with(&[body(43_000, "tested", "sql", text)]);
        assert!(
            words("SELECT tested()", &catalog).starts_with("opaque"),
            "{text}"
        );
    }
}

#[test]
fn sees_what_definitions_evaluate_at_once() {
    check(&[
        (
            "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (sneaky(1)) STORED)",
            "opaque:SessionState",
        ),
        (
            "CREATE TABLE t (a int CHECK (sneaky(a) > 0))",
            "opaque:SessionState",
        ),
        (
            "CREATE TABLE t (a int, CHECK (sneaky(a) > 0))",
            "opaque:SessionState",
        ),
        ("CREATE TABLE t (a int DEFAULT sneaky(1))", "define"),
        (
            "CREATE TABLE t (a int) PARTITION BY RANGE ((sneaky(a)))",
            "opaque:SessionState",
        ),
        (
            "CREATE TABLE t PARTITION OF parted FOR VALUES IN (sneaky(1))",
            "opaque:SessionState",
        ),
        (
            "CREATE TABLE t PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (5)",
            "define",
        ),
        (
            "ALTER TABLE parted ATTACH PARTITION plain FOR VALUES IN (sneaky(1))",
            "opaque:SessionState",
        ),
        (
            "ALTER TABLE plain ADD EXCLUDE USING gist (sneaky(a) WITH =)",
            "opaque:Unrecognised",
        ),
        (
            "ALTER DOMAIN d ADD CHECK (sneaky(VALUE) > 0)",
            "opaque:SessionState",
        ),
        (
            "CREATE SCHEMA s CREATE TABLE t (a int CHECK (sneaky(a) > 0))",
            "opaque:SessionState",
        ),
    ]);
}

#[test]
fn sees_the_condition_of_a_trigger() {
    let fired = |condition: &str| {
        let definition = format!(
            "CREATE TRIGGER t BEFORE UPDATE ON public.picky FOR EACH ROW WHEN ({condition}) \
             EXECUTE FUNCTION stamp()"
        );
        let table = with(
            relation(43_001, "picky", "r"),
            &[
                ("triggers", json!([[20_012, null, null]])),
                ("conditions", json!([definition])),
            ],
        );
        words("UPDATE picky SET a = 1", &catalog_with(&[table]))
    };
    assert_eq!(fired("new.a > old.a"), "write");
    assert_eq!(fired("sneaky(new.a) > 0"), "opaque:SessionState");
}

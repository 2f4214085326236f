//! The catalog queries and the proof against a real PostgreSQL.
//!
//! A node of our own in a folder of its own, reached by its unix socket only. It holds a schema
//! with a bit of everything; an unprivileged user reads the catalog, and the verdicts must be what
//! the objects really do.

mod classify {
    pub mod node;
}

use std::sync::Arc;

use classify::node::Node;
use manifold::classify::{Catalog, classify as judge};
use manifold_core::proof::{CATALOG_QUERY, CATALOG_VERSION_QUERY, Statement};

/// The schema: extensions as far as they are installed, and objects harmless and not.
const SCHEMA: &str = include_str!("classify/schema.sql");

fn node() -> Arc<Node> {
    Node::shared(|node| {
        node.run("postgres", "postgres", "CREATE ROLE visitor LOGIN");
        node.run("postgres", "postgres", "CREATE DATABASE rich");
        node.run("rich", "postgres", SCHEMA);
    })
}

fn catalog(node: &Node, database: &str) -> Catalog {
    let lines = node.run(database, "visitor", CATALOG_QUERY);
    Catalog::from_lines(lines.as_bytes()).expect("the catalog can be read")
}

fn check(catalog: &Catalog, table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(text, expected)| {
            let verdict = judge(text.as_bytes(), Some(catalog));
            let words: Vec<String> = verdict.statements.iter().map(word).collect();
            let found = words.join(" ");
            (found != *expected).then(|| format!("{text}\n    {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn word(statement: &Statement) -> String {
    match statement {
        Statement::Opaque(reason) => format!("opaque:{reason:?}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[test]
fn proves_texts_by_a_real_catalog() {
    check(
        &catalog(&node(), "rich"),
        &[
            ("SELECT 1 + 1", "read"),
            ("SELECT * FROM accounts WHERE id = 1", "read"),
            (
                "SELECT count(*), max(balance) FROM accounts GROUP BY owner",
                "read",
            ),
            ("SELECT * FROM account_names", "read"),
            ("SELECT full_name(1), total(1)", "read"),
            ("SELECT * FROM readings WHERE at > now()", "read"),
            ("SELECT 'sad'::mood, 5::positive, ROW(1, 'x')::pair", "read"),
            ("SELECT middle(balance) FROM accounts", "read"),
            ("SELECT balance <+> 1 FROM accounts", "read"),
            ("SELECT standard_body(1)", "read"),
            (
                "INSERT INTO accounts (owner) VALUES ('x') RETURNING id",
                "write",
            ),
            ("INSERT INTO readings VALUES (now(), 1)", "write"),
            ("UPDATE account_names SET owner = 'x'", "write"),
            ("DELETE FROM accounts", "write"),
            ("INSERT INTO summed VALUES (1)", "write"),
            ("CALL settle()", "call"),
            ("TRUNCATE accounts CASCADE", "define"),
            ("CREATE TABLE x (a int)", "define"),
            ("VACUUM", "opaque:SessionState"),
            ("ANALYZE accounts", "write"),
            ("REFRESH MATERIALIZED VIEW balances", "define"),
            ("SELECT * FROM private", "opaque:Relation"),
            ("SELECT * FROM old_names", "opaque:Relation"),
            ("SELECT * FROM leaking", "opaque:SessionState"),
            ("SELECT * FROM leaking_index", "opaque:SessionState"),
            ("SELECT leak(1)", "opaque:SessionState"),
            ("SELECT leak_by_sql()", "opaque:SessionState"),
            ("SELECT leak_by_default()", "opaque:SessionState"),
            ("SELECT 1 <!> 2", "opaque:SessionState"),
            ("SELECT accounts.shown FROM accounts", "opaque:SessionState"),
            ("INSERT INTO watched VALUES (1)", "opaque:Trigger"),
            ("DELETE FROM watched_parent", "opaque:Trigger"),
            ("SELECT upper('x')", "opaque:SessionState"),
            ("SELECT pg_catalog.upper('x')", "read"),
            ("SELECT * FROM pg_stat_activity", "read"),
            ("SELECT * FROM information_schema.columns", "read"),
        ],
    );
}

#[test]
fn proves_an_empty_database_and_pgbench() {
    let node = node();
    node.run("postgres", "postgres", "CREATE DATABASE bench");
    node.pgbench_tables("bench");
    check(
        &catalog(&node, "bench"),
        &[
            (
                "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
                "read",
            ),
            (
                "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1",
                "write",
            ),
            (
                "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES \
                 (1, 1, 1, 1, CURRENT_TIMESTAMP)",
                "write",
            ),
            ("VACUUM", "standalone"),
            ("ANALYZE", "standalone"),
        ],
    );
}

#[test]
fn gives_the_same_catalog_whatever_the_session_has_set() {
    let node = node();
    let lines = |prelude: &str| {
        let text = node.run("rich", "visitor", &format!("{prelude};\n{CATALOG_QUERY}"));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let plain = lines("SELECT 1 WHERE false");
    for prelude in [
        "BEGIN READ ONLY",
        "SET search_path = 'public', 'pg_catalog'",
        "SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape'",
        "SET default_transaction_read_only = on; SET row_security = off",
    ] {
        assert_eq!(lines(prelude).len(), plain.len(), "{prelude}");
    }
    // The path only decides where names are written with their schema.
    let text = lines("SET search_path = ''").join("\n");
    let catalog = Catalog::from_lines(text.as_bytes()).expect("the catalog can be read");
    check(
        &catalog,
        &[
            ("SELECT * FROM account_names", "read"),
            ("SELECT * FROM leaking", "opaque:SessionState"),
            ("INSERT INTO accounts (owner) VALUES ('x')", "write"),
        ],
    );
}

#[test]
fn refuses_a_catalog_read_with_backslash_escapes() {
    let node = node();
    let text = node.run(
        "rich",
        "visitor",
        &format!("SET standard_conforming_strings = off;\n{CATALOG_QUERY}"),
    );
    assert!(Catalog::from_lines(text.as_bytes()).is_err());
}

#[test]
fn changes_version_with_each_definition() {
    let node = node();
    node.run("postgres", "postgres", "CREATE DATABASE defined");
    node.run("defined", "postgres", SCHEMA);
    let version = || node.run("defined", "visitor", CATALOG_VERSION_QUERY);
    let mut last = version();
    for text in [
        "CREATE TABLE fresh (a int)",
        "ALTER TABLE fresh ALTER a SET DEFAULT 1",
        "ALTER TABLE fresh ADD CHECK (a > 0)",
        "ALTER TABLE fresh ADD b int GENERATED ALWAYS AS (a + 1) STORED",
        "ALTER TABLE fresh ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE fresh DISABLE ROW LEVEL SECURITY",
        "CREATE INDEX fresh_index ON fresh ((a + 1))",
        "DROP INDEX fresh_index",
        "CREATE STATISTICS fresh_statistics ON (a + 1) FROM fresh",
        "CREATE RULE fresh_rule AS ON DELETE TO fresh DO INSTEAD NOTHING",
        "DROP RULE fresh_rule ON fresh",
        "CREATE FUNCTION fresh() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION fresh() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "ALTER FUNCTION fresh() SET work_mem = '1MB'",
        "ALTER FUNCTION fresh() RENAME TO fresher",
        "ALTER FUNCTION fresher() SET SCHEMA other",
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        "CREATE TRIGGER fire AFTER INSERT ON fresh FOR EACH ROW EXECUTE FUNCTION fire()",
        "DROP TRIGGER fire ON fresh",
        "CREATE VIEW fresh_view AS SELECT a FROM fresh",
        "CREATE OR REPLACE VIEW fresh_view AS SELECT a + 0 AS a FROM fresh",
        "ALTER VIEW fresh_view RENAME TO fresher_view",
        "CREATE OPERATOR <?> (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int)",
        "DROP OPERATOR <?> (int, int)",
        "CREATE DOMAIN small AS int CHECK (VALUE < 10)",
        "ALTER DOMAIN small ADD CHECK (VALUE > 0)",
        "CREATE CAST (mood AS int) WITH FUNCTION mood_number(mood)",
        "CREATE TABLE fresh_child () INHERITS (fresh)",
        "ALTER TABLE fresh_child NO INHERIT fresh",
        "ALTER TABLE fresh ADD PRIMARY KEY (a)",
        "CREATE TABLE fresh_reference (a int REFERENCES fresh ON DELETE CASCADE)",
        "ALTER SCHEMA other RENAME TO another",
        "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER ev ON ddl_command_start EXECUTE FUNCTION ev()",
        "DROP EVENT TRIGGER ev",
        "ALTER ROLE visitor IN DATABASE defined SET work_mem = '5MB'",
        "ALTER TABLE fresh RENAME TO fresher",
        "DROP TABLE fresher CASCADE",
    ] {
        node.run("defined", "postgres", text);
        let now = version();
        assert_ne!(now, last, "{text}");
        last = now;
    }
}

#[test]
fn keeps_version_under_traffic_and_maintenance() {
    let node = node();
    node.run("postgres", "postgres", "CREATE DATABASE busy");
    node.run("busy", "postgres", SCHEMA);
    let version = || node.run("busy", "visitor", CATALOG_VERSION_QUERY);
    let before = version();
    assert!(before.contains(':'), "{before}");
    let mut other = node.session("busy", "postgres");
    other.send("CREATE TEMP TABLE t (a serial PRIMARY KEY, b int CHECK (b > 0) DEFAULT 1);");
    other.send("CREATE INDEX ON t ((b + 1)); CREATE TEMP VIEW v AS SELECT * FROM t;");
    for text in [
        "INSERT INTO accounts (owner) SELECT 'x' FROM generate_series(1, 1000)",
        "UPDATE accounts SET balance = 2",
        "ANALYZE",
        "VACUUM",
        "VACUUM FREEZE",
        "VACUUM FULL accounts",
        "TRUNCATE accounts CASCADE",
        "REFRESH MATERIALIZED VIEW balances",
        "SELECT nextval('accounts_id_seq')",
        "CREATE TEMP TABLE t (a serial PRIMARY KEY, b int CHECK (b > 0))",
        "CREATE ROLE somebody; DROP ROLE somebody",
        "CHECKPOINT",
    ] {
        node.run("busy", "postgres", text);
        assert_eq!(version(), before, "{text}");
    }
}

#[test]
fn reads_catalog_while_tables_are_locked() {
    let node = node();
    node.run("postgres", "postgres", "CREATE DATABASE held");
    node.run("held", "postgres", SCHEMA);
    node.run(
        "held",
        "postgres",
        "CREATE TABLE free (id serial, a int CHECK (a > 0));
         CREATE TABLE plain (id serial, a int DEFAULT 7);
         CREATE TABLE tested (a int CHECK (a > 0));
         CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a + 1) STORED);
         CREATE TABLE found (a int); CREATE INDEX ON found ((a + 1)) WHERE a > 1;
         CREATE TABLE parted (a int) PARTITION BY RANGE ((a + 1));
         CREATE TABLE counted (a int, b int); CREATE STATISTICS s ON (a + 1), b FROM counted;
         CREATE TABLE seen (a int); CREATE VIEW seeing AS SELECT a + 1 AS b FROM seen;
         CREATE VIEW shown AS SELECT 1 AS a;
         CREATE FUNCTION seer() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM seen; END",
    );
    let is_partial = |lines: &str| lines.lines().any(str::is_empty);
    assert!(!is_partial(&node.run("held", "visitor", CATALOG_QUERY)));
    let mut holder = node.session("held", "postgres");
    for (lock, spoiled) in [
        ("LOCK plain", ""),
        ("TRUNCATE tested", "SELECT * FROM tested"),
        ("TRUNCATE made", "SELECT * FROM made"),
        ("TRUNCATE found", "SELECT * FROM found"),
        ("LOCK parted", "INSERT INTO parted VALUES (1)"),
        ("TRUNCATE counted", "SELECT * FROM counted"),
        ("LOCK seen", "SELECT * FROM seeing"),
        ("LOCK seen", "SELECT seer()"),
        (
            "ALTER VIEW shown SET (security_barrier)",
            "SELECT * FROM shown",
        ),
        ("ALTER TABLE watched ADD COLUMN more int", ""),
    ] {
        holder.send(&format!("BEGIN; {lock};"));
        // It would wait for the holder, until its own time limit ended it.
        let lines = node.run("held", "visitor", CATALOG_QUERY);
        let catalog = Catalog::from_lines(lines.as_bytes()).expect("the catalog can be read");
        assert_eq!(is_partial(&lines), !spoiled.is_empty(), "{lock}");
        if !spoiled.is_empty() {
            let verdict = judge(spoiled.as_bytes(), Some(&catalog));
            let word = word(&verdict.statements[0]);
            assert!(
                ["opaque:Relation", "opaque:Object"].contains(&&*word),
                "{lock}: {spoiled}: {word}"
            );
        }
        check(
            &catalog,
            &[
                ("SELECT * FROM free", "read"),
                ("INSERT INTO plain VALUES (1)", "write"),
            ],
        );
        holder.send("ROLLBACK;");
    }
}

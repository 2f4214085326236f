//! What applications, their libraries and pgbench send.

use serde_json::json;

use super::fixture::{body, catalog_with, function, oid_of, relation, with};
use super::{check, words};

#[test]
fn proves_what_pgbench_sends() {
    let tables: Vec<_> = [
        "pgbench_accounts",
        "pgbench_branches",
        "pgbench_history",
        "pgbench_tellers",
    ]
    .iter()
    .zip(40_000..)
    .map(|(name, oid)| relation(oid, name, "r"))
    .collect();
    let catalog = catalog_with(&tables);
    for (text, expected) in [
        ("BEGIN", "begin"),
        ("BEGIN;", "begin"),
        ("END;", "end"),
        (
            "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 2;",
            "write",
        ),
        (
            "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2;",
            "write",
        ),
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = 3;",
            "read",
        ),
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
            "read",
        ),
        (
            "UPDATE pgbench_tellers SET tbalance = tbalance + -5 WHERE tid = 6;",
            "write",
        ),
        (
            "UPDATE pgbench_branches SET bbalance = bbalance + 7 WHERE bid = 8;",
            "write",
        ),
        (
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) \
             VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
            "write",
        ),
        ("vacuum pgbench_branches", "standalone"),
        ("truncate pgbench_history", "define"),
        ("select count(*) from pgbench_branches", "read"),
    ] {
        assert_eq!(words(text, &catalog), expected, "{text}");
    }
}

#[test]
fn proves_queries() {
    check(&[
        ("", ""),
        (";", ""),
        ("-- nothing", ""),
        ("SELECT 1", "read"),
        ("SELECT 1; SELECT 2", "read read"),
        ("select 1 /* ; drop table plain */", "read"),
        ("VALUES (1, 'a'), (2, 'b')", "read"),
        ("TABLE plain", "read"),
        ("SELECT * FROM plain", "read"),
        ("SELECT * FROM public.plain", "read"),
        ("SELECT p.a, p.b FROM plain AS p WHERE p.a = $1", "read"),
        (
            "SELECT a FROM plain WHERE a IN (1, 2) AND b LIKE 'x%' OR b ILIKE $1",
            "read",
        ),
        (
            "SELECT a FROM plain WHERE a BETWEEN 1 AND 2 ORDER BY a DESC LIMIT 10 OFFSET 5",
            "read",
        ),
        (
            "SELECT count(*) FILTER (WHERE a > 1), max(a) FROM plain GROUP BY b HAVING count(*) > 1",
            "read",
        ),
        (
            "SELECT DISTINCT ON (a) a, b FROM plain ORDER BY a, b",
            "read",
        ),
        (
            "SELECT a FROM plain UNION ALL SELECT a FROM log EXCEPT SELECT 1",
            "read",
        ),
        (
            "SELECT * FROM plain JOIN log USING (a) LEFT JOIN parent ON parent.a = plain.a",
            "read",
        ),
        (
            "SELECT * FROM plain NATURAL JOIN log CROSS JOIN LATERAL (SELECT plain.a) AS x",
            "read",
        ),
        (
            "SELECT row_number() OVER (PARTITION BY b ORDER BY a ROWS 1 PRECEDING) FROM plain",
            "read",
        ),
        (
            "SELECT sum(a) OVER w FROM plain WINDOW w AS (PARTITION BY b)",
            "read",
        ),
        (
            "SELECT a FROM plain GROUP BY GROUPING SETS ((a), ())",
            "read",
        ),
        (
            "SELECT CASE a WHEN 1 THEN 'x' ELSE coalesce(b, 'y') END FROM plain",
            "read",
        ),
        (
            "SELECT (ARRAY[1, 2])[1], ARRAY(SELECT a FROM plain), (SELECT 1), ROW(1, 2)",
            "read",
        ),
        (
            "SELECT a FROM plain WHERE EXISTS (SELECT FROM log WHERE log.a = plain.a)",
            "read",
        ),
        (
            "SELECT a FROM plain WHERE a = ANY($1) AND a <> ALL (SELECT a FROM log)",
            "read",
        ),
        (
            "SELECT '2024-01-01'::date, CAST($1 AS integer), 'plain'::regclass",
            "read",
        ),
        (
            "SELECT extract(epoch FROM now()), now() AT TIME ZONE 'UTC', current_date",
            "read",
        ),
        (
            "SELECT substring(b FROM 1 FOR 2), btrim(b), overlay(b PLACING 'x' FROM 1) FROM plain",
            "read",
        ),
        ("SELECT * FROM generate_series(1, 10) AS g(i)", "read"),
        (
            "SELECT * FROM ROWS FROM (generate_series(1, 2), unnest($1)) WITH ORDINALITY",
            "read",
        ),
        ("SELECT * FROM plain TABLESAMPLE bernoulli (10)", "read"),
        (
            "SELECT b COLLATE \"C\", b IS NULL, a IS DISTINCT FROM 1, (a > 1) IS TRUE FROM plain",
            "read",
        ),
        (
            "SELECT least(1, 2), greatest(3, 4), nullif(a, 1) FROM plain",
            "read",
        ),
        (
            "SELECT current_user, session_user, current_schema, current_catalog",
            "read",
        ),
        (
            "SELECT json_build_object('a', a), b::jsonb -> 'x' ->> 'y' FROM plain",
            "read",
        ),
        (
            "SELECT random(), clock_timestamp(), gen_random_uuid(), timeofday()",
            "read",
        ),
        (
            "SELECT version(), current_database(), current_schema()",
            "read",
        ),
        ("SELECT pg_catalog.version()", "read"),
        ("SELECT inet_client_addr()", "read"),
        ("SELECT pg_is_in_recovery()", "read"),
        ("SELECT harmless(a) FROM plain", "read"),
        ("SELECT reader(1)", "read"),
        ("SELECT recursive(5)", "read"),
        ("SELECT trigram(b) FROM plain", "read"),
        ("SELECT text_in('x'), my_sum(a) FROM plain", "read"),
        ("SELECT * FROM view_plain", "read"),
        ("SELECT * FROM parted", "read"),
        ("SELECT * FROM summary", "read"),
        ("SELECT last_value FROM log_id_seq", "read"),
        ("SELECT pathed()", "read"),
        ("SELECT local_setting()", "read"),
        ("SELECT current_setting('app.tenant')", "read"),
        ("SELECT current_setting('app.tenant', true)::int", "read"),
        ("SELECT current_schemas(false)", "read"),
        ("WITH x AS (SELECT a FROM plain) SELECT * FROM x", "read"),
        (
            "WITH x AS MATERIALIZED (SELECT 1), y AS (SELECT * FROM x) SELECT * FROM y, x",
            "read",
        ),
        (
            "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) \
             SELECT sum(n) FROM t",
            "read",
        ),
        ("SELECT * FROM plain FOR UPDATE", "readwaiting"),
        (
            "SELECT * FROM plain FOR NO KEY UPDATE SKIP LOCKED",
            "readwaiting",
        ),
        ("SELECT * FROM plain p FOR SHARE OF p NOWAIT", "readwaiting"),
        ("SELECT pg_sleep(1)", "readwaiting"),
        ("SELECT sleeper()", "readwaiting"),
        ("SELECT pg_advisory_xact_lock(1)", "readwaiting"),
        ("SELECT pg_try_advisory_xact_lock(1, 2)", "readwaiting"),
    ]);
}

#[test]
fn proves_writes() {
    check(&[
        ("INSERT INTO plain VALUES (1, 'x')", "write"),
        ("INSERT INTO plain DEFAULT VALUES", "write"),
        (
            "INSERT INTO plain (a) SELECT a FROM log RETURNING a, b",
            "write",
        ),
        ("INSERT INTO log VALUES (DEFAULT)", "write"),
        (
            "INSERT INTO plain AS p VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b \
             WHERE p.a > 0",
            "write",
        ),
        (
            "INSERT INTO plain VALUES (1) ON CONFLICT DO NOTHING",
            "write",
        ),
        (
            "UPDATE plain SET (a, b) = (SELECT 1, 'x') FROM log WHERE log.a = plain.a",
            "write",
        ),
        (
            "UPDATE ONLY plain SET a = a + 1 WHERE CURRENT OF c",
            "write",
        ),
        (
            "DELETE FROM plain USING log WHERE plain.a = log.a RETURNING *",
            "write",
        ),
        (
            "MERGE INTO plain p USING log l ON p.a = l.a WHEN MATCHED THEN UPDATE SET b = 'x' \
             WHEN NOT MATCHED THEN INSERT VALUES (l.a)",
            "write",
        ),
        (
            "WITH gone AS (DELETE FROM plain RETURNING a) SELECT * FROM gone",
            "write",
        ),
        (
            "WITH x AS (SELECT 1) INSERT INTO plain SELECT * FROM x",
            "write",
        ),
        ("SELECT counter(1)", "write"),
        ("SELECT nextval('log_id_seq')", "write"),
        ("SELECT setval('log_id_seq', 1)", "write"),
        ("SELECT txid_current()", "write"),
        ("SELECT pg_notify('c', 'p')", "write"),
        ("NOTIFY c, 'p'", "write"),
        ("INSERT INTO stamped VALUES (1)", "write"),
        ("INSERT INTO counted VALUES (1)", "write"),
        ("DELETE FROM parent", "write"),
        ("INSERT INTO parted VALUES (1)", "write"),
        ("UPDATE view_plain SET a = 1", "write"),
        ("DELETE FROM plain", "write"),
        ("COPY plain FROM STDIN", "copy"),
        ("COPY plain (a, b) TO STDOUT WITH (FORMAT csv)", "copy"),
        ("COPY (SELECT * FROM plain) TO STDOUT", "copy"),
        ("CALL committing()", "call"),
        ("DO $$ BEGIN INSERT INTO log VALUES (1); END $$", "call"),
        ("ANALYZE plain", "write"),
        ("CHECKPOINT", "write"),
        ("EXPLAIN SELECT * FROM plain", "read"),
        ("EXPLAIN (COSTS off) DELETE FROM plain", "read"),
        ("EXPLAIN ANALYZE SELECT * FROM plain", "readwaiting"),
        ("EXPLAIN (ANALYZE, BUFFERS) DELETE FROM plain", "write"),
    ]);
}

#[test]
fn proves_what_object_mappers_ask_the_catalog() {
    check(&[
        // Django
        (
            "SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') \
             THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') \
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n \
             ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') \
             AND n.nspname NOT IN ('pg_catalog', 'pg_toast') \
             AND pg_catalog.pg_table_is_visible(c.oid)",
            "read",
        ),
        // SQLAlchemy
        ("select pg_catalog.version()", "read"),
        ("select current_schema()", "read"),
        (
            "show standard_conforming_strings",
            "show:standard_conforming_strings",
        ),
        (
            "show transaction isolation level",
            "show:transaction_isolation",
        ),
        (
            "SELECT pg_catalog.pg_type.typname FROM pg_catalog.pg_type JOIN \
             pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = \
             pg_catalog.pg_type.typnamespace WHERE pg_catalog.pg_type.typname = $1::VARCHAR AND \
             pg_catalog.pg_type_is_visible(pg_catalog.pg_type.oid)",
            "read",
        ),
        // Npgsql
        (
            "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM ( \
             SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, \
             typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, CASE WHEN \
             proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typ2 FROM ( SELECT \
             typ.*, relkind FROM pg_catalog.pg_type AS typ LEFT JOIN pg_catalog.pg_class AS cls \
             ON (cls.oid = typ.typrelid)) AS typ LEFT JOIN pg_catalog.pg_proc AS proc ON \
             proc.oid = typ.typreceive LEFT JOIN pg_catalog.pg_type AS elemtyp ON elemtyp.oid = \
             typ.typelem LEFT JOIN pg_catalog.pg_range ON (pg_range.rngtypid = typ.oid)) AS t \
             JOIN pg_catalog.pg_namespace AS ns ON (ns.oid = t.typnamespace) WHERE t.typtype IN \
             ('b', 'r', 'm', 'e', 'd') ORDER BY CASE WHEN typtype='b' THEN 0 ELSE 1 END",
            "read",
        ),
        // JDBC
        ("SET extra_float_digits = 3", "set:extra_float_digits=3"),
        (
            "SET application_name = 'PostgreSQL JDBC Driver'",
            "set:application_name=PostgreSQL JDBC Driver",
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "set:default_transaction_read_only=on",
        ),
        (
            "SELECT e.typdelim FROM pg_catalog.pg_type t, pg_catalog.pg_type e WHERE t.oid = $1 \
             and t.typelem = e.oid",
            "read",
        ),
        // psycopg
        (
            "SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, \
             typdelim AS delimiter FROM pg_type t WHERE t.oid = to_jsonb($1)::text::regtype \
             ORDER BY t.oid",
            "read",
        ),
        (
            "SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid = e.enumtypid \
             WHERE e.enumlabel = 'x' GROUP BY t.oid",
            "read",
        ),
        // Rails
        (
            "SET client_min_messages TO 'warning'",
            "set:client_min_messages=warning",
        ),
        (
            "SET standard_conforming_strings = on",
            "set:standard_conforming_strings=on",
        ),
        ("SET SESSION timezone TO 'UTC'", "set:timezone=UTC"),
        ("SHOW max_identifier_length", "show:max_identifier_length"),
        ("SHOW search_path", "show:search_path"),
        (
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, \
             d.adrelid) FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND \
             a.attnum = d.adnum WHERE a.attrelid = '\"plain\"'::regclass AND a.attnum > 0 AND NOT \
             a.attisdropped ORDER BY a.attnum",
            "read",
        ),
    ]);
}

#[test]
fn proves_an_operator_by_its_functions() {
    let operator = |name: &str, oid: usize| json!({"is": "operator", "schema": "public", "name": name, "uses": [oid, 0, 0]});
    let citext_eq = with(
        function(41_000, "citext_eq", "c", "$libdir/citext"),
        &[("volatility", json!("i")), ("symbol", json!("citext_eq"))],
    );
    let catalog = catalog_with(&[
        citext_eq,
        body(41_001, "op_sneaky", "sql", "SELECT sneaky(1)"),
        operator("=", 41_000),
        operator("<<<", 41_001),
        operator("###", oid_of("int4pl")),
        operator("!!!", oid_of("current_setting")),
    ]);
    for (text, expected) in [
        ("SELECT * FROM plain WHERE b = 'x'", "read"),
        ("SELECT 1 ### 2", "read"),
        ("SELECT 1 <<< 2", "opaque:SessionState"),
        ("SELECT 1 OPERATOR(public.<<<) 2", "opaque:SessionState"),
        ("SELECT 1 OPERATOR(other.<<<) 2", "read"),
        (
            "SELECT * FROM plain ORDER BY a USING <<<",
            "opaque:SessionState",
        ),
        ("SELECT !!! 'application_name'", "opaque:Object"),
    ] {
        assert_eq!(words(text, &catalog), expected, "{text}");
    }
}

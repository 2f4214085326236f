//! A database with one thing of each kind, harmless and not.

use serde_json::{Value, json};

use crate::classify::Catalog;

/// Functions of pg_catalog: immutable or stable, then volatile.
const STEADY: &[&str] = &[
    "abs",
    "age",
    "array_agg",
    "array_in",
    "array_length",
    "array_to_string",
    "btrim",
    "cardinality",
    "coalesce",
    "concat",
    "count",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "date_part",
    "date_trunc",
    "extract",
    "format",
    "format_type",
    "generate_series",
    "has_table_privilege",
    "inet_client_addr",
    "int4eq",
    "int4pl",
    "json_agg",
    "json_build_object",
    "jsonb_array_elements",
    "jsonb_build_object",
    "jsonb_set",
    "length",
    "lower",
    "max",
    "md5",
    "min",
    "normalize",
    "now",
    "obj_description",
    "overlay",
    "pg_backend_pid",
    "pg_cursor",
    "pg_encoding_to_char",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_indexdef",
    "pg_get_userbyid",
    "pg_get_viewdef",
    "pg_listening_channels",
    "pg_my_temp_schema",
    "pg_prepared_statement",
    "pg_show_all_settings",
    "pg_stat_get_activity",
    "pg_table_is_visible",
    "pg_type_is_visible",
    "pg_typeof",
    "position",
    "regexp_replace",
    "replace",
    "round",
    "row_number",
    "row_to_json",
    "schema_to_xml",
    "similar_to_escape",
    "string_agg",
    "substring",
    "sum",
    "table_to_xml",
    "text",
    "timezone",
    "to_char",
    "to_jsonb",
    "to_tsvector",
    "transaction_timestamp",
    "trunc",
    "txid_current",
    "unnest",
    "upper",
    "version",
    "xmlcomment",
];

const VOLATILE: &[&str] = &[
    "bernoulli",
    "clock_timestamp",
    "currval",
    "cursor_to_xml",
    "gen_random_uuid",
    "lastval",
    "lo_create",
    "lo_open",
    "loread",
    "nextval",
    "pg_advisory_lock",
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "pg_advisory_xact_lock",
    "pg_cancel_backend",
    "pg_export_snapshot",
    "pg_is_in_recovery",
    "pg_logical_slot_get_changes",
    "pg_notify",
    "pg_read_file",
    "pg_relation_size",
    "pg_sleep",
    "pg_stat_get_xact_numscans",
    "pg_stat_reset",
    "pg_terminate_backend",
    "pg_total_relation_size",
    "pg_try_advisory_lock",
    "pg_try_advisory_xact_lock",
    "query_to_xml",
    "random",
    "set_config",
    "setseed",
    "setval",
    "timeofday",
    "ts_stat",
];

const SYSTEM: &[&str] = &[
    "pg_attrdef",
    "pg_attribute",
    "pg_class",
    "pg_collation",
    "pg_constraint",
    "pg_cursors",
    "pg_database",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_extension",
    "pg_index",
    "pg_inherits",
    "pg_locks",
    "pg_namespace",
    "pg_opclass",
    "pg_prepared_statements",
    "pg_proc",
    "pg_range",
    "pg_roles",
    "pg_settings",
    "pg_stat_activity",
    "pg_stat_xact_all_tables",
    "pg_stat_user_tables",
    "pg_tables",
    "pg_type",
    "pg_user",
    "pg_views",
    "pg_am",
    "pg_policy",
];

/// The catalog.
pub(super) fn catalog() -> Catalog {
    Catalog::from_lines(lines(&[]).as_bytes()).expect("the fixture is well formed")
}

/// The catalog with lines of one's own.
pub(super) fn catalog_with(more: &[Value]) -> Catalog {
    Catalog::from_lines(lines(more).as_bytes()).expect("the fixture is well formed")
}

/// The catalog as a node sends it, with lines of one's own.
pub(super) fn lines(more: &[Value]) -> String {
    let mut lines = vec![
        json!({"is": "head", "strings": "on", "temporary": false}),
        builtin("s", 100, STEADY),
        builtin("v", 1_000, VOLATILE),
        json!({"is": "system", "schema": "pg_catalog", "names": SYSTEM}),
        json!({"is": "system", "schema": "information_schema", "names": ["tables", "columns"]}),
        json!({"is": "event", "uses": null}),
    ];
    lines.extend(functions());
    lines.extend(relations());
    lines.extend(more.iter().cloned());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn builtin(volatility: &str, first: usize, names: &[&str]) -> Value {
    let oids: Vec<usize> = (first..first + names.len()).collect();
    json!({"is": "builtin", "volatility": volatility, "oids": oids, "names": names})
}

/// The id of a function of pg_catalog.
pub(super) fn oid_of(name: &str) -> usize {
    let place = |names: &[&str]| names.iter().position(|n| *n == name);
    place(STEADY).map_or_else(
        || 1_000 + place(VOLATILE).expect("a function of the fixture"),
        |at| 100 + at,
    )
}

/// A function of the database's own.
pub(super) fn function(oid: u32, name: &str, language: &str, source: &str) -> Value {
    json!({
        "is": "function", "oid": oid, "schema": "public", "name": name, "language": language,
        "volatility": "v", "method": true, "attribute": false, "settings": null, "source": source,
        "symbol": null, "uses": null,
    })
}

/// The text of a function in SQL or PL/pgSQL as the node gives it.
pub(super) fn defined(language: &str, returns: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION public.f(a integer DEFAULT 1)\n RETURNS {returns}\n \
         LANGUAGE {language}\nAS $function$\n{body}\n$function$\n"
    )
}

/// A function with a body.
pub(super) fn body(oid: u32, name: &str, language: &str, body: &str) -> Value {
    function(oid, name, language, &defined(language, "integer", body))
}

/// A relation of the database's own.
pub(super) fn relation(oid: u32, name: &str, kind: &str) -> Value {
    json!({
        "is": "relation", "oid": oid, "schema": "public", "name": name, "kind": kind,
        "guarded": false, "definition": null, "reading": [], "statistics": [], "writing": [],
        "triggers": null, "conditions": null,
    })
}

/// The same with some fields changed.
pub(super) fn with(mut line: Value, changes: &[(&str, Value)]) -> Value {
    for (field, value) in changes {
        line[*field] = value.clone();
    }
    line
}

fn functions() -> Vec<Value> {
    vec![
        body(20_000, "harmless", "sql", "SELECT a + 1"),
        body(
            20_001,
            "counter",
            "sql",
            "INSERT INTO log VALUES (a) RETURNING 1",
        ),
        body(
            20_002,
            "sneaky",
            "sql",
            "SELECT set_config('search_path', 'evil', false)::int",
        ),
        body(
            20_003,
            "indirect",
            "plpgsql",
            "BEGIN PERFORM sneaky(1); RETURN 1; END",
        ),
        body(
            20_004,
            "dynamic",
            "plpgsql",
            "BEGIN EXECUTE 'SET x.y = 1'; RETURN 1; END",
        ),
        body(
            20_005,
            "recursive",
            "plpgsql",
            "BEGIN RETURN recursive(a - 1); END",
        ),
        body(
            20_006,
            "locker",
            "plpgsql",
            "BEGIN PERFORM pg_advisory_lock(1); RETURN 1; END",
        ),
        function(20_007, "perl", "plperl", "anything"),
        with(
            function(20_008, "trigram", "c", "$libdir/pg_trgm"),
            &[("volatility", json!("i")), ("symbol", json!("similarity"))],
        ),
        with(
            function(20_009, "limiter", "c", "$libdir/pg_trgm"),
            &[("volatility", json!("s")), ("symbol", json!("set_limit"))],
        ),
        with(
            function(20_010, "unknown_c", "c", "$libdir/mystery"),
            &[("volatility", json!("i")), ("symbol", json!("mystery"))],
        ),
        with(
            body(20_011, "fullname", "sql", "SELECT setseed(0)::text::int"),
            &[("attribute", json!(true))],
        ),
        body(
            20_012,
            "stamp",
            "plpgsql",
            "BEGIN new.b := upper(new.b); RETURN new; END",
        ),
        body(
            20_013,
            "spy",
            "plpgsql",
            "BEGIN PERFORM set_config('a.b', 'c', false); RETURN new; END",
        ),
        body(
            20_014,
            "totals",
            "plpgsql",
            "BEGIN INSERT INTO log SELECT count(*) FROM added; RETURN NULL; END",
        ),
        with(
            function(20_015, "text_in", "internal", ""),
            &[("uses", json!([oid_of("array_in")]))],
        ),
        function(20_016, "nameless", "internal", ""),
        with(
            function(20_017, "my_sum", "aggregate", ""),
            &[("uses", json!([oid_of("int4pl")]))],
        ),
        with(
            function(20_018, "bad_sum", "aggregate", ""),
            &[("uses", json!([20_007]))],
        ),
        with(
            body(20_019, "unquoted", "sql", "SELECT 1"),
            &[("settings", json!(["standard_conforming_strings=off"]))],
        ),
        with(
            body(20_020, "pathed", "sql", "SELECT a FROM plain"),
            &[("settings", json!(["search_path=pg_catalog, pg_temp"]))],
        ),
        body(20_021, "sleeper", "sql", "SELECT pg_sleep(1)::text::int"),
        body(20_022, "atomic", "sql", "SELECT 1"),
        body(20_023, "lower", "sql", "SELECT sneaky(1)"),
        body(
            20_024,
            "local_setting",
            "plpgsql",
            "BEGIN PERFORM set_config('app.user', 'x', true); SET LOCAL work_mem = '1MB'; RETURN 1; END",
        ),
        body(
            20_025,
            "committing",
            "plpgsql",
            "BEGIN INSERT INTO log VALUES (1); COMMIT; ROLLBACK; END",
        ),
        body(
            20_026,
            "reader",
            "plpgsql",
            "DECLARE r record; n int := 0; BEGIN FOR r IN SELECT * FROM plain LOOP n := n + r.a; \
             END LOOP; RETURN n; END",
        ),
    ]
}

fn relations() -> Vec<Value> {
    let trigger = |oid: u32| json!([[oid, null, null]]);
    vec![
        relation(30_000, "plain", "r"),
        with(
            relation(30_001, "log", "r"),
            &[("writing", json!(["nextval('log_id_seq'::regclass)"]))],
        ),
        relation(30_002, "log_id_seq", "S"),
        with(relation(30_003, "secret", "r"), &[("guarded", json!(true))]),
        with(
            relation(30_004, "view_plain", "v"),
            &[(
                "definition",
                json!(" SELECT plain.a,\n    plain.b\n   FROM plain;"),
            )],
        ),
        with(
            relation(30_005, "view_sneaky", "v"),
            &[(
                "definition",
                json!(" SELECT sneaky(plain.a) AS s FROM plain;"),
            )],
        ),
        with(
            relation(30_006, "view_secret", "v"),
            &[("definition", json!(" SELECT secret.a FROM secret;"))],
        ),
        with(
            relation(30_007, "view_nested", "v"),
            &[("definition", json!(" SELECT s.s FROM view_sneaky s;"))],
        ),
        relation(30_008, "remote", "f"),
        relation(30_009, "parted", "p"),
        relation(30_010, "part_local", "r"),
        relation(30_011, "mixed", "p"),
        json!({"is": "inherits", "pairs": [[30_009, 30_010], [30_011, 30_008]]}),
        with(
            relation(30_012, "stamped", "r"),
            &[("triggers", trigger(20_012))],
        ),
        with(
            relation(30_013, "spied", "r"),
            &[("triggers", trigger(20_013))],
        ),
        relation(30_014, "parent", "r"),
        relation(30_015, "loud_parent", "r"),
        with(
            relation(30_016, "child", "r"),
            &[("triggers", trigger(20_012))],
        ),
        json!({"is": "foreign", "keys": [
            [30_014, 30_016, true], [30_015, 30_013, true], [30_000, 30_013, false],
        ]}),
        with(
            relation(30_017, "counted", "r"),
            &[("triggers", json!([[20_014, null, "added"]]))],
        ),
        with(
            relation(30_018, "miscounted", "r"),
            &[("triggers", json!([[20_014, null, null]]))],
        ),
        with(
            relation(30_019, "checked", "r"),
            &[("reading", json!(["(sneaky(a) > 0)"]))],
        ),
        with(
            relation(30_020, "defaulted", "r"),
            &[("writing", json!(["sneaky(1)"]))],
        ),
        relation(30_021, "summary", "m"),
        with(
            relation(30_022, "bad_summary", "m"),
            &[("definition", json!(" SELECT sneaky(1) AS s;"))],
        ),
        relation(30_023, "twice", "r"),
        with(
            relation(30_024, "twice", "r"),
            &[("schema", json!("other")), ("guarded", json!(true))],
        ),
        with(
            relation(30_025, "pg_class", "v"),
            &[
                ("schema", json!("shadow")),
                ("definition", json!(" SELECT sneaky(1) AS relname;")),
            ],
        ),
        with(
            relation(30_026, "view_writable", "v"),
            &[("definition", json!(" SELECT spied.a FROM spied;"))],
        ),
    ]
}

//! Statements about the session, its transaction and the catalog.

use serde_json::json;

use super::fixture::{body, catalog_with};
use super::{check, words};

#[test]
fn takes_settings_as_postgresql_flattens_them() {
    check(&[
        ("SET work_mem = '4MB'", "set:work_mem=4MB"),
        ("SET Work_Mem TO 4096", "set:work_mem=4096"),
        ("SET SESSION enable_seqscan = off", "set:enable_seqscan=off"),
        ("SET enable_seqscan TO TRUE", "set:enable_seqscan=true"),
        ("SET seq_page_cost = 1.50", "set:seq_page_cost=1.50"),
        ("SET seq_page_cost = -1", "set:seq_page_cost=-1"),
        ("SET search_path TO a, b", "set:search_path=a, b"),
        ("SET search_path = 'a, b'", "set:search_path=\"a, b\""),
        (
            "SET search_path = \"User\", \"$user\", public",
            "set:search_path=\"User\", \"$user\", public",
        ),
        (
            "SET search_path = 'select', 'a\"b'",
            "set:search_path=\"select\", \"a\"\"b\"",
        ),
        ("SET search_path TO ''", "set:search_path=\"\""),
        ("SET SCHEMA 'x'", "set:search_path=x"),
        ("SET DateStyle = ISO, DMY", "set:datestyle=iso, dmy"),
        ("SET DateStyle = 'ISO, DMY'", "set:datestyle=ISO, DMY"),
        ("SET app.tenant = '42'", "set:app.tenant=42"),
        ("SET TIME ZONE 'Europe/Rome'", "set:timezone=Europe/Rome"),
        ("SET TIME ZONE -7", "set:timezone=-7"),
        ("SET TIME ZONE LOCAL", "default:timezone"),
        (
            "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
            "opaque:SessionState",
        ),
        ("SET NAMES 'UTF8'", "set:client_encoding=UTF8"),
        ("SET NAMES", "default:client_encoding"),
        ("SET XML OPTION DOCUMENT", "set:xmloption=DOCUMENT"),
        ("SET work_mem TO DEFAULT", "default:work_mem"),
        ("RESET work_mem", "reset:work_mem"),
        ("RESET ALL", "resetall"),
        ("SET work_mem = '1', '2'", "opaque:Unrecognised"),
        ("SET work_mem FROM CURRENT", "opaque:SessionState"),
        ("SET role = 'admin'", "opaque:Role"),
        ("SET ROLE admin", "opaque:Role"),
        ("SET SESSION ROLE NONE", "opaque:Role"),
        ("RESET ROLE", "opaque:Role"),
        ("SET SESSION AUTHORIZATION admin", "opaque:Role"),
        ("RESET SESSION AUTHORIZATION", "opaque:Role"),
        ("SET seed = 0.5", "opaque:Process"),
        ("SET search_path = pg_temp, public", "opaque:Temporary"),
        ("SET search_path = 'PG_TEMP'", "opaque:Temporary"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "set:default_transaction_isolation=serializable",
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "set:default_transaction_read_only=off",
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE",
            "opaque:SessionState",
        ),
        (
            "SELECT set_config('work_mem', '4MB', false)",
            "set_config:work_mem=4MB",
        ),
        (
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "set_config:search_path=",
        ),
        (
            "SELECT set_config('work_mem', '4MB', false) AS x",
            "set_config:work_mem=4MB",
        ),
        (
            "SELECT set_config('Work_Mem'::text, '4MB'::text, false)",
            "set_config:work_mem=4MB",
        ),
        ("SELECT set_config('work_mem', '4MB', true)", "inside"),
        (
            "SELECT set_config('role', $1, true), set_config('app.claims', $2, true)",
            "inside",
        ),
        (
            "SELECT set_config('search_path', $1, true)",
            "opaque:Temporary",
        ),
        ("SELECT set_config($1, $2, true)", "opaque:Unrecognised"),
        ("SELECT set_config($1, $2, false)", "opaque:SessionState"),
        (
            "SELECT set_config('work_mem', NULL, false)",
            "opaque:SessionState",
        ),
        ("SELECT set_config('role', 'x', false)", "opaque:Role"),
        (
            "SELECT set_config('work_mem', '1MB', false), 1",
            "opaque:SessionState",
        ),
        (
            "SELECT set_config('work_mem', '1MB', false) FROM plain",
            "opaque:SessionState",
        ),
        (
            "SELECT set_config('work_mem', '1MB', 'f')",
            "opaque:SessionState",
        ),
        (
            "SELECT set_config('standard_conforming_strings', 'off', true)",
            "opaque:SessionState",
        ),
        (
            "SELECT length(set_config('work_mem', '1MB', false))",
            "opaque:SessionState",
        ),
        ("SHOW ALL", "show:all"),
        ("SHOW TIME ZONE", "show:timezone"),
        ("SHOW Server_Version", "show:server_version"),
        ("SHOW SESSION AUTHORIZATION", "show:session_authorization"),
        (
            "SELECT current_setting('application_name')",
            "opaque:SessionState",
        ),
        (
            "SELECT current_setting('Application_Name', true)",
            "opaque:SessionState",
        ),
        ("SELECT current_setting($1)", "opaque:SessionState"),
        ("SELECT current_schemas(true)", "opaque:Temporary"),
    ]);
}

#[test]
fn tells_transaction_control_apart() {
    check(&[
        ("BEGIN", "begin"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "begin"),
        ("START TRANSACTION", "begin"),
        ("COMMIT", "end"),
        ("END WORK", "end"),
        ("ROLLBACK", "end"),
        ("ABORT", "end"),
        ("COMMIT AND NO CHAIN", "end"),
        ("COMMIT AND CHAIN", "inside"),
        ("ROLLBACK AND CHAIN", "inside"),
        ("SAVEPOINT a", "inside"),
        ("RELEASE a", "inside"),
        ("ROLLBACK TO SAVEPOINT a", "inside"),
        ("PREPARE TRANSACTION 'x'", "end"),
        ("COMMIT PREPARED 'x'", "standalone"),
        ("ROLLBACK PREPARED 'x'", "standalone"),
        ("SET TRANSACTION READ ONLY", "inside"),
        ("SET transaction_isolation = 'serializable'", "inside"),
        ("SET LOCAL work_mem = '1MB'", "inside"),
        ("SET LOCAL ROLE admin", "inside"),
        ("SET LOCAL search_path = pg_temp", "opaque:Temporary"),
        (
            "SET LOCAL standard_conforming_strings = off",
            "opaque:SessionState",
        ),
        ("SET CONSTRAINTS ALL DEFERRED", "inside"),
        ("LOCK TABLE plain", "inside"),
        ("LOCK plain IN SHARE MODE NOWAIT", "inside"),
        ("DECLARE c CURSOR FOR SELECT * FROM plain", "inside"),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM plain",
            "opaque:HoldCursor",
        ),
        (
            "DECLARE c CURSOR FOR SELECT sneaky(1)",
            "opaque:SessionState",
        ),
        ("FETCH 10 FROM c", "inside"),
        ("MOVE ALL IN c", "inside"),
        ("CLOSE c", "inside"),
        ("CLOSE ALL", "closeall"),
        (
            "BEGIN; INSERT INTO plain VALUES (1); COMMIT",
            "begin write end",
        ),
        ("BEGIN; SELECT 1; ROLLBACK; SELECT 2", "begin read end read"),
    ]);
}

#[test]
fn tells_what_belongs_to_one_session() {
    check(&[
        ("DISCARD ALL", "discardall"),
        ("DISCARD PLANS", "read"),
        ("DISCARD TEMP", "read"),
        ("DISCARD SEQUENCES", "write"),
        ("DEALLOCATE ALL", "deallocateall"),
        ("DEALLOCATE x", "opaque:Prepare"),
        ("PREPARE x AS SELECT 1", "opaque:Prepare"),
        ("EXECUTE x", "opaque:Prepare"),
        ("EXPLAIN EXECUTE x", "opaque:Prepare"),
        ("CREATE TABLE t AS EXECUTE x", "opaque:Unrecognised"),
        ("LISTEN c", "opaque:Listen"),
        ("UNLISTEN c", "opaque:Listen"),
        ("UNLISTEN *", "unlistenall"),
        ("LOAD 'x'", "opaque:Process"),
        ("SELECT pg_advisory_lock(1)", "opaque:AdvisoryLock"),
        ("SELECT pg_try_advisory_lock(1)", "opaque:AdvisoryLock"),
        ("SELECT pg_advisory_unlock_all()", "unlockall"),
        ("SELECT currval('log_id_seq')", "opaque:Sequence"),
        ("SELECT lastval()", "opaque:Sequence"),
        ("SELECT setseed(0.5)", "opaque:Process"),
        ("SELECT pg_backend_pid()", "opaque:SessionState"),
        ("SELECT pg_export_snapshot()", "opaque:SessionState"),
        ("SELECT pg_terminate_backend(1)", "opaque:SessionState"),
        ("SELECT lo_open(1, 2)", "opaque:SessionState"),
        ("SELECT pg_stat_reset()", "opaque:SessionState"),
        ("SELECT * FROM pg_prepared_statements", "opaque:Prepare"),
        ("SELECT * FROM pg_cursors", "opaque:HoldCursor"),
        ("SELECT * FROM pg_settings", "opaque:SessionState"),
        ("SELECT * FROM pg_stat_activity", "read"),
        ("SELECT * FROM pg_locks", "read"),
        ("CREATE TEMP TABLE t (a int)", "opaque:Temporary"),
        ("CREATE TEMPORARY VIEW v AS SELECT 1", "opaque:Temporary"),
        ("CREATE TEMP SEQUENCE s", "opaque:Temporary"),
        ("CREATE TABLE pg_temp.t (a int)", "opaque:Temporary"),
        ("CREATE TEMP TABLE t AS SELECT 1", "opaque:Temporary"),
        ("SELECT 1 INTO TEMP t", "opaque:Temporary"),
        (
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "opaque:Temporary",
        ),
        ("SELECT pg_temp.f()", "opaque:Temporary"),
        ("SELECT * FROM pg_temp.t", "opaque:Temporary"),
        ("SELECT * FROM pg_temp_3.t", "opaque:Temporary"),
        ("SELECT 1::pg_temp.t", "opaque:Temporary"),
        ("CREATE VIEW v AS SELECT * FROM missing", "opaque:Relation"),
        ("COPY plain TO '/tmp/x'", "opaque:Unrecognised"),
        ("COPY plain FROM PROGRAM 'rm'", "opaque:Unrecognised"),
    ]);
}

#[test]
fn proves_definitions() {
    check(&[
        (
            "CREATE TABLE t (a int PRIMARY KEY, b text DEFAULT 'x')",
            "define",
        ),
        (
            "CREATE TABLE IF NOT EXISTS t (LIKE plain INCLUDING ALL)",
            "define",
        ),
        ("CREATE TABLE t AS SELECT * FROM plain", "define"),
        ("CREATE TABLE t AS SELECT sneaky(1)", "opaque:SessionState"),
        ("SELECT a INTO t FROM plain", "define"),
        ("CREATE UNLOGGED TABLE t (a int)", "define"),
        ("ALTER TABLE plain ADD COLUMN c int DEFAULT 0", "define"),
        (
            "ALTER TABLE plain ADD COLUMN c int DEFAULT sneaky(1)",
            "opaque:SessionState",
        ),
        (
            "ALTER TABLE plain ALTER COLUMN a TYPE bigint USING a::bigint",
            "define",
        ),
        (
            "ALTER TABLE plain ALTER a TYPE int USING sneaky(a)",
            "opaque:SessionState",
        ),
        (
            "ALTER TABLE plain ADD CHECK (sneaky(a) > 0)",
            "opaque:SessionState",
        ),
        (
            "ALTER TABLE checked ALTER a TYPE bigint",
            "opaque:SessionState",
        ),
        (
            "ALTER TABLE plain ADD FOREIGN KEY (a) REFERENCES parent",
            "define",
        ),
        ("ALTER TABLE plain ENABLE ROW LEVEL SECURITY", "define"),
        ("ALTER TABLE plain RENAME TO fancy", "define"),
        ("ALTER TABLE unknown_yet ADD COLUMN c int", "define"),
        ("CREATE INDEX ON plain (a)", "define"),
        (
            "CREATE UNIQUE INDEX i ON plain (lower(b)) WHERE a > 0",
            "opaque:SessionState",
        ),
        ("CREATE INDEX i ON plain (sneaky(a))", "opaque:SessionState"),
        ("CREATE INDEX CONCURRENTLY i ON plain (a)", "standalone"),
        ("DROP INDEX CONCURRENTLY i", "standalone"),
        ("DROP TABLE plain CASCADE", "define"),
        ("DROP SCHEMA s", "define"),
        ("CREATE VIEW v AS SELECT * FROM plain", "define"),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT * FROM plain",
            "define",
        ),
        (
            "REFRESH MATERIALIZED VIEW bad_summary",
            "opaque:SessionState",
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT set_config(1)'",
            "define",
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE plperlu AS 'x'",
            "opaque:SessionState",
        ),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'lib', 'f'",
            "opaque:SessionState",
        ),
        ("CREATE TYPE mood AS ENUM ('sad', 'ok')", "define"),
        ("ALTER TYPE mood ADD VALUE 'happy'", "define"),
        ("CREATE SCHEMA s CREATE TABLE t (a int)", "define"),
        ("CREATE SEQUENCE s", "define"),
        (
            "CREATE TRIGGER t AFTER INSERT ON plain EXECUTE FUNCTION spy()",
            "define",
        ),
        ("CREATE POLICY p ON plain USING (true)", "define"),
        (
            "CREATE RULE r AS ON INSERT TO plain DO INSTEAD NOTHING",
            "define",
        ),
        ("GRANT SELECT ON plain TO public", "define"),
        ("COMMENT ON TABLE plain IS 'x'", "define"),
        ("CREATE ROLE r", "define"),
        ("TRUNCATE plain", "define"),
        ("TRUNCATE spied", "opaque:Trigger"),
        ("TRUNCATE plain CASCADE", "opaque:Trigger"),
        ("CREATE EXTENSION hstore", "opaque:Unrecognised"),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER w",
            "opaque:Unrecognised",
        ),
        ("VACUUM", "opaque:SessionState"),
        ("VACUUM FULL plain", "standalone"),
        ("CREATE DATABASE d", "standalone"),
        ("DROP DATABASE d", "standalone"),
        ("REINDEX TABLE plain", "define"),
        ("REINDEX (CONCURRENTLY) TABLE plain", "standalone"),
        ("REINDEX TABLE CONCURRENTLY plain", "standalone"),
        ("CLUSTER plain USING i", "standalone"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "standalone"),
        (
            "ALTER TABLE parted DETACH PARTITION part_local CONCURRENTLY",
            "standalone",
        ),
        (
            "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
            "define opaque:CatalogUnknown",
        ),
    ]);
}

#[test]
fn refuses_definitions_under_an_unproven_event_trigger() {
    let watch = body(42_000, "watch", "plpgsql", "BEGIN PERFORM sneaky(1); END");
    let catalog = catalog_with(&[watch, json!({"is": "event", "uses": [42_000]})]);
    assert_eq!(words("CREATE TABLE t (a int)", &catalog), "opaque:Trigger");
    assert_eq!(words("SELECT * FROM plain", &catalog), "read");
}

#[test]
fn names_what_leaves_most_behind_when_several_things_are_not_proven() {
    check(&[
        ("SELECT pg_backend_pid(), setseed(0.5)", "opaque:Process"),
        ("SELECT setseed(0.5), pg_backend_pid()", "opaque:Process"),
        ("SELECT pg_advisory_lock(1), perl()", "opaque:Process"),
        ("SELECT pg_advisory_lock(1) FROM missing", "opaque:Relation"),
        ("PREPARE x AS SELECT setseed(0.5)", "opaque:Process"),
        ("PREPARE x AS SELECT pg_backend_pid()", "opaque:Prepare"),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "opaque:HoldCursor",
        ),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT setseed(0.5)",
            "opaque:Process",
        ),
        ("SELECT set_config('seed', '0.5', true)", "opaque:Process"),
        (
            "SELECT 1, set_config('seed', '0.5', false)",
            "opaque:Process",
        ),
    ]);
}

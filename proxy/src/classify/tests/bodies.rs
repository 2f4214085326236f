//! Bodies of functions, in PL/pgSQL and SQL: whatever they may do somewhere inside is found.

use super::fixture::{body, catalog_with, defined, function};
use super::words;

#[test]
fn reads_every_part_of_a_plpgsql_body() {
    for (text, is_proven) in [
        ("BEGIN RETURN 1; END", true),
        (
            "DECLARE x int; BEGIN x := harmless(1); RETURN x; END;",
            true,
        ),
        ("DECLARE x int := sneaky(1); BEGIN RETURN 1; END", false),
        (
            "DECLARE x int DEFAULT sneaky(1); BEGIN RETURN 1; END",
            false,
        ),
        ("DECLARE r record = sneaky(1); BEGIN RETURN 1; END", false),
        (
            "DECLARE a int; DECLARE b int := sneaky(1); BEGIN RETURN 1; END",
            false,
        ),
        (
            "DECLARE x int := (SELECT begin FROM plain); y int := sneaky(1); BEGIN RETURN 1; END",
            false,
        ),
        (
            "DECLARE c CURSOR (k int) FOR SELECT sneaky(k); BEGIN OPEN c(1); RETURN 1; END",
            false,
        ),
        (
            "DECLARE c CURSOR FOR SELECT a FROM plain; BEGIN FOR r IN c LOOP NULL; END LOOP; END",
            true,
        ),
        (
            "DECLARE c CURSOR (k int) FOR SELECT 1; BEGIN FOR r IN c(sneaky(1)) LOOP NULL; END LOOP; END",
            false,
        ),
        (
            "DECLARE c NO SCROLL CURSOR FOR SELECT 1; BEGIN OPEN c; FETCH NEXT FROM c INTO a; CLOSE c; END",
            true,
        ),
        ("BEGIN IF sneaky(1) > 0 THEN RETURN 1; END IF; END", false),
        (
            "BEGIN IF a THEN NULL; ELSIF sneaky(1) > 0 THEN NULL; ELSE NULL; END IF; END",
            false,
        ),
        (
            "BEGIN IF a THEN NULL; ELSE PERFORM sneaky(1); END IF; END",
            false,
        ),
        (
            "BEGIN IF a > 0 AND (CASE WHEN a = 1 THEN true END) THEN RETURN 1; END IF; RETURN 2; END",
            true,
        ),
        (
            "BEGIN CASE a WHEN 1, 2 THEN NULL; WHEN sneaky(1) THEN NULL; END CASE; END",
            false,
        ),
        (
            "BEGIN CASE sneaky(1) WHEN 1 THEN NULL; END CASE; END",
            false,
        ),
        (
            "BEGIN CASE WHEN a = 1 THEN NULL; ELSE RETURN 1; END CASE; END",
            true,
        ),
        ("BEGIN LOOP EXIT WHEN a > 1; CONTINUE; END LOOP; END", true),
        (
            "BEGIN <<outer>> LOOP EXIT outer WHEN sneaky(1) > 0; END LOOP outer; END",
            false,
        ),
        ("BEGIN WHILE sneaky(1) > 0 LOOP NULL; END LOOP; END", false),
        ("BEGIN FOR i IN 1..10 LOOP NULL; END LOOP; END", true),
        (
            "BEGIN FOR i IN REVERSE 10..1 BY 2 LOOP NULL; END LOOP; END",
            true,
        ),
        (
            "BEGIN FOR i IN 1..sneaky(1) LOOP NULL; END LOOP; END",
            false,
        ),
        (
            "BEGIN FOR i IN 1..2 BY sneaky(1) LOOP NULL; END LOOP; END",
            false,
        ),
        (
            "BEGIN FOR r IN SELECT sneaky(1) LOOP NULL; END LOOP; END",
            false,
        ),
        ("BEGIN FOR r IN EXECUTE 'x' LOOP NULL; END LOOP; END", false),
        (
            "BEGIN FOREACH x SLICE 1 IN ARRAY b LOOP NULL; END LOOP; END",
            true,
        ),
        (
            "BEGIN FOREACH x IN ARRAY ARRAY[sneaky(1)] LOOP NULL; END LOOP; END",
            false,
        ),
        ("BEGIN RETURN sneaky(1); END", false),
        ("BEGIN RETURN NEXT sneaky(1); END", false),
        (
            "BEGIN RETURN NEXT; RETURN QUERY SELECT a FROM plain; RETURN; END",
            true,
        ),
        ("BEGIN RETURN QUERY SELECT sneaky(1); END", false),
        ("BEGIN RETURN QUERY EXECUTE 'x'; END", false),
        ("BEGIN RAISE NOTICE 'a % b', a; RAISE; END", true),
        ("BEGIN RAISE NOTICE '%', sneaky(1); END", false),
        (
            "BEGIN RAISE EXCEPTION '%', a USING errcode = '22000', hint = 'x' || a; END",
            true,
        ),
        (
            "BEGIN RAISE EXCEPTION 'x' USING message = sneaky(1); END",
            false,
        ),
        (
            "BEGIN RAISE SQLSTATE '22012'; RAISE division_by_zero USING detail = 'x'; END",
            true,
        ),
        ("BEGIN ASSERT sneaky(1) > 0; END", false),
        ("BEGIN ASSERT a > 0, 'message'; END", true),
        ("BEGIN PERFORM sneaky(1); END", false),
        (
            "BEGIN GET DIAGNOSTICS x = ROW_COUNT; GET STACKED DIAGNOSTICS y := MESSAGE_TEXT; END",
            true,
        ),
        (
            "BEGIN SELECT a, b INTO x, y FROM plain WHERE a = 1; END",
            true,
        ),
        ("BEGIN SELECT INTO STRICT r.f a FROM plain; END", true),
        ("BEGIN SELECT sneaky(1) INTO x; END", false),
        (
            "BEGIN INSERT INTO log VALUES (1) RETURNING a INTO x; END",
            true,
        ),
        ("BEGIN INSERT INTO spied VALUES (1); END", false),
        (
            "BEGIN x[1] := 2; r.f := 3; r.f[1].g = 4; $1 := 5; END",
            true,
        ),
        ("BEGIN x[sneaky(1)] := 2; END", false),
        ("BEGIN x := sneaky(1); END", false),
        (
            "BEGIN NULL; EXCEPTION WHEN division_by_zero OR SQLSTATE '22012' THEN RETURN 1; END",
            true,
        ),
        (
            "BEGIN NULL; EXCEPTION WHEN OTHERS THEN PERFORM sneaky(1); END",
            false,
        ),
        (
            "BEGIN BEGIN NULL; END; DECLARE x int := sneaky(1); BEGIN NULL; END; END",
            false,
        ),
        ("BEGIN OPEN c FOR SELECT sneaky(1); END", false),
        ("BEGIN OPEN c FOR EXECUTE 'x'; END", false),
        (
            "BEGIN OPEN c NO SCROLL FOR SELECT a FROM plain; MOVE NEXT FROM c; CLOSE c; END",
            true,
        ),
        ("BEGIN FETCH RELATIVE sneaky(1) FROM c INTO x; END", false),
        ("BEGIN EXECUTE format('x'); END", false),
        ("BEGIN eXeCuTe 'x'; END", false),
        (
            "BEGIN CALL committing(); COMMIT AND CHAIN; ROLLBACK; END",
            true,
        ),
        ("BEGIN CALL sneaky(); END", false),
        ("BEGIN SET work_mem = '1MB'; END", false),
        ("BEGIN RESET ALL; END", false),
        ("BEGIN LISTEN x; END", false),
        ("BEGIN NOTIFY x; END", true),
        ("BEGIN CREATE TEMP TABLE t (a int); END", false),
        ("BEGIN CREATE TABLE t (a int); END", false),
        ("BEGIN PREPARE x AS SELECT 1; END", false),
        ("BEGIN DECLARE c CURSOR WITH HOLD FOR SELECT 1; END", false),
        ("BEGIN SELECT * FROM missing; END", false),
        ("#variable_conflict use_column\nBEGIN RETURN 1; END", true),
        (
            "#print_strict_params on\nDECLARE x int := sneaky(1); BEGIN END",
            false,
        ),
        ("BEGIN /* c */ PERFORM -- d\n sneaky(1); END", false),
        ("BEGIN PERFORM 'a' || $q$;$q$ || harmless(1); END", true),
        ("BEGIN nonsense nonsense; END", false),
        ("BEGIN RETURN 1", false),
        ("", true),
    ] {
        let catalog = catalog_with(&[body(43_000, "tested", "plpgsql", text)]);
        let found = words("SELECT tested()", &catalog);
        assert_eq!(!found.starts_with("opaque"), is_proven, "{text}: {found}");
    }
}

#[test]
fn reads_every_part_of_an_sql_function() {
    for (source, is_proven) in [
        (defined("sql", "integer", "SELECT 1; SELECT a"), true),
        (defined("sql", "integer", "SELECT 1; SELECT sneaky(1)"), false),
        (defined("sql", "integer", "SET x.y = 1; SELECT 1"), false),
        (defined("sql", "integer", "SELECT 1 INTO t"), false),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN sneaky(1)".into(), false),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN harmless(1)".into(), true),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT sneaky(1); END"
                .into(),
            false,
        ),
        (
            "CREATE FUNCTION f(a int DEFAULT sneaky(1)) RETURNS int LANGUAGE sql AS 'SELECT 1'".into(),
            false,
        ),
        ("not a function".into(), false),
    ] {
        let catalog = catalog_with(&[function(43_000, "tested", "sql", &source)]);
        let found = words("SELECT tested()", &catalog);
        assert_eq!(!found.starts_with("opaque"), is_proven, "{source}: {found}");
    }
}

CREATE SCHEMA other;
CREATE FUNCTION leak(a int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.leaked', a::text, false);
    RETURN a;
END $$;
CREATE FUNCTION leak_by_sql() RETURNS int LANGUAGE sql AS 'SELECT leak(1)';
CREATE FUNCTION leak_by_default() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    r record := leak(1);
BEGIN
    RETURN 1;
END $$;
CREATE FUNCTION leak_fast(a int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT leak(a)';
CREATE FUNCTION other.upper(a text) RETURNS text LANGUAGE sql AS 'SELECT leak(1)::text';

CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE FUNCTION mood_number(m mood) RETURNS int LANGUAGE sql AS 'SELECT length(m::text)';

CREATE TABLE accounts (
    id serial PRIMARY KEY,
    owner text NOT NULL DEFAULT 'no' || 'body' CHECK (length(owner) < 100),
    balance numeric DEFAULT round(random()::numeric, 2),
    twice numeric GENERATED ALWAYS AS (balance * 2) STORED,
    token uuid DEFAULT gen_random_uuid(),
    changed timestamptz DEFAULT now()
);
CREATE INDEX accounts_lower ON accounts (pg_catalog.lower(owner)) WHERE balance > 0;
CREATE STATISTICS accounts_statistics ON (balance + 1) FROM accounts;
CREATE TABLE entries (account int REFERENCES accounts ON DELETE CASCADE, amount numeric);
CREATE VIEW account_names AS SELECT id, owner FROM accounts WHERE owner <> '';
CREATE MATERIALIZED VIEW balances AS SELECT owner, sum(balance) FROM accounts GROUP BY owner;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND new.owner IS DISTINCT FROM old.owner THEN
        RAISE NOTICE 'renamed to %', new.owner;
    END IF;
    new.changed := clock_timestamp();
    RETURN new;
END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON accounts
    FOR EACH ROW EXECUTE FUNCTION touch();

CREATE FUNCTION full_name(a int) RETURNS text STABLE LANGUAGE sql AS
    'SELECT owner FROM accounts WHERE id = $1';
CREATE FUNCTION total(a int) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    r accounts%ROWTYPE;
    sum numeric := 0;
    m public.mood;
BEGIN
    <<each>>
    FOR r IN SELECT * FROM accounts WHERE id > a LOOP
        CONTINUE each WHEN r.balance IS NULL;
        sum := sum + r.balance;
    END LOOP;
    RETURN sum;
EXCEPTION
    WHEN division_by_zero OR others THEN
        GET STACKED DIAGNOSTICS m = MESSAGE_TEXT;
        RETURN NULL;
END $$;
CREATE FUNCTION standard_body(a int) RETURNS int LANGUAGE sql
    BEGIN ATOMIC
        SELECT count(*) FROM accounts WHERE id > a;
        SELECT a + 1;
    END;
CREATE AGGREGATE middle (numeric) (SFUNC = numeric_add, STYPE = numeric, INITCOND = '0');
CREATE OPERATOR <+> (FUNCTION = numeric_add, LEFTARG = numeric, RIGHTARG = numeric);
CREATE FUNCTION leak_pair(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT leak(a)';
CREATE OPERATOR <!> (FUNCTION = leak_pair, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION shown(a accounts) RETURNS int LANGUAGE sql AS 'SELECT leak(1)';
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts SET balance = 0;
    COMMIT;
    DELETE FROM entries;
END $$;

CREATE TABLE readings (at timestamptz, value int) PARTITION BY RANGE (at);
CREATE TABLE readings_early PARTITION OF readings FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE readings_late PARTITION OF readings DEFAULT;

CREATE TABLE private (a int);
ALTER TABLE private ENABLE ROW LEVEL SECURITY;
CREATE TABLE old_names (a int);
CREATE RULE forward AS ON INSERT TO old_names DO INSTEAD INSERT INTO private VALUES (new.a);
CREATE VIEW leaking AS SELECT leak(id) FROM accounts;
CREATE TABLE leaking_index (a int);
CREATE INDEX ON leaking_index (leak_fast(a));

CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SET app.watched = 1';
    RETURN NULL;
END $$;
CREATE TABLE watched_parent (a int PRIMARY KEY);
CREATE TABLE watched (a int REFERENCES watched_parent ON DELETE CASCADE);
CREATE TRIGGER watch AFTER INSERT OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION watch();

CREATE TABLE summed (a int);
CREATE TABLE sums (a bigint);
CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sums SELECT sum(a) FROM added;
    RETURN NULL;
END $$;
CREATE TRIGGER add_up AFTER INSERT ON summed REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION add_up();

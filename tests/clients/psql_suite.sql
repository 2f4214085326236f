-- What people and scripts do with psql. Run with ON_ERROR_STOP off; the output is compared with
-- that of the same script run direct.
\set VERBOSITY verbose
\pset null '(null)'
\timing off
create table suite (id serial primary key, v text, at date default '2024-02-29');
insert into suite (v) values ('one'), ('two'), (null);
select * from suite order by id;
\d suite
\dt
\x on
select * from suite where id = 1;
\x off
begin;
update suite set v = 'changed' where id = 1;
savepoint s;
select 1/0;
rollback to s;
commit;
select v from suite order by id;
\set AUTOCOMMIT off
insert into suite (v) values ('not committed');
rollback;
insert into suite (v) values ('committed');
commit;
\set AUTOCOMMIT on
select count(*) from suite;
\copy suite (v) from stdin
copied one
copied two
\.
\copy (select v from suite order by id) to stdout
copy suite (v) from stdin;
three
\.
copy (select count(*) from suite) to stdout;
select v from suite order by id \g |tail -n 3
select 'select ' || i from generate_series(1, 3) i \gexec
select 42 as answer \gset
select :answer + 1;
\set FETCH_COUNT 3
select i from generate_series(1, 8) i;
\unset FETCH_COUNT
prepare p (int) as select $1 * 2;
execute p (21);
deallocate p;
set datestyle = 'German';
select at from suite where id = 1;
show datestyle;
\c
show datestyle;
select nope;
select * from nowhere;
\echo :SQLSTATE :ERROR
do $$ begin raise notice 'noticed'; raise warning 'warned'; end $$;
\encoding LATIN1
select 'ä' = U&'\00e4';
\encoding UTF8
\df abs
drop table suite;

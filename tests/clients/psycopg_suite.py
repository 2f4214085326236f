"""What applications do with psycopg 3: `psycopg_suite.py CONNINFO`.

Each function is one check with assertions; prints the name of each that passed.
"""

import asyncio
import sys
import threading
import time

import psycopg
from psycopg import errors
from psycopg.rows import dict_row

CONNINFO = sys.argv[1]


def connect(**options):
    """A connection that commits by itself unless told otherwise."""
    return psycopg.connect(CONNINFO, **({"autocommit": True} | options))


def check_values():
    """Values of many types, both formats, in and out."""
    with connect() as conn:
        for binary in (False, True):
            with conn.cursor(binary=binary) as cursor:
                cursor.execute("select %s::int, %s::text, %s::float8, %s::bytea, %s::int[]",
                               (1, "zwei ü", 3.5, b"\0\xff", [1, 2, 3]))
                assert cursor.fetchone() == (1, "zwei ü", 3.5, b"\0\xff", [1, 2, 3])
        row = conn.cursor(row_factory=dict_row).execute("select 1 as one, null as none").fetchone()
        assert row == {"one": 1, "none": None}


def check_prepared():
    """Statements that psycopg prepares by itself after some uses, and those it is told to."""
    with connect() as conn:
        conn.prepare_threshold = 2
        for i in range(20):
            assert conn.execute("select %s::int + 1", (i,)).fetchone() == (i + 1,)
            assert conn.execute("select %s::text", (str(i),), prepare=True).fetchone() == (str(i),)
        names = conn.execute("select count(*) from pg_prepared_statements").fetchone()[0]
        assert names >= 2, names
        conn.execute("deallocate all")
        assert conn.execute("select 1").fetchone() == (1,)


def check_many_prepared():
    """More statements than psycopg keeps: it deallocates the oldest."""
    with connect() as conn:
        conn.prepare_threshold = 0
        conn.prepared_max = 5
        for _ in range(2):
            for i in range(20):
                assert conn.execute(f"select {i}, %s::int", (i,)).fetchone() == (i, i)


def check_transactions():
    """Blocks, nested ones, errors in them, isolation levels."""
    with connect(autocommit=False) as conn:
        conn.execute("create temp table t (v int)")
        conn.commit()
        try:
            with conn.transaction():
                conn.execute("insert into t values (1)")
                raise ValueError
        except ValueError:
            pass
        with conn.transaction():
            conn.execute("insert into t values (2)")
            try:
                with conn.transaction():
                    conn.execute("insert into t values (3)")
                    conn.execute("select 1/0")
            except errors.DivisionByZero:
                pass
        assert conn.execute("select array_agg(v) from t").fetchone() == ([2],)
        conn.rollback()
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        assert conn.execute("show transaction_isolation").fetchone() == ("serializable",)
        conn.rollback()


def check_pipelines():
    """Pipelines: values, an error inside, and what follows it."""
    with connect() as conn:
        with conn.pipeline() as pipeline:
            cursors = [conn.execute("select %s::int", (i,)) for i in range(100)]
            pipeline.sync()
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(100))
        try:
            with conn.pipeline() as pipeline:
                conn.execute("select 1")
                conn.execute("select 1/0")
                conn.execute("select 2")
            raise AssertionError("no error")
        except errors.DivisionByZero:
            pass
        conn.execute("create temp table p (v int)")
        with conn.cursor() as cursor:
            cursor.executemany("insert into p values (%s)", [(i,) for i in range(200)])
        assert conn.execute("select count(*), sum(v) from p").fetchone() == (200, 19900)


def check_cursors():
    """Cursors on the node, scrolled, held, and streams."""
    with connect(autocommit=False) as conn:
        with conn.cursor("named") as cursor:
            cursor.itersize = 7
            cursor.execute("select i from generate_series(1, 50) i")
            assert [row[0] for row in cursor] == list(range(1, 51))
        with conn.cursor("scrolled", scrollable=True) as cursor:
            cursor.execute("select i from generate_series(1, 10) i")
            cursor.scroll(5)
            assert cursor.fetchone() == (6,)
            cursor.scroll(-2)
            assert cursor.fetchone() == (5,)
        conn.rollback()
    with connect() as conn:
        with conn.cursor("held", withhold=True) as cursor:
            cursor.execute("select i from generate_series(1, 10) i")
            assert len(cursor.fetchmany(4)) == 4
            conn.execute("select 1")
            assert len(cursor.fetchall()) == 6
        rows = conn.cursor().stream("select i from generate_series(1, 1000) i")
        assert sum(row[0] for row in rows) == 500500


def check_copy():
    """COPY in, out, and given up."""
    with connect() as conn:
        conn.execute("create temp table c (id int, v text)")
        with conn.cursor().copy("copy c from stdin") as copy:
            for i in range(1000):
                copy.write_row((i, f"row {i}"))
        with conn.cursor().copy("copy c to stdout") as copy:
            assert len(list(copy.rows())) == 1000
        try:
            with conn.cursor().copy("copy c from stdin") as copy:
                copy.write_row((1, "x"))
                raise ValueError
        except ValueError:
            pass
        try:
            with conn.cursor().copy("copy c from stdin") as copy:
                copy.write("not a number\tx\n")
            raise AssertionError("no error")
        except errors.InvalidTextRepresentation:
            pass
        assert conn.execute("select count(*) from c").fetchone() == (1000,)


def check_errors():
    """Errors with their fields, notices with theirs."""
    with connect() as conn:
        heard = []
        conn.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        conn.execute("do $$ begin raise notice 'hear me'; end $$")
        assert heard == ["hear me"]
        try:
            conn.execute("select nope from pg_class")
            raise AssertionError("no error")
        except errors.UndefinedColumn as error:
            assert error.diag.statement_position == "8"
        conn.execute("create temp table u (id int constraint only_one unique)")
        conn.execute("insert into u values (1)")
        try:
            conn.execute("insert into u values (%s)", (1,))
            raise AssertionError("no error")
        except errors.UniqueViolation as error:
            assert error.diag.constraint_name == "only_one"


def check_cancel():
    """Cancel from another thread; the connection lives on."""
    with connect() as conn:
        threading.Timer(0.3, conn.cancel).start()
        begin = time.monotonic()
        try:
            conn.execute("select pg_sleep(20)")
            raise AssertionError("no error")
        except errors.QueryCanceled:
            pass
        assert time.monotonic() - begin < 10
        assert conn.execute("select 1").fetchone() == (1,)


def check_settings():
    """Options of the connection, SET, and what psycopg learns from them."""
    with connect(options="-c datestyle=german -c app.tenant=x", application_name="suite") as conn:
        assert conn.execute("show datestyle").fetchone() == ("German, DMY",)
        assert conn.execute("show app.tenant").fetchone() == ("x",)
        assert conn.info.parameter_status("application_name") == "suite"
        conn.execute("set timezone = 'Asia/Tokyo'")
        assert conn.info.parameter_status("TimeZone") == "Asia/Tokyo"
        conn.execute("set client_encoding = 'LATIN1'")
        assert conn.execute("select 'ä'").fetchone() == ("ä",)


def check_notifications():
    """LISTEN on one connection, NOTIFY from another."""
    with connect() as listener, connect() as sender:
        listener.execute("listen suite")
        sender.execute("select pg_notify('suite', 'hello')")
        heard = next(listener.notifies())
        assert (heard.channel, heard.payload) == ("suite", "hello")


def check_many():
    """Many asynchronous connections at once; everybody gets his own."""
    async def one(number):
        async with await psycopg.AsyncConnection.connect(CONNINFO, autocommit=True) as conn:
            for i in range(10):
                cursor = await conn.execute("select %s::int, %s::int", (number, i))
                assert await cursor.fetchone() == (number, i)
                async with conn.transaction():
                    cursor = await conn.execute("select %s::text", (f"{number}/{i}",))
                    assert await cursor.fetchone() == (f"{number}/{i}",)

    async def everybody():
        await asyncio.gather(*(one(number) for number in range(40)))

    asyncio.run(everybody())


def main():
    """Runs every check."""
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(name.removeprefix("check_"))


if __name__ == "__main__":
    main()

/* libpq's pipeline mode: many requests before the first answer, errors inside, and going on after.
 *
 * pipeline CONNINFO TOKEN: every value carries the token, so that an answer of somebody else's is
 * noticed. Prints what it checked; any difference ends it with a message and status 1.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *conn;

static void fail(const char *what)
{
	fprintf(stderr, "pipeline: %s: %s\n", what, PQerrorMessage(conn));
	exit(1);
}

static void want(int good, const char *what)
{
	if (!good)
		fail(what);
}

/* The next result, which must have the given status. */
static PGresult *expect(ExecStatusType status, const char *what)
{
	PGresult *result = PQgetResult(conn);

	if (PQresultStatus(result) != status)
	{
		fprintf(stderr, "got %s, wanted %s\n", PQresStatus(PQresultStatus(result)), PQresStatus(status));
		fail(what);
	}
	return result;
}

/* The end of one request's results. */
static void expect_end(const char *what)
{
	PGresult *result = PQgetResult(conn);

	want(result == NULL, what);
}

static void expect_value(const char *value, const char *what)
{
	PGresult *result = expect(PGRES_TUPLES_OK, what);

	if (PQntuples(result) != 1 || strcmp(PQgetvalue(result, 0, 0), value) != 0)
	{
		fprintf(stderr, "got %d rows, wanted \"%s\"\n", PQntuples(result), value);
		fail(what);
	}
	PQclear(result);
	expect_end(what);
}

static void expect_error(const char *state, const char *what)
{
	PGresult *result = expect(PGRES_FATAL_ERROR, what);

	want(strcmp(PQresultErrorField(result, PG_DIAG_SQLSTATE), state) == 0, what);
	PQclear(result);
	expect_end(what);
}

static void expect_sync(const char *what)
{
	PQclear(expect(PGRES_PIPELINE_SYNC, what));
}

static void simple(const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	want(PQresultStatus(result) == PGRES_COMMAND_OK, sql);
	PQclear(result);
}

static void send_value(const char *sql, const char *value)
{
	want(PQsendQueryParams(conn, sql, 1, NULL, &value, NULL, NULL, 0), "send");
}

static void many_units(const char *token)
{
	char value[100];

	for (int i = 0; i < 300; i++)
	{
		snprintf(value, sizeof value, "%s-%d", token, i);
		send_value("select $1::text", value);
		want(PQpipelineSync(conn), "sync");
	}
	for (int i = 0; i < 300; i++)
	{
		snprintf(value, sizeof value, "%s-%d", token, i);
		expect_value(value, "many units");
		expect_sync("many units");
	}
	printf("many units\n");
}

static void many_in_one_unit(const char *token)
{
	want(PQsendPrepare(conn, "mine", "select $1::text || '!'", 0, NULL), "prepare");
	for (int i = 0; i < 200; i++)
		want(PQsendQueryPrepared(conn, "mine", 1, &token, NULL, NULL, 0), "send");
	want(PQpipelineSync(conn), "sync");
	PQclear(expect(PGRES_COMMAND_OK, "prepare"));
	expect_end("prepare");
	for (int i = 0; i < 200; i++)
	{
		char value[100];

		snprintf(value, sizeof value, "%s!", token);
		expect_value(value, "many in one unit");
	}
	expect_sync("many in one unit");
	printf("many in one unit\n");
}

static void errors_inside(const char *token)
{
	send_value("select $1::text", token);
	send_value("select $1::int", token);
	send_value("select $1::text", "aborted");
	want(PQpipelineSync(conn), "sync");
	send_value("select $1::text", token);
	want(PQpipelineSync(conn), "sync");
	expect_value(token, "before the error");
	expect_error("22P02", "the error");
	PQclear(expect(PGRES_PIPELINE_ABORTED, "after the error"));
	expect_end("after the error");
	want(PQpipelineStatus(conn) == PQ_PIPELINE_ABORTED, "aborted until the sync");
	expect_sync("after the error");
	want(PQpipelineStatus(conn) == PQ_PIPELINE_ON, "on after the sync");
	expect_value(token, "the next unit");
	expect_sync("the next unit");
	printf("errors inside\n");
}

static void transactions(const char *token)
{
	send_value("insert into pipelined values ($1)", "implicit, lost");
	send_value("select $1::int", token);
	want(PQpipelineSync(conn), "sync");
	want(PQsendQueryParams(conn, "begin", 0, NULL, NULL, NULL, NULL, 0), "begin");
	send_value("insert into pipelined values ($1)", token);
	want(PQsendQueryParams(conn, "commit", 0, NULL, NULL, NULL, NULL, 0), "commit");
	want(PQsendQueryParams(conn, "select v from pipelined", 0, NULL, NULL, NULL, NULL, 0), "read");
	want(PQpipelineSync(conn), "sync");
	PQclear(expect(PGRES_COMMAND_OK, "insert"));
	expect_end("insert");
	expect_error("22P02", "the error");
	expect_sync("rolled back");
	for (int i = 0; i < 3; i++)
	{
		PQclear(expect(PGRES_COMMAND_OK, "begin, insert, commit"));
		expect_end("begin, insert, commit");
	}
	expect_value(token, "what was committed");
	expect_sync("what was committed");
	printf("transactions\n");
}

static void flush_without_sync(const char *token)
{
	send_value("select $1::text", token);
	want(PQsendFlushRequest(conn), "flush");
	want(PQflush(conn) == 0, "flush");
	expect_value(token, "flushed");
	send_value("select $1::text || 2", token);
	want(PQsendFlushRequest(conn), "flush");
	want(PQflush(conn) == 0, "flush");
	PQclear(expect(PGRES_TUPLES_OK, "flushed again"));
	expect_end("flushed again");
	want(PQpipelineSync(conn), "sync");
	expect_sync("flushed");
	printf("flush without sync\n");
}

static void single_rows(const char *token)
{
	int rows = 0;
	PGresult *result;

	send_value("select $1 || i from generate_series(1, 5000) i", token);
	want(PQpipelineSync(conn), "sync");
	want(PQsetSingleRowMode(conn), "single rows");
	while ((result = PQgetResult(conn)) != NULL)
	{
		rows += PQresultStatus(result) == PGRES_SINGLE_TUPLE;
		PQclear(result);
	}
	want(rows == 5000, "5 000 rows");
	expect_sync("single rows");
	printf("single rows\n");
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	conn = PQconnectdb(argv[1]);
	want(PQstatus(conn) == CONNECTION_OK, "connect");
	simple("drop table if exists pipelined");
	simple("create table pipelined (v text)");
	want(PQenterPipelineMode(conn), "enter");
	many_units(argv[2]);
	many_in_one_unit(argv[2]);
	errors_inside(argv[2]);
	transactions(argv[2]);
	flush_without_sync(argv[2]);
	single_rows(argv[2]);
	want(PQexitPipelineMode(conn), "exit");
	simple("drop table pipelined");
	PQfinish(conn);
	printf("all\n");
	return 0;
}

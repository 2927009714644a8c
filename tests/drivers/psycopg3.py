"""What applications do with psycopg 3, checked step by step. Runs unchanged against PostgreSQL 15
and Freehold; finds the server by libpq's PG* variables. One line per check, exit status 1 if any
failed."""

import datetime as dt
import decimal
import ipaddress
import os
import signal
import sys
import threading
import time
import traceback
import uuid

import psycopg
from psycopg import errors, sql
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types import TypeInfo
from psycopg.types.json import Jsonb

CHECKS = []
UTC = dt.timezone.utc


def check(function):
    """Marks a check; it gets a fresh connection in autocommit."""
    CHECKS.append(function)
    return function


def connect(**options):
    return psycopg.connect("", autocommit=options.pop("autocommit", True), **options)


def raises(error, function, *arguments):
    try:
        function(*arguments)
    except error as raised:
        return raised
    raise AssertionError(f"no {error.__name__} was raised")


@check
def connected_as_said(conn):
    assert conn.info.dbname == "freehold", conn.info.dbname
    assert conn.info.server_version // 10000 == 15, conn.info.server_version
    assert conn.info.user == os.environ["PGUSER"]
    assert conn.info.encoding == "utf-8"
    assert conn.info.parameter_status("standard_conforming_strings") == "on"
    assert conn.info.parameter_status("integer_datetimes") == "on"
    assert conn.pgconn.ssl_in_use == (os.environ["PGSSLMODE"] != "disable")
    row = conn.execute("SELECT current_user, session_user, current_database(), version()").fetchone()
    assert row[:3] == (conn.info.user, conn.info.user, "freehold"), row
    assert row[3].startswith("PostgreSQL 15."), row


@check
def wrong_password_is_refused(conn):
    if os.environ["PGSSLMODE"] == "disable":
        return
    error = raises(psycopg.OperationalError, lambda: psycopg.connect("", password="wrong"))
    assert "password authentication failed" in str(error), error


ROUND_TRIPS = [
    ("boolean", True),
    ("boolean", False),
    ("smallint", -32768),
    ("integer", 2147483647),
    ("bigint", -9223372036854775808),
    ("real", 1.5),
    ("double precision", 1e300),
    ("double precision", float("inf")),
    ("double precision", -0.1),
    ("numeric", decimal.Decimal("0")),
    ("numeric", decimal.Decimal("-0.00001234")),
    ("numeric", decimal.Decimal("1" + "0" * 200)),
    ("numeric", decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494459")),
    ("numeric(12,2)", decimal.Decimal("-1234567890.12")),
    ("text", "plain"),
    ("text", ""),
    ("text", "quote ' backslash \\ newline \n tab \t crab \U0001f980 ä"),
    ("varchar(10)", "ten chars!"),
    ("char(5)", "abc  "),
    ("bytea", bytes(range(256))),
    ("bytea", b""),
    ("date", dt.date(2024, 2, 29)),
    ("date", dt.date(1, 1, 1)),
    ("time", dt.time(23, 59, 59, 999999)),
    ("timestamp", dt.datetime(1999, 12, 31, 23, 59, 59, 123456)),
    ("timestamptz", dt.datetime(2024, 6, 1, 12, 30, tzinfo=UTC)),
    ("interval", dt.timedelta(days=-3, seconds=5, microseconds=7)),
    ("uuid", uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    ("jsonb", {"a": [1, 2.5, None, True, "ü"], "b": {"c": []}}),
    ("json", {"kept": "as is"}),
    ("int[]", [1, None, -3]),
    ("int[]", []),
    ("bigint[]", [2**62, -(2**62)]),
    ("text[]", ["a", "with,comma", 'with"quote', "NULL", None, "", "back\\slash"]),
    ("numeric[]", [decimal.Decimal("1.10"), decimal.Decimal("-2")]),
    ("boolean[]", [True, False, None]),
    ("uuid[]", [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]),
    ("timestamptz[]", [dt.datetime(2000, 1, 1, tzinfo=UTC)]),
    ("date[]", [dt.date(2020, 1, 1), None]),
    ("bytea[]", [b"\x00\xff", b""]),
]


def dumped(type_name, value):
    if type_name == "jsonb":
        return Jsonb(value)
    if type_name == "json":
        return psycopg.types.json.Json(value)
    return value


@check
def types_round_trip_in_text_and_binary(conn):
    for number, (type_name, value) in enumerate(ROUND_TRIPS):
        table = f"round_trip_{number}"
        conn.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v {type_name})")
        conn.execute(f"INSERT INTO {table} VALUES (1, %t)", [dumped(type_name, value)])
        conn.execute(f"INSERT INTO {table} VALUES (2, %b)", [dumped(type_name, value)])
        conn.execute(f"INSERT INTO {table} VALUES (3, %s)", [None])
        for binary in (False, True):
            rows = conn.execute(f"SELECT v FROM {table} ORDER BY id", binary=binary).fetchall()
            assert rows == [(value,), (value,), (None,)], (type_name, binary, rows)


@check
def special_numbers_and_infinite_dates(conn):
    for binary in (False, True):
        row = conn.execute(
            "SELECT 'NaN'::numeric, 'Infinity'::numeric, '-Infinity'::numeric, 'NaN'::float8", binary=binary
        ).fetchone()
        assert row[0].is_nan() and row[1] == decimal.Decimal("inf") and row[2] == decimal.Decimal("-inf"), row
        assert row[3] != row[3], row
    row = conn.execute("SELECT 'infinity'::timestamptz::text, '-infinity'::date::text, '4713-01-01 BC'::date::text").fetchone()
    assert row == ("infinity", "-infinity", "4713-01-01 BC"), row


@check
def parameters_of_unknown_type_are_inferred(conn):
    conn.execute("CREATE TABLE inferred (id int PRIMARY KEY, amount numeric(10,2), at timestamptz, who uuid, data jsonb)")
    conn.execute(
        "INSERT INTO inferred VALUES (%s, %s, %s, %s, %s)",
        ["7", "12.345", "2024-01-01 00:00:00+02", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", '{"x": 1}'],
    )
    row = conn.execute(
        "SELECT amount, at, who, data FROM inferred WHERE id = %s AND amount > %s AND data @> %s", ["7", "12", '{"x": 1}']
    ).fetchone()
    assert row[0] == decimal.Decimal("12.35"), row
    assert row[1] == dt.datetime(2023, 12, 31, 22, tzinfo=UTC), row
    assert row[3] == {"x": 1}, row
    rows = conn.execute("SELECT id FROM inferred WHERE id = ANY(%s)", [[7, 8]]).fetchall()
    assert rows == [(7,)], rows
    assert conn.execute("SELECT %s || 'x'", ["a"]).fetchone() == ("ax",)
    assert conn.execute("SELECT %s::int + 1", ["41"]).fetchone() == (42,)
    assert conn.execute("SELECT coalesce(%s, 'none')", [None]).fetchone() == ("none",)
    raises(errors.InvalidTextRepresentation, conn.execute, "SELECT %s::int", ["x"])


@check
def prepared_on_the_server_after_five_runs(conn):
    conn.execute("CREATE TABLE prepared (id int PRIMARY KEY, name text)")
    for i in range(12):
        conn.execute("INSERT INTO prepared VALUES (%s, %s)", [i, f"n{i}"])
    for i in range(12):
        row = conn.execute("SELECT name FROM prepared WHERE id = %s", [i]).fetchone()
        assert row == (f"n{i}",), row
    names = conn.execute("SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql").fetchone()
    assert names[0] >= 2, names
    row = conn.execute("SELECT name FROM prepared WHERE id = %s", [3], prepare=True).fetchone()
    assert row == ("n3",)
    # The table changes under the prepared statement: planned anew, not answered wrongly.
    conn.execute("ALTER TABLE prepared ADD COLUMN extra int DEFAULT 5")
    row = conn.execute("SELECT name FROM prepared WHERE id = %s", [3]).fetchone()
    assert row == ("n3",)
    conn.execute("DEALLOCATE ALL")
    fresh = connect(prepare_threshold=0)
    for i in range(3):
        assert fresh.execute("SELECT %s::int * 2", [i]).fetchone() == (i * 2,)
    fresh.close()


@check
def rows_by_name_and_description(conn):
    conn.execute("CREATE TABLE described (id int PRIMARY KEY, name varchar(20), price numeric(8,3), at timestamptz(3))")
    cursor = conn.cursor(row_factory=dict_row)
    cursor.execute("INSERT INTO described VALUES (1, 'x', 1.5, '2024-01-01Z') RETURNING *")
    assert cursor.rowcount == 1 and cursor.statusmessage == "INSERT 0 1", cursor.statusmessage
    row = cursor.fetchone()
    assert list(row) == ["id", "name", "price", "at"] and str(row["price"]) == "1.500", row
    columns = cursor.description
    assert [c.type_code for c in columns] == [23, 1043, 1700, 1184], columns
    assert columns[1].display_size == 20 and (columns[2].precision, columns[2].scale) == (8, 3), columns
    cursor = conn.cursor(row_factory=namedtuple_row)
    assert cursor.execute("SELECT 1 AS a, 2 AS b").fetchone().b == 2
    cursor.execute("UPDATE described SET name = 'y' WHERE false")
    assert cursor.rowcount == 0 and cursor.statusmessage == "UPDATE 0"
    assert conn.execute("SELECT 1 WHERE false").fetchall() == []
    assert conn.execute("").statusmessage is None or conn.execute("").statusmessage == ""


@check
def transactions_and_savepoints(conn):
    conn.execute("CREATE TABLE moves (id int PRIMARY KEY)")
    with conn.transaction():
        conn.execute("INSERT INTO moves VALUES (1)")
        try:
            with conn.transaction():
                conn.execute("INSERT INTO moves VALUES (2)")
                conn.execute("INSERT INTO moves VALUES (1)")
        except errors.UniqueViolation:
            pass
        with conn.transaction():
            conn.execute("INSERT INTO moves VALUES (3)")
    assert conn.execute("SELECT id FROM moves ORDER BY id").fetchall() == [(1,), (3,)]
    try:
        with conn.transaction():
            conn.execute("DELETE FROM moves")
            raise psycopg.Rollback()
    except psycopg.Rollback:
        pass
    assert conn.execute("SELECT count(*) FROM moves").fetchone() == (2,)
    manual = connect(autocommit=False)
    manual.execute("INSERT INTO moves VALUES (9)")
    assert manual.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert conn.execute("SELECT count(*) FROM moves WHERE id = 9").fetchone() == (0,)
    manual.commit()
    assert conn.execute("SELECT count(*) FROM moves WHERE id = 9").fetchone() == (1,)
    raises(errors.DivisionByZero, manual.execute, "SELECT 1/0")
    raises(errors.InFailedSqlTransaction, manual.execute, "SELECT 1")
    manual.rollback()
    manual.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    manual.read_only = True
    assert manual.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
    error = raises(psycopg.Error, manual.execute, "INSERT INTO moves VALUES (77)")
    assert error.sqlstate == "25006", error
    manual.rollback()
    manual.close()


@check
def errors_carry_their_fields(conn):
    conn.execute("CREATE TABLE parents (id int PRIMARY KEY)")
    conn.execute(
        "CREATE TABLE children (id int CONSTRAINT children_key PRIMARY KEY, parent int CONSTRAINT children_parent "
        "REFERENCES parents, name text NOT NULL, age int CONSTRAINT grown CHECK (age > 0), UNIQUE (name))"
    )
    conn.execute("INSERT INTO parents VALUES (1)")
    conn.execute("INSERT INTO children VALUES (1, 1, 'a', 1)")
    cases = [
        ("INSERT INTO children VALUES (1, 1, 'b', 1)", errors.UniqueViolation, "children_key"),
        ("INSERT INTO children VALUES (2, 1, 'a', 1)", errors.UniqueViolation, "children_name_key"),
        ("INSERT INTO children VALUES (2, 7, 'b', 1)", errors.ForeignKeyViolation, "children_parent"),
        ("DELETE FROM parents", errors.ForeignKeyViolation, "children_parent"),
        ("INSERT INTO children VALUES (2, 1, 'b', 0)", errors.CheckViolation, "grown"),
        ("INSERT INTO children VALUES (2, 1, NULL, 1)", errors.NotNullViolation, None),
    ]
    for statement, error, constraint in cases:
        raised = raises(error, conn.execute, statement)
        assert raised.diag.constraint_name == constraint, (statement, raised.diag.constraint_name)
        assert raised.diag.table_name == "children", raised.diag.table_name
        assert raised.diag.schema_name == os.environ["PGUSER"], raised.diag.schema_name
        assert raised.diag.severity == "ERROR"
    raised = raises(errors.NotNullViolation, conn.execute, cases[-1][0])
    assert raised.diag.column_name == "name"
    for statement, sqlstate in [
        ("SELECT * FROM missing", "42P01"),
        ("SELECT missing FROM parents", "42703"),
        ("SELEC 1", "42601"),
        ("SELECT missing(1)", "42883"),
        ("SELECT 1 + 'x'", "22P02"),
        ("SELECT 2147483647 + 1", "22003"),
        ("SELECT 'x'::uuid", "22P02"),
        ("SELECT '{'::jsonb", "22P02"),
        ("SELECT '2024-13-01'::date", "22008"),
        ("INSERT INTO parents VALUES (1, 2)", "42601"),
        ("CREATE TABLE parents (id int)", "42P07"),
        ("SELECT id, count(*) FROM parents", "42803"),
        ("SELECT a.id FROM parents a, parents a", "42712"),
        ("SELECT id FROM parents a, children b", "42702"),
        ("SELECT 'abc'::varchar(2)::int", "22P02"),
        ("SET missing_setting = 1", "42704"),
    ]:
        raised = raises(psycopg.Error, conn.execute, statement)
        assert raised.sqlstate == sqlstate, (statement, raised.sqlstate, str(raised))
    raised = raises(psycopg.Error, conn.execute, "SELECT * FROM nowhere WHERE x = 1")
    assert raised.diag.statement_position == "15", raised.diag.statement_position


@check
def many_rows_at_once(conn):
    conn.execute("CREATE TABLE batch (id int PRIMARY KEY, name text)")
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany("INSERT INTO batch VALUES (%s, %s)", [(i, f"n{i}") for i in range(500)])
        assert cursor.rowcount == 500, cursor.rowcount
        cursor.executemany("INSERT INTO batch VALUES (%s, %s) RETURNING id", [(1000, "a"), (1001, "b")], returning=True)
        seen = []
        while True:
            seen.append(cursor.fetchone()[0])
            if not cursor.nextset():
                break
        assert seen == [1000, 1001], seen
    assert conn.execute("SELECT count(*), sum(id) FROM batch").fetchone() == (502, 126751)


@check
def pipeline_mode(conn):
    conn.execute("CREATE TABLE piped (id int PRIMARY KEY)")
    with conn.pipeline() as pipeline:
        cursors = [conn.execute("INSERT INTO piped VALUES (%s) RETURNING id", [i]) for i in range(50)]
        pipeline.sync()
        assert [c.fetchone()[0] for c in cursors] == list(range(50))
        count = conn.execute("SELECT count(*) FROM piped")
        assert count.fetchone() == (50,)
    # An error skips to the end of its pipeline and leaves the connection usable.
    cursors = []

    def broken():
        with conn.pipeline() as pipeline:
            # The driver may have read the error before the last one is sent: then that raises.
            for statement in ["SELECT 1", "SELECT 1/0", "SELECT 2"]:
                cursors.append(conn.execute(statement))
            pipeline.sync()

    raises(errors.DivisionByZero, broken)
    assert cursors[0].fetchone() == (1,)
    for cursor in cursors[1:]:
        raises(psycopg.Error, cursor.fetchone)
    assert conn.execute("SELECT 3").fetchone() == (3,)
    # In one implicit transaction, what stood before the error is undone.
    with conn.pipeline() as pipeline:
        conn.execute("INSERT INTO piped VALUES (100)")
        conn.execute("INSERT INTO piped VALUES (100)")
        raises(errors.UniqueViolation, pipeline.sync)
    assert conn.execute("SELECT count(*) FROM piped WHERE id = 100").fetchone() == (0,)


@check
def cursors_on_the_server(conn):
    with conn.transaction():
        with conn.cursor(name="walk") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT i, 'row ' || i FROM generate_series(1, %s) AS g (i)", [50])
            rows = list(cursor)
            assert len(rows) == 50 and rows[-1] == (50, "row 50")
        with conn.cursor(name="jump", scrollable=True) as cursor:
            cursor.execute("SELECT i FROM generate_series(1, 20) AS g (i)")
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            cursor.scroll(5)
            assert cursor.fetchone() == (9,)
            cursor.scroll(2, mode="absolute")
            assert cursor.fetchone() == (3,)
            assert len(cursor.fetchall()) == 17
    with conn.cursor(name="held", withhold=True) as cursor:
        cursor.execute("SELECT i FROM generate_series(1, 5) AS g (i)")
        assert cursor.fetchall() == [(1,), (2,), (3,), (4,), (5,)]
    streamed = list(conn.cursor().stream("SELECT i FROM generate_series(1, 1000) AS g (i)"))
    assert len(streamed) == 1000


@check
def copy_both_ways(conn):
    conn.execute("CREATE TABLE copied (id int PRIMARY KEY, name text, amount numeric, at timestamptz, raw bytea)")
    rows = [
        (1, "plain", decimal.Decimal("1.50"), dt.datetime(2024, 1, 1, tzinfo=UTC), b"\x00\\"),
        (2, "tab\tnewline\nback\\slash", None, None, None),
        (3, "", decimal.Decimal("-3"), None, b""),
        (4, "\\N", decimal.Decimal(10) ** 40, None, b"x"),
    ]
    with conn.cursor() as cursor:
        with cursor.copy("COPY copied FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        assert cursor.rowcount == 4 and cursor.statusmessage == "COPY 4", cursor.statusmessage
        with cursor.copy("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text", "numeric", "timestamptz", "bytea"])
            assert list(copy.rows()) == rows
        with cursor.copy("COPY copied (id, name, amount, at, raw) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text", "numeric", "timestamptz", "bytea"])
            assert sorted(copy.rows(), key=lambda row: row[0]) == rows
        conn.execute("TRUNCATE copied")
        with cursor.copy("COPY copied FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "text", "numeric", "timestamptz", "bytea"])
            for row in rows:
                copy.write_row(row)
        assert conn.execute("SELECT * FROM copied ORDER BY id").fetchall() == rows
        with cursor.copy("COPY (SELECT id, name, amount FROM copied ORDER BY id) TO STDOUT (FORMAT csv, HEADER)") as copy:
            text = b"".join(copy).decode()
        assert text == 'id,name,amount\n1,plain,1.50\n2,"tab\tnewline\nback\\slash",\n3,"",-3\n4,\\N,1' + "0" * 40 + "\n", text
        conn.execute("TRUNCATE copied")
        with cursor.copy("COPY copied (id, name) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'nil')") as copy:
            copy.write("id;name\n1;nil\n2;\"a;b\"\n3;\"nil\"\n")
        assert conn.execute("SELECT id, name FROM copied ORDER BY id").fetchall() == [(1, None), (2, "a;b"), (3, "nil")]

        def broken():
            with cursor.copy("COPY copied (id) FROM STDIN") as copy:
                copy.write("10\n11\nx\n")

        raised = raises(errors.InvalidTextRepresentation, broken)
        assert "line 3" in raised.diag.context, raised.diag.context
        assert conn.execute("SELECT count(*) FROM copied").fetchone() == (3,)

        def given_up():
            with cursor.copy("COPY copied (id) FROM STDIN") as copy:
                copy.write("20\n")
                raise KeyError("the application fails")

        raises(KeyError, given_up)
        assert conn.execute("SELECT count(*) FROM copied").fetchone() == (3,)


@check
def notifications_reach_an_idle_client(conn):
    conn.execute("LISTEN orders")
    got = []
    ready = threading.Event()

    def wait():
        ready.set()
        for notify in conn.notifies():
            got.append((notify.channel, notify.payload))
            if notify.payload == "stop":
                break

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    other = connect()
    other.execute("NOTIFY orders, 'one'")
    with other.transaction():
        other.execute("SELECT pg_notify('orders', 'two')")
        other.execute("NOTIFY nobody, 'listens'")
    with other.transaction(force_rollback=True):
        other.execute("NOTIFY orders, 'never'")
    other.execute("NOTIFY orders, 'stop'")
    thread.join(20)
    assert not thread.is_alive(), "the notification never came"
    assert got == [("orders", "one"), ("orders", "two"), ("orders", "stop")], got
    conn.execute("UNLISTEN *")
    other.close()


@check
def cancel_and_timeouts(conn):
    def later():
        time.sleep(0.3)
        conn.cancel()

    thread = threading.Thread(target=later)
    start = time.monotonic()
    thread.start()
    raises(errors.QueryCanceled, conn.execute, "SELECT pg_sleep(30)")
    assert time.monotonic() - start < 10
    thread.join()
    assert conn.execute("SELECT 1").fetchone() == (1,)
    conn.execute("SET statement_timeout = '200ms'")
    raised = raises(errors.QueryCanceled, conn.execute, "SELECT pg_sleep(30)")
    assert "statement timeout" in str(raised), raised
    conn.execute("RESET statement_timeout")
    raised = raises(
        errors.QueryCanceled,
        lambda: connect(options="-c statement_timeout=150").execute("SELECT count(*) FROM generate_series(1, 1000000000)"),
    )


@check
def locks_time_out_and_are_skipped(conn):
    conn.execute("CREATE TABLE queue (id int PRIMARY KEY, state text)")
    conn.execute("INSERT INTO queue SELECT i, 'new' FROM generate_series(1, 3) AS g (i)")
    other = connect(autocommit=False)
    assert other.execute("SELECT id FROM queue ORDER BY id LIMIT 1 FOR UPDATE").fetchone() == (1,)
    row = conn.execute("SELECT id FROM queue ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED").fetchone()
    assert row == (2,), row
    raises(errors.LockNotAvailable, conn.execute, "SELECT id FROM queue WHERE id = 1 FOR UPDATE NOWAIT")
    conn.execute("SET lock_timeout = '100ms'")
    raises(errors.LockNotAvailable, conn.execute, "UPDATE queue SET state = 'x' WHERE id = 1")
    other.rollback()
    conn.execute("UPDATE queue SET state = 'x' WHERE id = 1")
    other.close()


@check
def time_zones(conn):
    conn.execute("SET TIME ZONE 'America/New_York'")
    row = conn.execute("SELECT '2024-07-01 12:00+00'::timestamptz, '2024-07-01 12:00+00'::timestamptz::text").fetchone()
    assert row[0] == dt.datetime(2024, 7, 1, 12, tzinfo=UTC) and row[1] == "2024-07-01 08:00:00-04", row
    assert row[0].utcoffset() == dt.timedelta(hours=-4), row
    assert conn.info.timezone.key == "America/New_York"
    conn.execute("SET TIME ZONE 'UTC'")
    row = conn.execute("SELECT timestamp '2024-01-15 10:00' AT TIME ZONE 'Europe/Berlin'").fetchone()
    assert row[0] == dt.datetime(2024, 1, 15, 9, tzinfo=UTC), row
    row = conn.execute("SELECT date_trunc('day', %s), extract(epoch FROM %s)", [dt.datetime(2024, 5, 6, 7, 8, tzinfo=UTC)] * 2).fetchone()
    assert row[0] == dt.datetime(2024, 5, 6, tzinfo=UTC), row
    conn.execute("SET DateStyle = 'ISO, DMY'")
    assert conn.execute("SELECT '03/04/2024'::date").fetchone() == (dt.date(2024, 4, 3),)
    assert conn.info.parameter_status("DateStyle") == "ISO, DMY"


@check
def types_are_looked_up_in_the_catalog(conn):
    info = TypeInfo.fetch(conn, "numeric")
    assert (info.oid, info.array_oid) == (1700, 1231), info
    info = TypeInfo.fetch(conn, "timestamptz")
    assert (info.oid, info.array_oid) == (1184, 1185), info
    assert TypeInfo.fetch(conn, "pg_lsn").oid == 3220
    assert TypeInfo.fetch(conn, "no_such_type") is None
    assert psycopg.types.enum.EnumInfo.fetch(conn, "no_such_enum") is None
    assert psycopg.types.composite.CompositeInfo.fetch(conn, "no_such_composite") is None
    assert psycopg.types.range.RangeInfo.fetch(conn, "int4range").subtype_oid == 23


@check
def identifiers_and_literals_are_composed(conn):
    name = 'Odd "Name" %'
    conn.execute(sql.SQL("CREATE TABLE {} ({} int PRIMARY KEY, {} text)").format(
        sql.Identifier(name), sql.Identifier("Id"), sql.Identifier("select")))
    conn.execute(sql.SQL("INSERT INTO {} VALUES ({}, {})").format(sql.Identifier(name), 1, "it's"))
    rows = conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(os.environ["PGUSER"], name))).fetchall()
    assert rows == [(1, "it's")], rows
    assert conn.execute("SELECT E'a\\nb', $$dollar 'quoted'$$, U&'\\00e4', 'two'\n 'parts'").fetchone() == (
        "a\nb", "dollar 'quoted'", "ä", "twoparts")


@check
def several_statements_in_one_string(conn):
    cursor = conn.execute("SELECT 1; SELECT 2 AS two; CREATE TABLE several (i int); INSERT INTO several VALUES (1), (2)")
    assert cursor.fetchone() == (1,)
    assert cursor.nextset() and cursor.fetchone() == (2,)
    assert cursor.nextset() and cursor.statusmessage == "CREATE TABLE"
    assert cursor.nextset() and cursor.statusmessage == "INSERT 0 2"
    assert not cursor.nextset()
    # One string is one transaction.
    raises(errors.DivisionByZero, conn.execute, "INSERT INTO several VALUES (3); SELECT 1/0")
    assert conn.execute("SELECT count(*) FROM several").fetchone() == (2,)


@check
def settings_as_sessions_use_them(conn):
    conn.execute("SET application_name = 'my app'")
    assert conn.info.parameter_status("application_name") == "my app"
    assert conn.execute("SHOW application_name").fetchone() == ("my app",)
    conn.execute("SELECT set_config('my.setting', 'v', false)")
    assert conn.execute("SELECT current_setting('my.setting'), current_setting('none.such', true)").fetchone() == ("v", None)
    with conn.transaction():
        conn.execute("SET LOCAL search_path = pg_catalog")
        assert conn.execute("SHOW search_path").fetchone() == ("pg_catalog",)
    assert conn.execute("SHOW search_path").fetchone() == ('"$user", public',)
    conn.execute("RESET ALL")
    conn.execute("DISCARD ALL")
    assert conn.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone() == (15,)
    row = conn.execute("SELECT pg_advisory_lock(42), pg_try_advisory_lock(42), pg_advisory_unlock(42)").fetchone()
    assert row[1:] == (True, True), row
    assert conn.execute("SELECT pid FROM pg_stat_activity WHERE pid = pg_backend_pid()").fetchone() == (conn.info.backend_pid,)


def hung(_signal, _frame):
    raise TimeoutError("hung for 40 s")


def main():
    failed = 0
    signal.signal(signal.SIGALRM, hung)
    for function in CHECKS:
        try:
            # Again and again, for what the end of the connection waits for, too.
            signal.setitimer(signal.ITIMER_REAL, 40, 5)
            with connect() as conn:
                function(conn)
            print(f"ok {function.__name__}", flush=True)
        except Exception:  # every check is judged, whatever it met
            failed += 1
            lines = traceback.format_exc().strip().splitlines()
            print(f"FAILED {function.__name__}\n    " + "\n    ".join(lines), flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

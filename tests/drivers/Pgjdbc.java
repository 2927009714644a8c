// What applications do with pgjdbc, checked step by step. Runs unchanged against PostgreSQL 15 and
// Freehold; finds the server by libpq's PG* variables. One line per check, exit status 1 if any
// failed.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;

public class Pgjdbc {
    interface Check {
        void run(Connection c) throws Exception;
    }

    static final Map<String, Check> CHECKS = new LinkedHashMap<>();
    static final String USER = System.getenv("PGUSER");

    static Connection connect(String... options) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", USER);
        p.setProperty("password", System.getenv("PGPASSWORD"));
        p.setProperty("socketTimeout", "40"); // what takes longer has hung
        p.setProperty("sslmode", System.getenv("PGSSLMODE"));
        if (System.getenv("PGSSLROOTCERT") != null) p.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        for (int i = 0; i < options.length; i += 2) p.setProperty(options[i], options[i + 1]);
        return DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static void equal(Object expected, Object got) {
        if (!Objects.deepEquals(expected, got)) throw new AssertionError("expected " + show(expected) + ", got " + show(got));
    }

    static String show(Object o) {
        return o instanceof Object[] a ? Arrays.deepToString(a) : o instanceof byte[] b ? Arrays.toString(b) : String.valueOf(o);
    }

    static void run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute(sql);
        }
    }

    /** All rows, columns joined by '|'. */
    static List<String> rows(ResultSet r) throws SQLException {
        List<String> rows = new ArrayList<>();
        int n = r.getMetaData().getColumnCount();
        while (r.next()) {
            StringJoiner line = new StringJoiner("|");
            for (int i = 1; i <= n; i++) line.add(String.valueOf(r.getString(i)));
            rows.add(line.toString());
        }
        r.close();
        return rows;
    }

    static List<String> rows(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            return rows(s.executeQuery(sql));
        }
    }

    /** Some columns of all rows by name. */
    static List<String> pick(ResultSet r, String... names) throws SQLException {
        List<String> rows = new ArrayList<>();
        while (r.next()) {
            StringJoiner line = new StringJoiner("|");
            for (String name : names) line.add(String.valueOf(r.getString(name)));
            rows.add(line.toString());
        }
        r.close();
        return rows;
    }

    interface Act {
        void run() throws Exception;
    }

    static SQLException fails(String sqlstate, Act act) throws Exception {
        try {
            act.run();
        } catch (SQLException e) {
            equal(sqlstate, e.getSQLState());
            return e;
        }
        throw new AssertionError("did not fail with " + sqlstate);
    }

    static {
        CHECKS.put("connected_as_said", c -> {
            DatabaseMetaData m = c.getMetaData();
            equal("PostgreSQL", m.getDatabaseProductName());
            equal(15, m.getDatabaseMajorVersion());
            equal(USER, m.getUserName());
            equal("freehold", c.getCatalog());
            equal(USER, c.getSchema());
            if (!c.isValid(5)) throw new AssertionError("not valid");
            equal(Connection.TRANSACTION_READ_COMMITTED, c.getTransactionIsolation());
        });
        CHECKS.put("wrong_password_is_refused", c -> {
            if (!"disable".equals(System.getenv("PGSSLMODE"))) fails("28P01", () -> connect("password", "wrong"));
        });
        CHECKS.put("types_round_trip_in_text_and_binary", Pgjdbc::types);
        CHECKS.put("arrays_round_trip", Pgjdbc::arrays);
        CHECKS.put("times_and_zones", Pgjdbc::times);
        CHECKS.put("prepared_on_the_server_after_five_runs", Pgjdbc::prepared);
        CHECKS.put("generated_keys_and_returning", Pgjdbc::keys);
        CHECKS.put("batches", c -> batches("false"));
        CHECKS.put("rewritten_batches", c -> batches("true"));
        CHECKS.put("transactions_and_savepoints", Pgjdbc::transactions);
        CHECKS.put("autosave", Pgjdbc::autosave);
        CHECKS.put("errors_carry_their_fields", Pgjdbc::errors);
        CHECKS.put("fetch_size_is_honoured", Pgjdbc::fetchSize);
        CHECKS.put("scrollable_and_updatable", Pgjdbc::updatable);
        CHECKS.put("copy_both_ways", Pgjdbc::copy);
        CHECKS.put("notifications_reach_an_idle_client", Pgjdbc::notifications);
        CHECKS.put("cancel_and_timeouts", Pgjdbc::cancel);
        CHECKS.put("metadata_of_tables", Pgjdbc::tables);
        CHECKS.put("metadata_of_keys_and_indexes", Pgjdbc::keysOfTables);
        CHECKS.put("metadata_of_results_and_parameters", Pgjdbc::describe);
        CHECKS.put("metadata_of_the_rest", Pgjdbc::rest);
        CHECKS.put("simple_query_modes", Pgjdbc::simple);
        CHECKS.put("several_results", Pgjdbc::several);
        CHECKS.put("pool_habits", Pgjdbc::pool);
    }

    static void types(Connection plain) throws Exception {
        run(plain, "CREATE TABLE typed (id int PRIMARY KEY, b boolean, s smallint, i int, l bigint, f real, d double precision, "
            + "n numeric, m numeric(20,4), t text, v varchar(20), c char(4), y bytea, u uuid, j jsonb, p pg_lsn, o interval)");
        Object[][] cases = {
            {true, (short) -32768, Integer.MAX_VALUE, Long.MIN_VALUE, 1.25f, -0.1, new BigDecimal("3.14159265358979323846264338327950288419716939937510"),
                new BigDecimal("-1234567890123456.7891"), "crab \ud83e\udd80 'q' \\ \n", "", "ab  ", new byte[] {0, (byte) 255, 92, 39},
                UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")},
            {false, (short) 0, 0, 0L, Float.NEGATIVE_INFINITY, Double.NaN, new BigDecimal("1" + "0".repeat(150)), new BigDecimal("0.0000"), "", "x", "abcd",
                new byte[0], new UUID(0, 0)},
        };
        // Text, and binary from the first run on.
        for (String threshold : new String[] {"0", "-1"}) {
            try (Connection c = connect("prepareThreshold", threshold)) {
                run(c, "DELETE FROM typed");
                PreparedStatement insert = c.prepareStatement("INSERT INTO typed VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?::jsonb,?::pg_lsn,?::interval)");
                PreparedStatement select = c.prepareStatement("SELECT * FROM typed WHERE id = ?");
                for (int k = 0; k < cases.length; k++) {
                    insert.setInt(1, k);
                    for (int i = 0; i < cases[k].length; i++) insert.setObject(i + 2, cases[k][i]);
                    insert.setString(15, "{\"k\": [1, 2.50, null, \"\u00fc\"]}");
                    insert.setString(16, "1A/2B3C");
                    insert.setString(17, "1 mon -2 days 03:00:00.5");
                    equal(1, insert.executeUpdate());
                    for (int again = 0; again < 7; again++) {
                        select.setInt(1, k);
                        ResultSet r = select.executeQuery();
                        r.next();
                        equal(cases[k][0], r.getBoolean(2));
                        equal(cases[k][1], r.getShort(3));
                        equal(cases[k][2], r.getInt(4));
                        equal(cases[k][3], r.getLong(5));
                        equal(cases[k][4], r.getFloat(6));
                        equal(cases[k][5], r.getDouble(7));
                        equal(cases[k][6], r.getBigDecimal(8));
                        equal(cases[k][7], r.getBigDecimal(9));
                        for (int i = 8; i < 11; i++) equal(cases[k][i], r.getString(i + 2));
                        equal(cases[k][11], r.getBytes(13));
                        equal(cases[k][12], r.getObject(14, UUID.class));
                        equal("{\"k\": [1, 2.50, null, \"\u00fc\"]}", r.getString(15));
                        equal("1A/2B3C", r.getString(16));
                        equal("0 years 1 mons -2 days 3 hours 0 mins 0.5 secs", r.getObject(17).toString());
                        r.close();
                    }
                }
                insert.setInt(1, 9);
                for (int i = 2; i <= 17; i++) insert.setNull(i, i == 14 ? Types.OTHER : i == 13 ? Types.BINARY : i == 2 ? Types.BOOLEAN : i < 10 ? Types.NUMERIC : Types.VARCHAR);
                // Types that do not fit a NULL are the application's error; VARCHAR for text is not.
                insert.setNull(3, Types.SMALLINT);
                insert.setNull(4, Types.INTEGER);
                insert.setNull(5, Types.BIGINT);
                insert.setNull(6, Types.REAL);
                insert.setNull(7, Types.DOUBLE);
                equal(1, insert.executeUpdate());
                for (int again = 0; again < 6; again++) {
                    select.setInt(1, 9);
                    ResultSet r = select.executeQuery();
                    r.next();
                    for (int i = 2; i <= 17; i++) {
                        equal(null, r.getObject(i));
                        if (!r.wasNull()) throw new AssertionError("wasNull");
                    }
                    r.close();
                }
            }
        }
        PGobject json = new PGobject();
        json.setType("jsonb");
        json.setValue("{\"a\": 1}");
        PreparedStatement q = plain.prepareStatement("SELECT ?->>'a'");
        q.setObject(1, json);
        equal(List.of("1"), rows(q.executeQuery()));
    }

    static void arrays(Connection c) throws Exception {
        run(c, "CREATE TABLE listed (id int PRIMARY KEY, i int[], t text[], n numeric[], u uuid[])");
        PreparedStatement insert = c.prepareStatement("INSERT INTO listed VALUES (?, ?, ?, ?, ?)");
        UUID[] ids = {UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")};
        for (int k = 0; k < 8; k++) {
            insert.setInt(1, k);
            insert.setArray(2, c.createArrayOf("int4", new Integer[] {1, null, -k}));
            insert.setArray(3, c.createArrayOf("text", new String[] {"a,b", "\"q\"", null, "NULL", "", "\\"}));
            insert.setArray(4, c.createArrayOf("numeric", new BigDecimal[] {new BigDecimal("1.10")}));
            insert.setArray(5, c.createArrayOf("uuid", ids));
            insert.executeUpdate();
        }
        PreparedStatement select = c.prepareStatement("SELECT i, t, n, u FROM listed WHERE id = ANY (?) ORDER BY id");
        for (int again = 0; again < 7; again++) {
            select.setArray(1, c.createArrayOf("int4", new Integer[] {3, 4, 99}));
            ResultSet r = select.executeQuery();
            r.next();
            equal(new Integer[] {1, null, -3}, r.getArray(1).getArray());
            equal(new String[] {"a,b", "\"q\"", null, "NULL", "", "\\"}, r.getArray(2).getArray());
            equal(new BigDecimal[] {new BigDecimal("1.10")}, r.getArray(3).getArray());
            equal(ids, r.getArray(4).getArray());
            equal("int4", r.getArray(1).getBaseTypeName());
            equal(true, r.next());
            equal(false, r.next());
        }
    }

    static void times(Connection plain) throws Exception {
        run(plain, "CREATE TABLE timed (id int PRIMARY KEY, d date, t time, ts timestamp, tz timestamptz)");
        for (String threshold : new String[] {"0", "-1"}) {
            try (Connection c = connect("prepareThreshold", threshold)) {
                run(c, "DELETE FROM timed");
                PreparedStatement insert = c.prepareStatement("INSERT INTO timed VALUES (?, ?, ?, ?, ?)");
                LocalDate date = LocalDate.of(2024, 2, 29);
                LocalTime time = LocalTime.of(23, 59, 59, 123456000);
                LocalDateTime stamp = LocalDateTime.of(1969, 7, 20, 20, 17, 40, 5000);
                OffsetDateTime zoned = OffsetDateTime.of(2024, 7, 1, 14, 0, 0, 0, ZoneOffset.ofHours(2));
                insert.setInt(1, 1);
                insert.setObject(2, date);
                insert.setObject(3, time);
                insert.setObject(4, stamp);
                insert.setObject(5, zoned);
                insert.executeUpdate();
                PreparedStatement select = c.prepareStatement("SELECT d, t, ts, tz FROM timed WHERE tz = ? AND ts < ?");
                for (int again = 0; again < 7; again++) {
                    select.setObject(1, zoned);
                    select.setTimestamp(2, Timestamp.valueOf("1970-01-01 00:00:00"));
                    ResultSet r = select.executeQuery();
                    equal(true, r.next());
                    equal(date, r.getObject(1, LocalDate.class));
                    equal(time, r.getObject(2, LocalTime.class));
                    equal(stamp, r.getObject(3, LocalDateTime.class));
                    equal(zoned.toInstant(), r.getObject(4, OffsetDateTime.class).toInstant());
                    equal(zoned.toInstant(), r.getTimestamp(4).toInstant());
                    equal(java.sql.Date.valueOf("2024-02-29"), r.getDate(1));
                }
                insert.setInt(1, 2);
                insert.setTimestamp(5, Timestamp.from(Instant.parse("2024-01-01T00:00:00Z")), Calendar.getInstance(TimeZone.getTimeZone("Asia/Tokyo")));
                insert.executeUpdate();
                run(c, "SET TIME ZONE 'UTC'");
                equal(List.of("2024-01-01 00:00:00+00"), rows(c, "SELECT tz::text FROM timed WHERE id = 2"));
            }
        }
    }

    static void prepared(Connection c) throws Exception {
        run(c, "CREATE TABLE prepared (id int PRIMARY KEY, name text)");
        PreparedStatement insert = c.prepareStatement("INSERT INTO prepared VALUES (?, ?)");
        for (int i = 0; i < 20; i++) {
            insert.setInt(1, i);
            insert.setString(2, "n" + i);
            equal(1, insert.executeUpdate());
        }
        PreparedStatement select = c.prepareStatement("SELECT id, name FROM prepared WHERE id = ?");
        for (int i = 0; i < 20; i++) {
            select.setInt(1, i);
            equal(List.of(i + "|n" + i), rows(select.executeQuery()));
        }
        int named = Integer.parseInt(rows(c, "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'S\\_%'").get(0));
        if (named < 2) throw new AssertionError("no statement was prepared on the server: " + named);
        // The shape changes under the statement; pgjdbc sees 0A000 and prepares again.
        PreparedStatement all = c.prepareStatement("SELECT * FROM prepared WHERE id = ?");
        for (int i = 0; i < 8; i++) {
            all.setInt(1, i);
            equal(List.of(i + "|n" + i), rows(all.executeQuery()));
        }
        run(c, "ALTER TABLE prepared ADD COLUMN extra int DEFAULT 5");
        all.setInt(1, 3);
        equal(List.of("3|n3|5"), rows(all.executeQuery()));
        select.setInt(1, 3);
        equal(List.of("3|n3"), rows(select.executeQuery()));
    }

    static void keys(Connection c) throws Exception {
        run(c, "CREATE TABLE generated (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text, at timestamptz DEFAULT now())");
        PreparedStatement insert = c.prepareStatement("INSERT INTO generated (name) VALUES (?)", Statement.RETURN_GENERATED_KEYS);
        for (int i = 1; i <= 7; i++) {
            insert.setString(1, "n" + i);
            equal(1, insert.executeUpdate());
            ResultSet keys = insert.getGeneratedKeys();
            keys.next();
            equal((long) i, keys.getLong("id"));
            if (keys.getTimestamp("at") == null) throw new AssertionError("no default");
        }
        PreparedStatement named = c.prepareStatement("INSERT INTO generated (name) VALUES ('x'), ('y')", new String[] {"id"});
        equal(2, named.executeUpdate());
        equal(List.of("8", "9"), rows(named.getGeneratedKeys()));
        equal(List.of("1|z"), rows(c, "UPDATE generated SET name = 'z' WHERE id = 1 RETURNING id, name"));
        equal(List.of("9"), rows(c, "SELECT currval(pg_get_serial_sequence('generated', 'id'))"));
        equal(List.of("2|changed"), rows(c, "INSERT INTO generated (id, name) VALUES (2, 'changed') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name RETURNING id, name"));
    }

    static void batches(String rewrite) throws Exception {
        try (Connection c = connect("reWriteBatchedInserts", rewrite)) {
            String table = "batched_" + rewrite;
            run(c, "CREATE TABLE " + table + " (id int PRIMARY KEY, name text, n numeric)");
            c.setAutoCommit(false);
            PreparedStatement insert = c.prepareStatement("INSERT INTO " + table + " VALUES (?, ?, ?)");
            for (int i = 0; i < 1000; i++) {
                insert.setInt(1, i);
                insert.setString(2, i % 7 == 0 ? null : "n" + i);
                insert.setBigDecimal(3, new BigDecimal(i).movePointLeft(2));
                insert.addBatch();
            }
            equal(1000, insert.executeBatch().length);
            c.commit();
            equal(List.of("1000|857|4995.00"), rows(c, "SELECT count(*), count(name), sum(n) FROM " + table));
            PreparedStatement update = c.prepareStatement("UPDATE " + table + " SET name = ? WHERE id = ?");
            for (int i = 0; i < 300; i++) {
                update.setString(1, "u");
                update.setInt(2, i * 4);
                update.addBatch();
            }
            equal(250, Arrays.stream(update.executeBatch()).sum());
            insert.setInt(1, 5000);
            insert.setString(2, "a");
            insert.setBigDecimal(3, null);
            insert.addBatch();
            insert.setInt(1, 1);
            insert.addBatch();
            SQLException e = fails("23505", insert::executeBatch);
            if (!(e instanceof BatchUpdateException)) throw new AssertionError(e.toString());
            c.rollback();
            equal(List.of("0"), rows(c, "SELECT count(*) FROM " + table + " WHERE id = 5000 OR name = 'u'"));
            c.setAutoCommit(true);
            Statement s = c.createStatement();
            s.addBatch("INSERT INTO " + table + " VALUES (6000)");
            s.addBatch("UPDATE " + table + " SET name = 's' WHERE id >= 990");
            equal(new int[] {1, 11}, s.executeBatch());
        }
    }

    static void transactions(Connection c) throws Exception {
        run(c, "CREATE TABLE moved (id int PRIMARY KEY)");
        c.setAutoCommit(false);
        run(c, "INSERT INTO moved VALUES (1)");
        Savepoint one = c.setSavepoint("one");
        run(c, "INSERT INTO moved VALUES (2)");
        fails("23505", () -> run(c, "INSERT INTO moved VALUES (1)"));
        fails("25P02", () -> run(c, "SELECT 1"));
        c.rollback(one);
        Savepoint two = c.setSavepoint();
        run(c, "INSERT INTO moved VALUES (3)");
        c.releaseSavepoint(two);
        c.commit();
        equal(List.of("1", "3"), rows(c, "SELECT id FROM moved ORDER BY id"));
        run(c, "DELETE FROM moved");
        c.rollback();
        equal(List.of("2"), rows(c, "SELECT count(*) FROM moved"));
        c.rollback();
        for (int level : new int[] {Connection.TRANSACTION_SERIALIZABLE, Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_READ_COMMITTED}) {
            c.setTransactionIsolation(level);
            equal(level, c.getTransactionIsolation());
            c.commit();
        }
        c.setReadOnly(true);
        fails("25006", () -> run(c, "DELETE FROM moved"));
        c.rollback();
        c.setReadOnly(false);
        c.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        equal(List.of("2"), rows(c, "SELECT count(*) FROM moved"));
        try (Connection other = connect()) {
            run(other, "INSERT INTO moved VALUES (10)");
            equal(List.of("2"), rows(c, "SELECT count(*) FROM moved"));
            run(other, "UPDATE moved SET id = 11 WHERE id = 1");
            fails("40001", () -> run(c, "UPDATE moved SET id = 12 WHERE id = 1"));
            c.rollback();
        }
        equal(List.of("3"), rows(c, "SELECT count(*) FROM moved"));
        c.commit();
    }

    static void autosave(Connection plain) throws Exception {
        run(plain, "CREATE TABLE saved (id int PRIMARY KEY)");
        try (Connection c = connect("autosave", "always")) {
            c.setAutoCommit(false);
            run(c, "INSERT INTO saved VALUES (1)");
            fails("23505", () -> run(c, "INSERT INTO saved VALUES (1)"));
            run(c, "INSERT INTO saved VALUES (2)");
            c.commit();
        }
        equal(List.of("2"), rows(plain, "SELECT count(*) FROM saved"));
    }

    static void errors(Connection c) throws Exception {
        run(c, "CREATE TABLE parents (id int PRIMARY KEY)");
        run(c, "CREATE TABLE children (id int CONSTRAINT children_key PRIMARY KEY, parent int CONSTRAINT children_parent REFERENCES parents, name text NOT NULL)");
        run(c, "INSERT INTO children VALUES (1, NULL, 'a')");
        PSQLException e = (PSQLException) fails("23505", () -> run(c, "INSERT INTO children VALUES (1, NULL, 'b')"));
        equal("children_key", e.getServerErrorMessage().getConstraint());
        equal("children", e.getServerErrorMessage().getTable());
        equal(USER, e.getServerErrorMessage().getSchema());
        equal("Key (id)=(1) already exists.", e.getServerErrorMessage().getDetail());
        e = (PSQLException) fails("23503", () -> run(c, "INSERT INTO children VALUES (2, 7, 'b')"));
        equal("children_parent", e.getServerErrorMessage().getConstraint());
        e = (PSQLException) fails("23502", () -> run(c, "INSERT INTO children VALUES (2, NULL, NULL)"));
        equal("name", e.getServerErrorMessage().getColumn());
        e = (PSQLException) fails("42P01", () -> run(c, "SELECT * FROM missing"));
        equal(15, e.getServerErrorMessage().getPosition());
        fails("42601", () -> run(c, "SELEC 1"));
        PreparedStatement p = c.prepareStatement("SELECT 10 / ?");
        for (int i = 0; i < 8; i++) {
            p.setInt(1, 0);
            fails("22012", p::executeQuery);
            p.setInt(1, 5);
            equal(List.of("2"), rows(p.executeQuery()));
        }
        SQLWarning none = c.getWarnings();
        equal(null, none);
        try (Statement s = c.createStatement()) {
            s.execute("DROP TABLE IF EXISTS missing");
            equal("00000", s.getWarnings().getSQLState());
        }
    }

    static void fetchSize(Connection c) throws Exception {
        c.setAutoCommit(false);
        try (Connection other = connect(); PreparedStatement p = c.prepareStatement("SELECT i, repeat('x', 100) FROM generate_series(1, ?) AS g (i)")) {
            p.setFetchSize(50);
            p.setInt(1, 1234);
            ResultSet r = p.executeQuery();
            // Another statement while the first portal is open.
            equal(List.of("1"), rows(c, "SELECT 1"));
            int seen = 0;
            while (r.next()) equal(++seen, r.getInt(1));
            equal(1234, seen);
            r.close();
            for (int again = 0; again < 7; again++) {
                r = p.executeQuery();
                for (int i = 0; i < 60; i++) r.next();
                equal(60, r.getInt(1));
                r.close();
            }
        }
        Statement limited = c.createStatement();
        limited.setMaxRows(5);
        equal(5, rows(limited.executeQuery("SELECT * FROM generate_series(1, 100)")).size());
        c.commit();
    }

    static void updatable(Connection c) throws Exception {
        run(c, "CREATE TABLE scrolled (id int PRIMARY KEY, name text)");
        run(c, "INSERT INTO scrolled SELECT i, 'n' || i FROM generate_series(1, 5) AS g (i)");
        Statement s = c.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
        ResultSet r = s.executeQuery("SELECT id, name FROM scrolled ORDER BY id");
        r.last();
        equal(5, r.getRow());
        r.absolute(2);
        r.updateString("name", "changed");
        r.updateRow();
        r.absolute(3);
        r.deleteRow();
        r.moveToInsertRow();
        r.updateInt("id", 9);
        r.updateString("name", "new");
        r.insertRow();
        r.close();
        equal(List.of("1|n1", "2|changed", "4|n4", "5|n5", "9|new"), rows(c, "SELECT * FROM scrolled ORDER BY id"));
    }

    static void copy(Connection c) throws Exception {
        run(c, "CREATE TABLE copied (id int PRIMARY KEY, name text)");
        var manager = c.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 5000; i++) lines.append(i).append("\tname ").append(i).append('\n');
        equal(5000L, manager.copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())));
        StringWriter out = new StringWriter();
        equal(3L, manager.copyOut("COPY (SELECT * FROM copied WHERE id < 3 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)", out));
        equal("id,name\n0,name 0\n1,name 1\n2,name 2\n", out.toString());
        fails("23505", () -> manager.copyIn("COPY copied FROM STDIN", new StringReader("6000\tx\n1\ty\n")));
        equal(List.of("5000"), rows(c, "SELECT count(*) FROM copied"));
    }

    static void notifications(Connection c) throws Exception {
        run(c, "LISTEN \"Orders\"");
        PGConnection pg = c.unwrap(PGConnection.class);
        ExecutorService executor = Executors.newSingleThreadExecutor();
        Future<PGNotification[]> waiting = executor.submit(() -> pg.getNotifications(20000));
        try (Connection other = connect()) {
            run(other, "NOTIFY \"Orders\", 'payload'");
        }
        PGNotification[] got = waiting.get(30, TimeUnit.SECONDS);
        executor.shutdown();
        if (got == null) throw new AssertionError("the notification never came");
        equal("Orders", got[0].getName());
        equal("payload", got[0].getParameter());
    }

    static void cancel(Connection c) throws Exception {
        Statement s = c.createStatement();
        ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor();
        later.schedule(() -> {
            s.cancel();
            return null;
        }, 300, TimeUnit.MILLISECONDS);
        fails("57014", () -> s.execute("SELECT pg_sleep(30)"));
        later.shutdown();
        s.setQueryTimeout(1);
        fails("57014", () -> s.execute("SELECT pg_sleep(30)"));
        s.setQueryTimeout(0);
        s.execute("SET statement_timeout = 150");
        fails("57014", () -> s.execute("SELECT pg_sleep(30)"));
        s.execute("RESET statement_timeout");
        equal(List.of("1"), rows(c, "SELECT 1"));
    }

    static void makeTables(Connection c) throws SQLException {
        run(c, "CREATE TABLE IF NOT EXISTS shops (country char(2), nr int, title varchar(40) NOT NULL DEFAULT 'none', "
            + "opened timestamptz, turnover numeric(14,2), tags text[], CONSTRAINT shops_key PRIMARY KEY (country, nr), CONSTRAINT shops_title UNIQUE (title))");
        run(c, "CREATE TABLE IF NOT EXISTS sales (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shop_country char(2), shop_nr int, "
            + "cents int NOT NULL CHECK (cents >= 0), CONSTRAINT sales_shop FOREIGN KEY (shop_country, shop_nr) REFERENCES shops ON DELETE CASCADE)");
        run(c, "CREATE INDEX IF NOT EXISTS sales_by_cents ON sales (cents DESC, id)");
        run(c, "CREATE OR REPLACE VIEW big_sales AS SELECT id, cents FROM sales WHERE cents > 1000");
        run(c, "CREATE SEQUENCE IF NOT EXISTS counter START 5");
        run(c, "COMMENT ON TABLE sales IS 'what was sold'");
        run(c, "COMMENT ON COLUMN sales.cents IS 'no fractions'");
    }

    static void tables(Connection c) throws Exception {
        makeTables(c);
        DatabaseMetaData m = c.getMetaData();
        equal(List.of("sales|TABLE|what was sold"), pick(m.getTables(null, USER, "sal%", new String[] {"TABLE"}), "TABLE_NAME", "TABLE_TYPE", "REMARKS"));
        equal(List.of(USER + "|big_sales|VIEW"), pick(m.getTables(null, null, "big\\_%", new String[] {"VIEW"}), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"));
        equal(List.of("counter"), pick(m.getTables(null, USER, "counter", new String[] {"SEQUENCE"}), "TABLE_NAME"));
        if (pick(m.getTables(null, "pg_catalog", "pg_class", null), "TABLE_NAME").size() != 1) throw new AssertionError("pg_class");
        List<String> schemas = pick(m.getSchemas(), "TABLE_SCHEM");
        for (String schema : List.of(USER, "public", "pg_catalog", "information_schema"))
            if (!schemas.contains(schema)) throw new AssertionError(schema + " is not among " + schemas);
        equal(List.of(
            "country|1|bpchar|2|0|0|null|NO|1|NO",
            "nr|4|int4|10|0|0|null|NO|2|NO",
            "title|12|varchar|40|0|0|'none'::character varying|NO|3|NO",
            "opened|93|timestamptz|35|6|1|null|YES|4|NO",
            "turnover|2|numeric|14|2|1|null|YES|5|NO",
            "tags|2003|_text|2147483647|0|1|null|YES|6|NO"),
            pick(m.getColumns(null, USER, "shops", "%"), "COLUMN_NAME", "DATA_TYPE", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS", "NULLABLE", "COLUMN_DEF", "IS_NULLABLE", "ORDINAL_POSITION", "IS_AUTOINCREMENT"));
        equal(List.of("id|YES|null", "cents|NO|no fractions"),
            pick(m.getColumns(null, USER, "sales", "%"), "COLUMN_NAME", "IS_AUTOINCREMENT", "REMARKS").stream().filter(l -> !l.startsWith("shop")).toList());
        List<String> types = pick(m.getTableTypes(), "TABLE_TYPE");
        if (!types.contains("TABLE") || !types.contains("VIEW")) throw new AssertionError(types.toString());
    }

    static void keysOfTables(Connection c) throws Exception {
        makeTables(c);
        DatabaseMetaData m = c.getMetaData();
        equal(List.of("country|1|shops_key", "nr|2|shops_key"), pick(m.getPrimaryKeys(null, USER, "shops"), "COLUMN_NAME", "KEY_SEQ", "PK_NAME"));
        List<String> reference = List.of("shops|country|sales|shop_country|1|3|0|sales_shop|shops_key", "shops|nr|sales|shop_nr|2|3|0|sales_shop|shops_key");
        String[] columns = {"PKTABLE_NAME", "PKCOLUMN_NAME", "FKTABLE_NAME", "FKCOLUMN_NAME", "KEY_SEQ", "UPDATE_RULE", "DELETE_RULE", "FK_NAME", "PK_NAME"};
        equal(reference, pick(m.getImportedKeys(null, USER, "sales"), columns));
        equal(reference, pick(m.getExportedKeys(null, USER, "shops"), columns));
        equal(reference, pick(m.getCrossReference(null, USER, "shops", null, USER, "sales"), columns));
        equal(List.of("false|sales_pkey|3|1|id|A", "true|sales_by_cents|3|1|cents|D", "true|sales_by_cents|3|2|id|A"),
            pick(m.getIndexInfo(null, USER, "sales", false, false), "NON_UNIQUE", "INDEX_NAME", "TYPE", "ORDINAL_POSITION", "COLUMN_NAME", "ASC_OR_DESC").stream()
                .map(l -> l.replace("f|", "false|").replace("t|", "true|")).toList());
        equal(List.of("sales_pkey"), pick(m.getIndexInfo(null, USER, "sales", true, false), "INDEX_NAME"));
        equal(List.of("country", "nr"), pick(m.getBestRowIdentifier(null, USER, "shops", DatabaseMetaData.bestRowSession, false), "COLUMN_NAME"));
    }

    static void describe(Connection c) throws Exception {
        makeTables(c);
        PreparedStatement p = c.prepareStatement("SELECT s.country, s.turnover AS sum, a.cents, 1 + ? AS calc FROM shops s JOIN sales a ON a.shop_nr = s.nr WHERE s.title = ? AND s.opened > ?");
        ParameterMetaData in = p.getParameterMetaData();
        equal(3, in.getParameterCount());
        equal(List.of(Types.INTEGER, Types.VARCHAR, Types.TIMESTAMP), List.of(in.getParameterType(1), in.getParameterType(2), in.getParameterType(3)));
        equal("text", in.getParameterTypeName(2));
        ResultSetMetaData out = p.getMetaData();
        equal(4, out.getColumnCount());
        equal("shops", out.getTableName(1));
        equal(USER, out.getSchemaName(1).isEmpty() ? USER : out.getSchemaName(1));
        equal("sum", out.getColumnLabel(2));
        equal("turnover", ((org.postgresql.PGResultSetMetaData) out).getBaseColumnName(2));
        equal(14, out.getPrecision(2));
        equal(2, out.getScale(2));
        equal(ResultSetMetaData.columnNoNulls, out.isNullable(3));
        equal(false, out.isAutoIncrement(3));
        equal(Types.INTEGER, out.getColumnType(4));
    }

    static void rest(Connection c) throws Exception {
        makeTables(c);
        DatabaseMetaData m = c.getMetaData();
        if (!pick(m.getTypeInfo(), "TYPE_NAME").containsAll(List.of("int4", "text", "numeric", "jsonb", "uuid", "timestamptz"))) throw new AssertionError("types");
        m.getFunctions(null, "pg_catalog", "lower").close();
        m.getProcedures(null, null, "%").close();
        m.getClientInfoProperties().close();
        m.getUDTs(null, USER, "%", null).close();
        if (pick(m.getTablePrivileges(null, USER, "sales"), "PRIVILEGE").size() < 5) throw new AssertionError("privileges");
        if (pick(m.getColumnPrivileges(null, USER, "sales", "cents"), "PRIVILEGE").size() < 3) throw new AssertionError("column privileges");
        if (m.getMaxColumnNameLength() != 63) throw new AssertionError("names");
        if (!m.getSQLKeywords().contains("ilike") || !m.getNumericFunctions().contains("abs")) throw new AssertionError("keywords");
        equal(List.of("freehold"), pick(m.getCatalogs(), "TABLE_CAT").stream().filter(n -> n.equals("freehold")).toList());
    }

    static void simple(Connection plain) throws Exception {
        run(plain, "CREATE TABLE simply (id int PRIMARY KEY, name text, n numeric)");
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection c = connect("preferQueryMode", mode)) {
                run(c, "DELETE FROM simply");
                PreparedStatement p = c.prepareStatement("INSERT INTO simply VALUES (?, ?, ?)");
                for (int i = 0; i < 7; i++) {
                    p.setInt(1, i);
                    p.setString(2, "it's \\ " + i);
                    p.setBigDecimal(3, new BigDecimal("-1.50"));
                    equal(1, p.executeUpdate());
                }
                equal(List.of("it's \\ 6|-1.50"), rows(c, "SELECT name, n FROM simply WHERE id = 6"));
            }
        }
    }

    static void several(Connection c) throws Exception {
        Statement s = c.createStatement();
        equal(true, s.execute("SELECT 1; CREATE TABLE several (id int); INSERT INTO several VALUES (1), (2); SELECT count(*) FROM several"));
        equal(List.of("1"), rows(s.getResultSet()));
        equal(false, s.getMoreResults());
        equal(0, s.getUpdateCount());
        equal(false, s.getMoreResults());
        equal(2, s.getUpdateCount());
        equal(true, s.getMoreResults());
        equal(List.of("2"), rows(s.getResultSet()));
        equal(false, s.getMoreResults());
        equal(-1, s.getUpdateCount());
    }

    static void pool(Connection c) throws Exception {
        c.setClientInfo("ApplicationName", "pooled");
        equal(List.of("pooled"), rows(c, "SELECT application_name FROM pg_stat_activity WHERE pid = " + c.unwrap(PGConnection.class).getBackendPID()));
        c.setSchema("public");
        equal("public", c.getSchema());
        equal(List.of("public"), rows(c, "SHOW search_path"));
        run(c, "DISCARD ALL");
        equal(USER, c.getSchema());
        try (Connection later = connect("currentSchema", "public", "ApplicationName", "given", "options", "-c statement_timeout=7000")) {
            equal(List.of("public|given|7s"), rows(later, "SELECT current_schema(), current_setting('application_name'), current_setting('statement_timeout')"));
        }
    }

    public static void main(String[] arguments) {
        int failed = 0;
        for (var check : CHECKS.entrySet()) {
            try (Connection c = connect()) {
                check.getValue().run(c);
                System.out.println("ok " + check.getKey());
            } catch (Throwable e) { // every check is judged, whatever it met
                failed++;
                System.out.println("FAILED " + check.getKey() + "\n    " + e);
                for (StackTraceElement at : e.getStackTrace())
                    if (at.getClassName().startsWith("Pgjdbc")) System.out.println("      at " + at);
            }
        }
        System.out.println((CHECKS.size() - failed) + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}

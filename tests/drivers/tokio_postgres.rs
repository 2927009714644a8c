//! What applications do with tokio-postgres: binary values, statements prepared on the server,
//! pipelining, portals, COPY, notifications, cancelling.

use std::collections::HashMap;
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use tests::{Oracle, Place, Program, Security, report};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, PgLsn, ToSql, Type};
use tokio_postgres::{
    AsyncMessage, Client, Config, CopyInSink, IsolationLevel, NoTls, SimpleQueryMessage,
};

const ROLE: &str = "crab";
/// What takes longer than this has hung.
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<(), Box<dyn Error>>;

/// A client and what arrives without being asked for.
struct Connected {
    client: Client,
    messages: mpsc::UnboundedReceiver<AsyncMessage>,
}

async fn connect(port: u16) -> Result<Connected, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host("127.0.0.1")
        .port(port)
        .user(ROLE)
        .password(ROLE)
        .dbname(tests::DATABASE);
    config.application_name("tokio").connect_timeout(PATIENCE);
    let (client, mut connection) = config.connect(NoTls).await?;
    let (sender, messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            let _ = sender.send(message);
        }
    });
    Ok(Connected { client, messages })
}

#[test]
fn tokio_postgres_on_postgresql() {
    let Some(oracle) = Oracle::start_with(Security::Passwords) else {
        return;
    };
    judge(oracle.place());
}

#[test]
fn tokio_postgres_on_freehold() {
    judge(Program::start_with(Security::Passwords, &[]).place());
}

/// Runs every check on its own connection and says all that failed.
fn judge(place: &Place) {
    place.add_owner(ROLE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut failed = String::new();
    let mut passed = 0;
    macro_rules! check {
        ($($name:ident),* $(,)?) => {$(
            let outcome = runtime.block_on(async {
                let connected = connect(place.port).await?;
                tokio::time::timeout(PATIENCE, $name(connected, place.port)).await?
            });
            match outcome {
                Ok(()) => passed += 1,
                Err(e) => failed += &format!("{}: {}\n", stringify!($name), chain(&*e)),
            }
        )*};
    }
    check!(
        values_in_binary,
        numbers_beyond_machine_words,
        arrays_and_lists,
        inferred_parameters,
        prepared_statements,
        simple_queries,
        transactions_and_savepoints,
        errors_with_their_fields,
        pipelined_queries,
        portals_in_steps,
        copy_in_and_out,
        copy_in_binary_format,
        notifications_while_idle,
        cancelling,
        unknown_types_are_looked_up,
    );
    if place.freehold {
        report("driver checks", passed);
    }
    assert!(failed.is_empty(), "{passed} passed; failed:\n{failed}");
}

/// tokio-postgres hides what the server said behind `source`.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text += &format!(": {error}");
        next = error.source();
    }
    text
}

macro_rules! equal {
    ($left:expr, $right:expr $(,)?) => {
        // As in `assert_eq`: a match keeps temporaries to its end.
        match (&$left, &$right) {
            (left, right) if *left != *right => {
                return Err(format!("line {}: {left:?} is not {right:?}", line!()).into());
            }
            _ => {}
        }
    };
}

/// Sends a value out and back, alone and beside a NULL of its type.
async fn round_trip<T>(client: &Client, type_name: &str, value: T) -> Outcome
where
    T: ToSql + Sync + PartialEq + std::fmt::Debug + for<'a> FromSql<'a>,
{
    let sql = format!("SELECT $1::{type_name}, NULL::{type_name}");
    let row = client.query_one(&sql, &[&value]).await?;
    equal!(row.try_get::<_, T>(0)?, value);
    equal!(row.try_get::<_, Option<T>>(1)?, None);
    Ok(())
}

async fn values_in_binary(c: Connected, _port: u16) -> Outcome {
    let client = &c.client;
    round_trip(client, "bool", true).await?;
    round_trip(client, "int2", i16::MIN).await?;
    round_trip(client, "int4", i32::MAX).await?;
    round_trip(client, "int8", i64::MIN).await?;
    round_trip(client, "float4", f32::MIN_POSITIVE).await?;
    round_trip(client, "float8", f64::INFINITY).await?;
    round_trip(client, "text", "crab \u{1F980} 'quoted' \\ \n".to_owned()).await?;
    round_trip(client, "varchar", String::new()).await?;
    round_trip(client, "bytea", (0..=255_u8).collect::<Vec<_>>()).await?;
    round_trip(client, "uuid", uuid::Uuid::from_u128(7)).await?;
    round_trip(
        client,
        "jsonb",
        serde_json::json!({"a": [1, null, "ü", 2.5]}),
    )
    .await?;
    round_trip(client, "json", serde_json::json!([{}])).await?;
    round_trip(client, "pg_lsn", PgLsn::from(0x1A_0000_2B3C)).await?;
    round_trip(client, "oid", 4_000_000_000_u32).await?;
    let moment = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    round_trip(client, "timestamptz", moment).await?;
    round_trip(client, "timestamp", moment).await?;
    let row = client
        .query_one("SELECT 'a'::\"char\", 'name'::name, 12::regclass::oid", &[])
        .await?;
    equal!(row.try_get::<_, i8>(0)?, b'a' as i8);
    equal!(row.try_get::<_, &str>(1)?, "name");
    Ok(())
}

async fn numbers_beyond_machine_words(c: Connected, _port: u16) -> Outcome {
    let long = "9".repeat(300) + "." + &"1".repeat(300);
    let row = c
        .client
        .query_one("SELECT $1::text::numeric::text", &[&long])
        .await?;
    equal!(row.try_get::<_, &str>(0)?, long);
    let row = c
        .client
        .query_one("SELECT ($1::text::numeric * 10)::text", &[&long])
        .await?;
    equal!(row.try_get::<_, &str>(0)?.len(), long.len() + 1);
    Ok(())
}

async fn arrays_and_lists(c: Connected, _port: u16) -> Outcome {
    let client = &c.client;
    round_trip(client, "int4[]", vec![Some(1), None, Some(-3)]).await?;
    round_trip(client, "int8[]", Vec::<i64>::new()).await?;
    let texts = ["a,b", "\"q\"", "NULL", "", "\\"]
        .map(str::to_owned)
        .to_vec();
    round_trip(client, "text[]", texts).await?;
    round_trip(client, "uuid[]", vec![uuid::Uuid::nil()]).await?;
    round_trip(client, "bytea[]", vec![vec![0_u8, 255], vec![]]).await?;
    let rows = client
        .query(
            "SELECT i FROM generate_series(1, 10) AS g (i) WHERE i = ANY ($1)",
            &[&vec![2, 4, 44]],
        )
        .await?;
    let found: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    equal!(found, [2, 4]);
    let row = client
        .query_one(
            "SELECT array_length($1::text[], 1), $1[2]",
            &[&vec!["a", "b"]],
        )
        .await?;
    equal!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (2, "b"));
    Ok(())
}

async fn inferred_parameters(c: Connected, _port: u16) -> Outcome {
    let client = &c.client;
    client
        .batch_execute(
            "CREATE TABLE inferred (id int8 PRIMARY KEY, name text, at timestamptz, data jsonb)",
        )
        .await?;
    let statement = client
        .prepare("SELECT name FROM inferred WHERE id = $1 AND name LIKE $2 AND at > $3 AND data @> $4 LIMIT $5")
        .await?;
    equal!(
        statement.params(),
        [
            Type::INT8,
            Type::TEXT,
            Type::TIMESTAMPTZ,
            Type::JSONB,
            Type::INT8
        ]
    );
    let statement = client
        .prepare("INSERT INTO inferred VALUES ($1, $2, now(), $3)")
        .await?;
    equal!(statement.params(), [Type::INT8, Type::TEXT, Type::JSONB]);
    equal!(statement.columns().len(), 0);
    let statement = client
        .prepare("SELECT $1 || 'x', $2 + 1, $3::date, CASE WHEN $4 THEN 1 END, coalesce($5, 1.5)")
        .await?;
    equal!(
        statement.params(),
        [
            Type::TEXT,
            Type::INT4,
            Type::DATE,
            Type::BOOL,
            Type::NUMERIC
        ]
    );
    let names: Vec<_> = statement
        .columns()
        .iter()
        .map(|column| column.name())
        .collect();
    equal!(names, ["?column?", "?column?", "date", "case", "coalesce"]);
    let typed = client.prepare_typed("SELECT $1", &[Type::INT2]).await?;
    equal!(typed.columns()[0].type_(), &Type::INT2);
    Ok(())
}

async fn prepared_statements(c: Connected, _port: u16) -> Outcome {
    let client = &c.client;
    client
        .batch_execute("CREATE TABLE prepared (id int PRIMARY KEY, name text)")
        .await?;
    let insert = client
        .prepare("INSERT INTO prepared VALUES ($1, $2)")
        .await?;
    for id in 0..20 {
        equal!(client.execute(&insert, &[&id, &format!("n{id}")]).await?, 1);
    }
    let select = client
        .prepare("SELECT name FROM prepared WHERE id = $1")
        .await?;
    for id in 0..20 {
        let row = client.query_one(&select, &[&id]).await?;
        equal!(row.get::<_, String>(0), format!("n{id}"));
    }
    client
        .batch_execute("ALTER TABLE prepared ADD COLUMN extra int DEFAULT 7")
        .await?;
    equal!(
        client.query_one(&select, &[&3]).await?.get::<_, String>(0),
        "n3"
    );
    equal!(
        client
            .execute("UPDATE prepared SET extra = 8 WHERE id < $1", &[&5])
            .await?,
        5
    );
    equal!(
        client
            .query("SELECT 1 FROM prepared WHERE extra = $1", &[&8])
            .await?
            .len(),
        5
    );
    let wrong = client.execute(&insert, &[&1_i32]).await;
    if wrong.is_ok() {
        return Err("a missing parameter went through".into());
    }
    Ok(())
}

async fn simple_queries(c: Connected, _port: u16) -> Outcome {
    let messages = c
        .client
        .simple_query(
            "SELECT 1 AS a, NULL AS b; CREATE TABLE simple (id int); \
             INSERT INTO simple VALUES (1), (2); ; SELECT 3",
        )
        .await?;
    let mut seen = Vec::new();
    for message in &messages {
        match message {
            SimpleQueryMessage::Row(row) => seen.push(format!("row {:?}", row.get(0))),
            SimpleQueryMessage::CommandComplete(count) => seen.push(format!("done {count}")),
            SimpleQueryMessage::RowDescription(columns) => seen.push(columns[0].name().to_owned()),
            _ => {}
        }
    }
    equal!(
        seen,
        [
            "a",
            "row Some(\"1\")",
            "done 1",
            "done 0",
            "done 2",
            "?column?",
            "row Some(\"3\")",
            "done 1"
        ]
    );
    Ok(())
}

async fn transactions_and_savepoints(mut c: Connected, port: u16) -> Outcome {
    c.client
        .batch_execute("CREATE TABLE moves (id int PRIMARY KEY)")
        .await?;
    let mut transaction = c.client.transaction().await?;
    transaction
        .execute("INSERT INTO moves VALUES (1)", &[])
        .await?;
    let inner = transaction.savepoint("halfway").await?;
    let duplicate = inner.execute("INSERT INTO moves VALUES (1)", &[]).await;
    equal!(
        duplicate.unwrap_err().code(),
        Some(&SqlState::UNIQUE_VIOLATION)
    );
    inner.rollback().await?;
    let inner = transaction.transaction().await?;
    inner.execute("INSERT INTO moves VALUES (2)", &[]).await?;
    inner.commit().await?;
    let other = connect(port).await?.client;
    equal!(other.query("SELECT 1 FROM moves", &[]).await?.len(), 0);
    transaction.commit().await?;
    equal!(other.query("SELECT 1 FROM moves", &[]).await?.len(), 2);
    let level = IsolationLevel::RepeatableRead;
    let transaction = c
        .client
        .build_transaction()
        .isolation_level(level)
        .start()
        .await?;
    equal!(
        transaction.query("SELECT 1 FROM moves", &[]).await?.len(),
        2
    );
    other.execute("DELETE FROM moves WHERE id = 1", &[]).await?;
    equal!(
        transaction.query("SELECT 1 FROM moves", &[]).await?.len(),
        2
    );
    let late = transaction
        .execute("DELETE FROM moves WHERE id = 1", &[])
        .await;
    equal!(
        late.unwrap_err().code(),
        Some(&SqlState::T_R_SERIALIZATION_FAILURE)
    );
    drop(transaction); // rolls back
    let read_only = c.client.build_transaction().read_only(true).start().await?;
    let refused = read_only
        .execute("DELETE FROM moves", &[])
        .await
        .unwrap_err();
    equal!(refused.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    read_only.rollback().await?;
    equal!(c.client.query("SELECT 1 FROM moves", &[]).await?.len(), 1);
    Ok(())
}

async fn errors_with_their_fields(c: Connected, _port: u16) -> Outcome {
    let client = &c.client;
    client
        .batch_execute(
            "CREATE TABLE fields (id int CONSTRAINT fields_key PRIMARY KEY, n int NOT NULL)",
        )
        .await?;
    client
        .execute("INSERT INTO fields VALUES (1, 1)", &[])
        .await?;
    let error = client
        .execute("INSERT INTO fields VALUES (1, 1)", &[])
        .await
        .unwrap_err();
    let error = error.as_db_error().ok_or("no error from the server")?;
    equal!(error.constraint(), Some("fields_key"));
    equal!(error.table(), Some("fields"));
    equal!(error.schema(), Some(ROLE));
    equal!(error.detail(), Some("Key (id)=(1) already exists."));
    equal!(error.severity(), "ERROR");
    let error = client
        .execute("INSERT INTO fields VALUES (2, NULL)", &[])
        .await
        .unwrap_err();
    equal!(error.as_db_error().and_then(|e| e.column()), Some("n"));
    for (sql, state) in [
        ("SELECT * FROM missing", SqlState::UNDEFINED_TABLE),
        ("SELECT missing", SqlState::UNDEFINED_COLUMN),
        ("SELEC", SqlState::SYNTAX_ERROR),
        ("SELECT 1/0", SqlState::DIVISION_BY_ZERO),
        (
            "SELECT 9223372036854775807 + 1",
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        ),
        ("SELECT 'x'::int", SqlState::INVALID_TEXT_REPRESENTATION),
    ] {
        let error = client.query(sql, &[]).await.unwrap_err();
        equal!((sql, error.code()), (sql, Some(&state)));
    }
    equal!(client.query("SELECT 1", &[]).await?.len(), 1);
    Ok(())
}

/// tokio-postgres sends what is polled behind each other without waiting.
async fn pipelined_queries(c: Connected, _port: u16) -> Outcome {
    let client = &c.client;
    client
        .batch_execute("CREATE TABLE piped (id int PRIMARY KEY)")
        .await?;
    let insert = client.prepare("INSERT INTO piped VALUES ($1)").await?;
    let ids: Vec<i32> = (0..100).collect();
    let sent = join_all(ids.iter().map(|id| {
        let insert = &insert;
        async move { client.execute(insert, &[id]).await }
    }));
    for count in sent.await {
        equal!(count?, 1);
    }
    equal!(client.query("SELECT 1 FROM piped", &[]).await?.len(), 100);
    let (good, bad, after) = tokio::join!(
        client.query("SELECT 1", &[]),
        client.query("SELECT 1/0", &[]),
        client.query("SELECT 2", &[])
    );
    equal!(good?.len(), 1);
    equal!(bad.unwrap_err().code(), Some(&SqlState::DIVISION_BY_ZERO));
    equal!(after?.len(), 1);
    Ok(())
}

async fn portals_in_steps(mut c: Connected, _port: u16) -> Outcome {
    let transaction = c.client.transaction().await?;
    let portal = transaction
        .bind(
            "SELECT i FROM generate_series(1, $1::int) AS g (i)",
            &[&100],
        )
        .await?;
    let other = transaction.bind("SELECT 'other'", &[]).await?;
    equal!(transaction.query_portal(&portal, 30).await?.len(), 30);
    equal!(transaction.query_portal(&other, 0).await?.len(), 1);
    let next = transaction.query_portal(&portal, 30).await?;
    equal!(next[0].get::<_, i32>(0), 31);
    equal!(transaction.query_portal(&portal, 0).await?.len(), 40);
    equal!(transaction.query_portal(&portal, 5).await?.len(), 0);
    transaction.commit().await?;
    Ok(())
}

async fn copy_in_and_out(c: Connected, _port: u16) -> Outcome {
    let client = &c.client;
    client
        .batch_execute("CREATE TABLE copied (id int PRIMARY KEY, name text)")
        .await?;
    let sink: CopyInSink<Bytes> = client.copy_in("COPY copied FROM STDIN").await?;
    let mut sink = pin!(sink);
    for id in 0..2000 {
        sink.send(Bytes::from(format!("{id}\tname\\t{id}\n")))
            .await?;
    }
    equal!(sink.finish().await?, 2000);
    let sink: CopyInSink<Bytes> = client.copy_in("COPY copied FROM STDIN").await?;
    let mut sink = pin!(sink);
    sink.send(Bytes::from_static(b"5000\tx\n5000\ty\n")).await?;
    let error = sink.finish().await.unwrap_err();
    equal!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    // A sink that is dropped takes its rows back.
    let sink: CopyInSink<Bytes> = client.copy_in("COPY copied FROM STDIN").await?;
    {
        let mut sink = pin!(sink);
        sink.send(Bytes::from_static(b"6000\tx\n")).await?;
    }
    equal!(client.query("SELECT 1 FROM copied", &[]).await?.len(), 2000);
    let sql = "COPY (SELECT * FROM copied WHERE id < 2 ORDER BY id) TO STDOUT";
    equal!(read_out(client, sql).await?, b"0\tname\\t0\n1\tname\\t1\n");
    Ok(())
}

async fn copy_in_binary_format(c: Connected, _port: u16) -> Outcome {
    use tokio_postgres::binary_copy::BinaryCopyInWriter;
    let client = &c.client;
    client
        .batch_execute("CREATE TABLE copied_binary (id int PRIMARY KEY, name text, f float8)")
        .await?;
    let sink = client
        .copy_in("COPY copied_binary FROM STDIN (FORMAT binary)")
        .await?;
    let mut writer = pin!(BinaryCopyInWriter::new(
        sink,
        &[Type::INT4, Type::TEXT, Type::FLOAT8]
    ));
    for id in 0..500 {
        writer
            .as_mut()
            .write(&[&id, &(id % 3 == 0).then(|| format!("n{id}")), &0.5_f64])
            .await?;
    }
    equal!(writer.finish().await?, 500);
    let row = client
        .query_one("SELECT count(name), sum(f) FROM copied_binary", &[])
        .await?;
    equal!((row.get::<_, i64>(0), row.get::<_, f64>(1)), (167, 250.0));
    let bytes = read_out(client, "COPY copied_binary TO STDOUT (FORMAT binary)").await?;
    equal!(&bytes[..11], b"PGCOPY\n\xff\r\n\0");
    equal!(&bytes[bytes.len() - 2..], [0xff, 0xff]);
    Ok(())
}

async fn read_out(client: &Client, sql: &str) -> Result<Vec<u8>, tokio_postgres::Error> {
    let mut stream = pin!(client.copy_out(sql).await?);
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

async fn notifications_while_idle(mut c: Connected, port: u16) -> Outcome {
    c.client.batch_execute("LISTEN orders").await?;
    let other = connect(port).await?.client;
    other
        .batch_execute("BEGIN; NOTIFY orders, 'undone'; ROLLBACK")
        .await?;
    other
        .execute("SELECT pg_notify('orders', $1)", &[&"payload"])
        .await?;
    while let Some(message) = c.messages.recv().await {
        if let AsyncMessage::Notification(notification) = message {
            equal!(
                (notification.channel(), notification.payload()),
                ("orders", "payload")
            );
            return Ok(());
        }
    }
    Err("the connection ended without a notification".into())
}

async fn cancelling(c: Connected, _port: u16) -> Outcome {
    let token = c.client.cancel_token();
    let sleeping = c.client.query("SELECT pg_sleep(60)", &[]);
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, cancelled) = tokio::join!(sleeping, cancelling);
    cancelled?;
    equal!(slept.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    equal!(c.client.query("SELECT 1", &[]).await?.len(), 1);
    c.client
        .batch_execute("SET statement_timeout = 100")
        .await?;
    let slept = c.client.query("SELECT pg_sleep(60)", &[]).await;
    equal!(slept.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
    Ok(())
}

/// The driver asks pg_type for every OID that it does not know.
async fn unknown_types_are_looked_up(c: Connected, _port: u16) -> Outcome {
    let statement = c
        .client
        .prepare("SELECT relname, relacl, relkind, reltype FROM pg_class WHERE oid = 'pg_class'::regclass")
        .await?;
    let names: HashMap<_, _> = statement
        .columns()
        .iter()
        .map(|column| (column.name(), column.type_().name()))
        .collect();
    equal!(names["relname"], "name");
    equal!(names["relacl"], "_aclitem");
    equal!(names["relkind"], "char");
    let statement = c.client.prepare("SELECT tablename FROM pg_tables").await?;
    equal!(statement.columns()[0].type_(), &Type::NAME);
    let statement = c
        .client
        .prepare("SELECT table_name FROM information_schema.tables")
        .await?;
    equal!(statement.columns()[0].type_(), &Type::NAME);
    Ok(())
}

// What applications do with node-postgres, checked step by step. Runs unchanged against PostgreSQL
// 15 and Freehold; finds the server by libpq's PG* variables. One line per check, exit status 1 if
// any failed.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { once } = require('node:events');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const pg = require('pg');
const Cursor = require('pg-cursor');
const copyStreams = require('pg-copy-streams');

const env = process.env;
const config = {
  host: '127.0.0.1',
  port: Number(env.PGPORT),
  user: env.PGUSER,
  password: env.PGPASSWORD,
  database: env.PGDATABASE,
  ssl: env.PGSSLMODE === 'disable' ? false : { ca: fs.readFileSync(env.PGSSLROOTCERT, 'utf8') },
};
// The driver reads these itself, and would take them over what is said above.
delete env.PGSSLMODE;
delete env.PGSSLROOTCERT;

const checks = {};

async function connect(more = {}) {
  const client = new pg.Client({ ...config, ...more });
  client.on('error', () => {}); // what ends a connection from outside is asserted where it matters
  await client.connect();
  return client;
}

async function fails(sqlstate, promise) {
  try {
    await promise;
  } catch (error) {
    assert.equal(error.code, sqlstate, String(error));
    return error;
  }
  assert.fail(`did not fail with ${sqlstate}`);
}

const rows = async (client, text, values) =>
  (await client.query({ text, values, rowMode: 'array' })).rows;

checks.connected_as_said = async (c) => {
  const { rows: [row] } = await c.query('SELECT current_user AS who, current_database() AS db, version() AS v');
  assert.equal(row.who, config.user);
  assert.equal(row.db, 'freehold');
  assert.match(row.v, /^PostgreSQL 15\./);
  assert.equal(c.connection.stream.encrypted === true, config.ssl !== false);
};

checks.wrong_password_is_refused = async () => {
  if (config.ssl) await fails('28P01', connect({ password: 'wrong' }));
};

checks.types_round_trip_as_text = async (c) => {
  const cases = [
    ['boolean', true], ['smallint', -32768], ['integer', 2147483647],
    ['bigint', '-9223372036854775808'], ['real', 1.5], ['double precision', -0.1],
    ['double precision', Infinity], ['numeric', '3.14159265358979323846264338327950288419716939937510'],
    ['numeric', '1' + '0'.repeat(200)], ['numeric(12,2)', '-0.50'], ['text', "it's \\ \n \u{1f980}"],
    ['text', ''], ['varchar(3)', 'abc'], ['char(4)', 'ab  '], ['bytea', Buffer.from([0, 255, 92, 39])],
    ['bytea', Buffer.alloc(0)], ['uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
    ['jsonb', { a: [1, 2.5, null], b: 'ü' }], ['timestamptz', new Date('2024-06-01T12:30:00.123Z')],
    ['time', '23:59:59.999999'], ['pg_lsn', '1A/2B3C'],
    ['integer[]', [1, null, -3]], ['text[]', ['a,b', '"q"', null, 'NULL', '', '\\']],
    ['bigint[]', ['4611686018427387904']], ['boolean[]', [true, false, null]],
    ['uuid[]', ['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']], ['timestamptz[]', [new Date('2000-01-01T00:00:00Z')]],
    ['numeric[]', ['1.10', '-2']],
  ];
  let number = 0;
  for (const [type, value] of cases) {
    const table = `round_trip_${number++}`;
    await c.query(`CREATE TABLE ${table} (id int PRIMARY KEY, v ${type})`);
    const { rows: [returned] } = await c.query(`INSERT INTO ${table} VALUES (1, $1), (2, $2) RETURNING v`, [value, null]);
    // The driver reads numeric[] as numbers.
    assert.deepEqual(returned.v, type === 'numeric[]' ? value.map(Number) : value, type);
    const got = await rows(c, `SELECT v FROM ${table} ORDER BY id`);
    assert.equal(got[1][0], null, type);
  }
  const [[day]] = await rows(c, 'SELECT $1::date::text', ['2024-02-29']);
  assert.equal(day, '2024-02-29');
  const { rows: [odd] } = await c.query("SELECT 'NaN'::float8 AS nan, interval '1 mon 2 days 03:04:05.006' AS i, '{{1,2},{3,4}}'::int[] AS m");
  assert.ok(Number.isNaN(odd.nan));
  assert.deepEqual({ ...odd.i }, { months: 1, days: 2, hours: 3, minutes: 4, seconds: 5, milliseconds: 6 });
};

checks.types_come_in_binary = async (c) => {
  const query = {
    text: `SELECT 1::int2 AS a, 2::int4 AS b, 3::int8 AS c, 1.5::float4 AS d, -0.1::float8 AS e, true AS f,
                  'x'::text AS g, '\\x00ff'::bytea AS h, 12.50::numeric AS i, '2024-01-01 00:00Z'::timestamptz AS j, NULL::int AS k`,
    binary: true,
  };
  const { rows: [r] } = await c.query(query);
  assert.deepEqual([r.a, r.b, r.d, r.e, r.f, r.g, r.k], [1, 2, 1.5, -0.1, true, 'x', null]);
  assert.equal(String(r.c), '3');
  assert.deepEqual(r.h, Buffer.from([0, 255]));
  assert.equal(Number(r.i), 12.5);
  assert.equal(r.j.toISOString(), '2024-01-01T00:00:00.000Z');
};

checks.prepared_by_name = async (c) => {
  await c.query('CREATE TABLE prepared (id int PRIMARY KEY, name text)');
  for (let i = 0; i < 10; i++) {
    const done = await c.query({ name: 'put', text: 'INSERT INTO prepared VALUES ($1, $2)', values: [i, `n${i}`] });
    assert.equal(done.rowCount, 1);
    assert.equal(done.command, 'INSERT');
  }
  for (let i = 0; i < 10; i++) {
    const got = await c.query({ name: 'get', text: 'SELECT name FROM prepared WHERE id = $1', values: [i] });
    assert.deepEqual(got.rows, [{ name: `n${i}` }]);
  }
  assert.deepEqual(await rows(c, 'SELECT name FROM pg_prepared_statements ORDER BY name'), [['get'], ['put']]);
  await fails('23505', c.query({ name: 'put', text: 'INSERT INTO prepared VALUES ($1, $2)', values: [1, 'x'] }));
  assert.equal((await c.query({ name: 'get', text: 'SELECT name FROM prepared WHERE id = $1', values: [99] })).rowCount, 0);
  const all = { name: 'all', text: 'SELECT * FROM prepared WHERE id = $1', values: [1] };
  await c.query(all);
  await c.query('ALTER TABLE prepared ADD COLUMN extra int');
  const error = await fails('0A000', c.query(all));
  assert.match(error.message, /cached plan must not change result type/);
};

checks.fields_are_described = async (c) => {
  await c.query('CREATE TABLE described (id bigint PRIMARY KEY, name varchar(20), price numeric(8,3))');
  const { fields, rows: none } = await c.query('SELECT id, name, price, count(*) AS n FROM described GROUP BY 1, 2, 3');
  assert.deepEqual(none, []);
  assert.deepEqual(fields.map((f) => [f.name, f.dataTypeID, f.dataTypeModifier]), [
    ['id', 20, -1], ['name', 1043, 24], ['price', 1700, ((8 << 16) | 3) + 4], ['n', 20, -1]]);
  assert.ok(fields[0].tableID > 0 && fields[0].tableID === fields[1].tableID && fields[3].tableID === 0);
  assert.deepEqual(fields.map((f) => f.columnID), [1, 2, 3, 0]);
};

checks.transactions_and_savepoints = async (c) => {
  await c.query('CREATE TABLE moves (id int PRIMARY KEY)');
  await c.query('BEGIN');
  await c.query('INSERT INTO moves VALUES ($1)', [1]);
  await c.query('SAVEPOINT one');
  await fails('23505', c.query('INSERT INTO moves VALUES ($1)', [1]));
  await fails('25P02', c.query('SELECT 1'));
  await c.query('ROLLBACK TO SAVEPOINT one');
  await c.query('INSERT INTO moves VALUES (2)');
  await c.query('RELEASE one');
  await c.query('COMMIT');
  assert.deepEqual(await rows(c, 'SELECT id FROM moves ORDER BY id'), [[1], [2]]);
  await c.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
  await c.query('DELETE FROM moves');
  await c.query('ROLLBACK');
  assert.deepEqual(await rows(c, 'SELECT count(*)::int FROM moves'), [[2]]);
  await c.query('BEGIN');
  await fails('22012', c.query('SELECT 1/0'));
  assert.equal((await c.query('COMMIT')).command, 'ROLLBACK');
};

checks.errors_carry_their_fields = async (c) => {
  await c.query('CREATE TABLE parents (id int PRIMARY KEY)');
  await c.query('CREATE TABLE children (id int CONSTRAINT children_key PRIMARY KEY, parent int CONSTRAINT children_parent REFERENCES parents, age int CONSTRAINT grown CHECK (age > 0))');
  await c.query('INSERT INTO children VALUES (1, NULL, 1)');
  let e = await fails('23505', c.query('INSERT INTO children VALUES ($1, NULL, 1)', [1]));
  assert.deepEqual([e.constraint, e.table, e.schema, e.severity], ['children_key', 'children', config.user, 'ERROR']);
  assert.equal(e.detail, 'Key (id)=(1) already exists.');
  e = await fails('23503', c.query('INSERT INTO children VALUES (2, 7, 1)'));
  assert.equal(e.detail, 'Key (parent)=(7) is not present in table "parents".');
  await fails('23514', c.query('INSERT INTO children VALUES (2, NULL, 0)'));
  e = await fails('42P01', c.query('SELECT * FROM missing'));
  assert.equal(e.position, '15');
  await fails('22P02', c.query('SELECT $1::int', ['x']));
  await fails('08P01', c.query('SELECT $1::int, $2::int', [1]));
  await fails('42P18', c.query('PREPARE p AS SELECT $2::int'));
  assert.deepEqual(await rows(c, 'SELECT 1'), [[1]]);
};

checks.queries_are_queued_and_pipelined = async (c) => {
  await c.query('CREATE TABLE queued (id int PRIMARY KEY)');
  const done = await Promise.allSettled([
    ...Array.from({ length: 50 }, (_, i) => c.query('INSERT INTO queued VALUES ($1)', [i])),
    c.query('INSERT INTO queued VALUES (1)'),
    c.query('SELECT count(*)::int AS n FROM queued'),
  ]);
  assert.equal(done.filter((d) => d.status === 'rejected').length, 1);
  assert.equal(done[51].value.rows[0].n, 50);
  // Everything in one write, by the protocol's own messages.
  const pipelined = await connect();
  const wire = pipelined.connection;
  const got = [];
  for (const name of ['parseComplete', 'dataRow', 'commandComplete', 'errorMessage', 'readyForQuery']) {
    wire.removeAllListeners(name);
    wire.on(name, (message) => got.push(name === 'dataRow' ? message.fields[0].toString() : name));
  }
  const finished = new Promise((resolve) => {
    let ready = 0;
    wire.on('readyForQuery', () => ++ready === 3 && resolve());
  });
  wire.stream.cork();
  for (const [text, value] of [['SELECT $1::int + 1', '41'], ['SELECT 1 / $1::int', '0'], ['SELECT $1::text', 'last']]) {
    wire.parse({ text, name: '', types: [] });
    wire.bind({ values: [value] });
    wire.execute({});
    wire.sync();
  }
  wire.stream.uncork();
  await finished;
  assert.deepEqual(got, [
    'parseComplete', '42', 'commandComplete', 'readyForQuery',
    'parseComplete', 'errorMessage', 'readyForQuery',
    'parseComplete', 'last', 'commandComplete', 'readyForQuery']);
  wire.stream.destroy();
};

checks.cursors_read_in_steps = async (c) => {
  await c.query('BEGIN');
  const cursor = c.query(new Cursor('SELECT i, $1 || i AS t FROM generate_series(1, 100) AS g (i)', ['row ']));
  assert.deepEqual((await cursor.read(3)).map((r) => r.t), ['row 1', 'row 2', 'row 3']);
  assert.equal((await cursor.read(90)).length, 90);
  assert.equal((await cursor.read(90)).length, 7);
  assert.equal((await cursor.read(90)).length, 0);
  await cursor.close();
  const early = c.query(new Cursor('SELECT * FROM generate_series(1, 1000000)'));
  assert.equal((await early.read(10)).length, 10);
  await early.close();
  await c.query('DECLARE walk CURSOR FOR SELECT * FROM generate_series(1, 10)');
  assert.equal((await c.query('FETCH 4 FROM walk')).rowCount, 4);
  assert.equal((await c.query('MOVE 2 FROM walk')).rowCount, 2);
  assert.deepEqual(await rows(c, 'FETCH NEXT FROM walk'), [[7]]);
  await c.query('CLOSE walk');
  await c.query('COMMIT');
};

checks.copy_streams = async (c) => {
  await c.query('CREATE TABLE copied (id int PRIMARY KEY, name text)');
  const lines = Array.from({ length: 3000 }, (_, i) => `${i}\tname ${i}\n`);
  const into = c.query(copyStreams.from('COPY copied FROM STDIN'));
  await pipeline(Readable.from(lines), into);
  assert.equal(into.rowCount, 3000);
  const out = c.query(copyStreams.to('COPY (SELECT * FROM copied WHERE id < 2 ORDER BY id) TO STDOUT (FORMAT csv)'));
  let text = '';
  for await (const chunk of out) text += chunk;
  assert.equal(text, '0,name 0\n1,name 1\n');
  await fails('23505', pipeline(Readable.from(['1\tx\n']), c.query(copyStreams.from('COPY copied FROM STDIN'))));
  assert.deepEqual(await rows(c, 'SELECT count(*)::int FROM copied'), [[3000]]);
};

checks.notifications_reach_an_idle_client = async (c) => {
  await c.query('LISTEN orders');
  const arrived = once(c, 'notification', { signal: AbortSignal.timeout(20000) });
  const other = await connect();
  await other.query("SELECT pg_notify('orders', $1)", ['payload']);
  const [message] = await arrived;
  assert.deepEqual([message.channel, message.payload], ['orders', 'payload']);
  await other.end();
};

checks.cancel_and_timeouts = async (c) => {
  const other = await connect();
  const sleeping = c.query('SELECT pg_sleep(30)');
  const timer = setTimeout(() => other.query('SELECT pg_cancel_backend($1)', [c.processID]), 300);
  await fails('57014', sleeping);
  clearTimeout(timer);
  const impatient = await connect({ statement_timeout: 150 });
  await fails('57014', impatient.query('SELECT pg_sleep(30)'));
  assert.deepEqual(await rows(impatient, 'SELECT 1'), [[1]]);
  await impatient.end();
  const idle = await connect({ idle_in_transaction_session_timeout: 200 });
  const ended = once(idle, 'error', { signal: AbortSignal.timeout(20000) });
  await idle.query('BEGIN');
  const [error] = await ended;
  assert.equal(error.code, '25P03', String(error));
  await other.end();
};

checks.pool_of_connections = async () => {
  const pool = new pg.Pool({ ...config, max: 4, options: '-c search_path=public', application_name: 'pooled' });
  const answers = await Promise.all(Array.from({ length: 40 }, (_, i) =>
    pool.query("SELECT $1::int AS i, current_setting('search_path') AS path, current_setting('application_name') AS name", [i])));
  assert.deepEqual(answers.map((a) => a.rows[0].i), Array.from({ length: 40 }, (_, i) => i));
  assert.deepEqual([answers[0].rows[0].path, answers[0].rows[0].name], ['public', 'pooled']);
  await pool.end();
};

checks.upserts_and_json = async (c) => {
  await c.query('CREATE TABLE docs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text UNIQUE, body jsonb NOT NULL DEFAULT \'{}\')');
  const upsert = 'INSERT INTO docs (key, body) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET body = docs.body || EXCLUDED.body RETURNING id, body';
  assert.deepEqual((await c.query(upsert, ['k', { a: 1 }])).rows, [{ id: 1, body: { a: 1 } }]);
  assert.deepEqual((await c.query(upsert, ['k', { b: [true] }])).rows, [{ id: 1, body: { a: 1, b: [true] } }]);
  assert.equal((await c.query("INSERT INTO docs (key) VALUES ('k') ON CONFLICT DO NOTHING")).rowCount, 0);
  assert.deepEqual(await rows(c, "SELECT body->'b'->>0, body @> $1, jsonb_array_length(body->'b') FROM docs", [{ a: 1 }]), [['true', true, 1]]);
  assert.deepEqual(await rows(c, 'SELECT key FROM docs WHERE key = ANY ($1)', [['k', 'z']]), [['k']]);
};

checks.many_statements_in_one_query = async (c) => {
  const results = await c.query('SELECT 1 AS a; CREATE TABLE several (i int); INSERT INTO several VALUES (1), (2); SELECT count(*)::int AS n FROM several');
  assert.deepEqual(results.map((r) => r.command), ['SELECT', 'CREATE', 'INSERT', 'SELECT']);
  assert.deepEqual(results[3].rows, [{ n: 2 }]);
};

// What takes longer has hung.
const hung = () => new Promise((_, reject) => {
  setTimeout(() => reject(new Error('hung for 40 s')), 40000).unref();
});

async function main() {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    let client;
    try {
      client = await connect();
      await Promise.race([check(client), hung()]);
      console.log(`ok ${name}`);
    } catch (error) { // every check is judged, whatever it met
      failed++;
      console.log(`FAILED ${name}\n    ${String(error.stack).replaceAll('\n', '\n    ')}`);
    }
    // A connection in an unknown state is not asked politely.
    client?.connection.stream.destroy();
  }
  console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

main();

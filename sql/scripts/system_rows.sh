#!/usr/bin/env bash
# Writes what PostgreSQL 15 says of its own system relations as tab-separated text into
# src/system/static: their shapes, and the rows of those that never change. psql must reach a
# freshly made PostgreSQL 15 by its environment (PGHOST, PGPORT, PGUSER).
set -euo pipefail
cd "$(dirname "$0")/../src/system/static"
sql() { psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }

# oid, schema, name, kind, columns as name:type:modifier:not null; domains as their base types.
sql "COPY (
  SELECT c.oid, n.nspname, c.relname, c.relkind, string_agg(
      a.attname || ':' || coalesce(nullif(t.typbasetype, 0), a.atttypid) || ':'
      || CASE WHEN t.typbasetype <> 0 THEN t.typtypmod ELSE a.atttypmod END || ':'
      || CASE WHEN a.attnotnull THEN 't' ELSE 'f' END, ' ' ORDER BY a.attnum)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 JOIN pg_type t ON t.oid = a.atttypid
  WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'v')
  GROUP BY c.oid, n.nspname, c.relname, c.relkind ORDER BY n.nspname, c.relname COLLATE \"C\"
) TO STDOUT" >shapes.tsv

# The relation's name, then its row.
{
  for relation in pg_am pg_language pg_opfamily pg_opclass pg_amop pg_amproc pg_range \
    pg_tablespace pg_conversion; do
    sql "COPY (SELECT '$relation', r.* FROM $relation r ORDER BY oid) TO STDOUT" 2>/dev/null ||
      sql "COPY (SELECT '$relation', r.* FROM $relation r ORDER BY 2) TO STDOUT"
  done
  sql "COPY (SELECT 'pg_collation', r.* FROM pg_collation r
    WHERE collname IN ('default', 'C', 'POSIX', 'ucs_basic') OR collname = 'unicode'
    ORDER BY oid) TO STDOUT"
  sql "COPY (SELECT 'pg_ts_config', r.* FROM pg_ts_config r WHERE cfgname = 'simple') TO STDOUT"
  sql "COPY (SELECT 'pg_ts_dict', r.* FROM pg_ts_dict r WHERE dictname = 'simple') TO STDOUT"
  sql "COPY (SELECT 'pg_ts_parser', r.* FROM pg_ts_parser r) TO STDOUT"
  sql "COPY (SELECT 'pg_ts_template', r.* FROM pg_ts_template r) TO STDOUT"
  sql "COPY (SELECT 'pg_extension', r.* FROM pg_extension r) TO STDOUT"
  sql "COPY (SELECT 'pg_description', r.* FROM pg_description r
    WHERE classoid NOT IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_conversion'::regclass,
      'pg_collation'::regclass, 'pg_ts_config'::regclass, 'pg_ts_dict'::regclass,
      'pg_namespace'::regclass) ORDER BY 3, 2, 4) TO STDOUT"
} >rows.tsv

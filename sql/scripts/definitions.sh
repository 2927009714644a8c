#!/usr/bin/env bash
# Writes what PostgreSQL 15 prints of the objects of src/system/golden/definitions.sql into
# definitions.txt beside it: kind, name, and the text with its newlines as \n. psql must reach a
# PostgreSQL 15 by its environment; a database "definitions" is made and dropped.
set -euo pipefail
cd "$(dirname "$0")/../src/system/golden"
psql -Xq -d postgres -c "DROP DATABASE IF EXISTS definitions" -c "CREATE DATABASE definitions" 2>/dev/null
export PGDATABASE=definitions
psql -Xq -v ON_ERROR_STOP=1 -c "CREATE SCHEMA a" -c "ALTER DATABASE definitions SET search_path = a, public"
psql -Xq -v ON_ERROR_STOP=1 -f definitions.sql
psql -XqAt -v ON_ERROR_STOP=1 -c "COPY (
  SELECT 'default', c.relname || '.' || a.attname, pg_get_expr(d.adbin, d.adrelid)
  FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum
  UNION ALL
  SELECT 'constraint', c.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE connamespace = 'a'::regnamespace
  UNION ALL
  SELECT 'pretty', c.relname || '.' || k.conname, pg_get_constraintdef(k.oid, true)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE connamespace = 'a'::regnamespace
  UNION ALL
  SELECT 'index', c.relname || '.' || i.relname, pg_get_indexdef(i.oid)
  FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid WHERE c.relnamespace = 'a'::regnamespace
  UNION ALL
  SELECT 'prettyindex', c.relname || '.' || i.relname, pg_get_indexdef(i.oid, 0, true)
  FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid WHERE c.relnamespace = 'a'::regnamespace
  ORDER BY 1, 2) TO STDOUT" >definitions.txt
psql -Xq -d postgres -c "DROP DATABASE definitions"

#!/usr/bin/env bash
# Writes the statements that psql 15 sends for its backslash commands over the objects of
# src/system/golden/definitions.sql into psql.sql beside it, each ended by a line ";;". OIDs of
# relations stand as {name}. psql must reach a PostgreSQL 15 by its environment; a database "q" is
# made and dropped.
set -euo pipefail
cd "$(dirname "$0")/../src/system/golden"
psql -Xq -d postgres -c "DROP DATABASE IF EXISTS q" -c "CREATE DATABASE q" 2>/dev/null
export PGDATABASE=q
psql -Xq -c "CREATE SCHEMA a" -c "ALTER DATABASE q SET search_path = a, public"
psql -Xq -v ON_ERROR_STOP=1 -f definitions.sql
psql -Xq -c "CREATE VIEW names AS SELECT id, name FROM customer" -c "CREATE SEQUENCE counter"
commands=()
for c in '\d' '\d+' '\dt' '\dt+' '\dn' '\dn+' '\du' '\du+' '\l' '\l+' '\dp' '\ddp' '\df' '\df lower' \
  '\df+ lower' '\di' '\di+' '\ds' '\ds+' '\dv' '\dv+' '\dT' '\dT+' '\da sum' '\do +' '\dC' '\dD' '\dx' \
  '\db' '\dy' '\dL' '\dO' '\dc' '\drds' '\dRp' '\dRs' '\dm' '\des' '\deu' '\dew' '\dF' '\dA' '\dAc' \
  '\dAf' '\dX' '\dP' '\dl' '\dd' '\d numbers' '\d+ numbers' '\d checks' '\d+ keys' '\d keys' \
  '\d customer' '\d+ customer' '\d generated' '\d names' '\d+ names' '\d counter' '\d numbers_s_seq' \
  '\d i_lower' '\d+ i_lower' '\d pg_class' '\sv names' '\z keys' '\dt a.*' '\dS pg_type'; do
  commands+=(-c "$c")
done
psql -X -E "${commands[@]}" 2>/dev/null |
  awk '/^\*+ QUERY \*+$/ { on = 1; text = ""; next } /^\*+$/ && on { on = 0; if (!(text in seen)) { seen[text] = 1; printf "%s;;\n", text } next } on { text = text $0 "\n" }' >psql.sql
psql -XAtF ' ' -c "SELECT oid, relname FROM pg_class WHERE relnamespace = 'a'::regnamespace" |
  while read -r oid name; do sed -i "s/'$oid'/'{$name}'/g" psql.sql; done
psql -Xq -d postgres -c "DROP DATABASE q"

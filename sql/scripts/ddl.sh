#!/usr/bin/env bash
# Writes what PostgreSQL 15 answers to the statements of src/ddl/tests/ddl.sql into ddl.txt beside
# it: a line "> n" before the answer of the n-th. psql must reach a PostgreSQL 15 by its
# environment; a database "ddl" is made and dropped.
set -euo pipefail
cd "$(dirname "$0")/../src/ddl/tests"
psql -Xq -d postgres -c "DROP DATABASE IF EXISTS ddl" -c "CREATE DATABASE ddl" 2>/dev/null
psql -Xq -d ddl -c "CREATE SCHEMA a" -c "ALTER DATABASE ddl SET search_path = a, public"
awk '{ print "\\echo > " NR; print }' ddl.sql |
  psql -XAt -d ddl -v VERBOSITY=verbose 2>&1 |
  sed -E '/^(LOCATION|LINE [0-9]+|SCHEMA NAME|TABLE NAME|COLUMN NAME|CONSTRAINT NAME|DATATYPE NAME): /d; /^ *\^$/d' >ddl.txt
psql -Xq -d postgres -c "DROP DATABASE ddl"

#!/usr/bin/env bash
# Writes scripts/*.out: what PostgreSQL 15 answers to scripts/*.sql. The replay (main.rs) needs no
# PostgreSQL. usage: capture.sh [script ...]   (PG_BIN, default /usr/lib/postgresql/15/bin)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${PG_BIN:-/usr/lib/postgresql/15/bin}
dir=$(mktemp -d)
run() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
run "$bin/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 --locale=C >/dev/null
port=$((20000 + RANDOM % 20000))
run "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w \
    -o "-p $port -c listen_addresses= -c unix_socket_directories=$dir -c timezone=UTC" start >/dev/null
trap 'run "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null; rm -rf "$dir"' EXIT
cd "$here/scripts"
for script in "${@:-*.sql}"; do
    for file in $script; do
        name=$(basename "$file" .sql)
        db="g_${name//[^a-z0-9_]/_}"
        "$bin/psql" -X -q -h "$dir" -p "$port" -U postgres -d postgres -c "create database $db"
        # Every statement ends with a semicolon at the end of a line, but for those in a body behind a
        # line with $$ at its end; a marker goes before each.
        awk 'BEGIN { fresh = 1 } /^--/ { next } /^$/ { next }
             fresh { printf "\\echo %%%%%d\n", ++n; fresh = 0 } { print }
             body && /\$\$/ { body = 0 } !body && /\$\$$/ { body = 1 }
             /;[ \t]*$/ && !body { fresh = 1 }' \
            "$file" |
            "$bin/psql" -X -A -F '|' -P null='\N' -P footer=off -v VERBOSITY=verbose -v SHOW_CONTEXT=never \
                -h "$dir" -p "$port" -U postgres -d "$db" 2>&1 |
            grep -v -E '^(LINE [0-9]+:|LOCATION:|HINT:|QUERY:|NOTICE:|WARNING:|INFO:|SCHEMA NAME:|TABLE NAME:|COLUMN NAME:|CONSTRAINT NAME:|DATATYPE NAME:| +\^)' \
                >"$name.out" || true
    done
done

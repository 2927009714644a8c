# Writes a row through the client service, reads it there and at every node, and removes what it has made.
# Needs an image with psql; libpq's PG... variables say where.
set -eu
if [ "$TLS" = yes ]; then
    PGSSLMODE=require
    if [ -s /tls/ca.crt ]; then
        PGSSLMODE=verify-full PGSSLROOTCERT=/tls/ca.crt
        export PGSSLROOTCERT
    fi
    export PGSSLMODE
fi
sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --command "$1"; }

token="$(date +%s)-$$"
trap 'sql "DROP TABLE IF EXISTS helm_test"' EXIT
sql "CREATE TABLE IF NOT EXISTS helm_test (token text PRIMARY KEY, written timestamptz NOT NULL DEFAULT now())"
sql "INSERT INTO helm_test (token) VALUES ('$token')"
echo "written through $PGHOST:$PGPORT"

read_at() {
    found="$(PGHOST=$1 PGPORT=$2 sql "SELECT token FROM helm_test WHERE token = '$token'")"
    if [ "$found" != "$token" ]; then
        echo "read at $1:$2: \"$found\", and \"$token\" was written"
        exit 1
    fi
    echo "read at $1:$2"
}
read_at "$PGHOST" "$PGPORT"
for node in $NODES; do
    read_at "$node" "$NODE_PORT"
done

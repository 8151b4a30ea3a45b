#!/bin/sh
# Run SQL statements about roles, from standard input, in the container of the database. The server trusts all
# users on its socket. It does not log the statements, because they may contain a verifier.
#
# Usage: database.sh SECONDS
# Waits at most SECONDS until the database accepts connections.

main() {
    waited=0
    until pg_isready -q -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" </dev/null; do
        waited=$((waited + 1))
        if [ "$waited" -gt "$(($1 * 5))" ]; then
            echo "the database does not accept connections" >&2
            exit 1
        fi
        sleep 0.2
    done
    PGOPTIONS="-c log_statement=none -c log_duration=off -c log_min_duration_statement=-1"
    PGOPTIONS="$PGOPTIONS -c log_min_error_statement=panic"
    export PGOPTIONS
    # Roles belong to all databases. The database of KTRDR refuses statements under an older TimescaleDB.
    exec psql -qAtX -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres
}

main "$@"

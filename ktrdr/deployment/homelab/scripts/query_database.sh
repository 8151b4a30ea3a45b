#!/bin/sh
# Print the answer of the database to a question. Fail if the database does not run.
#
# Usage: query_database.sh PROJECT QUESTION
#   migrations        names of the migrations that were applied
#   max-connections   number of connections that it allows
set -eu

. ../../scripts/lib/project.sh
. ../../scripts/lib/service.sh
APPLIED_MIGRATIONS_SQL=$(cat ./applied_migrations.sql)

main() {
    database=$(find_container "$1" db)
    if [ -z "$database" ]; then
        echo 'the database does not run' >&2
        exit 1
    fi
    case $2 in
        migrations) statement=$APPLIED_MIGRATIONS_SQL ;;
        max-connections) statement='SHOW max_connections' ;;
    esac
    # Over the socket in its container, where the server trusts its own user, so that no secret is needed.
    # shellcheck disable=SC2016 # the variables are those of the container
    docker exec "$database" sh -c 'exec psql -AtqX -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "$1"' \
        psql "$statement"
}

main "$@"

#!/bin/sh
# Print the names of the migrations that the database of the core has seen; fail where it does not run.
#
# Usage: applied_migrations.sh PROJECT
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
    # Through the socket in its own container, where the server trusts its own user: without a secret.
    # shellcheck disable=SC2016 # the variables are those of the container
    docker exec "$database" sh -c 'exec psql -AtqX -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "$1"' \
        psql "$APPLIED_MIGRATIONS_SQL"
}

main "$@"

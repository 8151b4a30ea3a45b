#!/bin/sh
# Remove the containers and networks of a project, its secrets in the host's memory, and its volumes if
# asked to.
#
# Usage: remove_stack.sh OPTION VALUE...
#   --project, --workdir, --secrets-directory and --secrets-image of lib/stack.sh, and
#   --note NOTE         what the lock says of its owner
#   --volumes yes|no    whether the data goes, too
# Fails with 74 where the lock was lost.
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/lock.sh

main() {
    note='' volumes=no
    while [ "$#" -gt 0 ]; do
        case $1 in
            --note) note=$2 ;;
            --volumes) volumes=$2 ;;
            *) common_option "$1" "$2" ;;
        esac
        shift 2
    done
    require_lock "$workdir" "$note"
    # Also what Compose made for a single run.
    filter="label=com.docker.compose.project=$project"
    with_volumes=
    [ "$volumes" = no ] || with_volumes=--volumes
    docker ps --all --quiet --filter "$filter" |
        xargs -r docker rm --force ${with_volumes:+"$with_volumes"} >/dev/null
    docker network ls --quiet --filter "$filter" | xargs -r docker network rm >/dev/null
    if [ "$volumes" = yes ]; then
        docker volume ls --quiet --filter "$filter" | xargs -r docker volume rm >/dev/null
    fi
    remove_secrets
}

main "$@"

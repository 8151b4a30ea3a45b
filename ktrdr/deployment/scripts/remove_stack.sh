#!/bin/sh
# Remove the containers and networks of a project, its secrets in the host's memory, and its volumes on
# request.
#
# Usage: remove_stack.sh OPTION VALUE...
#   --project, --workdir, --secrets-directory and --secrets-image of lib/stack.sh, and
#   --note NOTE         note of the lock's owner
#   --volumes yes|no    whether to remove the data, too
# Fails with 74 if the lock was lost.
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/lock.sh
. ./lib/supervision.sh

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
    forget_deploy "$workdir"
    # This includes containers that Compose created for a single run.
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

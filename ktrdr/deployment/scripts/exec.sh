#!/bin/sh
# Run a command in the container of a service.
#
# Usage: exec.sh PROJECT SERVICE COMMAND [ARGUMENT...]
# Prints "== runs" before all that the command prints, or "== not running" and the services that run.
set -eu

. ./lib/output.sh
. ./lib/project.sh
. ./lib/service.sh

main() {
    project=$1 container=$(find_container "$1" "$2")
    shift 2
    if [ -z "$container" ]; then
        section 'not running'
        project_ps "$project" --format '{{.Label "com.docker.compose.service"}}' | sort
    else
        section runs
        docker exec "$container" "$@"
    fi
}

main "$@"

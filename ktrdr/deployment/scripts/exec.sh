#!/bin/sh
# Run a command in the container of a service.
#
# Usage: exec.sh PROJECT SERVICE COMMAND [ARGUMENT...]
# Prints "== runs" before the command's output. If the service does not run, prints "== not running" and the
# services that run.
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

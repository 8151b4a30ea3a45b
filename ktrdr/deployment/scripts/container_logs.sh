#!/bin/sh
# Print the last log lines of containers, each container in a section named by its id.
#
# Usage: container_logs.sh LINES CONTAINER...
set -eu

. ./lib/output.sh

main() {
    lines=$1
    shift
    for container; do
        section "$container"
        docker logs --tail "$lines" "$container" 2>&1 || :
    done
}

main "$@"

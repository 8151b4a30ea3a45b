#!/bin/sh
# Print the last lines that containers wrote, each container in a section of its id.
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

#!/bin/sh
# Stop containers.
#
# Usage: stop.sh WORKDIR NOTE CONTAINER...
# NOTE is what the lock says of its owner. Fails with 74 where the lock was lost.
set -eu

. ./lib/lock.sh
. ./lib/change.sh

main() {
    require_lock "$1" "$2"
    shift 2
    change_containers stop "$@"
}

main "$@"

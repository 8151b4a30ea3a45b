#!/bin/sh
# Stop containers.
#
# Usage: stop.sh WORKDIR NOTE CONTAINER...
# NOTE is the note of the lock's owner. Fails with 74 if the lock was lost.
set -eu

. ./lib/lock.sh
. ./lib/supervision.sh
. ./lib/change.sh

main() {
    require_lock "$1" "$2"
    forget_deploy "$1"
    shift 2
    change_containers stop "$@"
}

main "$@"

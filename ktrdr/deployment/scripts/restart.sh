#!/bin/sh
# Restart containers. When this is cut off, they are started again: it does not leave a service stopped.
#
# Usage: restart.sh WORKDIR PROJECT NOTE RECOVERY_NOTE CONTAINER...
# NOTE is what the lock says of its owner, RECOVERY_NOTE what it says while containers are started again.
# Fails with 74 where the lock was lost.
set -eu

. ./lib/lock.sh
. ./lib/project.sh
. ./lib/stand_by.sh
. ./lib/change.sh
WATCHDOG_SH=$(cat ./watchdog.sh)

main() {
    require_lock "$1" "$3"
    stand_by "$1" "$2" "$4"
    shift 4
    change_containers restart "$@"
}

main "$@"

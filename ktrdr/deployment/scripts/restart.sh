#!/bin/sh
# Restart containers. If this script is cut off, the watchdog starts them again.
#
# Usage: restart.sh WORKDIR PROJECT NOTE RECOVERY_NOTE CONTAINER...
# NOTE is the note of the lock's owner, RECOVERY_NOTE that of the watchdog. Fails with 74 if the lock was
# lost.
set -eu

. ./lib/lock.sh
. ./lib/project.sh
. ./lib/start_watchdog.sh
. ./lib/change.sh
WATCHDOG_SH=$(cat ./watchdog.sh)

main() {
    require_lock "$1" "$3"
    start_watchdog "$1" "$2" "$4"
    shift 4
    change_containers restart "$@"
}

main "$@"

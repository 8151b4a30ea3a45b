#!/bin/sh
# Start the services of a project again once the lock of the host is free, because its owner was cut off
# while it changed them.
#
# Usage: watchdog.sh WORKDIR PROJECT NOTE
# Prints its process id first, and closes standard output. NOTE names the watchdog in the lock file.

. ./lib/project.sh
. ./lib/recreation.sh
. ./lib/recovery.sh

main() {
    echo "$$"
    exec >/dev/null 9>>"$1/.ktrdr/lock"
    flock 9 || exit
    # The note makes the lock file newer than the record of stopped containers.
    read_stopped_before "$1"
    printf "%s %s\n" "$$" "$3" >"$1/.ktrdr/lock"
    recover "$2" 180
}

main "$@"

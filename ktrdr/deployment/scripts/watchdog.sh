#!/bin/sh
# Start the services of a project again when the lock of its host becomes free: its owner was cut off
# while it changed them.
#
# Usage: watchdog.sh WORKDIR PROJECT NOTE
# Prints its number first, and closes its standard output. NOTE is what the lock says meanwhile.

. ./lib/project.sh
. ./lib/recreation.sh
. ./lib/recovery.sh

main() {
    echo "$$"
    exec >/dev/null 9>>"$1/.ktrdr/lock"
    flock 9 || exit
    # The note makes the lock younger than what was noted under it.
    read_stopped_before "$1"
    printf "%s %s\n" "$$" "$3" >"$1/.ktrdr/lock"
    recover "$2" 180
}

main "$@"

#!/bin/sh
# End the shell that holds the lock of a host, and wait until the lock is free. Print its owner as
# show_lock.sh does.
#
# Usage: break_lock.sh WORKDIR [EVENT]
# If the lock was held, append EVENT to the history.
set -eu

. ./lib/lock.sh
. ./lib/events.sh

main() {
    show_lock "$1"
    lock_file=$1/.ktrdr/lock
    if [ -e "$lock_file" ] && ! flock -n -s "$lock_file" true; then
        read -r holder _ <"$lock_file"
        # The system reuses process ids: verify that this process holds the lock.
        if [ "$(readlink "/proc/$holder/fd/9")" = "$(readlink -f "$lock_file")" ]; then
            kill -USR2 "$holder"
        fi
        flock -w 10 -s "$lock_file" true
        [ -z "${2-}" ] || append_events "$1" "$2"
    fi
}

main "$@"

#!/bin/sh
# End the shell that holds the lock of a host, and have a deploy in progress go back. Wait until the lock is
# free, or until it belongs to that recovery. Print the former owner as show_lock.sh does.
#
# Usage: break_lock.sh WORKDIR [EVENT]
# If the lock was held, append EVENT to the history.
set -eu

. ./lib/lock.sh
. ./lib/supervision.sh
. ./lib/events.sh

main() {
    show_lock "$1"
    lock_file=$1/.ktrdr/lock
    if [ -e "$lock_file" ] && ! flock -n -s "$lock_file" true; then
        read -r holder _ <"$lock_file"
        # The system reuses process ids: verify that this process holds the lock.
        if ! find_supervisor "$1"; then supervisor=none; fi
        # A host that goes back must not be disturbed.
        if [ "$supervisor" != "$holder" ] && has_opened_lock "$1" "$holder"; then
            kill -USR2 "$holder"
        fi
        [ "$supervisor" = none ] || kill -s USR1 "$supervisor" || :
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
            if flock -w 1 -s "$lock_file" true || grep -qF 'recovery after' "$lock_file"; then
                [ -z "${2-}" ] || append_events "$1" "$2"
                return 0
            fi
        done
        return 1
    fi
}

main "$@"

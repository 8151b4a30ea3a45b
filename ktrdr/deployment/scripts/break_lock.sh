#!/bin/sh
# End the shell that has the lock of a host, and wait until the lock is free. Print who had it, as
# show_lock.sh does.
#
# Usage: break_lock.sh WORKDIR
set -eu

. ./lib/lock.sh

main() {
    show_lock "$1"
    lock_file=$1/.ktrdr/lock
    if [ -e "$lock_file" ] && ! flock -n -s "$lock_file" true; then
        read -r holder _ <"$lock_file"
        # Numbers are given anew: another process may have this one by now.
        if [ "$(readlink "/proc/$holder/fd/9")" = "$(readlink -f "$lock_file")" ]; then
            kill -USR2 "$holder"
        fi
        flock -w 10 -s "$lock_file" true
    fi
}

main "$@"

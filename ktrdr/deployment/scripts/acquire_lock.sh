#!/bin/sh
# Take the lock of a host, for the shell itself that runs this: it has the lock until release_lock.sh, or
# until it ends, however that happens. So there is nothing that could be left behind.
#
# Usage: acquire_lock.sh WORKDIR SECONDS NOTE
# Waits SECONDS for another owner, and prints the note of one that keeps the lock. NOTE is one line,
# unique to this owner. Fails with 75 where another owner has it, and with 69 where there is no flock.

main() {
    command -v flock >/dev/null || return 69
    lock_file=$1/.ktrdr/lock
    # Tried apart first: where `exec` cannot redirect, it ends the shell.
    (
        umask 022
        { [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"; } && exec 9<>"$lock_file"
    ) || return 1
    exec 9<>"$lock_file"
    # What puts the leftovers of an interrupted deploy right is waited for in any case.
    flock -w "$2" 9 || { grep -qF 'recovery after' "$lock_file" && flock -w 180 9; } || {
        cat "$lock_file"
        exec 9>&-
        return 75
    }
    printf '%s %s\n' "$$" "$3" >"$lock_file" || :
}

main "$@"

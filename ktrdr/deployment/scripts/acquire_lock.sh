#!/bin/sh
# Acquire the lock of a host for the shell that runs this script. The shell holds the lock until
# release_lock.sh, or until the shell ends for any reason. So no lock can become stale.
#
# Usage: acquire_lock.sh WORKDIR SECONDS NOTE
# Waits SECONDS for another owner. NOTE is the line that names this owner, and is unique to it. Fails with 75
# and prints "PID NOTE" of the other owner if the lock is held. Fails with 69 if the host has no flock.

# Return whether the lock is held only by a supervisor or watchdog whose owner is gone.
is_left_behind() {
    read -r holder _ <"$lock_file" || return 1
    grep -qF 'recovery after' "$lock_file" ||
        [ "$(readlink "/proc/$holder/fd/9")" != "$(readlink -f "$lock_file")" ]
}

main() {
    command -v flock >/dev/null || return 69
    lock_file=$1/.ktrdr/lock
    # Try this in a subshell first, because a failed redirection of `exec` ends the shell.
    (
        umask 022
        { [ -d "$1/.ktrdr" ] || mkdir -p "$1/.ktrdr"; } && exec 9<>"$lock_file"
    ) || return 1
    exec 9<>"$lock_file"
    # Always wait for the host to finish what its owner has left behind.
    flock -w "$2" 9 || { is_left_behind && flock -w 600 9; } || {
        cat "$lock_file"
        exec 9>&-
        return 75
    }
    printf '%s %s\n' "$$" "$3" >"$lock_file" || :
}

main "$@"

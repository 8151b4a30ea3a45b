# shellcheck shell=sh
# The lock of a host: flock(2) on WORKDIR/.ktrdr/lock, while the owner's shell runs. The file itself always
# exists. Its content names the owner.

# End the script with code 74 unless the owner with this note holds the lock.
#   require_lock WORKDIR NOTE
require_lock() {
    if ! grep -qF -e "$2" "$1/.ktrdr/lock" 2>/dev/null || flock -n -s "$1/.ktrdr/lock" true; then
        exit 74
    fi
}

# Print "free", or "held" and on the next line "PID NOTE".
#   show_lock WORKDIR
show_lock() {
    if [ ! -e "$1/.ktrdr/lock" ] || flock -n -s "$1/.ktrdr/lock" true; then
        echo free
    else
        echo held
        cat "$1/.ktrdr/lock"
    fi
}

# Return whether a process has the lock's file open as descriptor 9, as the shell of its owner has.
#   has_opened_lock WORKDIR PID
has_opened_lock() {
    [ "$(readlink "/proc/$2/fd/9")" = "$(readlink -f "$1/.ktrdr/lock")" ]
}

# shellcheck shell=sh
# The lock of a host: flock(2) on WORKDIR/.ktrdr/lock, for as long as the owner's shell lives there.
# The file stays, and being there means nothing; what stands in it says whose lock it is.

# End the script with code 74 unless the lock is still that of the owner with this note.
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

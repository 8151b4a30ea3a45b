# shellcheck shell=sh
# Set up a remote shell that runs one script after the other. protocol.py describes the protocol,
# and assigns the settings in front of this text:
#
#   ktrdr_mark     the word that ends both outputs of each script
#   ktrdr_tick_s   interval of the guard's checks (s)
#   ktrdr_ticks    checks without a line from the caller after which the guard ends the session
#   ktrdr_grace_s  time between SIGTERM and SIGKILL (s)
#
# The braces make this one compound command: nothing runs before all of it has arrived.
{
    # A control line that arrives just after a script has ended is read as a command. It must do
    # nothing.
    ktrdr_end() { :; }

    # The operator's ssh may send the language of another machine, and checks read messages.
    export LC_ALL=C

    # Descriptor 3 is the line to the caller, 4 is standard error. The shell's own messages, about
    # processes that a signal has ended, are discarded.
    exec 3<&0 4>&2 2>/dev/null
    ktrdr_ended=
    trap 'ktrdr_ended=yes' TERM
    trap '' USR1
    trap 'kill -KILL 0' EXIT

    ktrdr_die() {
        trap '' TERM
        kill -TERM 0
        sleep "${ktrdr_grace_s:?}" 3<&-
        kill -KILL 0
    }

    # The guard ends the session after too long a silence.
    (
        trap '' TERM
        trap 'ktrdr_missed=0' USR1
        ktrdr_missed=0
        while [ "$ktrdr_missed" -lt "${ktrdr_ticks:?}" ]; do
            ktrdr_missed=$((ktrdr_missed + 1))
            sleep "${ktrdr_tick_s:?}"
            kill -0 $$ || exit
        done
        ktrdr_die
    ) </dev/null >/dev/null 3<&- 4>&- &
    ktrdr_guard=$!

    # Read the caller's next line, and reset the guard.
    ktrdr_read() {
        read -r ktrdr_line <&3 || return
        kill -USR1 "$ktrdr_guard" || :
    }

    # The watcher reads while a script runs. It returns from the loop when the caller ends the
    # script or is gone.
    ktrdr_watch() {
        trap - TERM EXIT
        while ktrdr_read; do [ "$ktrdr_line" = : ] || break; done
        ktrdr_die
    }

    # Start the watcher, right before a script.
    ktrdr_begin() {
        ktrdr_watch >/dev/null 4>&- 9>&- &
        ktrdr_watcher=$!
    }

    # Report a script's end, with its exit code. A shell that is just being forked loses SIGTERM. So
    # kill the watcher, and send SIGTERM twice to the processes of a script that was ended. Those
    # that survive it are killed with the session.
    ktrdr_done() {
        kill -KILL "$ktrdr_watcher"
        wait "$ktrdr_watcher"
        [ -z "$ktrdr_ended" ] || kill -TERM 0
        ktrdr_next "$1"
    }

    # Print the mark on both outputs, and wait for the announcement of the next script.
    ktrdr_next() {
        printf '%s %s\n' "${ktrdr_mark:?}" "$1"
        printf '%s\n' "$ktrdr_mark" >&4
        while ktrdr_read; do [ "$ktrdr_line" != go ] || return 0; done
        exit 0
    }

    ktrdr_next 0
}

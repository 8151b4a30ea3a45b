# shellcheck shell=sh
# Protection of a script that stops services. Needs: project.sh, and $WATCHDOG_SH

# Make sure that the services run again when this script is ended in mid-work, however it is: the
# operator's machine may be gone, and a script that is killed cannot do it. So a process stands by in a
# session of its own, which outlives the connection. A script that comes to its end by itself sends it
# away. Else it takes the lock when that becomes free, puts right what it finds, and ends.
#   stand_by WORKDIR PROJECT NOTE [SECRET...]
# NOTE is what the lock says meanwhile. The SECRETs are names of variables which that process is not
# given, since it may outlive all that needs them.
stand_by() {
    guarded_workdir=$1 guarded_project=$2 recovery_note=$3
    shift 3
    # What was stopped on purpose is noted once under one lock: what the first script has stopped was
    # not. A container that was made and never started is left of something else that was cut off.
    # shellcheck disable=SC3013 # dash, bash and busybox have -nt
    [ "$guarded_workdir/.ktrdr/stopped" -nt "$guarded_workdir/.ktrdr/lock" ] ||
        project_ps "$guarded_project" --all --quiet --filter status=exited \
            >"$guarded_workdir/.ktrdr/stopped" || :
    # The process closes its standard output, and with it this substitution, when it has printed its
    # number: by then it is out of reach of what ends the connection's session.
    watchdog=$(
        [ "$#" = 0 ] || unset "$@"
        setsid sh -c "$WATCHDOG_SH" watchdog "$guarded_workdir" "$guarded_project" "$recovery_note" \
            </dev/null 2>/dev/null 3<&- 4>&- &
    )
    trap 'kill -s KILL -- "-$watchdog" 2>/dev/null || :' EXIT
    trap 'trap - EXIT; exit 143' TERM INT HUP
}

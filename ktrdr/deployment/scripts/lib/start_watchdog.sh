# shellcheck shell=sh
# Watchdog of a script that stops services. Needs: project.sh, $WATCHDOG_SH

# Make sure that the services run again if this script is ended early. The operator's machine may be gone, and
# a killed script cannot do it. So start the watchdog in a session of its own, which outlives the connection.
# If the script reaches its end, it ends the watchdog. Otherwise the watchdog acquires the lock once it is
# free, starts the services, and ends.
#   start_watchdog WORKDIR PROJECT NOTE [SECRET...]
# NOTE names the watchdog in the lock file. The SECRETs are names of variables that the watchdog does not
# receive, because it may outlive the scripts that need them.
start_watchdog() {
    guarded_workdir=$1 guarded_project=$2 recovery_note=$3
    shift 3
    # Record the stopped containers only once under one lock: later scripts would record what the first one
    # has stopped. Do not record containers that never started, which an interrupted deploy has created.
    # shellcheck disable=SC3013 # dash, bash and busybox have -nt
    [ "$guarded_workdir/.ktrdr/stopped" -nt "$guarded_workdir/.ktrdr/lock" ] ||
        project_ps "$guarded_project" --all --quiet --filter status=exited \
            >"$guarded_workdir/.ktrdr/stopped" || :
    # The watchdog prints its process id and closes standard output, which ends this substitution. From then
    # on, the end of the connection does not end it.
    watchdog=$(
        [ "$#" = 0 ] || unset "$@"
        setsid sh -c "$WATCHDOG_SH" watchdog "$guarded_workdir" "$guarded_project" "$recovery_note" \
            </dev/null 2>/dev/null 3<&- 4>&- &
    )
    trap 'kill -s KILL -- "-$watchdog" 2>/dev/null || :' EXIT
    trap 'trap - EXIT; exit 143' TERM INT HUP
}

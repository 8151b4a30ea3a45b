# shellcheck shell=sh
# How the services of a project run again after they were stopped half-way. Needs: project.sh,
# recreation.sh

# Set $stopped_before to the containers that were stopped on purpose before anything was changed. They
# were noted under the present lock, and stay stopped.
#   read_stopped_before WORKDIR
read_stopped_before() {
    stopped_before=
    # shellcheck disable=SC3013 # dash, bash and busybox have -nt
    [ ! "$1/.ktrdr/stopped" -nt "$1/.ktrdr/lock" ] || stopped_before=$(cat "$1/.ktrdr/stopped") || :
}

# Start what was stopped half-way, until everything has run for some moments on end: a container that
# was told to stop may do so only at the end of its grace. A Docker that is away is waited for. Fail
# when the time is up before.
#   recover PROJECT SECONDS
recover() {
    end=$(($(date +%s) + $2))
    calm_looks=0
    while [ "$(date +%s)" -lt "$end" ]; do
        if finish_recreation "$1" >/dev/null 2>&1 && stopped=$(list_stopped "$1" 2>/dev/null); then
            idle=
            for container in $stopped; do
                printf "%s\n" "$stopped_before" | grep -qxF "$container" || idle="$idle $container"
            done
            if [ -z "$idle" ]; then
                calm_looks=$((calm_looks + 1))
                [ "$calm_looks" -lt 3 ] || return 0
            else
                calm_looks=0
                # shellcheck disable=SC2086 # ids are words
                docker start $idle >/dev/null 2>&1 || :
            fi
        fi
        sleep 1
    done
    return 1
}

# Print the ids of the containers of a project that do not run.
#   list_stopped PROJECT
list_stopped() {
    project_ps "$1" --all --quiet --filter status=exited --filter status=created
}

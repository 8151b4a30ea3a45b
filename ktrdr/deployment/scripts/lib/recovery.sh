# shellcheck shell=sh
# Recovery of the services that an interrupted script has stopped. Needs: project.sh, recreation.sh

# Set $stopped_before to the containers that were stopped before anything changed, and that stay stopped. Only
# a record under the current lock counts.
#   read_stopped_before WORKDIR
read_stopped_before() {
    stopped_before=
    # shellcheck disable=SC3013 # dash, bash and busybox have -nt
    [ ! "$1/.ktrdr/stopped" -nt "$1/.ktrdr/lock" ] || stopped_before=$(cat "$1/.ktrdr/stopped") || :
}

# Start stopped containers until all have run in three queries in a row, because a container may stop only at
# the end of its grace period. Wait for Docker if it does not respond. Fail after SECONDS.
#   recover PROJECT SECONDS
recover() {
    end=$(($(date +%s) + $2))
    good_queries=0
    while [ "$(date +%s)" -lt "$end" ]; do
        if finish_recreation "$1" >/dev/null 2>&1 && stopped=$(list_stopped "$1" 2>/dev/null); then
            idle=
            for container in $stopped; do
                printf "%s\n" "$stopped_before" | grep -qxF "$container" || idle="$idle $container"
            done
            if [ -z "$idle" ]; then
                good_queries=$((good_queries + 1))
                [ "$good_queries" -lt 3 ] || return 0
            else
                good_queries=0
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

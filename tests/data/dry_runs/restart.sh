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

main /opt/core 1 '{"id": "x", "who": "ada@laptop", "reason": "restart", "since": "2026-11-24T06:00:00+00:00"}' </dev/null || exit

(
# Print the state of a stack, in sections: the host's clock, the containers, and the health documents of
# services.
#
# Usage: verify.sh PROJECT [SERVICE...]
# Asks only the SERVICEs for their health documents.
set -eu

# ---- scripts/lib/output.sh
# Output of scripts.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script with code 64 because of an unknown option.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/project.sh
# Containers of a Compose project.

# List containers as "docker ps" does, without those that Compose created for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/containers.sh
# Queries of containers and of the services in them. Needs: project.sh

# One JSON object per container with the manifest that it runs in containerd's image store, without the whole configuration, which contains the environment.
CONTAINER_FORMAT='{"id":{{json .Id}},"image":{{json .Image}},"manifest":{{json (index . "ImageManifestDescriptor")}},"name":{{json .Config.Image}},"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},"created":{{json .Created}}}'

# Print a JSON object for each container of a project, and set $containers to them.
#   list_containers PROJECT
list_containers() {
    ids=$(project_ps "$1" --all --quiet --no-trunc)
    containers=
    # A container may disappear between the two commands. The others are printed all the same.
    [ -z "$ids" ] || containers=$(docker inspect --format "$CONTAINER_FORMAT" $ids 2>/dev/null) || :
    [ -z "$containers" ] || printf '%s\n' "$containers"
}

# Return whether list_containers has found a container of one of the services. This avoids a start of
# Docker's program, which takes as long as the rest of the script.
#   any_is_listed SERVICE...
any_is_listed() {
    for service; do
        case $containers in
            *"\"com.docker.compose.service\":\"$service\""*) return 0 ;;
        esac
    done
    return 1
}

# Print the names of a project's volumes if one of the services has no container, with which its volumes may
# have been lost. Containers keep theirs.
#   list_volumes PROJECT SERVICE...
list_volumes() {
    volumes_of=$1
    shift
    for service; do
        any_is_listed "$service" || {
            docker volume ls --quiet --filter "name=^${volumes_of}_"
            return
        }
    done
}

# Print the health document of a service on one line. This is a hook, which an extension defines.
#   ask_service CONTAINER
ask_service() { :; }

# Print "SERVICE DOCUMENT" for each of the services that is healthy. The questions run in parallel, because
# each starts a program in a container. Each line is written by one printf, so that lines do not mix.
#   ask_services PROJECT SERVICE...
ask_services() {
    ask_project=$1
    shift
    [ "$#" -gt 0 ] || return 0
    project_ps "$ask_project" --format '{{.ID}} {{.Label "com.docker.compose.service"}}' \
        --filter health=healthy | {
        while read -r container service; do
            for asked; do
                [ "$service" != "$asked" ] ||
                    printf '%s %s\n' "$service" "$(ask_service "$container" || :)" &
            done
        done
        wait
    }
}

# ---- scripts/verify.sh
main() {
    section clock
    date +%s
    section containers
    list_containers "$1"
    section answers
    ask_services "$@"
}

# ---- homelab/scripts/service_health.sh
# Health documents of KTRDR's services: extension of the scripts that ask services.

CONTAINER_HEALTH_PY='"""Print the health document of the server in this container, on one line.

Inside its container, the server responds even if the host does not publish its port, and the host
needs no further program. With HTTP/1.0, the response ends with the connection.
"""

import os
import socket
import sys

worker = os.environ.get("WORKER_PORT")
path = "/health" if worker else "/api/v1/health"
with socket.create_connection(("127.0.0.1", int(worker or 8000)), 5) as server:
    server.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = server.makefile("rb").read().decode("utf-8", "replace")
sys.stdout.write(" ".join(answer.partition("\r\n\r\n")[2].split()) + "\n")'

ask_service() {
    docker exec "$1" python3 -I -S -c "$CONTAINER_HEALTH_PY" 2>/dev/null </dev/null
}

run() {
    main ktrdr-core
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"

(
# Restart containers. If this script is cut off, the watchdog starts them again.
#
# Usage: restart.sh WORKDIR PROJECT NOTE RECOVERY_NOTE CONTAINER...
# NOTE is the note of the lock's owner, RECOVERY_NOTE that of the watchdog. Fails with 74 if the lock was
# lost.
set -eu

# ---- scripts/lib/lock.sh
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

# ---- scripts/lib/project.sh
# Containers of a Compose project.

# List containers as "docker ps" does, without those that Compose created for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/start_watchdog.sh
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

# ---- scripts/lib/change.sh
# Changes to several containers at the same time.

# Restart or stop containers, and fail if one of them fails. Each has its own grace period.
#   change_containers restart|stop CONTAINER...
change_containers() {
    verb=$1 code=0 pids=
    shift
    for container; do
        docker "$verb" "$container" >/dev/null &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || code=$?
    done
    [ "$code" = 0 ] || exit "$code"
}

# ---- scripts/restart.sh
WATCHDOG_SH='# Start the services of a project again once the lock of the host is free, because its owner was cut off
# while it changed them.
#
# Usage: watchdog.sh WORKDIR PROJECT NOTE
# Prints its process id first, and closes standard output. NOTE names the watchdog in the lock file.

# ---- scripts/lib/project.sh
# Containers of a Compose project.

# List containers as "docker ps" does, without those that Compose created for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/recreation.sh
# Repair of a recreation that Compose did not finish. Needs: project.sh

# Finish or undo interrupted recreations. To recreate a container, Compose creates the new one under the name
# OLDID_NAME, stops and removes the old one, and renames the new one. If it is interrupted in between, the
# service stays stopped, and the container OLDID_NAME makes the next attempt fail. If both containers exist,
# remove the new one. If only the new one exists, rename it. With "start", start the remaining one.
#   finish_recreation PROJECT [start]
finish_recreation() {
    for name in $(project_ps "$1" --all --format "{{.Names}}"); do
        case $name in
            # Twelve characters of an id and an underscore stand before the name.
            [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]_*) ;;
            *) continue ;;
        esac
        if docker inspect "${name#*_}" >/dev/null 2>&1; then
            docker rm --force "$name"
        else
            docker rename "$name" "${name#*_}"
        fi
        # A container that cannot be started must not prevent the others from being changed.
        [ "${2-}" != start ] || docker start "${name#*_}" || :
    done
}

# ---- scripts/lib/recovery.sh
# Recovery of the services that an interrupted script has stopped. Needs: project.sh, recreation.sh

# Set $stopped_before to the containers that were stopped before anything changed, and that stay stopped. Only
# a record under the current lock counts.
#   read_stopped_before WORKDIR
read_stopped_before() {
    stopped_before=
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

# ---- scripts/watchdog.sh
main() {
    echo "$$"
    exec >/dev/null 9>>"$1/.ktrdr/lock"
    flock 9 || exit
    # The note makes the lock file newer than the record of stopped containers.
    read_stopped_before "$1"
    printf "%s %s\n" "$$" "$3" >"$1/.ktrdr/lock"
    recover "$2" 180
}

main "$@"'

main() {
    require_lock "$1" "$3"
    start_watchdog "$1" "$2" "$4"
    shift 4
    change_containers restart "$@"
}

run() {
    main /opt/core ktrdr-core '{"id": "x", "who": "ada@laptop", "reason": "restart", "since": "2026-11-24T06:00:00+00:00"}' '{"id": "x-recovery", "who": "ada@laptop", "reason": "recovery after a cut-off restart", "since": "2026-11-24T06:00:00+00:00"}' id-of-db
    echo ktrdr-script-complete
}
run </dev/null 9>&-
)
code=$?
[ "$code" = 0 ] || exit "$code"

# Release the lock of a host, in the shell that has acquired it with acquire_lock.sh.
#
# Usage: release_lock.sh

main() {
    exec 9>&-
}

main </dev/null || exit

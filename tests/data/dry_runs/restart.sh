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

main /opt/core 1 '{"id": "x", "who": "ada@laptop", "reason": "restart", "since": "2026-11-24T06:00:00+00:00"}' </dev/null || exit

(
# Print what the health of a stack is judged by, in sections: the host's clock, its containers, and the
# answers of its own services.
#
# Usage: verify.sh PROJECT [SERVICE...]
# The SERVICEs are asked what they say of themselves.
set -eu

# ---- scripts/lib/output.sh
# What a script tells its caller.

# Begin a section of the output.
#   section TITLE
section() {
    printf '== %s\n' "$1"
}

# End the script because of an option that it does not know.
#   refuse_option OPTION
refuse_option() {
    printf 'there is no option %s\n' "$1" >&2
    exit 64
}

# ---- scripts/lib/project.sh
# The containers of a Compose project.

# List containers as "docker ps" does, without those that Compose made for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/containers.sh
# Read-only queries about containers and what they say. Needs: project.sh

# One JSON object a container. Not its configuration as a whole: that holds the environment.
CONTAINER_FORMAT='{"id":{{json .Id}},"image":{{json .Image}},"name":{{json .Config.Image}},"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},"created":{{json .Created}}}'

# Print a JSON object for each container of a project, running or not, and keep them in $containers.
#   list_containers PROJECT
list_containers() {
    ids=$(project_ps "$1" --all --quiet --no-trunc)
    containers=
    # A container may vanish between the two commands: the others are shown all the same.
    [ -z "$ids" ] || containers=$(docker inspect --format "$CONTAINER_FORMAT" $ids 2>/dev/null) || :
    [ -z "$containers" ] || printf '%s\n' "$containers"
}

# Tell whether list_containers, before it, has found a container of one of the services. To start
# Docker's program for nothing takes as long as the shell needs for all the rest.
#   any_is_listed SERVICE...
any_is_listed() {
    for service; do
        case $containers in
            *"\"com.docker.compose.service\":\"$service\""*) return 0 ;;
        esac
    done
    return 1
}

# Print what a service says of itself, on one line: a hook, which an extension defines anew.
#   ask_service CONTAINER
ask_service() { :; }

# Print "SERVICE ANSWER" for each of the services that is healthy. They are asked side by side: each takes as long as a program does to
# start in a container. A line is written at once, so that none cuts into another.
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
# How the services of KTRDR say how they are: an extension of every script that asks them.

CONTAINER_HEALTH_PY='"""Print what the server in this container says of its health, on one line.

It is reached there whatever the host publishes, and needs no program of the host. HTTP/1.0, so that
the answer ends with the connection.
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
run </dev/null
) 9>&-
code=$?
[ "$code" = 0 ] || exit "$code"

(
# Restart containers. When this is cut off, they are started again: it does not leave a service stopped.
#
# Usage: restart.sh WORKDIR PROJECT NOTE RECOVERY_NOTE CONTAINER...
# NOTE is what the lock says of its owner, RECOVERY_NOTE what it says while containers are started again.
# Fails with 74 where the lock was lost.
set -eu

# ---- scripts/lib/lock.sh
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

# ---- scripts/lib/project.sh
# The containers of a Compose project.

# List containers as "docker ps" does, without those that Compose made for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/stand_by.sh
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

# ---- scripts/lib/change.sh
# Changes to several containers at the same time.

# Have Docker do something with containers; fail if one of them fails. Each has the grace period that it
# was made with.
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
WATCHDOG_SH='# Start the services of a project again when the lock of its host becomes free: its owner was cut off
# while it changed them.
#
# Usage: watchdog.sh WORKDIR PROJECT NOTE
# Prints its number first, and closes its standard output. NOTE is what the lock says meanwhile.

# ---- scripts/lib/project.sh
# The containers of a Compose project.

# List containers as "docker ps" does, without those that Compose made for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

# ---- scripts/lib/recreation.sh
# What an interrupted Compose has left half done. Needs: project.sh

# End it. To recreate a container, Compose makes the new one under the name OLDID_NAME, stops and
# removes the old one, and renames the new one. Interrupted in between, it leaves a service stopped,
# and stumbles over its own leftover the next time. So where both are there, the new one goes; where
# the old one is gone, the new one takes its place. With "start", what is left of the two is started.
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
        # One that cannot be started does not keep Compose from the others.
        [ "${2-}" != start ] || docker start "${name#*_}" || :
    done
}

# ---- scripts/lib/recovery.sh
# How the services of a project run again after they were stopped half-way. Needs: project.sh,
# recreation.sh

# Set $stopped_before to the containers that were stopped on purpose before anything was changed. They
# were noted under the present lock, and stay stopped.
#   read_stopped_before WORKDIR
read_stopped_before() {
    stopped_before=
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
    # The note makes the lock younger than what was noted under it.
    read_stopped_before "$1"
    printf "%s %s\n" "$$" "$3" >"$1/.ktrdr/lock"
    recover "$2" 180
}

main "$@"'

main() {
    require_lock "$1" "$3"
    stand_by "$1" "$2" "$4"
    shift 4
    change_containers restart "$@"
}

run() {
    main /opt/core ktrdr-core '{"id": "x", "who": "ada@laptop", "reason": "restart", "since": "2026-11-24T06:00:00+00:00"}' '{"id": "x-recovery", "who": "ada@laptop", "reason": "recovery after a cut-off restart", "since": "2026-11-24T06:00:00+00:00"}' id-of-db
    echo ktrdr-script-complete
}
run </dev/null
) 9>&-
code=$?
[ "$code" = 0 ] || exit "$code"

# Give the lock of a host back, for the shell itself that has taken it by acquire_lock.sh.
#
# Usage: release_lock.sh

main() {
    exec 9>&-
}

main </dev/null || exit

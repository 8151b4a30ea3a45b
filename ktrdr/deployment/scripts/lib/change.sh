# shellcheck shell=sh
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

# shellcheck shell=sh
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

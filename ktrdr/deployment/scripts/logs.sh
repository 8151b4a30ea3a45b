#!/bin/sh
# Print the logs of a project's containers. With --follow yes, also print new lines.
#
# Usage: logs.sh --project NAME --lines LINES|all [--since TIME] [--follow yes] [-- SERVICE...]
# LINES is the number of last lines of each container. `docker logs` reads TIME. Without SERVICEs, all are
# printed. A line is "SERVICE/CONTAINER TIME TEXT". "#SERVICE" names each service that exists, even if its
# log is not printed. "## live" means that all older lines have been printed. After that, containers that
# start are followed, too, and some lines may be repeated.
set -eu

. ./lib/output.sh
. ./lib/project.sh

# The caller keeps all output in memory. So it restarts this script after this time (s).
FOLLOW_SECONDS=3600
# Several containers write into one pipe. Pieces of more than 4,096 bytes would be mixed.
PIECE_BYTES=3500

# Return whether a service is one of the wanted ones. Without wanted ones, all are.
#   is_wanted SERVICE [WANTED...]
is_wanted() {
    wanted=$1
    shift
    [ "$#" -gt 0 ] || return 0
    for service; do
        [ "$service" != "$wanted" ] || return 0
    done
    return 1
}

# Print all lines until now, one container after the other.
#   print_logs [SERVICE...]
print_logs() {
    printf '%s\n' "$containers" | while read -r id name; do
        [ -n "$id" ] || continue
        printf '#%s\n' "$name"
        ! is_wanted "$name" "$@" ||
            docker logs --timestamps ${since:+--since "$since"} --tail "$lines" "$id" 2>&1 |
            sed "s|^|$name/$id |" || :
    done
}

# Prefix each line of standard input, or each piece of a long line, with its source.
#   mark_lines SERVICE/CONTAINER
mark_lines() {
    if command -v stdbuf >/dev/null; then
        LC_ALL=C stdbuf -oL fold -b -w "$PIECE_BYTES" | LC_ALL=C stdbuf -oL sed "s|^|$1 |"
    else
        LC_ALL=C sed -u "s|^|$1 |"
    fi
}

# Print the lines of a container since a time, and new lines.
#   follow_container CONTAINER TIME SERVICE [WANTED...]
follow_container() {
    id=$1 from=$2 name=$3
    shift 3
    # --foreground keeps it in the script's process group, which ends with the connection.
    ! is_wanted "$name" "$@" ||
        timeout --foreground "$FOLLOW_SECONDS" docker logs --timestamps --follow --since "$from" "$id" 2>&1 |
        mark_lines "$name/$(echo "$id" | cut -c 1-12)"
}

# Print the new lines of all containers, and of containers that start meanwhile.
#   follow_logs [SERVICE...]
follow_logs() {
    printf '%s\n' "$containers" | {
        while read -r id name; do
            [ -z "$id" ] || follow_container "$id" "$began" "$name" "$@" &
        done
        wait
    } &
    timeout --foreground "$FOLLOW_SECONDS" docker events \
        --filter type=container --filter event=start \
        --format '{{.ID}} {{.Time}} {{index .Actor.Attributes "com.docker.compose.service"}}' \
        --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.oneoff=False" --since "$began" | {
        while read -r id at name; do
            follow_container "$id" "$at" "$name" "$@" &
        done
        wait
    } &
    wait
}

main() {
    project='' lines=all since='' follow=no
    while [ "$#" -gt 0 ]; do
        case $1 in
            --project) project=$2 ;;
            --lines) lines=$2 ;;
            --since) since=$2 ;;
            --follow) follow=$2 ;;
            --)
                shift
                break
                ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    began=$(date +%s)
    containers=$(project_ps "$project" --all --format '{{.ID}} {{.Label "com.docker.compose.service"}}')
    print_logs "$@"
    if [ "$follow" = yes ]; then
        echo '## live'
        follow_logs "$@"
    fi
}

main "$@"

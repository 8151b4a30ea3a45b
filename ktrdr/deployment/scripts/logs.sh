#!/bin/sh
# Print what the containers of a project have written, and with --follow yes what they write from then on.
#
# Usage: logs.sh --project NAME --lines LINES|all [--since TIME] [--follow yes] [-- SERVICE...]
# LINES is how many of the last lines of each container are printed; TIME is as `docker logs` takes it. A
# line is "SERVICE/CONTAINER TIME TEXT". "#SERVICE" names a service that is there, whether or not it is
# one of the SERVICEs, of which none means all. "## live" says that all older lines have been printed;
# containers that start afterwards are followed, too, and some lines may come twice.
set -eu

. ./lib/output.sh
. ./lib/project.sh

# A follower ends by itself after so many seconds, and is begun anew where it stopped: what it printed is
# kept in memory.
FOLLOW_SECONDS=3600
# Several containers write into one pipe: what is longer than its 4,096 bytes would be mixed up.
PIECE_BYTES=3500

# Tell whether a service is one of those that were asked for.
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

# Print what was written until now, one container after the other.
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

# Mark the lines of standard input with where they come from, each piece of a long one.
#   mark_lines SERVICE/CONTAINER
mark_lines() {
    if command -v stdbuf >/dev/null; then
        LC_ALL=C stdbuf -oL fold -b -w "$PIECE_BYTES" | LC_ALL=C stdbuf -oL sed "s|^|$1 |"
    else
        LC_ALL=C sed -u "s|^|$1 |"
    fi
}

# Print what a container writes from a time on.
#   follow_container CONTAINER TIME SERVICE [WANTED...]
follow_container() {
    id=$1 from=$2 name=$3
    shift 3
    # In the script's own process group, so that all of it ends with its connection.
    ! is_wanted "$name" "$@" ||
        timeout --foreground "$FOLLOW_SECONDS" docker logs --timestamps --follow --since "$from" "$id" 2>&1 |
        mark_lines "$name/$(echo "$id" | cut -c 1-12)"
}

# Print what the present containers write, and those that start meanwhile.
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

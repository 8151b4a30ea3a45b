#!/bin/sh
# Record the outcome of a deploy, keep its configuration, and end its supervisor: the operator has decided.
#
# Usage: record.sh --workdir DIRECTORY --event EVENT... [--ends ID] [--copy COPY] [--keep CONFIGURATION -- FILE...]
# EVENT is a line of JSON, ID that of the deploy that the supervisor may go back from. COPY is a copy of the history, in
# a directory of the share. CONFIGURATION is the hash of the FILEs of a good release. Fails with 73 if the host has
# already gone back from it.
set -eu

. ./lib/events.sh
. ./lib/history.sh
. ./lib/kept_releases.sh
. ./lib/output.sh
. ./lib/supervision.sh

newline='
'

# Copy the history to the share, which another disk has. Keep a copy with events that the history has lost.
#   copy_history WORKDIR COPY
copy_history() {
    copy_is_ahead "$1" "$2" || {
        # shellcheck disable=SC2016 # the variables are those of the other shell
        timeout -s KILL 10 sh -c '[ -e "${2%/*/*}/.ktrdr-share" ] && mkdir -p "${2%/*}" &&
            cp "$1" "$2.partial" && mv -f "$2.partial" "$2"' copy "$1/.ktrdr/history.jsonl" "$2" 2>/dev/null || :
    }
}

main() {
    workdir='' events='' configuration='' id='' copy=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --event) events="$events${events:+$newline}$2" ;;
            --ends) id=$2 ;;
            --keep) configuration=$2 ;;
            --copy) copy=$2 ;;
            --)
                shift
                break
                ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    if [ -n "$id" ]; then
        if ! decide "$workdir" "$id" operator && [ -n "$configuration" ]; then
            echo "the host has already gone back by itself" >&2
            exit 73
        fi
    fi
    # A good release also ends what another deploy has left behind.
    if [ -n "$configuration" ] || [ -e "$workdir/.ktrdr/deploy/operator.$id" ]; then
        forget_deploy "$workdir"
    fi
    append_events "$workdir" "$events"
    [ -z "$copy" ] || copy_history "$workdir" "$copy"
    [ -z "$configuration" ] || keep_configuration "$workdir" "$configuration" "$@"
}

main "$@"

#!/bin/sh
# Record the outcome of a deploy, keep its configuration, and end its supervisor: the operator has decided.
#
# Usage: record.sh --workdir DIRECTORY --event EVENT... [--keep CONFIGURATION -- FILE...]
# EVENT is a line of JSON. CONFIGURATION is the hash of the FILEs. Fails with 73 if the host has already gone
# back by itself.
set -eu

. ./lib/events.sh
. ./lib/kept_releases.sh
. ./lib/output.sh
. ./lib/supervision.sh

newline='
'

main() {
    workdir='' events='' configuration=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --event) events=${events:+$events$newline}$2 ;;
            --keep) configuration=$2 ;;
            --)
                shift
                break
                ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    deploy=$workdir/.ktrdr/deploy
    if [ -d "$deploy" ]; then
        mkdir "$deploy/decided" 2>/dev/null || exit 73
        : >"$deploy/decided/operator"
    fi
    append_events "$workdir" "$events"
    [ -z "$configuration" ] || keep_configuration "$workdir" "$configuration" "$@"
    end_supervisor "$workdir"
    rm -rf "$deploy"
}

main "$@"

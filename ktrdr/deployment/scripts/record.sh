#!/bin/sh
# Record the outcome of a deploy, and keep its configuration.
#
# Usage: record.sh --workdir DIRECTORY --event EVENT... [--copy COPY] [--keep CONFIGURATION -- FILE...]
# EVENT is a line of JSON. COPY is a copy of the history, in a directory of the share. CONFIGURATION is the hash
# of the FILEs. An archive that is not empty is not replaced.
set -eu

. ./lib/events.sh
. ./lib/history.sh
. ./lib/output.sh

newline='
'

# Write the files of the work directory to the archive of their configuration.
#   keep_configuration WORKDIR CONFIGURATION FILE...
keep_configuration() {
    archive=$1/.ktrdr/releases/$2.tar.gz
    directory=$1
    shift 2
    if [ ! -s "$archive" ]; then
        mkdir -p "$directory/.ktrdr/releases"
        tar -czf "$archive.partial" -C "$directory" "$@"
        flush "$archive.partial"
        mv -f "$archive.partial" "$archive"
    fi
}

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
    workdir='' events='' configuration='' copy=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --event) events=${events:+$events$newline}$2 ;;
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
    append_events "$workdir" "$events"
    [ -z "$copy" ] || copy_history "$workdir" "$copy"
    [ -z "$configuration" ] || keep_configuration "$workdir" "$configuration" "$@"
}

main "$@"

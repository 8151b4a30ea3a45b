#!/bin/sh
# Record how a deploy ended, and keep the configuration that is in place.
#
# Usage: record.sh --workdir DIRECTORY --event EVENT... [--keep CONFIGURATION -- FILE...]
# EVENT is a line of JSON. CONFIGURATION is the hash of the FILEs; what is kept already is not kept again.
set -eu

. ./lib/events.sh
. ./lib/output.sh

newline='
'

# Keep the files that are in place.
#   keep_configuration WORKDIR CONFIGURATION FILE...
keep_configuration() {
    archive=$1/.ktrdr/releases/$2.tar.gz
    directory=$1
    shift 2
    if [ ! -e "$archive" ]; then
        mkdir -p "$directory/.ktrdr/releases"
        tar -czf "$archive.partial" -C "$directory" "$@"
        mv -f "$archive.partial" "$archive"
    fi
}

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
    append_events "$workdir" "$events"
    [ -z "$configuration" ] || keep_configuration "$workdir" "$configuration" "$@"
}

main "$@"

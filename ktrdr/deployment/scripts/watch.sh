#!/bin/sh
# Print what the supervisor of a deploy does, one line "SECONDS TEXT" each, until it ends.
#
# Usage: watch.sh WORKDIR
set -eu

. ./lib/supervision.sh

main() {
    phases=$1/.ktrdr/deploy/phases shown=0
    while find_supervisor "$1"; do
        print_new "$phases" "$shown"
        # The file disappears at the end.
        [ "$size" -le "$shown" ] || shown=$size
        sleep 0.5
    done
}

main "$@"

#!/bin/sh
# Have the deploy that is in progress end and go back, as its supervisor does by itself if nobody confirms it.
# Print the output of this and, in a section, the last events of the history.
#
# Usage: go_back.sh WORKDIR ID
set -eu

. ./lib/output.sh
. ./lib/supervision.sh

main() {
    if find_supervisor "$1"; then
        followed=$supervisor
        kill -s USR1 "$followed" || :
        follow "$output/restore" "$followed" || :
        while kill -0 "$followed" 2>/dev/null; do sleep 0.1; done
    elif [ -e "$1/.ktrdr/deploy/undecided.$2" ]; then
        # Something has killed the supervisor, as the kernel does when memory is exhausted.
        sh "$1/.ktrdr/deploy/program.sh" resume locked || :
    fi
    section history
    tail -n 4 "$1/.ktrdr/history.jsonl"
}

main "$@"

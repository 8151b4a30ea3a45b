#!/bin/sh
# Have the deploy that is in progress end and go back, as its supervisor does by itself if nobody confirms it.
# Print the output of this and, in a section, the outcome: "deployed" if the last good release serves again,
# "failed" if not, or "none" if no deploy is in progress.
#
# Usage: go_back.sh WORKDIR
set -eu

. ./lib/output.sh
. ./lib/supervision.sh

main() {
    outcome=none
    if find_supervisor "$1"; then
        followed=$supervisor directory=$output
        kill -s USR1 "$followed" || :
        follow "$directory/restore" "$followed" || :
        while kill -0 "$followed" 2>/dev/null; do sleep 0.1; done
        outcome=$(cat "$directory/outcome" 2>/dev/null) || outcome=failed
        rm -rf "$directory"
    fi
    section outcome
    echo "$outcome"
}

main "$@"

#!/bin/sh
# Remove the files of a release that a fetch has staged.
#
# Usage: discard.sh WORKDIR
set -eu

main() {
    rm -rf "$1/.ktrdr-staging"
}

main "$@"

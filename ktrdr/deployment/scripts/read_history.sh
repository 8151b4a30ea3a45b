#!/bin/sh
# Print the events that a host remembers, oldest first.
#
# Usage: read_history.sh WORKDIR
set -eu

. ./lib/history.sh

main() {
    read_history "$1"
}

main "$@"

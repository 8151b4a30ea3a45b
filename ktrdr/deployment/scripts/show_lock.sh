#!/bin/sh
# Print the owner of a host's lock: "free", or "held" and on the next line "PID NOTE".
#
# Usage: show_lock.sh WORKDIR
set -eu

. ./lib/lock.sh

main() {
    show_lock "$1"
}

main "$@"

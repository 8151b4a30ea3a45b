#!/bin/sh
# Print who has the lock of a host: "free", or "held" and on the next line "PID NOTE".
#
# Usage: show_lock.sh WORKDIR
set -eu

. ./lib/lock.sh

main() {
    show_lock "$1"
}

main "$@"

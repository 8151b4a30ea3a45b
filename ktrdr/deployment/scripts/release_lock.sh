#!/bin/sh
# Give the lock of a host back, for the shell itself that has taken it by acquire_lock.sh.
#
# Usage: release_lock.sh

main() {
    exec 9>&-
}

main "$@"

#!/bin/sh
# Release the lock of a host, in the shell that has acquired it with acquire_lock.sh.
#
# Usage: release_lock.sh

main() {
    exec 9>&-
}

main "$@"

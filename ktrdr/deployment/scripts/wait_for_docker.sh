#!/bin/sh
# Wait for a Docker that is away, as while its package is upgraded; fail when it stays away.
#
# Usage: wait_for_docker.sh SECONDS
set -eu

main() {
    end=$(($(date +%s) + $1))
    until docker version >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || exit 1
        sleep 1
    done
}

main "$@"

#!/bin/sh
# Wait until Docker responds, for example while its package is upgraded. Fail if it does not respond in time.
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

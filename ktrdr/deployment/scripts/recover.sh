#!/bin/sh
# Start the services that an interrupted apply.sh has stopped. Services that were stopped before it stay
# stopped.
#
# Usage: recover.sh WORKDIR PROJECT SECONDS
set -eu

. ./lib/project.sh
. ./lib/recreation.sh
. ./lib/recovery.sh

main() {
    read_stopped_before "$1"
    recover "$2" "$3"
}

main "$@"

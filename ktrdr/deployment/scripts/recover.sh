#!/bin/sh
# Start the services again that an apply has stopped half-way; what was stopped before it stays so.
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

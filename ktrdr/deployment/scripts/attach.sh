#!/bin/sh
# Run a command in the container of a service, with the terminal.
#
# Usage: attach.sh PROJECT SERVICE COMMAND [ARGUMENT...]

. ./lib/project.sh
. ./lib/service.sh

main() {
    container=$(find_container "$1" "$2")
    shift 2
    exec docker exec -it "$container" "$@"
}

main "$@"

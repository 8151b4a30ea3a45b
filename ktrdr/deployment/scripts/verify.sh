#!/bin/sh
# Print the state of a stack, in sections: the host's clock, the containers, and the health documents of
# services.
#
# Usage: verify.sh PROJECT [SERVICE...]
# Asks only the SERVICEs for their health documents.
set -eu

. ./lib/output.sh
. ./lib/project.sh
. ./lib/containers.sh

main() {
    section clock
    date +%s
    section containers
    list_containers "$1"
    section answers
    ask_services "$@"
}

main "$@"

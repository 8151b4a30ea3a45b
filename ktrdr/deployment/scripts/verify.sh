#!/bin/sh
# Print what the health of a stack is judged by, in sections: the host's clock, its containers, and the
# answers of its own services.
#
# Usage: verify.sh PROJECT [SERVICE...]
# The SERVICEs are asked what they say of themselves.
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

#!/bin/sh
# Ask the registry for images without pulling them. Print "IMAGE 0 DIGEST" or "IMAGE CODE REASON" for each.
# The questions run in parallel.
#
# Usage: ask_registry.sh OPTION IMAGE...
#   --ask IMAGE            image to ask for
#   --ask-if-missing IMAGE image to ask for if the host does not have it
set -eu

. ./lib/output.sh
. ./lib/registry.sh

# Ask the registry for an image if the host does not have it.
#   ask_if_missing IMAGE
ask_if_missing() {
    docker image inspect "$1" >/dev/null 2>&1 || ask_registry "$1"
}

main() {
    while [ "$#" -gt 0 ]; do
        case $1 in
            --ask) ask_registry "$2" & ;;
            --ask-if-missing) ask_if_missing "$2" & ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    wait
}

main "$@"

#!/bin/sh
# Ask the registry for images, and pull nothing: print "IMAGE 0 DIGEST" or "IMAGE CODE REASON" for each.
# All are asked at once.
#
# Usage: ask_registry.sh OPTION IMAGE...
#   --ask IMAGE            an image to ask for
#   --ask-if-missing IMAGE an image to ask for where the host does not have it
set -eu

. ./lib/output.sh
. ./lib/registry.sh

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

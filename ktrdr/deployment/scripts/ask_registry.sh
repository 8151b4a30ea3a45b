#!/bin/sh
# Ask the registry for images without pulling them. Print "IMAGE 0 DIGEST COMMIT..." or "IMAGE CODE REASON" for
# each. The questions run in parallel.
#
# Usage: ask_registry.sh OPTION IMAGE...
#   --ask IMAGE            image to ask for, and for the commits that it was built from
#   --ask-if-missing IMAGE image to ask for if the host does not have it
set -eu

. ./lib/output.sh
. ./lib/registry.sh

# Ask the registry for an image, and for the commits that it was built from.
#   ask_with_commits IMAGE
ask_with_commits() {
    answer=$(ask_registry "$1")
    case $answer in "$1 0 "*) answer="$answer $(find_commits "$1")" ;; esac
    printf '%s\n' "${answer% }"
}

# Print the commits that the records of an image's builds (provenance) name, one for all platforms, if the
# registry has any and the host has buildx.
#   find_commits IMAGE
find_commits() {
    timeout -s KILL 15 docker buildx imagetools inspect --format '{{json .Provenance}}' "$1" 2>/dev/null |
        sed -n 's/^ *"revision": "\([0-9a-f]*\)".*/\1/p' | sort -u | tr '\n' ' '
}

# Ask the registry for an image if the host does not have it.
#   ask_if_missing IMAGE
ask_if_missing() {
    docker image inspect "$1" >/dev/null 2>&1 || ask_registry "$1"
}

main() {
    while [ "$#" -gt 0 ]; do
        case $1 in
            --ask) ask_with_commits "$2" & ;;
            --ask-if-missing) ask_if_missing "$2" & ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    wait
}

main "$@"

#!/bin/sh
# Print what prune.sh may remove, and what is still needed, in sections: the events of the history, a JSON
# object for each image, the ids of the images of all containers, "BYTES NAME" for each archive of a kept
# configuration, and the size (KiB) of the files that an interrupted deploy has left staged.
#
# Usage: list_unused.sh WORKDIR
set -eu

. ./lib/output.sh
. ./lib/history.sh

# Images and containers may disappear between two commands.
print_images() {
    # Without --all, Docker 29 leaves out images without a tag.
    ids=$(docker image ls --all --quiet --no-trunc)
    # shellcheck disable=SC2046,SC2086 # ids are words
    [ -z "$ids" ] || docker image inspect \
        --format '{"id":{{json .Id}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}},"size":{{json .Size}}}' \
        $(printf '%s\n' $ids | sort -u) 2>/dev/null || :
}

print_images_in_use() {
    ids=$(docker ps --all --quiet)
    # shellcheck disable=SC2086 # ids are words
    [ -z "$ids" ] || docker inspect --format '{{.Image}}' $ids 2>/dev/null || :
}

main() {
    section history
    read_history "$1"
    section images
    print_images
    section used
    print_images_in_use
    section kept
    [ ! -d "$1/.ktrdr/releases" ] || find "$1/.ktrdr/releases" -maxdepth 1 -type f -printf '%s %f\n'
    section staged
    [ ! -d "$1/.ktrdr-staging" ] || du -sk "$1/.ktrdr-staging" | cut -f 1
}

main "$@"

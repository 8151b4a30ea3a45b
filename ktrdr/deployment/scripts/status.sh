#!/bin/sh
# Print what runs on a host and what was deployed there, in sections: what needs no Docker first, so that
# it is known where Docker is down.
#
# Usage: status.sh WORKDIR PROJECT SECRETS_DIRECTORY LINES
# LINES is how many events of the history are printed.
set -eu

. ./lib/output.sh
. ./lib/directories.sh
. ./lib/lock.sh
. ./lib/history.sh
. ./lib/project.sh
. ./lib/containers.sh
. ./lib/images.sh
. ./lib/delivery.sh

# Print "SIZE FREE DIRECTORY" (KiB) for Docker's directory and the work directory.
print_disks() {
    nearest_existing "$1"
    docker_root=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null) || docker_root=
    for directory in "$docker_root" "$existing"; do
        [ ! -d "$directory" ] || df -Pk "$directory" | {
            read -r _
            read -r _ size _ free _
            printf '%s %s %s\n' "$size" "$free" "$directory"
        }
    done
}

# Print a JSON object for each image that a container of a project was made from.
#   print_images_in_use PROJECT
print_images_in_use() {
    ids=$(project_ps "$1" --all --quiet)
    # shellcheck disable=SC2086 # ids are words
    [ -z "$ids" ] || { docker inspect --format '{{.Image}}' $ids 2>/dev/null || :; } | sort -u |
        xargs -r docker image inspect --format "$IMAGE_FORMAT" 2>/dev/null || :
}

main() {
    section clock
    date +%s
    section lock
    show_lock "$1"
    section history
    read_history "$1" "$4"
    section disk
    print_disks "$1"
    section containers
    list_containers "$2"
    section images
    print_images_in_use "$2"
    section delivery
    print_delivery "$2" "$3"
}

main "$@"

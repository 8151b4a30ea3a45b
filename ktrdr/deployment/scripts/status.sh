#!/bin/sh
# Print what runs on a host and what was deployed there, in sections. The first sections need no Docker, so
# that they are printed even if Docker does not run.
#
# Usage: status.sh WORKDIR PROJECT SECRETS_DIRECTORY LINES
# LINES is the number of events of the history to print.
set -eu

. ./lib/output.sh
. ./lib/directories.sh
. ./lib/lock.sh
. ./lib/history.sh
. ./lib/project.sh
. ./lib/containers.sh
. ./lib/images.sh
. ./lib/delivery.sh

# Print "SIZE FREE DIRECTORY" (KiB) for the directories of Docker and of containerd's image store, and for
# the work directory.
print_disks() {
    nearest_existing "$1"
    docker_root=$(docker info --format "$ROOT_FORMAT" 2>/dev/null) || docker_root=
    find_image_store "${docker_root%% *}"
    for directory in "${docker_root#* }" "$image_store" "$existing"; do
        [ ! -d "$directory" ] || df -Pk "$directory" | {
            read -r _
            read -r _ size _ free _
            printf '%s %s %s\n' "$size" "$free" "$directory"
        }
    done
}

# Print the images of the listed containers by their ids.
print_images_in_use() {
    ids=$(printf '%s\n' "$containers" | sed -n 's/^{"id":[^,]*,"image":"\([^"]*\)".*/\1/p' | sort -u)
    # shellcheck disable=SC2086 # ids are words
    [ -z "$ids" ] || inspect_images $ids
}

main() {
    section clock
    date +%s
    section lock
    show_lock "$1"
    section history
    read_history "$1" "$4"
    section kept
    list_kept "$1"
    section unfinished
    [ ! -e "$1/.ktrdr-unfinished" ] || echo unfinished
    section disk
    print_disks "$1"
    section containers
    list_containers "$2"
    section images
    print_images_in_use
    section delivery
    print_delivery "$2" "$3"
}

main "$@"

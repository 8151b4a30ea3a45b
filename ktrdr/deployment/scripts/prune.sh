#!/bin/sh
# Remove images, kept configurations, and files that an interrupted deploy has left staged.
#
# Usage: prune.sh --workdir DIRECTORY --note NOTE [--file FILE...] [--image "ID NAME..."...]
# NOTE is the note of the lock's owner. FILE is the archive of a kept configuration. Prints "stays ID" for an
# image that Docker refuses to remove. Fails with 74 if the lock was lost.
set -euf

. ./lib/output.sh
. ./lib/lock.sh

# Remove an image by its id, which Docker refuses if it has several names, or else by its names. Never use
# force, so that images of containers stay.
#   remove_image ID NAME...
remove_image() {
    id=$1
    shift
    docker image rm "$id" >/dev/null 2>&1 && return
    [ "$#" = 0 ] || docker image rm "$@" >/dev/null 2>&1 || :
    # In containerd's store, the image goes with its last tag, so that its other names are not found.
    ! docker image inspect "$id" 2>&1 >/dev/null | grep -q 'No such image' || return 0
    printf 'stays %s\n' "$id"
}

main() {
    workdir='' note=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --workdir) workdir=$2 ;;
            --note) note=$2 ;;
            --file | --image) break ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
    require_lock "$workdir" "$note"
    rm -rf "$workdir/.ktrdr-staging"
    while [ "$#" -gt 0 ]; do
        # shellcheck disable=SC2086 # id and names are words
        case $1 in
            --file) rm -f "$workdir/.ktrdr/releases/$2" ;;
            --image) remove_image $2 ;;
            *) refuse_option "$1" ;;
        esac
        shift 2
    done
}

main "$@"

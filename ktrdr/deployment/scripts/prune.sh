#!/bin/sh
# Remove images, kept configurations, and what an interrupted deploy has left staged.
#
# Usage: prune.sh --workdir DIRECTORY --note NOTE [--file FILE...] [--image "ID NAME..."...]
# NOTE is what the lock says of its owner. FILE is the file of a kept configuration. Prints "stays ID" for
# an image that Docker does not let go. Fails with 74 where the lock was lost.
set -euf

. ./lib/output.sh
. ./lib/lock.sh

# By its id an image goes only while it has one name; never by force, so that what runs stays.
#   remove_image ID NAME...
remove_image() {
    id=$1
    shift
    docker image rm "$id" >/dev/null 2>&1 && return
    [ "$#" -gt 0 ] && docker image rm "$@" >/dev/null 2>&1 && return
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

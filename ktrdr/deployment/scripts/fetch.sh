#!/bin/sh
# Fetch a release: stage its files beside the old ones, pull its images, and print how the host differs
# from it, in sections. Nothing that runs changes.
#
# Usage: fetch.sh OPTION VALUE...
#   the options of lib/stack.sh and of the stack's extension, and
#   --digests DIGESTS        the release's files, "DIGEST  FILE" a line
#   --pin NAME:TAG@DIGEST    an image that a tag is to mean, wherever it has moved since
#   --image IMAGE            an image that is to be on the host
#   --pull-always SERVICE    a service whose tag can move: its image is pulled every time
#   --pull-missing SERVICE   a service whose image is pulled where one is missing
#   --history LINES          how many events of the history are printed
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/release_files.sh
. ./lib/images.sh
. ./lib/project.sh
. ./lib/containers.sh
. ./lib/history.sh

# Set $release to the directory in which all files are as the release has them: the work directory
# where they are so already, or else that of the staged files, into which the payload is unpacked.
# What is staged goes when the script ends, unless keep_staged is called.
#   stage_release DIGESTS
# DIGESTS is what `sha256sum -c` reads: "DIGEST  FILE" a line.
stage_release() {
    umask 022
    staging=$workdir/.ktrdr-staging
    # What an interrupted deploy has left.
    [ ! -e "$staging" ] || rm -rf "$staging"
    release=$workdir
    if ! (cd "$workdir" && exec sha256sum -c) >/dev/null 2>&1 <<END
$1
END
    then
        release=$staging
        # Without a trap of its own for it, dash leaves out the one for EXIT at a signal.
        trap 'exit 143' TERM
        trap 'rm -rf "$staging"' EXIT
        mkdir -p "$staging"
        payload | tar -xzf - -C "$staging"
    fi
}

# Leave what is staged for the script that puts it in place.
keep_staged() {
    trap - EXIT
}

# Make a tag mean the image of a digest, wherever the tag has moved since. Compose pulls it, since
# not every Docker CLI logs in with DOCKER_AUTH_CONFIG.
#   pin_image PROJECT NAME:TAG DIGEST
pin_image() {
    pinned=${2%:*}@$3
    docker image inspect "$pinned" >/dev/null 2>&1 ||
        printf 'services: {pinned: {image: "%s"}}\n' "$pinned" |
        docker compose -p "$1-pin" -f - pull --quiet
    docker tag "$pinned" "$2"
}

# Pull the images that need it. A tag that never moves is pulled where it is missing.
pull_images() {
    # shellcheck disable=SC2086 # names of services are words
    [ -z "$pull_always" ] || compose pull --policy always $pull_always
    found_images=
    if [ -n "$pull_missing" ]; then
        # shellcheck disable=SC2086 # names of images are words
        found_images=$(docker image inspect --format "$IMAGE_FORMAT" $images 2>/dev/null) || {
            found_images=
            # shellcheck disable=SC2086 # names of services are words
            compose pull --policy missing $pull_missing
        }
    fi
}

# Print the images of the release; those that pull_images has found need no second look.
print_images() {
    if [ -n "$found_images" ]; then
        printf '%s\n' "$found_images"
    else
        # shellcheck disable=SC2086 # names of images are words
        inspect_images $images || :
    fi
}

# Print the files that are to change: "+ FILE" for new content, "- FILE" for one to be removed.
#   list_changes FILE...
list_changes() {
    if [ -d "$workdir/.ktrdr-staging" ]; then
        for file; do
            cmp -s "$workdir/.ktrdr-staging/$file" "$workdir/$file" || printf '+ %s\n' "$file"
        done
    fi
    each_leftover print_removal "$@"
}

print_removal() {
    printf -- '- %s\n' "$1"
}

# Print the files that are to change, and keep what is staged if there are any.
#   print_changes FILE...
print_changes() {
    if [ "$release" = "$workdir" ] && [ -z "$managed_directory" ]; then
        return 0
    fi
    changes=$(list_changes "$@")
    if [ -n "$changes" ]; then
        printf '%s\n' "$changes"
        keep_staged
    fi
}

main() {
    digests='' pins='' images='' pull_always='' pull_missing='' history_lines=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --digests) digests=$2 ;;
            --pin) pins="$pins $2" ;;
            --image) images="$images $2" ;;
            --pull-always) pull_always="$pull_always $2" ;;
            --pull-missing) pull_missing="$pull_missing $2" ;;
            --history) history_lines=$2 ;;
            *) common_option "$1" "$2" ;;
        esac
        shift 2
    done
    section stage
    stage_release "$digests"
    section pull
    for pin in $pins; do pin_image "$project" "${pin%@*}" "${pin#*@}"; done
    pull_images
    section unfinished
    [ ! -e "$workdir/.ktrdr-unfinished" ] || echo unfinished
    inspect_secrets
    export_secret_settings
    section hashes
    print_hashes
    section images
    print_images
    section files
    IFS=$newline
    for line in $digests; do set -- "$@" "${line#*  }"; done
    unset IFS
    print_changes "$@"
    section history
    read_history "$workdir" "$history_lines"
    # The services' health checks, which Docker makes anyway, have printed what they say.
    section clock
    date +%s
    section containers
    list_containers "$project"
    if [ -n "$surplus" ]; then
        section answers
        # What is lost with those that are to be stopped, if any of them is there.
        # shellcheck disable=SC2086 # names of services are words
        ! any_is_listed $surplus || ask_services "$project" $surplus
    fi
}

main "$@"

#!/bin/sh
# Fetch a release: stage its files beside the current ones, pull its images, and print how the host differs
# from it, in sections. No service changes.
#
# Usage: fetch.sh OPTION VALUE...
#   the options of lib/stack.sh and of the stack's extension, and
#   --digests DIGESTS        files of the release, one "DIGEST  FILE" per line
#   --pin NAME[:TAG]@DIGEST  image that the tag must name, even if the registry's tag has moved
#   --image IMAGE            image that the host needs
#   --pull-always SERVICE    service with a tag that can move; its image is always pulled
#   --pull-missing SERVICE   service whose image is pulled if any image is missing
#   --history LINES          number of events of the history to print
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/release_files.sh
. ./lib/images.sh
. ./lib/pin.sh
. ./lib/project.sh
. ./lib/containers.sh
. ./lib/history.sh

# Set $release to a directory with all files of the release: the work directory if it has them already, or
# else the staging directory, into which the payload is unpacked. Staged files are removed when the script
# ends, unless keep_staged is called.
#   stage_release DIGESTS
# `sha256sum -c` reads DIGESTS: one "DIGEST  FILE" per line.
stage_release() {
    umask 022
    staging=$workdir/.ktrdr-staging
    # An interrupted deploy may have left it behind.
    [ ! -e "$staging" ] || rm -rf "$staging"
    release=$workdir
    if ! (cd "$workdir" && exec sha256sum -c) >/dev/null 2>&1 <<END
$1
END
    then
        release=$staging
        # At a signal, dash runs the trap for EXIT only if the signal has a trap of its own.
        trap 'exit 143' TERM
        trap 'rm -rf "$staging"' EXIT
        mkdir -p "$staging"
        payload | tar -xzf - -C "$staging"
    fi
}

# Keep the staged files for apply.sh.
keep_staged() {
    trap - EXIT
}

# Pull images: those with a tag that can move always, the others only if one is missing. Set $found_images to
# Docker's answers if none was missing.
pull_images() {
    # shellcheck disable=SC2086 # names of services are words
    [ -z "$pull_always" ] || compose pull --policy always $pull_always
    found_images=
    if [ -n "$pull_missing" ]; then
        # shellcheck disable=SC2086 # names of images are words
        found_images=$(query_images $images) || {
            found_images=
            # shellcheck disable=SC2086 # names of services are words
            compose pull --policy missing $pull_missing
        }
    fi
}

# Print the files that will change: "+ FILE" for new content, "- FILE" for a removed file.
#   list_changes FILE...
list_changes() {
    if [ -d "$workdir/.ktrdr-staging" ]; then
        for file; do
            cmp -s "$workdir/.ktrdr-staging/$file" "$workdir/$file" || printf '+ %s\n' "$file"
        done
    fi
    each_obsolete_file print_removal "$@"
}

# Print a removed file.
#   print_removal FILE
print_removal() {
    printf -- '- %s\n' "$1"
}

# Print the files that will change, and keep the staged files if there are any.
#   print_changes FILE...
print_changes() {
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
    section files
    IFS=$newline
    for line in $digests; do set -- "$@" "${line#*  }"; done
    unset IFS
    print_changes "$@"
    section history
    read_history "$workdir" "$history_lines"
    section kept
    list_kept "$workdir"
    # Docker's own health checks have printed the health documents of the services.
    section clock
    date +%s
    section containers
    list_containers "$project"
    section volumes
    # shellcheck disable=SC2086 # names of services are words
    list_volumes "$project" $services
    section images
    # shellcheck disable=SC2086 # names of images are words
    if [ -n "$found_images" ]; then
        print_images "$found_images" $images
    else
        inspect_images $images
    fi
    if [ -n "$surplus" ]; then
        section answers
        # The operator confirms the removal of surplus services that run operations.
        # shellcheck disable=SC2086 # names of services are words
        ! any_is_listed $surplus || ask_services "$project" $surplus
    fi
}

main "$@"

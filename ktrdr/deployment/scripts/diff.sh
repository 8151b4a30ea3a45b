#!/bin/sh
# Print how a host differs from a release, in sections, and change nothing on it. The files of the release
# are on the host's tmpfs for as long as this runs, since Compose wants files; no disk sees them.
#
# Usage: diff.sh OPTION VALUE... -- FILE...
#   the options of lib/stack.sh and of the stack's extension, and
#   --staging DIRECTORY         a directory to be made for the release's files
#   --image IMAGE               an image of the release
#   --history LINES             how many events of the history are printed
#   --secrets given|deployed    whether the secrets are given, or those of the containers are taken
#   --deployed-secret VARIABLE=NAME   a secret, and the variable of a container that holds it alone
#   --registry IMAGE            an image that the registry is asked for
# The FILEs are all those of the release.
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/release_files.sh
. ./lib/images.sh
. ./lib/project.sh
. ./lib/containers.sh
. ./lib/history.sh
. ./lib/registry.sh
. ./lib/delivery.sh

# Unpack the release; it goes when the script ends.
stage_on_tmpfs() {
    umask 077
    # Without a trap of its own for it, dash leaves out the one for EXIT at a signal.
    trap 'exit 143' TERM
    # Fails where somebody else made it before.
    mkdir "$release"
    trap 'rm -rf "$release"' EXIT
    payload | tar -xzf - -C "$release"
}

# Print the files that differ, each with what is there now: "+ FILE" for what is not there yet,
# "~ FILE BASE64" for what is to be replaced, and "- FILE BASE64" for what is to be removed.
#   print_differences FILE...
print_differences() {
    for file; do
        if [ ! -e "$workdir/$file" ]; then
            printf '+ %s\n' "$file"
        elif ! cmp -s "$release/$file" "$workdir/$file"; then
            print_content '~' "$file"
        fi
    done
    each_leftover print_removal "$@"
}

print_content() {
    printf '%s %s %s\n' "$1" "$2" "$(base64 "$workdir/$2" | tr -d '\n')"
}

print_removal() {
    print_content - "$1"
}

# Print the hashes with the secrets that the containers have; where they cannot be had, fail and say why.
print_hashes_as_deployed() {
    (
        take_deployed_secrets
        export_deployed_secret_settings
        print_hashes
    ) 2>/dev/null || {
        print_hashes
        exit 1
    }
}

# Export the secrets that the containers have. They go from Docker into the environment of this subshell,
# and stand in no argument list, no file and no output. Of several containers that have one, the last
# counts.
take_deployed_secrets() {
    ids=$(docker ps --all --quiet --filter "label=com.docker.compose.project=$project")
    [ -n "$ids" ] || return 0
    # shellcheck disable=SC2086 # ids are words
    eval "$(docker inspect --format "$(print_export_template)" $ids)"
}

# Print Docker's template for lines of shell that export the secrets, their quotes made harmless.
print_export_template() {
    printf '{{range .Config.Env}}'
    for pair in $deployed_secrets; do
        name=${pair#*=}
        printf '{{if eq (index (split . "=") 0) "%s"}}' "$name"
        printf "export %s='{{join (split (slice . %s) \"'\") \"'\\\\\\\\''\"}}'\n" \
            "${pair%%=*}" "$((${#name} + 1))"
        printf '{{end}}'
    done
    printf '{{end}}'
}

main() {
    release='' images='' history_lines='' secrets=deployed deployed_secrets='' registry=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --staging) release=$2 ;;
            --image) images="$images $2" ;;
            --history) history_lines=$2 ;;
            --secrets) secrets=$2 ;;
            --deployed-secret) deployed_secrets="$deployed_secrets $2" ;;
            --registry) registry="$registry $2" ;;
            --)
                shift
                break
                ;;
            *) common_option "$1" "$2" ;;
        esac
        shift 2
    done
    stage_on_tmpfs
    section files
    print_differences "$@"
    section history
    read_history "$workdir" "$history_lines"
    section containers
    list_containers "$project"
    section images
    # shellcheck disable=SC2086 # names of images are words
    inspect_images $images || :
    section delivery
    print_delivery "$project" "$secrets_directory"
    section unfinished
    [ ! -e "$workdir/.ktrdr-unfinished" ] || echo unfinished
    if [ -n "$registry" ]; then
        # Only the registry knows whether a tag that can move has moved.
        section registry
        for image in $registry; do ask_registry "$image" & done
        wait
    fi
    if [ "$secrets" = given ]; then
        export_secret_settings
        section hashes
        print_hashes
        section unchanged
    else
        section hashes
    fi
    print_hashes_as_deployed
    if [ -n "$surplus" ]; then
        section answers
        # shellcheck disable=SC2086 # names of services are words
        ! any_is_listed $surplus || ask_services "$project" $surplus
    fi
}

main "$@"

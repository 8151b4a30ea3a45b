#!/bin/sh
# Print how a host differs from a release, in sections, and change nothing on it. Compose needs the files of
# the release. They are in the host's memory while this script runs, and never on a disk.
#
# Usage: diff.sh OPTION VALUE... -- FILE...
#   the options of lib/stack.sh and of the stack's extension, and
#   --staging DIRECTORY         directory to create for the release's files
#   --image IMAGE               image of the release
#   --history LINES             number of events of the history to print
#   --secrets given|deployed    whether secrets are exported, or taken from the containers
#   --deployed-secret VARIABLE=NAME   secret, and the variable of a container that contains it alone
#   --registry IMAGE            image to ask the registry for
# The FILEs are all files of the release.
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

# Unpack the release, and remove it when the script ends.
stage_on_tmpfs() {
    umask 077
    # At a signal, dash runs the trap for EXIT only if the signal has a trap of its own.
    trap 'exit 143' TERM
    # This fails if another user has created it.
    mkdir "$release"
    trap 'rm -rf "$release"' EXIT
    payload | tar -xzf - -C "$release"
}

# Print the files that differ, with their present content: "+ FILE" for a new file, "~ FILE BASE64" for a
# changed one, and "- FILE BASE64" for a removed one.
#   print_differences FILE...
print_differences() {
    for file; do
        if [ ! -e "$workdir/$file" ]; then
            printf '+ %s\n' "$file"
        elif ! cmp -s "$release/$file" "$workdir/$file"; then
            print_content '~' "$file"
        fi
    done
    each_obsolete_file print_removal "$@"
}

# Print a change of a file with its present content.
#   print_content SIGN FILE
print_content() {
    printf '%s %s %s\n' "$1" "$2" "$(base64 "$workdir/$2" | tr -d '\n')"
}

# Print a removed file.
#   print_removal FILE
print_removal() {
    print_content - "$1"
}

# Print the hashes with the containers' secrets. If they cannot be computed, fail and print the reason.
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

# Export the containers' secrets. They go from Docker into the environment of this subshell, and into no
# argument list, no file and no output. If several containers have the same secret, the last one counts.
take_deployed_secrets() {
    ids=$(docker ps --all --quiet --filter "label=com.docker.compose.project=$project")
    [ -n "$ids" ] || return 0
    # shellcheck disable=SC2086 # ids are words
    eval "$(docker inspect --format "$(print_export_template)" $ids)"
}

# Print Docker's template for lines of shell that export the secrets, with their quotes escaped.
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
    section compose
    docker compose version --short 2>/dev/null || :
    section containers
    list_containers "$project"
    section volumes
    # shellcheck disable=SC2086 # names of services are words
    list_volumes "$project" $services
    section images
    # shellcheck disable=SC2086 # names of images are words
    inspect_images $images
    section delivery
    print_delivery "$project" "$secrets_directory"
    section unfinished
    [ ! -e "$workdir/.ktrdr-unfinished" ] || echo unfinished
    if [ -n "$registry" ]; then
        # Only the registry knows whether a tag has moved.
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

#!/bin/sh
# Apply the release that fetch.sh has staged: move its files into the work directory, and let Compose change
# the services.
#
# Usage: apply.sh OPTION VALUE... -- FILE...
#   the options of lib/stack.sh and of the stack's extension, and
#   --note NOTE            note of the lock's owner
#   --recovery-note NOTE   note of the watchdog, which repairs a deploy that was cut off
#   --event EVENT          event to append to the history before anything changes
#   --secret NAME          variable whose value is secret
# The FILEs are all files of the release. Fails with 74 if the lock was lost.
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/lock.sh
. ./lib/events.sh
. ./lib/release_files.sh
. ./lib/project.sh
. ./lib/recreation.sh
. ./lib/start_watchdog.sh
WATCHDOG_SH=$(cat ./watchdog.sh)

# Move the staged files that differ into the work directory, and remove obsolete ones. Each file is replaced
# in one move. Directories are not replaced, because containers mount them and would keep the old ones.
#   place_files FILE...
place_files() {
    staging=$workdir/.ktrdr-staging
    if [ -d "$staging" ]; then
        umask 022
        for file; do
            if ! cmp -s "$staging/$file" "$workdir/$file"; then
                mkdir -p "$(dirname "$workdir/$file")"
                mv -f "$staging/$file" "$workdir/$file"
            fi
        done
        rm -rf "$staging"
    fi
    each_obsolete_file remove_obsolete_file "$@"
}

# Remove a file from the work directory.
#   remove_obsolete_file FILE
remove_obsolete_file() {
    rm -f "$workdir/$1"
}

# Remove containers that never ran or whose last start failed, so that Compose recreates them. If Docker
# is stopped while it starts a container, a task with the container's id remains that makes each further
# start fail ("task ... already exists").
#   remove_unstartable SERVICE...
remove_unstartable() {
    idle=$(project_ps "$project" --all --quiet --filter status=exited --filter status=created)
    [ -n "$idle" ] || return 0
    # shellcheck disable=SC2086 # ids are words
    docker inspect --format '{{.Id}} {{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{json .State.Error}}' $idle |
        while read -r container service state error; do
            for concerned; do
                if [ "$service" = "$concerned" ] && [ "$state $error" != 'exited ""' ]; then
                    docker rm --force "$container" >/dev/null
                fi
            done
        done
}

# Create, recreate or start the services that differ from the files. If only one service is deployed, the
# others stay unchanged, unless one of its dependencies does not run: then it could not start. No image is
# pulled here, because fetch.sh has pulled them and reports why a pull failed.
bring_up() {
    if [ -z "$only" ]; then
        compose up --detach --pull never --remove-orphans
    elif all_run "$dependencies"; then
        compose up --detach --pull never --no-deps "$only"
    else
        compose up --detach --pull never "$only"
    fi
}

# Return whether each of the services has a running container.
#   all_run SERVICES
all_run() {
    for service in $1; do
        [ -n "$(project_ps "$project" --quiet --filter "label=com.docker.compose.service=$service")" ] ||
            return 1
    done
}

main() {
    note='' recovery_note='' event='' secrets=''
    while [ "$#" -gt 0 ]; do
        case $1 in
            --note) note=$2 ;;
            --recovery-note) recovery_note=$2 ;;
            --event) event=$2 ;;
            --secret) secrets="$secrets $2" ;;
            --)
                shift
                break
                ;;
            *) common_option "$1" "$2" ;;
        esac
        shift 2
    done
    release=$workdir
    require_lock "$workdir" "$note"
    append_events "$workdir" "$event"
    # shellcheck disable=SC2086 # names of variables are words
    start_watchdog "$workdir" "$project" "$recovery_note" $secrets
    place_files "$@"
    finish_recreation "$project" start
    # shellcheck disable=SC2086 # names of services are words
    remove_unstartable $services $dependencies

    # If this deploy does not reach its end, the next one repeats all of this.
    unfinished=$workdir/.ktrdr-unfinished
    was_unfinished=
    [ ! -e "$unfinished" ] || was_unfinished=yes
    : >"$unfinished"
    incomplete=
    before_up
    bring_up
    after_up
    # If only one service was deployed, keep an older file, because it may concern the others.
    if [ -z "$incomplete" ] && { [ -z "$only" ] || [ -z "$was_unfinished" ]; }; then
        rm -f "$unfinished"
    fi
    section rotated
    report_secrets
    if [ -n "$surplus" ]; then
        # They may belong to profiles that are not selected.
        profiles='*'
        # shellcheck disable=SC2086 # names of services are words
        compose rm --stop --force $surplus
    fi
}

main "$@"

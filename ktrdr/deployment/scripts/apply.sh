#!/bin/sh
# Apply the release that fetch.sh has staged: put its files in place, and let Compose bring the stack into
# its new form.
#
# Usage: apply.sh OPTION VALUE... -- FILE...
#   the options of lib/stack.sh and of the stack's extension, and
#   --note NOTE            what the lock says of its owner
#   --recovery-note NOTE   what it says while services are started again after this was cut off
#   --event EVENT          what the history says before anything is changed
#   --secret NAME          a variable whose value is secret
# The FILEs are all those of the release. Fails with 74 where the lock was lost.
set -euf

. ./lib/output.sh
. ./lib/hooks.sh
. ./lib/stack.sh
. ./lib/lock.sh
. ./lib/events.sh
. ./lib/release_files.sh
. ./lib/project.sh
. ./lib/recreation.sh
. ./lib/stand_by.sh
WATCHDOG_SH=$(cat ./watchdog.sh)

# Move what is staged and differs into place, and remove leftovers. Each file changes at once, and
# directories stay what they are: containers have them mounted, and would go on seeing one that was
# replaced.
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
    each_leftover remove_leftover "$@"
}

remove_leftover() {
    rm -f "$workdir/$1"
}

# Remove containers that never ran or could not be started last, for Compose to make anew. Where Docker
# is stopped in the moment in which it starts a container, something stays behind under the container's
# id that fails every further start ("task ... already exists").
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

# Create, recreate or start what differs from the files. A service that is asked for alone leaves the
# others alone, unless one that it depends on does not run: then it could not start. No image is pulled
# here: fetch.sh did, and could say why it failed.
bring_up() {
    if [ -z "$only" ]; then
        compose up --detach --pull never --remove-orphans
    elif all_run "$dependencies"; then
        compose up --detach --pull never --no-deps "$only"
    else
        compose up --detach --pull never "$only"
    fi
}

# Tell whether each of the services has a container that runs.
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
    stand_by "$workdir" "$project" "$recovery_note" $secrets
    place_files "$@"
    finish_recreation "$project" start
    # shellcheck disable=SC2086 # names of services are words
    remove_unstartable $services $dependencies

    # The next deploy goes through all of this again if this one does not come to its end.
    unfinished=$workdir/.ktrdr-unfinished
    was_unfinished=
    [ ! -e "$unfinished" ] || was_unfinished=yes
    : >"$unfinished"
    incomplete=
    before_up
    bring_up
    after_up
    # With one service alone, an older note stays: the others were not looked at.
    if [ -z "$incomplete" ] && { [ -z "$only" ] || [ -z "$was_unfinished" ]; }; then
        rm -f "$unfinished"
    fi
    section rotated
    report_secrets
    if [ -n "$surplus" ]; then
        # Also those of profiles that are not chosen.
        profiles='*'
        # shellcheck disable=SC2086 # names of services are words
        compose rm --stop --force $surplus
    fi
}

main "$@"

# shellcheck shell=sh disable=SC2034,SC2154 # shares variables with the scripts that include it
# Application of a release: move its files into the work directory, and let Compose change the services. Needs:
# output.sh, hooks.sh, stack.sh, release_files.sh, pin.sh, project.sh, recreation.sh

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

# Stage a release that the host keeps, and get its images, which it usually has.
stage_kept_release() {
    release=$workdir/.ktrdr-staging
    rm -rf "$release"
    mkdir -p "$release"
    tar -xzf "$workdir/.ktrdr/releases/$kept.tar.gz" -C "$release"
    for pin in $pins; do pin_image "$project" "${pin%@*}" "${pin#*@}"; done
    # shellcheck disable=SC2086 # names of services are words
    compose pull --quiet --policy missing $services
}

# Apply the release that fetch.sh has staged, or one that the host keeps.
#   apply_release OPTION VALUE... -- FILE...
# The FILEs are all files of the release. The options are those of lib/stack.sh and of the stack's extension, and
#   --kept CONFIGURATION     name of the kept release's archive
#   --pin NAME[:TAG]@DIGEST  image that a tag must name
apply_release() {
    kept='' pins=''
    while [ "$1" != -- ]; do
        case $1 in
            --kept) kept=$2 ;;
            --pin) pins="$pins $2" ;;
            *) common_option "$1" "$2" ;;
        esac
        shift 2
    done
    shift
    [ -z "$recall" ] || recall_secrets
    [ -z "$kept" ] || stage_kept_release
    release=$workdir
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

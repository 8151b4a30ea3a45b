# shellcheck shell=sh
# Queries of containers and of the services in them. Needs: project.sh

# One JSON object per container with the manifest that it runs in containerd's image store, without the whole configuration, which contains the environment.
CONTAINER_FORMAT='{"id":{{json .Id}},"image":{{json .Image}},"manifest":{{json (index . "ImageManifestDescriptor")}},"name":{{json .Config.Image}},"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},"created":{{json .Created}}}'

# Print a JSON object for each container of a project, and set $containers to them.
#   list_containers PROJECT
list_containers() {
    ids=$(project_ps "$1" --all --quiet --no-trunc)
    containers=
    # A container may disappear between the two commands. The others are printed all the same.
    # shellcheck disable=SC2086 # ids are words
    [ -z "$ids" ] || containers=$(docker inspect --format "$CONTAINER_FORMAT" $ids 2>/dev/null) || :
    [ -z "$containers" ] || printf '%s\n' "$containers"
}

# Return whether list_containers has found a container of one of the services. This avoids a start of
# Docker's program, which takes as long as the rest of the script.
#   any_is_listed SERVICE...
any_is_listed() {
    for service; do
        case $containers in
            *"\"com.docker.compose.service\":\"$service\""*) return 0 ;;
        esac
    done
    return 1
}

# Print the names of a project's volumes if one of the services has no container, with which its volumes may
# have been lost. Containers keep theirs.
#   list_volumes PROJECT SERVICE...
list_volumes() {
    volumes_of=$1
    shift
    for service; do
        any_is_listed "$service" || {
            docker volume ls --quiet --filter "name=^${volumes_of}_"
            return
        }
    done
}

# Print the health document of a service on one line. This is a hook, which an extension defines.
#   ask_service CONTAINER
ask_service() { :; }

# Print "SERVICE DOCUMENT" for each of the services that is healthy. The questions run in parallel, because
# each starts a program in a container. Each line is written by one printf, so that lines do not mix.
#   ask_services PROJECT SERVICE...
ask_services() {
    ask_project=$1
    shift
    [ "$#" -gt 0 ] || return 0
    project_ps "$ask_project" --format '{{.ID}} {{.Label "com.docker.compose.service"}}' \
        --filter health=healthy | {
        while read -r container service; do
            for asked; do
                [ "$service" != "$asked" ] ||
                    printf '%s %s\n' "$service" "$(ask_service "$container" || :)" &
            done
        done
        wait
    }
}

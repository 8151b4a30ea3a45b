# shellcheck shell=sh
# Read-only queries about containers and what they say. Needs: project.sh

# One JSON object a container. Not its configuration as a whole: that holds the environment.
CONTAINER_FORMAT='{"id":{{json .Id}},"image":{{json .Image}},"name":{{json .Config.Image}},"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},"created":{{json .Created}}}'

# Print a JSON object for each container of a project, running or not, and keep them in $containers.
#   list_containers PROJECT
list_containers() {
    ids=$(project_ps "$1" --all --quiet --no-trunc)
    containers=
    # A container may vanish between the two commands: the others are shown all the same.
    # shellcheck disable=SC2086 # ids are words
    [ -z "$ids" ] || containers=$(docker inspect --format "$CONTAINER_FORMAT" $ids 2>/dev/null) || :
    [ -z "$containers" ] || printf '%s\n' "$containers"
}

# Tell whether list_containers, before it, has found a container of one of the services. To start
# Docker's program for nothing takes as long as the shell needs for all the rest.
#   any_is_listed SERVICE...
any_is_listed() {
    for service; do
        case $containers in
            *"\"com.docker.compose.service\":\"$service\""*) return 0 ;;
        esac
    done
    return 1
}

# Print what a service says of itself, on one line: a hook, which an extension defines anew.
#   ask_service CONTAINER
ask_service() { :; }

# Print "SERVICE ANSWER" for each of the services that is healthy. They are asked side by side: each takes as long as a program does to
# start in a container. A line is written at once, so that none cuts into another.
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

#!/bin/sh
# Print the names of the containers, networks and volumes of a project, in sections.
#
# Usage: list_stack.sh PROJECT
set -eu

. ./lib/output.sh

main() {
    # Also what Compose made for a single run.
    filter="label=com.docker.compose.project=$1"
    section containers
    docker ps --all --format '{{.Names}}' --filter "$filter"
    section networks
    docker network ls --format '{{.Name}}' --filter "$filter"
    section volumes
    docker volume ls --format '{{.Name}}' --filter "$filter"
}

main "$@"

# shellcheck shell=sh
# The containers of a Compose project.

# List containers as "docker ps" does, without those that Compose made for a single run.
#   project_ps PROJECT OPTION...
project_ps() {
    ps_project=$1
    shift
    docker ps "$@" \
        --filter "label=com.docker.compose.project=$ps_project" \
        --filter "label=com.docker.compose.oneoff=False"
}

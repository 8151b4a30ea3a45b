# shellcheck shell=sh
# The container of a service. Needs: project.sh

# Print the id of the service's container, if it runs.
#   find_container PROJECT SERVICE
find_container() {
    project_ps "$1" --quiet --filter "label=com.docker.compose.service=$2" | head -n 1
}

# shellcheck shell=sh
# Directories of the host.

# Set $existing to a path if it exists, or to the nearest directory above it that exists.
#   nearest_existing PATH
nearest_existing() {
    existing=$1
    while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
}

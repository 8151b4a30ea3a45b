# shellcheck shell=sh
# Directories of the host, whether or not they exist.

# Set $existing to the nearest directory above a path that exists, or to the path itself.
#   nearest_existing PATH
nearest_existing() {
    existing=$1
    while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
}

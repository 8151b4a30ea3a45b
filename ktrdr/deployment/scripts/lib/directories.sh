# shellcheck shell=sh disable=SC2034 # scripts that include it use ROOT_FORMAT
# Directories of the host.

# Type of Docker's image store if it is containerd's, a space, and Docker's directory.
ROOT_FORMAT='{{range .DriverStatus}}{{if eq (index . 0) "driver-type"}}{{index . 1}}{{end}}{{end}} {{.DockerRootDir}}'

# Set $image_store to the directory of containerd's image store, or to nothing with Docker's classic store,
# which is in Docker's directory.
#   find_image_store TYPE
find_image_store() {
    image_store=
    case $1 in
        io.containerd.*)
            image_store=$(sed -n "s/^root *= *[\"']\(.*\)[\"'].*/\1/p" /etc/containerd/config.toml 2>/dev/null) || :
            image_store=${image_store:-/var/lib/containerd}
            ;;
    esac
}

# Set $existing to a path if it exists, or to the nearest directory above it that exists.
#   nearest_existing PATH
nearest_existing() {
    existing=$1
    while [ ! -e "$existing" ]; do existing=$(dirname "$existing"); done
}

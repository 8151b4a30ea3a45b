# shellcheck shell=sh
# Images of a host.

IMAGE_FORMAT='{"id":{{json .Id}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}}}'

# Print a JSON object for each of the images that the host has; fail where one is missing.
#   inspect_images IMAGE...
inspect_images() {
    docker image inspect --format "$IMAGE_FORMAT" "$@" 2>/dev/null
}

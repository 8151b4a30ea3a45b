# shellcheck shell=sh
# Tags that refer to recorded images.

# Make a tag refer to the image with a digest, even if the registry's tag has moved. Compose pulls the image,
# because not every Docker CLI logs in with DOCKER_AUTH_CONFIG.
#   pin_image PROJECT NAME[:TAG] DIGEST
pin_image() {
    name=$2
    # A colon in front of a slash begins a port.
    case ${2##*/} in *:*) name=${2%:*} ;; esac
    pinned=$name@$3
    if ! docker image inspect "$pinned" >/dev/null 2>&1; then
        # Without a tag, an image in containerd's store has no name at all, but its digest finds it.
        if docker image inspect "$3" >/dev/null 2>&1; then
            pinned=$3
        else
            printf 'services: {pinned: {image: "%s"}}\n' "$pinned" |
                docker compose -p "$1-pin" -f - pull --quiet
        fi
    fi
    docker tag "$pinned" "$2"
}

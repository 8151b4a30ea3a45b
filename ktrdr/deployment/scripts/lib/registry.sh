# shellcheck shell=sh
# Queries of the registry through the host's own Docker daemon.

# Print "IMAGE 0 DIGEST" or "IMAGE CODE REASON", and pull nothing. Compose asks the daemon, which has the
# mirrors, proxy and certificates of the host, and passes DOCKER_AUTH_CONFIG on as in a pull. One printf
# writes each line, so that the lines of parallel queries do not mix.
#   ask_registry IMAGE
ask_registry() {
    answer=$(
        printf 'services: {image: {image: "%s"}}\n' "$1" |
            docker compose -p ktrdr-asks -f - config --resolve-image-digests 2>&1
    ) && code=0 || code=$?
    if [ "$code" = 0 ]; then
        answer=$(printf %s "$answer" | sed -n 's/^ *image: .*@//p')
    else
        answer=$(printf '%s\n' "$answer" | sed '/^WARNING: Error .* config file/d')
    fi
    printf '%s %s %s\n' "$1" "$code" "$(printf %s "$answer" | tr '\n' ' ')"
}

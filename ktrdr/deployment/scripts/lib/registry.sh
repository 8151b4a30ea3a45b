# shellcheck shell=sh
# Questions to the registry, asked through the host's own Docker daemon.

# Print "IMAGE 0 DIGEST" or "IMAGE CODE REASON", and pull nothing. Compose asks the daemon, which has
# the host's mirrors, proxy and certificates, and passes on DOCKER_AUTH_CONFIG, as in a pull. One
# printf a line, so that the lines of several that run at once do not mix.
#   ask_registry IMAGE
ask_registry() {
    answer=$(
        printf 'services: {image: {image: "%s"}}\n' "$1" |
            docker compose -p ktrdr-asks -f - config --resolve-image-digests 2>&1
    ) && code=0 || code=$?
    [ "$code" != 0 ] || answer=$(printf %s "$answer" | sed -n 's/^ *image: .*@//p')
    printf '%s %s %s\n' "$1" "$code" "$(printf %s "$answer" | tr '\n' ' ')"
}

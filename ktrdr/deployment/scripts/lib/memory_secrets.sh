# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that it extends
# Secrets as files in a host's memory, which its containers have mounted: delivery "tmpfs". Needs: stack.sh,
# $INSTALL_SECRETS_SH and $REMOVE_SECRETS_SH
#
# Each consumer, such as a service, has a directory of its own below $secrets_directory, which everybody
# may list, with files that its user alone may read.

# Print the files of a consumer as install_secrets.sh reads them.
#   encode_secrets CONSUMER UID [FILE VALUE]...
encode_secrets() {
    consumer="$1 $2"
    shift 2
    while [ "$#" -gt 0 ]; do
        printf '%s %s %s\n' "$consumer" "$1" "$(printf '%s' "$2" | base64 | tr -d '\n')"
        shift 2
    done
}

# Write the files whose content has changed, each whole or not at all. They come on standard input, as
# encode_secrets prints them.
install_secrets() {
    as_root "$INSTALL_SECRETS_SH" install_secrets "$secrets_directory" \
        "$(stat -c %g "${DOCKER_SOCKET:-/var/run/docker.sock}" 2>/dev/null || echo 0)"
}

# Remove the files of consumers, if any of them is there.
#   remove_secret_files CONSUMER...
remove_secret_files() {
    for consumer; do
        if [ -d "$secrets_directory/$consumer" ]; then
            as_root "$REMOVE_SECRETS_SH" remove_secrets "$secrets_directory" "$@"
            return
        fi
    done
}

# Run a program of sh as root. A member of the group docker is as good as root, by a container.
#   as_root PROGRAM NAME ARGUMENT...
as_root() {
    if [ "$(id -u)" = 0 ]; then
        sh -c "$@"
    else
        docker run --rm --interactive --log-driver none --network none --read-only --user 0:0 \
            --cap-drop ALL --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER \
            --security-opt no-new-privileges \
            --volume "${secrets_directory%/*}:${secrets_directory%/*}" \
            --entrypoint sh "$secrets_image" -c "$@"
    fi
}

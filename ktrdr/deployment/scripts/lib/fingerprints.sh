# shellcheck shell=sh disable=SC2154 # shares variables with the scripts that it extends
# Fingerprints of secrets that are delivered as files in memory (see memory_secrets.sh). Containers carry
# that of what they were given as a label, so that those and only those are replaced whose secrets have
# changed. It is made with a random key, which stands besides the secrets and on no disk: without the key,
# nothing can be learned from a fingerprint. Needs: stack.sh

# Print the fingerprint of what a consumer is to be given; change nothing. Where the key or a file is
# missing, it is one that no container has.
#   print_fingerprint CONSUMER [FILE VALUE]...
print_fingerprint() {
    consumer_directory=$secrets_directory/$1
    shift
    values=$#
    # The values behind the files, in their order.
    while [ "$values" -gt 0 ]; do
        if [ ! -e "$secrets_directory/key" ] || [ ! -e "$consumer_directory/$1" ]; then
            echo missing
            return 0
        fi
        set -- "$@" "$2"
        shift 2
        values=$((values - 2))
    done
    secrets_key=
    read -r secrets_key 2>/dev/null <"$secrets_directory/key" || :
    for value; do
        printf '%s' "$secrets_key$value" | sha256sum
    done | sha256sum | cut -c 1-32
}

# Print the fingerprint that the containers of a consumer carry.
#   print_deployed_fingerprint CONSUMER
print_deployed_fingerprint() {
    docker ps --all \
        --filter "label=com.docker.compose.project=$project" \
        --filter "label=place.mynerd.ktrdr.secrets=$1" \
        --format '{{.Label "place.mynerd.ktrdr.secrets-fingerprint"}}' | tail -n 1
}
